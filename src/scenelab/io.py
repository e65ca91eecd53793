"""Atomic writes of files and folders, and readers of regular files, text and JSON."""

import codecs
import csv
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from scenelab.errors import LabError

MAX_BYTES = 1 << 30  # per file read into memory; the list of Places2's 10 million images has 400 MB
PART, LOCK = ".part", "lock"
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # of cells that a spreadsheet runs as formulas
WRITE_FIX = "free space or choose a writable folder"
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)  # errors of a file system without locks
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # errors of the disk itself


@contextmanager
def explain_write_errors(path: Path | str, fix: str = WRITE_FIX) -> Iterator[None]:
    """Convert an OSError in the block to a LabError that states `path`, the cause and the fix."""
    try:
        yield
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; {fix}") from error


@contextmanager
def name_disk_errors(path: Path) -> Iterator[None]:
    """Set `filename` to `path` in disk errors of the block that have no file name, for example from `file.write`."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK and error.filename is None:
            error.filename = os.fspath(path)
        raise


def lock_folder(folder: Path, name: str = LOCK, *, wait: bool = False) -> int:
    """Lock a folder by its file `name`; return a file descriptor that unlocks it when closed.

    Raises:
        BlockingIOError: another process has the lock, without `wait`.
        FileNotFoundError: another process removed the folder.
    """
    from filelock import lock_descriptor  # slow to import

    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not lock_descriptor(handle, blocking=wait):
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another process", str(folder))
        if not os.path.samestat(os.fstat(handle), os.stat(folder / name)):
            raise FileNotFoundError(errno.ENOENT, "removed by another process", str(folder / name))
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder `.NAME.….part` beside `path` and remove it at the end of the block.

    If the process is killed, the next call for the same `path` removes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*{PART}"):
        with suppress(OSError):  # locked: another process is using it
            handle = lock_folder(abandoned)
            shutil.rmtree(abandoned, ignore_errors=True)
            os.close(handle)
    folder, handle = _create_locked(path)
    try:
        yield folder
    finally:
        if handle is not None:
            os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _create_locked(path: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
        try:
            return folder, lock_folder(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process considers the folder abandoned and is removing it
        except OSError as error:
            if error.errno in NO_LOCKS:
                return folder, None
            shutil.rmtree(folder, ignore_errors=True)
            raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk, so that a rename in it survives a power failure."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move_folder(source: Path, target: Path, *, flush: bool = True) -> None:
    """Flush all files to disk if `flush`, and rename a folder to `target`, which must be missing or empty."""
    if flush and hasattr(os, "sync"):
        os.sync()  # one call instead of one per file: a folder may have 100,000 files
    if os.name == "nt" and target.is_dir():  # on POSIX, rename replaces an empty folder
        target.rmdir()
    os.rename(source, target)
    sync_folder(target.parent)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Yield a temporary file that is renamed to `path` at the end of the block, or removed on an exception.

    Readers see either the old or the new file, never a partial one (POSIX `rename` within one file system). Text is
    UTF-8 with `surrogateescape`, which preserves undecodable bytes of file names.
    """
    path = Path(path)
    text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    options: dict[str, Any] = {} if "b" in mode else text
    with explain_write_errors(path):
        with temporary_folder(path) as folder:
            with open(folder / "file", mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(folder / "file", path)
        sync_folder(path.parent)


@contextmanager
def atomic_dir(path: Path, *, replace: bool = False, fix: str = WRITE_FIX) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `path` at the end of the block, or removed on an exception.

    Without `replace`, raise a LabError if `path` is not empty. With `replace`, an existing folder is removed just
    before the rename, and the caller must flush the new files to disk.
    """
    path = Path(os.path.abspath(path))
    with explain_write_errors(path, fix):
        if path.exists() and not path.is_dir():
            raise LabError(f"{path} is a file; choose another name for the folder")
        if not replace and path.is_dir() and any(path.iterdir()):
            raise LabError(f"folder {path} exists and is not empty; choose a new folder or remove this one")
        with temporary_folder(path) as folder:
            (folder / "dir").mkdir()
            yield folder / "dir"
            if replace:
                shutil.rmtree(path, ignore_errors=True)
            move_folder(folder / "dir", path, flush=not replace)


def files_below(root: Path, *, skip: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yield the relative paths of all files below `root`; yield nothing if `root` is not a folder.

    Links to folders, and folders for which `skip(relative path)` is True, are not entered. Unlike
    `os.walk`, raise an OSError for a folder that cannot be listed.
    """

    def fail(error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR) or error.filename != os.fspath(root):
            raise error

    for folder, folders, names in os.walk(root, onerror=fail):
        below = Path(folder).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        if skip is not None:
            folders[:] = [name for name in folders if not skip(prefix + name)]
        yield from (prefix + name for name in names)


def is_file(path: Path) -> bool:
    """Return whether `path` is a regular file; unlike `Path.is_file`, raise an OSError if the disk fails."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; numbers that are NaN or infinite become null."""
    with atomic_write(path, "w") as file:
        file.write(to_json(value) + "\n")


def to_json(value: Any) -> str:
    """Return `value` as indented JSON, with null for NaN and infinite numbers, which JSON does not have."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv_row(file: IO[str], cells: list[Any]) -> None:
    """Write a row of CSV that ends with LF; the row is quoted if a cell has a carriage return."""
    quoting = csv.QUOTE_ALL if any("\r" in str(cell) for cell in cells) else csv.QUOTE_MINIMAL
    csv.writer(file, lineterminator="\n", quoting=quoting).writerow(cells)


def sha256(path: Path) -> bytes:
    """Return the SHA-256 of a file's content, read in blocks of 1 MiB."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.digest()


def read_plain(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file; raise a LabError if it is missing, too large or unreadable."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise LabError(f"{path} is not a regular file; put one in its place")
        if status.st_size > max_bytes:
            raise LabError(f"{path} has {status.st_size:,} bytes; at most {max_bytes:,} are read")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise LabError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL character
        cause = getattr(error, "strerror", None) or error
        raise LabError(f"{path} cannot be read: {cause}; check its permissions and the disk") from error


def read_text(path: Path, *, max_bytes: int = MAX_BYTES, errors: str = "strict") -> str:
    """Return a UTF-8 file's text without its byte order mark; raise a LabError if it cannot be read or decoded.

    With `errors="surrogateescape"`, file names in it may have bytes that are not UTF-8.
    """
    return _decode(read_plain(path, max_bytes=max_bytes), path, errors)


def _decode(content: bytes, path: Path, errors: str = "strict") -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise LabError(f"{path} cannot be read: it is UTF-16, not utf-8; save it as UTF-8")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise LabError(f"{path} cannot be read: its byte {error.start} is not utf-8; save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the stripped text of each non-blank line of a UTF-8 list of file names.

    Lines end with LF, CR LF or CR. File names are decoded like `os.fsdecode`, so that they equal the names on disk.
    """
    for number, line in enumerate(re.split("\r\n?|\n", read_text(path, errors="surrogateescape")), start=1):
        if line := line.strip():
            yield number, line if os.name == "nt" else os.fsdecode(line.encode(errors="surrogateescape"))


def read_json(path: Path) -> Any:
    """Return the parsed content of a JSON file; raise a LabError if it is missing or invalid."""
    return parse_json(read_plain(path), path)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise a LabError if the file is missing, invalid, or has another value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise LabError(f"{path} holds {json.dumps(value)[:40]}; expected an object, repeat the command that made it")
    return value


def parse_json(text: bytes, path: Path) -> Any:
    """Return the value of JSON `text`; raise a LabError that names the file `path` if the JSON is invalid."""
    try:
        return json.loads(_decode(text, path))
    except RecursionError as error:
        raise LabError(f"{path} cannot be read as JSON: it is nested too deep") from error
    except json.JSONDecodeError as error:
        raise LabError(f"{path} cannot be read as JSON: {error}") from error
    except ValueError as error:  # the only other error of a parser of text
        raise LabError(f"{path} cannot be read as JSON: it has a number with thousands of digits") from error
