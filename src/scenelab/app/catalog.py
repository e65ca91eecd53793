"""The networks and runs that the explorer offers, by id."""

import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scenelab.app.limits import DEPTH, NETWORKS, RUNS, SCAN_SECONDS
from scenelab.errors import LabError, printable
from scenelab.runs.run import Run

if TYPE_CHECKING:
    from scenelab.app.session import Session


class UnknownError(LabError):
    """Error for an id that is of no run, or no longer."""


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
        self._sessions: OrderedDict[tuple[str, int, int], Session] = OrderedDict()

    def runs(self) -> dict[str, Run]:
        """Return all runs by id. Networks that are shipped with the package belong here, too."""
        began = time.monotonic()
        if began > self._next_scan:
            found: dict[str, Run] = {}
            for root in self.roots:
                for name, folder in _find(root):
                    found.setdefault(printable(name), Run(folder))
            self._runs, now = dict(sorted(found.items())[:RUNS]), time.monotonic()
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
        """Return the network of a run; it is loaded anew if training has written another one. Not thread-safe."""
        from scenelab.app.session import open_session

        run = self.run(name)
        try:
            state = os.stat(run.best)
        except OSError as error:
            raise LabError(f"{name} has no network yet; it is saved after its first evaluation") from error
        key = (name, state.st_mtime_ns, state.st_size)
        if key not in self._sessions:
            for old in [old for old in self._sessions if old[0] == name]:
                del self._sessions[old]
            self._sessions[key] = open_session(run, name, self.data)
            while len(self._sessions) > NETWORKS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        return self._sessions[key]


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
