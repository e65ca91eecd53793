"""A server on the loopback interface that misbehaves in every way a server can."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler", bytes], None]


class Server(ThreadingHTTPServer):
    """Serves `files`; the first requests for a path get the answers in `script`, one each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Answer]] = {}
        self.seen: list[tuple[str, str | None, int]] = []  # path, Range, status
        self.release = threading.Event()

    def __enter__(self) -> "Server":
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def change(self, content: bytes, *answers: Answer) -> None:
        """Serve other content as /a, after these answers."""
        self.files["/a"], self.script["/a"] = content, list(answers)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error of the server's."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answers = self.server.script.get(self.path, [])
        content = self.server.files.get(self.path)
        if content is None:
            self.start(404, 0)
        else:
            (answers.pop(0) if answers else whole)(self, content)
        self.close_connection = True

    def start(self, status: int, length: int | None, **headers: str) -> None:
        self.server.seen.append((self.path, self.headers.get("Range"), status))
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def send(handler: Handler, content: bytes, upto: int, *, pause: float = 0.0) -> None:
    """Answer as RFC 9110 wants, but stop after `upto` bytes of the body; with pauses it comes in a hundred pieces."""
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(wanted[1]) if wanted and handler.headers.get("If-Range") == tag(content) else 0
    total = len(content)
    if start >= total:
        handler.start(416, 0, Content_Range=f"bytes */{total}")
    elif start:
        handler.start(206, total - start, Content_Range=f"bytes {start}-{total - 1}/{total}", ETag=tag(content))
    else:
        handler.start(200, total, ETag=tag(content))
    body = content[start:][:upto]
    size = max(1, len(body) // 100 if pause else len(body))
    for begin in range(0, len(body), size):
        handler.wfile.write(body[begin : begin + size])
        handler.wfile.flush()
        time.sleep(pause)


def whole(handler: Handler, content: bytes) -> None:
    send(handler, content, len(content))


def cut_after(count: int) -> Answer:
    return lambda handler, content: send(handler, content, count)


def stall_after(count: int) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        send(handler, content, count)
        handler.server.release.wait(20)

    return answer


def status(code: int) -> Answer:
    return lambda handler, content: handler.start(code, 0)


def raw(code: int, length: int | None, body: bytes, **headers: str) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.start(code, length, **headers)
        handler.wfile.write(body)

    return answer


def slowly(handler: Handler, content: bytes) -> None:
    """Give the whole of it in half a second."""
    send(handler, content, len(content), pause=0.005)
