"""What stands in front of the explorer: names, other pages, bodies, paths; and the catalog of runs behind it."""

import asyncio
import http.client
import json
import socket
import time
from contextlib import closing
from itertools import product

import pytest
import requests

from conftest import make_untrained
from explorer import exploring
from scenelab.app import limits
from scenelab.app.catalog import Catalog, UnknownError
from scenelab.app.middleware import Guard
from scenelab.app.server import serve
from scenelab.errors import LabError


def pass_through(app, hosts, method, path, headers, *, kind="http", query=b"") -> list[dict]:
    """What is sent as the answer to a request."""
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": kind, "method": method, "path": path, "headers": headers, "query_string": query}
    asyncio.run(Guard(app, hosts)(scope, receive, send))
    return sent


async def answer(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def ask(path="/api/runs", *, host="127.0.0.1:7860", hosts=("127.0.0.1", "localhost"), query=b"", **headers) -> int:
    pairs = [("host", host), *headers.items()]
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1", "replace")) for name, value in pairs]
    start, _ = pass_through(answer, hosts, "GET", path, encoded, query=query)
    policy = dict(start["headers"])[b"content-security-policy"]
    assert b"default-src 'none'" in policy
    assert b"unsafe" not in policy
    return start["status"]


def test_answers_do_not_wait_for_the_client_to_acknowledge_their_headers(tmp_path):
    """asyncio sets TCP_NODELAY only on sockets with a protocol number, which `socket.create_server` leaves out."""
    listener = serve(Catalog([tmp_path]), port=0).listener
    with closing(listener), socket.create_connection(listener.getsockname()), closing(listener.accept()[0]) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


HOSTS = """evil.example:7860 127.0.0.1.evil.example 127.0.0.1@evil.example evil.example#127.0.0.1 127.0.0.2 127.1
[::1] 0.0.0.0 169.254.169.254""".split()


@pytest.mark.parametrize("host", [*HOSTS, "", "127.0.0.1\r\nX: y", "\xff", " 127.0.0.1"])
def test_other_names_are_refused(host):
    """What a page elsewhere could make a browser send after its own name was pointed to this machine."""
    assert ask(host=host) == 400
    assert ask(host=host, hosts=()) == 200  # of a server that listens to all
    assert ask(host=host, x_forwarded_host="127.0.0.1") == 400
    assert ask(x_forwarded_host=host) == 200


def test_the_camera_is_for_this_page_alone():
    start, _ = pass_through(answer, (), "GET", "/", [(b"host", b"127.0.0.1")])
    assert dict(start["headers"])[b"permissions-policy"] == b"camera=(self), microphone=(), geolocation=()"


def test_other_pages_are_refused():
    for origin in ("http://evil.example", "null", "http://127.0.0.1:7861", "http://127.0.0.1:7860.evil.example"):
        assert ask(origin=origin) == 403, origin
    assert ask(origin="http://127.0.0.1:7860") == 200
    assert ask(sec_fetch_site="cross-site") == ask("/main.js", sec_fetch_site="same-site") == 403
    assert ask(sec_fetch_site="same-origin") == 200
    assert ask("/", sec_fetch_site="cross-site") == 200  # a link to the page


def test_long_queries_and_websockets_are_refused():
    assert ask(query=b"x" * limits.QUERY_BYTES) == 200
    assert ask(query=b"x" * (limits.QUERY_BYTES + 1)) == 414
    assert pass_through(None, (), "GET", "/", [], kind="websocket")[0]["status"] == 404


@pytest.mark.parametrize("path", ["/x\r\nSet-Cookie: a=b", "/<script>alert(1)</script>"])
def test_a_refusal_repeats_nothing_of_the_request(path):
    start, body = pass_through(None, ("127.0.0.1",), "GET", path, [(b"host", path.encode())])
    assert start["status"] == 400
    sent = b"".join(name + value for name, value in start["headers"]) + body["body"]
    assert not any(part in sent for part in (b"\r", b"\n", b"Cookie", b"script>"))


@pytest.fixture(scope="module")
def client(untrained):
    with exploring(untrained.folder) as client:
        yield client


FILES = "/etc/passwd ../../../../etc/passwd ..%2f..%2f..%2fetc%2fpasswd %2e%2e/%2e%2e/api.py file:///etc/passwd".split()
ROUTES = "/ /static/ /api/ /api/runs/ /api/runs/untrained/../ /api/image?run=untrained&image= /api/runs/.%00".split()


def test_the_server_gives_no_files_away(client, untrained):
    """Neither the machine's, nor the project's, nor the run's, however the path is written."""
    for path, route in product([*FILES, str(untrained.config), "config.json", "api.py"], ROUTES):
        with closing(http.client.HTTPConnection(client.address.removeprefix("http://"), timeout=20)) as connection:
            connection.putrequest("GET", route + path, skip_host=True)
            connection.putheader("Host", "127.0.0.1")
            connection.endheaders()
            response = connection.getresponse()
            content = response.read()
        assert not any(part in content for part in (b"root:", b"stored_size", b"import")), (route, path)
        assert response.status in (400, 403, 404), (route, path)


@pytest.mark.parametrize("method", "PUT DELETE PATCH POST".split())
def test_other_methods_are_refused(client, method):
    assert requests.request(method, f"{client.address}/api/runs").status_code == 405
    assert requests.request(method, client.address).status_code == 405


def test_long_bodies_are_refused(client):
    upload = f"{client.address}/api/images"
    for name in ("predict", "explain", "features", "attack"):
        for length, status in ((limits.JSON_BYTES, 400), (limits.JSON_BYTES + 1, 413)):
            assert requests.post(f"{client.address}/api/{name}", data=b"x" * length).status_code == status
    assert requests.post(upload, data=bytes(limits.UPLOAD_BYTES + 1)).status_code == 413
    pieces = (bytes(2**20) for _ in range(limits.UPLOAD_BYTES // 2**20 + 1))  # without a length
    assert requests.post(upload, data=pieces).status_code == 413
    assert requests.get(f"{client.address}/api/runs").status_code == 200


def test_a_body_that_does_not_arrive_is_refused(client, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", int(client.address.rpartition(":")[2]))) as slow:
        slow.sendall(b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nx")
        slow.settimeout(20)
        assert b" 408 " in slow.recv(1000)


def test_the_server_answers_while_many_uploads_stand_still(client):
    port = int(client.address.rpartition(":")[2])
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    for each in stalled:
        each.sendall(b"POST /api/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx")
    began = time.monotonic()
    assert client.get("api/runs").status_code == 200
    assert time.monotonic() - began < limits.BODY_SECONDS / 2
    for each in stalled:
        each.close()


GOOD = {"run": "untrained", "image": "val:0"}
BODIES = [b"", b"[]", b"{", b"\xff\xfe", b'"x"', b"[" * 10_000, json.dumps({**GOOD, "path": "/etc/passwd"}).encode()]
BODIES += [json.dumps(GOOD | change).encode() for change in ({"run": 3}, {"run": ""}, {"image": "\0"}, {"run": None})]


@pytest.mark.parametrize("body", BODIES)
def test_another_body_is_refused_in_one_line(client, body):
    answer = requests.post(f"{client.address}/api/predict", data=body)
    assert answer.status_code == 400
    assert len(answer.json()["error"].splitlines()) == 1


@pytest.mark.parametrize("changes", [{"levels": 33}, {"levels": -1}, {"steps": 101}, {"steps": 1e9}, {"method": "x"}])
def test_attacks_beyond_the_limits_are_refused(client, changes):
    assert "expected" in client.post("api/attack", **GOOD, **changes)["error"]


def test_a_catalog_finds_runs_below_folders_by_name_alone(untrained, scenes, tmp_path):
    for name in ("a", "deep/er/grüße 你好", ".hidden/run", "a/inside", "1/2/3/4/5"):
        make_untrained(tmp_path / name, scenes)
    catalog = Catalog([tmp_path])
    assert list(catalog.runs()) == ["a", "deep/er/grüße 你好"]
    for name in ("../a", str(tmp_path / "a"), "a/", "", ".hidden/run", "b"):
        with pytest.raises(UnknownError):
            catalog.run(name)
    assert list(Catalog([tmp_path / "a", tmp_path / "deep"]).runs()) == ["a", "er/grüße 你好"]


def test_a_catalog_refuses_what_it_cannot_name(untrained, tmp_path):
    with pytest.raises(LabError, match="two of the runs have the same name"):
        Catalog([untrained.folder, untrained.folder])
    with pytest.raises(LabError, match="does not exist"):
        Catalog([tmp_path / "nowhere"])
    assert Catalog([tmp_path]).runs() == {}
