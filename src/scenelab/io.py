"""Files that are either whole or not there: write to a temporary name, flush, rename."""

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from scenelab.errors import LabError

MOST_BYTES = 1 << 30  # of a file that is read as a whole; the list of Places2's 10 million images has 400 MB
PART = ".part"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of the disk itself, whatever is read or written."""


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on a clean exit it becomes `path`, on an exception it is removed.

    A reader sees the old file or the new one, never a part (POSIX `rename`, same file system). A process that is killed
    meanwhile leaves a `.NAME.….part`, which the next one that writes `path` removes.

    Raises:
        LabError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _create(path)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise LabError(
            f"cannot write {path}: {error.strerror or error}; free space or choose a writable folder"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """An error of the disk that tells no path, as that of a read or write, gets this one."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK and error.filename is None:
            error.filename = os.fspath(place)
        raise


def files_below(root: Path, *, hidden: bool = True) -> Iterator[str]:
    """What is no folder below `root`, as paths relative to it, with `/`; nothing where `root` is none.

    Linked folders are not entered.

    Args:
        hidden: enter folders whose name begins with a dot.

    Raises:
        OSError: a folder cannot be listed; `os.walk` and pathlib pass it over, as if it were empty.
    """

    def refuse(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError | NotADirectoryError) and error.filename == os.fspath(root)):
            raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(root).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def is_file(path: Path) -> bool:
    """Whether a file is there, as `Path.is_file`, which newer Pythons let say no where the disk fails.

    Raises:
        OSError: it cannot be said.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to build it in, removed afterwards; one that a kill leaves, the next call removes.

    Raises:
        OSError: the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, folder = _create(path, folder=True)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _create(path: Path, *, folder: bool = False) -> tuple[int, str]:
    """Make a temporary file or folder beside `path`, locked as long as the handle is open, and remove those whose
    maker has died.
    """
    for entry in os.scandir(path.parent):
        if entry.name.startswith(f".{path.name}.") and entry.name.endswith(PART):
            _remove_abandoned(entry)
    names = {"prefix": f".{path.name}.", "suffix": PART, "dir": path.parent}
    while True:
        if folder:
            made = tempfile.mkdtemp(**names)
            handle = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        else:
            handle, made = tempfile.mkstemp(**names)
        with suppress(OSError):  # a file system without locks, on which nothing is found abandoned either
            fcntl.flock(handle, fcntl.LOCK_EX)
        # until it was locked, another process may have held it for abandoned
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(made)):
                return handle, made
        os.close(handle)


def _remove_abandoned(entry: "os.DirEntry[str]") -> None:
    """Remove a temporary file or folder that nobody holds a lock on; the system frees a lock when its process dies."""
    with suppress(OSError):
        folder = entry.is_dir(follow_symlinks=False)
        handle = os.open(entry.path, (os.O_RDONLY if folder else os.O_RDWR) | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder:
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        finally:
            os.close(handle)


_asking = threading.Lock()


def _umask() -> int:
    """The process's mask; to read it is to set it, which two threads must not do at once."""
    with _asking:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _remove(temporary: str) -> None:
    if temporary:
        Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def read_plain(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a plain file, not of a pipe or a device, which might never end.

    Raises:
        LabError: the file is missing, no plain file, too long or not readable.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise LabError(f"{path} is no plain file; put one in its place")
        if found.st_size > most_bytes:
            raise LabError(f"{path} has {found.st_size:,} bytes; at most {most_bytes:,} are read")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise LabError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise LabError(f"{path} cannot be read: {cause}; check its permissions and the disk") from error


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """A text in UTF-8, with or without the mark of Windows at its begin.

    Raises:
        LabError: as `read_plain`, or it is no such text.
    """
    try:
        return read_plain(path, most_bytes=most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        LabError: the file is missing or is not JSON.
    """
    return parse_json(read_plain(path), path)


def parse_json(text: bytes, path: Path) -> Any:
    """What JSON says; `path` is where it stands.

    Raises:
        LabError: it is not JSON, nested without end, or has a number of thousands of digits.
    """
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise LabError(f"{path} cannot be read as JSON: it is nested too deep") from error
    except ValueError as error:
        raise LabError(f"{path} cannot be read as JSON: {error}") from error
