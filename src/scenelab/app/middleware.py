"""ASGI middleware in front of gradio that passes only the requests that the page needs.

It refuses routes outside an allow-list, unknown host names, cross-origin requests, long bodies, and files outside the
folder of uploads. The last rule covers requested files and files named in a request body, which gradio would read, or
download if the name is a URL.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_UPLOAD_BYTES = 20 * 2**20
MAX_JOIN_BYTES = 2**20  # per request to the queue; its images are uploaded beforehand
MAX_SESSION_NAME = 64  # characters
MAX_QUERY_BYTES = 2000
FORWARDED = (b"x-forwarded-host", b"x-forwarded-server")  # headers that gradio repeats in its answers
FILE = "/gradio_api/file="
JOIN = "/gradio_api/queue/join"
ROUTES = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./~@+-]+|/gradio_api/(theme\.css|"
        r"heartbeat/\w{1,64}|queue/data|upload_progress|startup-events|file=.+)"
    ),
    "POST": re.compile(r"/gradio_api/(upload|queue/join|cancel|reset)/?"),
}
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
App = Callable[[Any, Any, Any], Awaitable[None]]


class RefusedError(Exception):
    """A refused request, with the HTTP status and the reason to send as the response."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Gate:
    """ASGI middleware that refuses requests the page does not need, and adds security headers.

    Attributes:
        app: the ASGI application that receives the accepted requests.
        folder: folder of uploaded and computed images. No other files are read or served.
        hosts: accepted host names; empty to accept all.
    """

    app: App
    folder: Path
    hosts: tuple[str, ...]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass an ASGI request to the application, or respond with the reason why it is refused."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            if scope["type"] != "http":
                raise RefusedError(404, "there is no such route")
            kept = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(FORWARDED)]
            scope, headers = {**scope, "headers": kept}, {name.lower(): value for name, value in kept}
            if len(scope.get("query_string", b"")) > MAX_QUERY_BYTES:
                raise RefusedError(414, "the query is too long")
            self._check(scope["method"], scope["path"], headers)
            joins = scope["path"].startswith(JOIN)
            body = _limited(receive, headers, MAX_JOIN_BYTES if joins else MAX_UPLOAD_BYTES + MAX_JOIN_BYTES)
            if joins:
                body = _replayed(self._check_body(await _read(body)), receive)
        except RefusedError as error:
            plain = [(b"content-type", b"text/plain")]
            await answer({"type": "http.response.start", "status": error.status, "headers": plain})
            return await answer({"type": "http.response.body", "body": str(error).encode()})
        await self.app(scope, body, answer)

    def _check(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and host.partition(":")[0] not in self.hosts:
            raise RefusedError(400, "this server has another name")
        origin = headers.get(b"origin", b"").decode("latin-1")
        is_foreign = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and path != "/"
        if is_foreign or (origin and origin.partition("://")[2] != host):
            raise RefusedError(403, "requests of other pages are refused")
        route = ROUTES.get("GET" if method == "HEAD" else method)
        if route is None or not route.fullmatch(path):
            raise RefusedError(404, "there is no such route")
        if path.startswith(FILE) and not self._is_inside(path.removeprefix(FILE)):
            raise RefusedError(403, "this file is not served")

    def _check_body(self, body: bytes | None) -> bytes:
        """Return the body; raise RefusedError unless it is a JSON object and all its file paths are in the folder."""
        try:
            request = json.loads(body or b"")
        except (ValueError, RecursionError):
            request = None
        if body is None or not isinstance(request, dict):
            raise RefusedError(400, "the body is not a request to the queue")
        if len(str(request.get("session_hash", ""))) > MAX_SESSION_NAME:  # gradio keeps it
            raise RefusedError(400, "the name of the session is too long")
        if not all(self._is_inside(path) for path in _paths(request)):
            raise RefusedError(403, "this file is not read")
        return body

    def _is_inside(self, path: Any) -> bool:
        if path is None:
            return True
        try:
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        except (TypeError, ValueError, OSError, RuntimeError):  # not a string, a NUL, a lone surrogate, a symlink loop
            return False


def _limited(receive: Any, headers: dict[bytes, bytes], limit: int) -> Any:
    """Return an ASGI `receive` that reports a disconnect once the body exceeds `limit` bytes.

    Raises:
        RefusedError: Content-Length is invalid or exceeds `limit`.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 20 or int(length) > limit:  # int() raises for more than 4,300 digits
        raise RefusedError(413, f"the body is longer than {limit} bytes")
    seen = 0

    async def limited() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= limit else {"type": "http.disconnect"}

    return limited


def _replayed(body: bytes, receive: Any) -> Any:
    """Return an ASGI `receive` that first replays an already read body."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return messages.pop() if messages else await receive()

    return replayed


async def _read(receive: Any) -> bytes | None:
    """Return the complete request body, or None if the client disconnects or the body is too long."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
    return None


def _paths(value: Any) -> Iterator[Any]:
    """Yield the value of every `path` key in nested dicts and lists."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "path" in part:
                yield part["path"]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
