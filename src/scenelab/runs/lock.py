"""Lock of a run folder, so that only one process at a time writes to it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import LOCK, NO_LOCKS, lock_folder


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder inside the block; the system releases it if the process dies.

    Raises:
        LabError: another process has the lock, or the folder cannot be written.
    """
    handle = None
    try:
        handle = lock_folder(folder)
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except (BlockingIOError, FileNotFoundError) as error:
        raise LabError(f"{folder} is being written by {_owner(folder)}; wait until it ends, or stop it") from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise LabError(f"cannot write run folder {folder}: {error.strerror}; choose a writable one") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        if handle is not None:
            os.close(handle)


def _owner(folder: Path) -> str:
    try:
        return (folder / LOCK).read_text(errors="replace")[:100] or "another process"
    except OSError:
        return "another process"
