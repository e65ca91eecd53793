"""The gate in front of the explorer's server: what the page needs goes through, and nothing else."""

import asyncio
import json
from pathlib import Path

import pytest

from scenelab.app.middleware import MOST_BYTES, MOST_QUESTION, Gate


@pytest.fixture
def folder(tmp_path) -> Path:
    inside = tmp_path.resolve() / "uploads"
    inside.mkdir()
    return inside


def ask(folder, path, *, method="GET", body=b"", host="127.0.0.1:7860", hosts=("127.0.0.1",), told=None, **headers):
    """The status that is answered, and the body that gradio would have seen, or None if it saw nothing."""
    seen, sent = [], []

    async def app(scope, receive, send):
        whole = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                seen.append(None)
                return
            whole += message["body"]
            if not message.get("more_body"):
                break
        seen.append(whole)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    parts = [body[start : start + 2**16] for start in range(0, max(1, len(body)), 2**16)]
    messages = [
        {"type": "http.request", "body": part, "more_body": number + 1 < len(parts)}
        for number, part in enumerate(parts)
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    given = [(b"host", host.encode()), (b"content-length", str(len(body) if told is None else told).encode())]
    given += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    asyncio.run(Gate(app, folder, hosts)(scope, receive, send))
    status = next((message["status"] for message in sent if "status" in message), None)
    for message in sent:
        if "headers" in message:
            assert b"content-security-policy" in dict(message["headers"])
    return status, seen[0] if seen else None


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/theme.css", "/assets/index-a1B2.js", "/static/fonts/x.woff2", "/gradio_api/heartbeat/abc1",
     "/gradio_api/queue/data"],
)  # fmt: skip
def test_what_the_page_needs_goes_through(folder, path):
    assert ask(folder, path) == (200, b"")
    assert ask(folder, path, method="HEAD")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/runs", "/gradio_api/run-history/connect", "/gradio_api/info", "/gradio_api/proxy=http://x.org/",
     "/gradio_api/file/etc/passwd", "/file=/etc/passwd", "/docs", "/gradio_api/openapi.json", "/monitoring/x",
     "/gradio_api/vibe-code", "/gradio_api/call/x/y", "/login", "/gradio_api/stream/a/b/c/playlist.m3u8"],
)  # fmt: skip
def test_other_doors_are_closed(folder, path):
    assert ask(folder, path) == (404, None)
    assert ask(folder, path, method="POST") == (404, None)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(folder, method):
    assert ask(folder, "/", method=method) == (404, None)


def test_only_files_of_the_folder_are_given_out(folder):
    (folder / "link").symlink_to("/etc/passwd")
    assert ask(folder, f"/gradio_api/file={folder}/a/b.png")[0] == 200
    for path in (
        "/etc/passwd", f"{folder}/../secret", f"{folder}/link", f"{folder}-other/x", "b.png", "http://x.org/",
        "//x.org/y", f"{folder}/\0", "file:///etc/passwd",
    ):  # fmt: skip
        assert ask(folder, f"/gradio_api/file={path}") == (403, None), path


def join(folder, *data, **options):
    body = json.dumps({"data": list(data), "fn_index": 1, "session_hash": "x"}).encode()
    return ask(folder, "/gradio_api/queue/join", method="POST", body=body, **options), body


def test_a_question_about_an_uploaded_picture_goes_through_unchanged(folder):
    answer, body = join(folder, {"path": f"{folder}/a.jpg", "meta": {"_type": "gradio.FileData"}}, "PGD", None)
    assert answer == (200, body)


@pytest.mark.parametrize(
    "part",
    [{"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
     {"path": "http://169.254.169.254/", "meta": {"_type": "gradio.FileData"}}, [[{"x": {"path": "../../x"}}]],
     {"path": ["/etc/passwd"]}, {"path": ""}, {"path": "a\0b"}],
)  # fmt: skip
def test_a_question_that_names_another_file_is_refused(folder, part):
    assert join(folder, part)[0] == (403, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000])
def test_what_is_no_question_is_refused(folder, body):
    assert ask(folder, "/gradio_api/queue/join", method="POST", body=body) == (400, None)


def test_long_bodies_are_refused(folder):
    door = "/gradio_api/upload"
    assert ask(folder, door, method="POST", body=bytes(10))[0] == 200
    assert ask(folder, door, method="POST", told=MOST_BYTES + 2 * MOST_QUESTION) == (413, None)
    assert ask(folder, door, method="POST", body=bytes(MOST_BYTES + 2 * MOST_QUESTION), told=5) == (None, None)  # a lie
    assert join(folder, "x" * 2 * MOST_QUESTION)[0] == (413, None)
    assert join(folder, "x" * 2 * MOST_QUESTION, told=5)[0] == (400, None)
    assert ask(folder, door, method="POST", told="many") == (413, None)


def test_other_names_and_other_pages_are_refused(folder):
    assert ask(folder, "/", host="evil.example:7860") == (400, None)
    assert ask(folder, "/", host="") == (400, None)
    assert ask(folder, "/", host="evil.example", hosts=())[0] == 200  # told to listen to all
    door = {"method": "POST", "body": b"x"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:7861", "http://127.0.0.1:7860.evil.example"):
        assert ask(folder, "/gradio_api/upload", **door, origin=origin) == (403, None), origin
    assert ask(folder, "/gradio_api/upload", **door, origin="http://127.0.0.1:7860")[0] == 200
    assert ask(folder, "/config", sec_fetch_site="cross-site") == (403, None)
    assert ask(folder, "/config", sec_fetch_site="same-origin")[0] == 200
    assert ask(folder, "/", sec_fetch_site="cross-site")[0] == 200  # a link to the page


def test_no_websockets(folder):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Gate(None, folder, ())({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent[0]["status"] == 404


@pytest.mark.parametrize("told", ["9" * 5000, "-1", "1e3", "0x10", "", "１"])
def test_lengths_that_are_none(folder, told):
    headers = [(b"host", b"127.0.0.1"), (b"content-length", told.encode())]
    assert answered(folder, "/gradio_api/upload", headers)[0]["status"] == 413


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "127.0.0.2", "127.1", "[::1]",
     "0.0.0.0", "127.0.0.1\r\nX: y", "\xff", " 127.0.0.1", "169.254.169.254"],
)  # fmt: skip
def test_names_that_only_look_like_ours(folder, host):
    """What a page elsewhere could make a browser send after its own name was pointed to this machine."""
    assert answered(folder, "/", [(b"host", host.encode("latin-1"))])[0]["status"] == 400


@pytest.mark.parametrize("path", ["/x\r\nSet-Cookie: a=b", "/<script>alert(1)</script>", "/gradio_api/file=/x\r\ny"])
def test_an_answer_repeats_nothing_of_what_was_asked(folder, path):
    start, body = answered(folder, path, [(b"host", b"127.0.0.1")])
    assert start["status"] in (403, 404)
    told = b"".join(name + value for name, value in start["headers"]) + body["body"]
    assert not any(part in told for part in (b"\r", b"\n", b"Cookie", b"script>"))


def answered(folder, path, headers) -> list[dict]:
    """All that the gate itself says; behind it there is nothing."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST" if "upload" in path else "GET", "path": path, "headers": headers}
    asyncio.run(Gate(None, folder, ("127.0.0.1", "localhost"))(scope, None, send))
    return sent
