"""Extract an untrusted archive: regular files only, below one folder, within limits."""

import gzip
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scenelab.errors import LabError
from scenelab.progress import Advance, progress

FOLDERS = ("images", "objects")
TEXTS = ("train.txt", "val.txt", "categories.txt", "object_categories.txt")
CHUNK = 1 << 20  # bytes in memory at a time; also the largest extended header that is read
DRIVE = re.compile(r"[A-Za-z]:")
PARSING = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error)
DAMAGE = (*PARSING, EOFError, ValueError, OverflowError, RecursionError, NotImplementedError)


class ArchiveError(LabError):
    """The archive itself is invalid, so a downloaded copy is not worth keeping."""


class _RefusedError(Exception):
    """The reason why an archive is refused, as the second half of a sentence."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Maximum size of an archive's content, counted in bytes written or skipped, not by its headers.

    The whole of MiniPlaces is 124,000 files, 0.8 GB in all and at most 4 MB in one (its list of training images).
    """

    max_bytes: int = 8 << 30
    max_files: int = 500_000
    max_file_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_files", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise LabError(f"{name} is {getattr(self, name)}; give a number of at least 1")


@dataclass(frozen=True)
class _Entry:
    """One member of an archive; `data` is read lazily."""

    name: str
    kind: str  # "file", "folder" or a name for what is refused
    size: int  # as announced: what skipping it costs
    data: Iterator[bytes]
    end: int  # bytes of the archive itself up to here, for the progress bar


def extract(archive: Path, folder: Path, *, limits: Limits = Limits()) -> None:
    """Extract the data set in a .tar, .tar.gz or .zip file, recognized by its content, into a new `folder`.

    Extracts `images/…`, `objects/…` and the four lists, at the top or below one leading folder, which is dropped.
    Skips files that macOS adds (`__MACOSX`, `._*`, `.DS_Store`) and all other regular files. Refuses the whole
    archive for a name that leads out of the folder, a link, a device, a duplicate name or a member beyond the limits.
    Ignores permissions, owners and times: files get mode 0644 and folders 0755, less the umask. After an error
    `folder` holds a part of the data set: the caller removes it.

    Raises:
        ArchiveError: the archive is damaged, truncated, hostile or holds no part of a data set.
        LabError: the archive cannot be read, `folder` has content or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        size = archive.stat().st_size
        with archive.open("rb") as file, progress("unpacking", size, unit="bytes") as advance:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise LabError(f"cannot unpack into {folder}, which is not empty; give a new folder")
            advance(size - _unpack(_entries(file), folder, limits, advance))
    except _RefusedError as error:
        raise ArchiveError(f"{archive} is refused: {error}; get the archive again, from a place you trust") from error
    except DAMAGE as error:
        cause = str(error) or type(error).__name__
        raise ArchiveError(f"{archive} is not a whole .tar, .tar.gz or .zip archive ({cause}); get it again") from error
    except OSError as error:
        cause = error.strerror or error
        raise LabError(f"cannot unpack {archive} into {folder}: {cause}; check both and free space") from error


def _unpack(entries: Iterable[_Entry], folder: Path, limits: Limits, advance: Advance) -> int:
    """Write the members of the data set below `folder`, check all others; return the bytes shown in the bar."""
    folders = {folder}
    written = spent = shown = 0
    for number, entry in enumerate(entries, 1):
        if number > limits.max_files:
            raise _RefusedError(f"it holds more than {limits.max_files:,} files")
        place = _place(entry.name)
        if entry.kind not in ("file", "folder"):
            raise _RefusedError(f"it holds a {entry.kind}, {entry.name!r}")
        if place is None or entry.kind == "folder":
            spent += entry.size
        else:
            path = folder / place
            _make_folder(path.parent, folders)
            spent += _write(path, entry, min(limits.max_file_bytes, limits.max_bytes - spent))
            written += 1
        if spent > limits.max_bytes:
            raise _RefusedError(f"it unpacks to more than {limits.max_bytes:,} bytes")
        if entry.end - shown >= CHUNK:
            advance(entry.end - shown)
            shown = entry.end
    if not written:
        raise _RefusedError("it holds no images/, no objects/ and no lists")
    return shown


def _place(name: str) -> str | None:
    """Return the path of a member in a data folder, None for a member to skip."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not name or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name or DRIVE.match(name):
        raise _RefusedError(f"the name {name!r} is not a plain path inside the folder")
    if any(part == "__MACOSX" or part == ".DS_Store" or part.startswith("._") for part in parts):
        return None
    for below in (parts, parts[1:]):
        if (len(below) > 1 and below[0] in FOLDERS) or (len(below) == 1 and below[0] in TEXTS):
            return "/".join(below)
    return None


def _make_folder(path: Path, folders: set[Path]) -> None:
    """Create `path` and its parents, with one system call per new folder."""
    if path in folders:
        return
    _make_folder(path.parent, folders)
    try:
        path.mkdir(mode=0o755)
    except (FileExistsError, NotADirectoryError) as error:
        raise _RefusedError(f"it holds both a file and a folder {path.name!r}") from error
    folders.add(path)


def _write(path: Path, entry: _Entry, max_bytes: int) -> int:
    """Write a new file of at most `max_bytes` bytes; return its size."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise _RefusedError(f"it holds {entry.name!r} twice") from error
    size = 0
    with open(handle, "wb", buffering=0) as file:
        for chunk in entry.data:
            size += len(chunk)
            if size > max_bytes:
                raise _RefusedError(f"{entry.name!r} unpacks to more than {max_bytes:,} bytes")
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    return size


def _entries(file: IO[bytes]) -> Iterator[_Entry]:
    """Return the members of an archive, whose kind its first bytes say."""
    start = file.read(4)
    file.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_entries(file)
    if start[:2] == b"\x1f\x8b":
        return _tar_entries(_Stream(gzip.GzipFile(fileobj=file)), file)
    return _tar_entries(_Stream(file), file)


class _Stream:
    """The file that `tarfile` reads headers from; refuses headers that would fill the memory."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self.source, self.seek, self.tell = source, source.seek, source.tell
        self.asked = 0  # bytes since the last entry

    def read(self, size: int) -> bytes:
        self.asked += size
        if size < 0 or self.asked > CHUNK:
            raise _RefusedError(f"a header asks for {self.asked:,} bytes")
        return self.source.read(size)


def _tar_entries(stream: _Stream, file: IO[bytes]) -> Iterator[_Entry]:
    """Yield the members of a tar file; requires its end mark, because a damaged header would look like the end."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            stream.asked = 0
            tar.members.clear()  # or each of 100,000 stays in memory
            if member.size < 0:
                raise _RefusedError(f"{member.name!r} has a negative size")
            yield _Entry(member.name, _tar_kind(member), member.size, _tar_data(stream, member), file.tell())
        stream.seek(tar.offset)
        if stream.source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the end of the archive is missing")
        while rest := stream.source.read(CHUNK):  # up to the checksum of a .gz
            yield _Entry(".", "folder", len(rest), iter(()), file.tell())


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.isdir():
        return "folder"
    return "file" if member.isreg() and not member.issparse() else "link, device or sparse file"


def _tar_data(stream: _Stream, member: tarfile.TarInfo) -> Iterator[bytes]:
    """Yield the bytes of a file; `tarfile` raises at the next member if they end early."""
    stream.seek(member.offset_data)
    left = member.size
    while chunk := stream.source.read(min(left, CHUNK)):
        left -= len(chunk)
        yield chunk


def _zip_entries(file: IO[bytes]) -> Iterator[_Entry]:
    end = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            end += member.compress_size
            yield _Entry(member.orig_filename, _zip_kind(member), 0, _zip_data(archive, member), end)


def _zip_kind(member: zipfile.ZipInfo) -> str:
    """Return the kind of a member; the upper half of `external_attr` is a Unix mode, or 0."""
    form = stat.S_IFMT(member.external_attr >> 16)
    if form not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "link, device or sparse file"
    return "folder" if member.filename.endswith("/") or form == stat.S_IFDIR else "file"


def _zip_data(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _RefusedError(f"{member.filename!r} is encrypted or packed in an unusual way")
    with archive.open(member) as source:
        while chunk := source.read(CHUNK):
            yield chunk
