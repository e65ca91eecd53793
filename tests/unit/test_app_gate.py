"""The gate in front of the explorer's server: what the page needs goes through, and nothing else."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from scenelab.app.middleware import MAX_JOIN_BYTES, MAX_UPLOAD_BYTES, Gate


@pytest.fixture
def folder(tmp_path) -> Path:
    inside = tmp_path.resolve() / "uploads"
    inside.mkdir()
    return inside


async def echo(scope, receive, send, seen: list) -> None:
    """Read the whole body, or note None if it breaks off, and answer."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return seen.append(None)
        body += message["body"]
        if not message.get("more_body"):
            break
    seen.append(body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def ask(folder, path, *, method="GET", body=b"", host="127.0.0.1:7860", hosts=("127.0.0.1",), length=None, **headers):
    """The status that is answered, and the body that gradio would have seen, or None if it saw nothing."""
    parts = [body[start : start + 2**16] for start in range(0, max(1, len(body)), 2**16)]
    pairs = [("host", host), ("content-length", str(len(body) if length is None else length)), *headers.items()]
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1", "replace")) for name, value in pairs]
    seen = []
    sent = pass_through(partial(echo, seen=seen), folder, hosts, method, path, encoded, parts)
    status = next((message["status"] for message in sent if "status" in message), None)
    for message in sent:
        if "headers" in message:
            assert b"content-security-policy" in dict(message["headers"])
    return status, seen[0] if seen else None


def pass_through(app, folder, hosts, method, path, headers, parts=(b"",), kind="http") -> list[dict]:
    """What is sent as the answer to a request."""
    sent: list[dict] = []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    asyncio.run(Gate(app, folder, hosts)(scope, receive, send))
    return sent


def test_a_forwarded_host_is_not_passed_on(folder):
    scopes = []

    async def keep(scope, receive, send):
        scopes.append(scope)

    headers = [(b"host", b"127.0.0.1"), (b"X-Forwarded-Host", b"evil.example"), (b"x-forwarded-proto", b"https")]
    pass_through(keep, folder, ("127.0.0.1",), "GET", "/", headers)
    assert scopes[0]["headers"] == [headers[0], headers[2]]


@pytest.mark.parametrize(("length", "status"), [(64, 200), (65, 400), (10**6, 400)])
def test_long_names_of_sessions_are_refused(folder, length, status):
    body = json.dumps({"session_hash": "a" * length, "data": []}).encode()
    assert ask(folder, "/gradio_api/queue/join", method="POST", body=body)[0] == status
    assert ask(folder, f"/gradio_api/heartbeat/{'a' * length}")[0] == (200 if status == 200 else 404)


PAGE = """/ /config /theme.css /assets/index-a1B2.js /static/fonts/x.woff2 /gradio_api/heartbeat/abc1
/gradio_api/queue/data""".split()
OTHERS = """/gradio_api/runs /gradio_api/run-history/connect /gradio_api/info /gradio_api/proxy=http://x.org/
/gradio_api/file/etc/passwd /file=/etc/passwd /docs /gradio_api/openapi.json /monitoring/x /gradio_api/vibe-code
/gradio_api/call/x/y /login /gradio_api/stream/a/b/c/playlist.m3u8""".split()


@pytest.mark.parametrize("path", PAGE)
def test_what_the_page_needs_goes_through(folder, path):
    assert ask(folder, path) == (200, b"")
    assert ask(folder, path, method="HEAD")[0] == 200


@pytest.mark.parametrize(
    ("path", "method"),
    [
        *((path, method) for path in OTHERS for method in ("GET", "POST")),
        *(("/", method) for method in "PUT DELETE OPTIONS PATCH".split()),
    ],
)
def test_other_routes_and_methods_are_refused(folder, path, method):
    assert ask(folder, path, method=method) == (404, None)


def test_only_files_of_the_folder_are_served(folder):
    (folder / "link").symlink_to("/etc/passwd")
    assert ask(folder, f"/gradio_api/file={folder}/a/b.png")[0] == 200
    outside = [f"{folder}/../secret", f"{folder}/link", f"{folder}-other/x", f"{folder}/\0"]
    for path in [*outside, *"/etc/passwd b.png http://x.org/ //x.org/y file:///etc/passwd".split()]:
        assert ask(folder, f"/gradio_api/file={path}") == (403, None), path


def join(folder, *data, **options):
    body = json.dumps({"data": list(data), "fn_index": 1, "session_hash": "x"}).encode()
    return ask(folder, "/gradio_api/queue/join", method="POST", body=body, **options), body


def test_a_request_about_an_uploaded_image_goes_through_unchanged(folder):
    answer, body = join(folder, {"path": f"{folder}/a.jpg", "meta": {"_type": "gradio.FileData"}}, "PGD", None)
    assert answer == (200, body)


FILE = {"meta": {"_type": "gradio.FileData"}}
ELSEWHERE = [{"path": path} for path in ("/etc/passwd", ["/etc/passwd"], "", "a\0b")]
ELSEWHERE += [{"path": path, **FILE} for path in ("/etc/passwd", "http://169.254.169.254/")]


@pytest.mark.parametrize("part", [*ELSEWHERE, [[{"x": {"path": "../../x"}}]]])
def test_a_request_that_names_another_file_is_refused(folder, part):
    assert join(folder, part)[0] == (403, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_another_body_is_refused(folder, body):
    assert ask(folder, "/gradio_api/queue/join", method="POST", body=body) == (400, None)


def test_long_bodies_are_refused(folder):
    upload, longer = partial(ask, folder, "/gradio_api/upload", method="POST"), MAX_UPLOAD_BYTES + 2 * MAX_JOIN_BYTES
    assert upload(body=bytes(10))[0] == 200
    assert upload(length=longer) == (413, None)
    assert upload(body=bytes(longer), length=5) == (None, None)  # a lie
    assert join(folder, "x" * 2 * MAX_JOIN_BYTES)[0] == (413, None)
    assert join(folder, "x" * 2 * MAX_JOIN_BYTES, length=5)[0] == (400, None)
    for length in ("many", "9" * 5000, "-1", "1e3", "0x10", "", "١"):
        assert upload(length=length) == (413, None), length


HOSTS = """evil.example:7860 127.0.0.1.evil.example 127.0.0.1@evil.example evil.example#127.0.0.1 127.0.0.2 127.1
[::1] 0.0.0.0 169.254.169.254""".split()


@pytest.mark.parametrize("host", [*HOSTS, "", "127.0.0.1\r\nX: y", "\xff", " 127.0.0.1"])
def test_other_names_are_refused(folder, host):
    """What a page elsewhere could make a browser send after its own name was pointed to this machine."""
    assert ask(folder, "/", host=host) == (400, None)
    assert ask(folder, "/", host=host, hosts=())[0] == 200  # of a server that listens to all


def test_other_pages_are_refused(folder):
    upload = partial(ask, folder, "/gradio_api/upload", method="POST", body=b"x")
    for origin in ("http://evil.example", "null", "http://127.0.0.1:7861", "http://127.0.0.1:7860.evil.example"):
        assert upload(origin=origin) == (403, None), origin
    assert upload(origin="http://127.0.0.1:7860")[0] == 200
    assert ask(folder, "/config", sec_fetch_site="cross-site") == (403, None)
    assert ask(folder, "/config", sec_fetch_site="same-origin")[0] == 200
    assert ask(folder, "/", sec_fetch_site="cross-site")[0] == 200  # a link to the page


@pytest.mark.parametrize("path", ["/x\r\nSet-Cookie: a=b", "/<script>alert(1)</script>", "/gradio_api/file=/x\r\ny"])
def test_a_refusal_repeats_nothing_of_the_request(folder, path):
    start, body = pass_through(None, folder, ("127.0.0.1",), "GET", path, [(b"host", b"127.0.0.1")])
    assert start["status"] in (403, 404)
    answer = b"".join(name + value for name, value in start["headers"]) + body["body"]
    assert not any(part in answer for part in (b"\r", b"\n", b"Cookie", b"script>"))


def test_websockets_are_refused(folder):
    assert pass_through(None, folder, (), "GET", "/", [], kind="websocket")[0]["status"] == 404
