"""Web server of the explorer, on this machine unless another address is chosen."""

import socket
from types import FrameType

import uvicorn

from scenelab.app.api import Application
from scenelab.app.catalog import Catalog
from scenelab.app.limits import CONNECTIONS
from scenelab.errors import LabError

LOOPBACK = ("127.0.0.1", "localhost")


class Server(uvicorn.Server):
    """A server that listens already; `run` answers until it is stopped, `address` is its URL."""

    def __init__(self, application: Application, listener: socket.socket, host: str) -> None:
        self.application, self.listener = application, listener
        self.address = f"http://{host if host != '0.0.0.0' else 'localhost'}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            application.build(LOOPBACK if host in LOOPBACK else ()),
            ws="none",
            lifespan="off",
            log_level="warning",
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer requests until the process is asked to end; then end all attacks and forget all uploads."""
        self.application.warm_up()
        try:
            super().run(sockets or [self.listener])
        finally:
            self.application.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End all attacks, whose clients would otherwise delay the end of the server."""
        self.application.close()
        super().handle_exit(sig, frame)


def serve(catalog: Catalog, *, host: str = "127.0.0.1", port: int = 7860) -> Server:
    """Return a server that listens for the explorer of a catalog.

    Args:
        catalog: the runs.
        host: address to listen on; a non-loopback address opens the explorer to other machines.
        port: port to listen on; 0 selects a free one.

    Raises:
        LabError: the address cannot be used.
    """
    try:
        listener = socket.create_server((host, port))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not: answers would wait 40 ms
    except OSError as error:
        reason = f"cannot listen on {host}:{port} ({error.strerror or error})"
        raise LabError(f"{reason}; choose another --port from 1 to 65535, or a --host of this machine") from error
    return Server(Application(catalog), listener, host)
