"""The folder in which one process at a time builds a data folder; downloads in it outlive a kill."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import LOCK, lock_folder

BUILT = "data"  # becomes the data folder; anything else in the staging folder is a download


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Lock and yield `.NAME.partial` beside `folder`.

    Raises:
        LabError: another process holds it.
        OSError: it cannot be created or locked.
    """
    staging = folder.with_name(f".{folder.name}.partial")
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed it
            handle = lock_folder(staging)
            break
    if handle is None:
        raise LabError(f"another process is putting {folder} in place; wait until it has finished")
    try:
        yield staging
    finally:
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Remove what a process left that was killed just after the last rename, unless another one works there."""
    if folder.with_name(f".{folder.name}.partial").exists():
        with suppress(LabError, OSError), staging_folder(folder) as staging:
            tidy(staging, keep_downloads=False)


def tidy(staging: Path, *, keep_downloads: bool) -> None:
    """Remove what is no longer needed; the lock goes last, because until then nobody else may work here."""
    shutil.rmtree(staging / BUILT, ignore_errors=True)
    for path in staging.iterdir():
        if path.name != LOCK and not keep_downloads:
            path.unlink()
    if [path.name for path in staging.iterdir()] == [LOCK]:
        (staging / LOCK).unlink()
        with suppress(OSError):  # the next process may already use it
            staging.rmdir()
