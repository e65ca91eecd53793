"""The page on an address of this machine, and nothing else: no files, no telemetry, no other origin."""

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenelab.app.handlers import Answers
from scenelab.app.middleware import MOST_BYTES, Gate
from scenelab.errors import LabError

WAITING = 32  # questions in the queue
VISITORS = 64  # whose maps are remembered, a tenth of a megabyte each; gradio remembers those of 10,000
LOOPBACK = ("127.0.0.1", "localhost")
FONTS = ("system-ui", "Segoe UI", "Helvetica", "Arial", "sans-serif")


@dataclass(frozen=True)
class Served:
    """Where the page is, and how it ends."""

    address: str
    page: Any
    blocks: Any
    folder: Path

    def close(self) -> None:
        """Stop, and remove what was uploaded and drawn."""
        self.page.end()
        self.blocks.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def serve(answers: Answers, *, host: str = "127.0.0.1", port: int = 7860) -> Served:
    """Start the page in the background.

    Args:
        host: IPv4 address or name to listen on; anything else than loopback lets others in.
        port: 0 takes a free one.

    Raises:
        LabError: gradio is missing, or the address is taken or none of this machine's.
    """
    port = _free_port(host, port)
    folder = Path(tempfile.mkdtemp(prefix="scenelab-app-")).resolve()
    _prepare(folder, host)
    try:
        from gradio import themes
    except ImportError as error:
        shutil.rmtree(folder)
        raise LabError("the explorer needs gradio; install it with: pip install 'scenelab[web]'") from error
    from starlette.middleware import Middleware

    from scenelab.app.page import CSS, Page

    page = Page(answers)
    blocks = page.build()
    blocks.queue(max_size=WAITING)
    blocks.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, inbrowser=False,
        max_file_size=MOST_BYTES, show_error=False, footer_links=[], enable_monitoring=False, ssr_mode=False,
        mcp_server=False, pwa=False, run_history=False, css=CSS, state_session_capacity=VISITORS,
        theme=themes.Default(primary_hue="blue", font=FONTS, font_mono=("ui-monospace", "monospace")),
        app_kwargs={
            "middleware": [Middleware(Gate, folder=folder, hosts=LOOPBACK if host in LOOPBACK else ())],
            "docs_url": None, "redoc_url": None, "openapi_url": None,
        },
    )  # fmt: skip
    return Served(f"http://{host if host != '0.0.0.0' else 'localhost'}:{port}", page, blocks, folder)


def _prepare(folder: Path, host: str) -> None:
    """gradio reads its settings from the environment when it is loaded; no setting of this machine's goes in."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    for name in ("NO_PROXY", "no_proxy"):  # launch asks its own address whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK, host]))


def _free_port(host: str, port: int) -> int:
    if not 0 <= port <= 65535:
        raise LabError(f"--port is {port}; expected 1 to 65535, or 0 for a free one")
    try:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((host, port))
            return free.getsockname()[1]
    except OSError as error:
        raise LabError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port, or a --host of this "
            "machine"
        ) from error
