"""Atomic writes: a file or folder is whole or missing. Readers of plain files, text and JSON."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

from scenelab.errors import LabError

MAX_BYTES = 1 << 30  # of a file that is read as a whole; the list of Places2's 10 million images has 400 MB
PART, LOCK = ".part", "lock"
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)  # a file system without locks
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of the disk itself, whatever is read or written."""


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder, so that a rename in it survives a power cut."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder `.NAME.….part` beside `path` and remove it afterwards.

    If the process is killed, the next call for the same `path` removes what it left.

    Raises:
        OSError: the folder cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(f".{path.name}.") and entry.name.endswith(PART):
                _remove_abandoned(Path(entry.path))
    folder, handle = _create_locked(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)
            if os.name == "nt":  # an open file cannot be removed there
                shutil.rmtree(folder, ignore_errors=True)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder by the file `lock` in it; return a handle to close, or None if another process holds the lock.

    The system frees the locks of a dead process.

    Raises:
        FileNotFoundError: another process removed the folder meanwhile.
        OSError: the file cannot be opened, or the file system has no locks.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(folder / LOCK, flags, 0o644)
    try:
        if lock_descriptor(handle, blocking=False):
            if not os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
                raise FileNotFoundError(errno.ENOENT, "removed by another process", str(folder / LOCK))
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _create_locked(path: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
        try:
            handle = lock_folder(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in NO_LOCKS:
                return folder, None
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if handle is not None:  # else another process took the folder for abandoned and is removing it
            return folder, handle


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):
        handle = lock_folder(folder)
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file; on a clean exit it becomes `path`, on an exception it is removed.

    A reader sees the old file or the new one, never a part (POSIX `rename` within one file system).

    Raises:
        LabError: the folder is not writable or the disk is full.
    """
    path = Path(path)
    try:
        with temporary_folder(path) as folder:
            with open(folder / "file", mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(folder / "file", path)
        sync_folder(path.parent)
    except OSError as error:
        raise _not_writable(path, error) from error


@contextmanager
def atomic_dir(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder; on a clean exit it becomes `path`, on an exception it is removed.

    `path` must be missing or an empty folder, unless `replace` is set: then an old folder goes just before the rename,
    so that a kill between the two leaves none. Two processes may build the same folder at once, and the last one wins;
    where only one shall build, hold a lock around this call.

    Raises:
        LabError: `path` is a file or has content, the folder is not writable or the disk is full.
    """
    path = Path(os.path.abspath(path))
    try:
        if path.exists() and not path.is_dir():
            raise LabError(f"{path} is a file; choose another name for the folder")
        if not replace and path.is_dir() and any(path.iterdir()):
            raise LabError(f"folder {path} exists and is not empty; choose a new folder or remove this one")
        with temporary_folder(path) as folder:
            (folder / "dir").mkdir()
            yield folder / "dir"
            sync_all()
            if replace:
                shutil.rmtree(path, ignore_errors=True)
            move_folder(folder / "dir", path)
    except OSError as error:
        raise _not_writable(path, error) from error


def sync_all() -> None:
    """Flush everything to disk: one call, where a folder has 100,000 files."""
    if hasattr(os, "sync"):
        os.sync()


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder, whose target is missing or an empty folder, and make the rename last."""
    if os.name == "nt" and target.is_dir():  # POSIX replaces an empty folder in the same call
        target.rmdir()
    os.rename(source, target)
    sync_folder(target.parent)


def _not_writable(path: Path, error: OSError) -> LabError:
    return LabError(f"cannot write {path}: {error.strerror or error}; free space or choose a writable folder")


@contextmanager
def name_disk_errors(path: Path) -> Iterator[None]:
    """Add `path` to a disk error without one, such as an error from a read or write."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK and error.filename is None:
            error.filename = os.fspath(path)
        raise


def files_below(root: Path, *, hidden: bool = True) -> Iterator[str]:
    """Yield everything below `root` except folders, as paths relative to it with `/`.

    Yields nothing where `root` is missing or not a folder. Linked folders are not entered.

    Args:
        root: the folder.
        hidden: enter folders whose name begins with a dot.

    Raises:
        OSError: a folder cannot be listed; `os.walk` and pathlib would pass over it as if it were empty.
    """

    def fail(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError | NotADirectoryError) and error.filename == os.fspath(root)):
            raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        if not hidden:
            folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(root).as_posix()
        yield from names if below == "." else (f"{below}/{name}" for name in names)


def is_file(path: Path) -> bool:
    """Return whether a file exists; unlike newer `Path.is_file`, a failing disk is an error, not "no".

    Raises:
        OSError: the disk fails.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def read_plain(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file; a pipe or a device, which might never end, is refused.

    Raises:
        LabError: the file is missing, not regular, too long or not readable.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise LabError(f"{path} is not a regular file; put one in its place")
        if status.st_size > max_bytes:
            raise LabError(f"{path} has {status.st_size:,} bytes; at most {max_bytes:,} are read")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise LabError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise LabError(f"{path} cannot be read: {cause}; check its permissions and the disk") from error


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """Return a text in UTF-8, with or without a byte order mark.

    Raises:
        LabError: as `read_plain`, or the file is not UTF-8.
    """
    try:
        return read_plain(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        LabError: the file is missing or not valid JSON.
    """
    return parse_json(read_plain(path), path)


def parse_json(text: bytes, path: Path) -> Any:
    """Parse JSON that was read from `path`.

    Raises:
        LabError: it is not valid JSON, is nested too deep or holds a number of thousands of digits.
    """
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise LabError(f"{path} cannot be read as JSON: it is nested too deep") from error
    except ValueError as error:
        raise LabError(f"{path} cannot be read as JSON: {error}") from error
