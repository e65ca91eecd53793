"""Local web server of the page, without telemetry and without access to other files or servers."""

import os
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenelab.app.handlers import Handlers
from scenelab.app.middleware import MAX_UPLOAD_BYTES, Gate
from scenelab.app.shown_files import delete_old_files
from scenelab.errors import LabError
from scenelab.extras import APP

STALE_SECONDS = 3600.0  # since an image was last shown, after which its file is deleted
MAX_QUEUE = 32  # waiting requests
MAX_VISITORS = 64  # with maps in memory, 0.1 MB each; gradio's default is 10,000
LOOPBACK = ("127.0.0.1", "localhost")
FONTS = ("system-ui", "Segoe UI", "Helvetica", "Arial", "sans-serif")
OFF = "share inbrowser show_error enable_monitoring ssr_mode mcp_server pwa run_history".split()


@dataclass(frozen=True)
class Server:
    """A running server: URL, page, gradio blocks, folder of uploaded and computed images, and an event set on close."""

    address: str
    page: Any
    blocks: Any
    folder: Path
    closed: threading.Event = field(default_factory=threading.Event)

    def delete_old_files(self) -> None:
        """Delete stale images at regular intervals until the server is closed."""
        while not self.closed.wait(STALE_SECONDS / 6):
            delete_old_files(self.folder, self.blocks, STALE_SECONDS)

    def close(self) -> None:
        """Stop all attacks and the server, and delete uploaded and computed images."""
        self.closed.set()
        self.page.callbacks.stop_all()
        self.blocks.close(verbose=False)
        self.page.handlers.decoder.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def serve(handlers: Handlers, *, host: str = "127.0.0.1", port: int = 7860) -> Server:
    """Start the page in a background thread and return the running server.

    Args:
        handlers: the handlers of the page.
        host: address to listen on; a non-loopback address opens the page to other machines.
        port: port to listen on; 0 selects a free one.

    Raises:
        LabError: gradio is missing, or the address cannot be used.
    """
    APP.require()
    port = _free_port(host, port)
    folder = Path(tempfile.mkdtemp(prefix="scenelab-app-")).resolve()
    _prepare(folder, host)
    from gradio import themes
    from starlette.middleware import Middleware

    from scenelab.app.page import CSS, Page

    page = Page(handlers)
    blocks = page.build()
    blocks.queue(max_size=MAX_QUEUE)
    gate = Middleware(Gate, folder=folder, hosts=LOOPBACK if host in LOOPBACK else ())
    theme = themes.Default(primary_hue="blue", font=FONTS, font_mono=("ui-monospace", "monospace"))
    options: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "footer_links": [], "css": CSS}
    options |= {"max_file_size": MAX_UPLOAD_BYTES, "state_session_capacity": MAX_VISITORS, "theme": theme}
    options["app_kwargs"] = {"middleware": [gate], "docs_url": None, "redoc_url": None, "openapi_url": None}
    blocks.launch(server_name=host, server_port=port, **dict.fromkeys(OFF, False), **options)
    handlers.decoder.start()  # so that it is ready before the first image
    server = Server(f"http://{host if host != '0.0.0.0' else 'localhost'}:{port}", page, blocks, folder)
    threading.Thread(target=server.delete_old_files, daemon=True).start()
    return server


def _prepare(folder: Path, host: str) -> None:
    """Set gradio's environment variables, delete all others named `GRADIO_*`, and exempt local hosts from proxies."""
    for name in filter(lambda name: name.startswith("GRADIO_"), [*os.environ]):
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    for name in ("NO_PROXY", "no_proxy"):  # `launch` sends a request to its own address
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK, host]))


def _free_port(host: str, port: int) -> int:
    try:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((host, port))
            return free.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error})"
        raise LabError(f"{reason}; choose another --port from 1 to 65535, or a --host of this machine") from error
