"""The folder beside a data folder in which that is made, owned by one process at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scenelab.errors import LabError

LOCK = "lock"
BUILT = "data"  # what becomes the data folder; anything else here is a download


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Own `.NAME.partial` beside `folder` while the block runs; the system frees a lock when its process dies."""
    staging = folder.with_name(f".{folder.name}.partial")
    handle = None
    while handle is None:
        staging.mkdir(parents=True, exist_ok=True)
        handle = _lock(staging / LOCK, folder)
    try:
        yield staging
    finally:
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Remove what a process left that was killed between the last rename and its tidying up; nobody else's."""
    if folder.with_name(f".{folder.name}.partial").exists():
        with suppress(LabError, OSError), staging_folder(folder) as staging:
            tidy(staging, keep_downloads=False)


def _lock(path: Path, folder: Path) -> int | None:
    """Return a locked file; None where another process removed it in between, so that the lock would hold nothing."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except FileNotFoundError:
        pass
    except BlockingIOError as error:
        os.close(handle)
        raise LabError(f"another process is putting {folder} in place; wait until it has finished") from error
    os.close(handle)
    return None


def tidy(staging: Path, *, keep_downloads: bool) -> None:
    """Remove what is of no more use; the lock goes last, since until then nobody else may work here."""
    shutil.rmtree(staging / BUILT, ignore_errors=True)
    for path in staging.iterdir():
        if path.name != LOCK and not keep_downloads:
            path.unlink()
    if [path.name for path in staging.iterdir()] == [LOCK]:
        (staging / LOCK).unlink()
        with suppress(OSError):  # the next process may be in it already
            staging.rmdir()
