"""The explorer in a thread of the tests, and what asks it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from scenelab.app.catalog import Catalog
from scenelab.app.server import Server, serve


@contextmanager
def exploring(*folders: Path, **options: Any) -> Iterator["Client"]:
    server = serve(Catalog(folders, **options), port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Client(server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


class Client:
    """A visitor of the explorer; answers are JSON, and refusals an `error`."""

    def __init__(self, server: Server) -> None:
        self.server, self.address = server, server.address

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.address}/{path}", timeout=60, **options)

    def post(self, path: str, **body: Any) -> Any:
        return requests.post(f"{self.address}/{path}", json=body, timeout=60).json()

    def upload(self, content: bytes, name: str = "holiday.jpg") -> Any:
        return requests.post(f"{self.address}/api/images", params={"name": name}, data=content, timeout=60).json()

    def attack(self, **body: Any) -> Iterator[tuple[str, Any]]:
        """Events of an attack; whoever closes the iterator closes the connection."""
        with requests.post(f"{self.address}/api/attack", json=body, timeout=60, stream=True) as response:
            for event in response.iter_lines(delimiter=b"\n\n"):
                if event:
                    kind, data = event.decode().split("\n", 1)
                    yield kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))
