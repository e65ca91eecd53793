"""The networks and runs that the explorer offers, by id."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from scenelab.app.limits import DEPTH, NETWORKS, RUNS, SCAN_SECONDS
from scenelab.errors import LabError, printable
from scenelab.runs.pretrained import list_pretrained, open_pretrained
from scenelab.runs.run import Run

if TYPE_CHECKING:
    from scenelab.app.session import Session


class UnknownError(LabError):
    """Error for an id that no run has, or that no run has any more."""


class Catalog:
    """Run folders by id, and the networks of the last ones asked for.

    An id is a run's path below the folder that was given, or its own name if the run itself was given. Ids are looked
    up and never opened as paths.

    Args:
        folders: run folders, and folders with run folders below them.
        data: data folder of the validation images; by default the one that a run was trained on.

    Raises:
        LabError: a folder does not exist, or two runs have the same name.
    """

    def __init__(self, folders: Sequence[Path], *, data: Path | None = None) -> None:
        self.roots, self.data = [Path(folder).absolute() for folder in folders], data
        for folder in folders:
            Run(Path(folder)).require_folder()
        names = [root.name for root in self.roots if Run(root).config.exists()]
        if len(set(names)) < len(names):
            raise LabError("two of the runs have the same name; rename a folder, or name each once")
        self._next_scan, self._runs = float("-inf"), dict[str, Run]()
        self._open = lru_cache(NETWORKS)(lambda name, *version: self._open_session(name))

    def runs(self) -> dict[str, Run]:
        """Return all runs by id, and after them the networks that ship with the package."""
        began = time.monotonic()
        if began > self._next_scan:
            found = {printable(name): Run(path) for root in self.roots[::-1] for name, path in _find(root)}
            runs = dict(sorted(found.items())[:RUNS])
            shipped = {name: open_pretrained(name) for name in list_pretrained()}
            self._runs, now = runs | shipped | runs, time.monotonic()
            self._next_scan = now + max(SCAN_SECONDS, 20 * (now - began))  # a folder with all images takes long
        return self._runs

    def run(self, name: str) -> Run:
        """Return a run by id; raise an UnknownError if there is none."""
        run = self.runs().get(name)
        if run is None:
            raise UnknownError("this run is not there, or no longer; choose another one in the list")
        return run

    def sizes(self) -> set[int]:
        """Return the sides in pixels of all networks' input images."""
        sizes = set()
        for run in self.runs().values():
            with suppress(LabError):  # it is listed with its problem
                sizes.add(run.read_config().train.eval_size)
        return sizes

    def session(self, name: str) -> "Session":
        """Return the session of a run by id; load the network again if its file has changed."""
        run = self.run(name)
        try:
            state = os.stat(run.best)
        except OSError as error:
            raise LabError(f"{name} has no network yet; it is saved after its first evaluation") from error
        return self._open(name, state.st_mtime_ns, state.st_size)

    def _open_session(self, name: str) -> "Session":
        from scenelab.app.session import open_session

        return open_session(self.run(name), name, self.data)


def _find(root: Path) -> list[tuple[str, Path]]:
    """Return names and folders of the runs in `root`, which may be a run itself; unreadable folders have none."""
    if Run(root).config.exists():
        return [(root.name, root)]
    found = []
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        if "config.json" in files:
            found.append((below.as_posix(), Path(folder)))
        if "config.json" in files or len(below.parts) >= DEPTH or len(found) > RUNS:
            folders.clear()
        folders[:] = sorted(each for each in folders if not each.startswith("."))
    return found
