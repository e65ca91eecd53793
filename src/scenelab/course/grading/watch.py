"""Waiting for submissions that arrive in a folder."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scenelab.io import files_below

SECONDS = 2.0  # between two looks


def arrivals(folder: Path, out: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Yield, without end, when files in a folder, except hidden ones and `out`, have changed and then kept still."""
    seen = before = {}
    while True:
        names = files_below(folder, skip=lambda name: (folder / name).resolve() == out)
        now = {}
        for path in [folder / name for name in names if not Path(name).name.startswith(".")]:
            with suppress(FileNotFoundError):  # a temporary name of a program that copies
                now[path] = (path.stat().st_size, path.stat().st_mtime_ns)
        if now and now == before != seen:
            seen = now
            yield
        before = now
        time.sleep(seconds)
