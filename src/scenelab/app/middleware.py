"""ASGI middleware of the explorer that refuses requests from other pages and to other host names."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse

from scenelab.app.limits import QUERY_BYTES

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Guard:
    """Middleware that refuses unknown host names, cross-origin requests and websockets, and adds security headers.

    Attributes:
        app: the ASGI application that receives the accepted requests.
        hosts: accepted host names; empty to accept all.
    """

    app: App
    hosts: tuple[str, ...]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or respond with the reason why it is refused, which repeats nothing of the request."""

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        if refusal := self._refuse(scope):
            return await PlainTextResponse(refusal[1], refusal[0])(scope, receive, answer)
        await self.app(scope, receive, answer)

    def _refuse(self, scope: Any) -> tuple[int, str] | None:
        """Return the status and the reason to refuse a request, or None."""
        if scope["type"] != "http" or "\0" in scope["path"]:  # with which older versions of Starlette fail
            return 404, "there is no such route"
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        if self.hosts and host.partition(":")[0] not in self.hosts:
            return 400, "this server has another name"
        is_foreign = headers.get(b"sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/"
        if is_foreign or (origin and origin.partition("://")[2] != host):
            return 403, "requests of other pages are refused"
        if len(scope.get("query_string", b"")) > QUERY_BYTES:
            return 414, "the query is too long"
        return None
