"""Waiting for submissions that arrive in a folder."""

import time
from collections.abc import Iterator
from pathlib import Path

from scenelab.io import files_below

SECONDS = 2.0  # between two looks


def arrivals(folder: Path, out: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Yield, without end, when files in a folder, except hidden ones and `out`, have changed and then kept still."""
    seen = before = {}
    while True:
        names = files_below(folder, skip=lambda name: (folder / name).resolve() == out)
        paths = [folder / name for name in names if not Path(name).name.startswith(".")]
        status = [(path, path.stat()) for path in paths if path.exists()]
        now = {path: (each.st_size, each.st_mtime_ns) for path, each in status}
        if now and now == before != seen:
            seen = now
            yield
        before = now
        time.sleep(seconds)
