"""The page on an address of this machine, and nothing else: no files, no telemetry, no other origin."""

import os
import socket
import tempfile
from dataclasses import dataclass
from typing import Any

from scenelab.errors import LabError
from scenelab.web.answers import Answers

MOST_BYTES = "20mb"  # of an uploaded picture
WAITING = 32  # questions in the queue
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FONTS = ("system-ui", "Segoe UI", "Helvetica", "Arial", "sans-serif")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)


@dataclass(frozen=True)
class Served:
    """Where the page is, and how it ends."""

    address: str
    blocks: Any

    def close(self) -> None:
        self.blocks.close(verbose=False)


def serve(answers: Answers, *, host: str = "127.0.0.1", port: int = 7860) -> Served:
    """Start the page in the background.

    Args:
        host: address to listen on; anything else than loopback lets others in.
        port: 0 takes a free one.

    Raises:
        LabError: gradio is missing, or the address is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="scenelab-app-"))
    port = port or _free_port(host)
    try:
        from gradio import themes
    except ImportError as error:
        raise LabError("the explorer needs gradio; install it with: pip install 'scenelab[web]'") from error
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from scenelab.web.page import CSS, Page

    hosts = [*LOOPBACK, host] if host in LOOPBACK else ["*"]
    blocks = Page(answers).build()
    blocks.queue(max_size=WAITING)
    try:
        blocks.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
            max_file_size=MOST_BYTES, show_error=False, footer_links=[], enable_monitoring=False, ssr_mode=False,
            mcp_server=False, pwa=False, css=CSS,
            theme=themes.Default(primary_hue="blue", font=FONTS, font_mono=("ui-monospace", "monospace")),
            app_kwargs={
                "middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(_Headers)],
                "docs_url": None, "redoc_url": None, "openapi_url": None,
            },
        )  # fmt: skip
    except OSError as error:
        raise LabError(f"cannot listen on {host}:{port}: {error}; choose another with --port") from error
    return Served(f"http://{host if host != '0.0.0.0' else 'localhost'}:{port}", blocks)


def _free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()[1]


class _Headers:
    """Tells the browser to fetch nothing from elsewhere and to show the page in nobody's frame."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, send_with)
