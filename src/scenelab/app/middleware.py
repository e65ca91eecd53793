"""What may reach the explorer's server: gradio has some hundred doors, of which the page needs a dozen.

Everything else is refused before gradio sees it: other paths, other names of this machine, other pages' requests,
bodies that are too long, and any file that lies outside the folder of uploads, whether it is asked for or named in a
question (gradio would read it, or fetch it if it is an address).
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 20 * 2**20
MOST_QUESTION = 2**20  # bytes of a question, whose pictures are uploaded before
FILE = "/gradio_api/file="
JOIN = "/gradio_api/queue/join"
DOORS = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./~@+-]+|/gradio_api/(theme\.css|"
        r"heartbeat/\w+|queue/data|upload_progress|startup-events|file=.+)"
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
    """Answered with a status and a line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Gate:
    """In front of the server, an ASGI application.

    Attributes:
        folder: of uploads and of what is drawn for the page; the only files that are read or given out.
        hosts: names that the server answers to; empty for all.
    """

    app: App
    folder: Path
    hosts: tuple[str, ...]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            if scope["type"] != "http":
                raise RefusedError(404, "there is no such door")
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._check(scope["method"], scope["path"], headers)
            asks = scope["path"].startswith(JOIN)
            body = _limited(receive, headers, MOST_QUESTION if asks else MOST_BYTES + MOST_QUESTION)
            if asks:
                body = _again(self._question(await _read(body)), receive)
        except RefusedError as refused:
            await answer(
                {"type": "http.response.start", "status": refused.status, "headers": [(b"content-type", b"text/plain")]}
            )
            return await answer({"type": "http.response.body", "body": str(refused).encode()})
        await self.app(scope, body, answer)

    def _check(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts and _name(host) not in self.hosts:
            raise RefusedError(400, "this is not the name of this server")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin.partition("://")[2] != host:
            raise RefusedError(403, "another page may not ask")
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and path != "/":
            raise RefusedError(403, "another page may not ask")
        door = DOORS.get("GET" if method == "HEAD" else method)
        if door is None or not door.fullmatch(path):
            raise RefusedError(404, "there is no such door")
        if path.startswith(FILE) and not self._inside(path.removeprefix(FILE)):
            raise RefusedError(403, "this file is not given out")

    def _question(self, body: bytes | None) -> bytes:
        """The question as it is, if it names no file from elsewhere."""
        try:
            asked = json.loads(body) if body is not None else None
        except (ValueError, RecursionError):
            asked = None
        if body is None or not isinstance(asked, dict):
            raise RefusedError(400, "this is no question")
        if not all(self._inside(path) for path in _paths(asked)):
            raise RefusedError(403, "this file is not read")
        return body

    def _inside(self, path: Any) -> bool:
        if path is None:
            return True
        try:
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        except (TypeError, ValueError, OSError, RuntimeError):  # no text, a NUL in it, half a letter, links in a circle
            return False


def _limited(receive: Any, headers: dict[bytes, bytes], most: int) -> Any:
    """Up to so many bytes of a body; one that says that it is longer is refused at once."""
    told = headers.get(b"content-length", b"0")
    if not told.isdigit() or len(told) > 20 or int(told) > most:  # Python makes no number of 5,000 digits
        raise RefusedError(413, f"this is longer than {most} bytes")
    seen = 0

    async def limited() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= most else {"type": "http.disconnect"}

    return limited


def _again(body: bytes, receive: Any) -> Any:
    """A body that has been read, for whoever comes next."""
    told = False

    async def again() -> Any:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _read(receive: Any) -> bytes | None:
    """A whole body, or None where it is too long or breaks off."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _paths(value: Any) -> Iterator[Any]:
    """Whatever is called a path, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "path" in part:
                yield part["path"]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _name(host: str) -> str:
    """The name of `name:port` or `[address]:port`."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
