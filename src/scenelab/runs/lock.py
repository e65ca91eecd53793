"""Lock of a run folder, so that only one process at a time writes to it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from scenelab.errors import LabError

NAME, OWNER = ".lock", ".lock.owner"


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder inside the block; the system releases it if the process dies.

    Raises:
        LabError: another process has the lock, or the folder cannot be written.
    """
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(blocking=False)
        (folder / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout as error:
        raise LabError(f"{folder} is being written by {_owner(folder)}; wait until it ends, or stop it") from error
    except OSError as error:
        raise LabError(f"cannot write run folder {folder}: {error.strerror}; choose a writable one") from error
    try:
        yield
    finally:
        for name in (OWNER, NAME):
            with suppress(OSError):
                (folder / name).unlink()
        lock.release()


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text(errors="replace")[:100] or "another process"
    except OSError:
        return "another process"
