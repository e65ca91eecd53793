"""Extract untrusted archives: only regular files, only below the target folder, and within size limits."""

import gzip
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from scenelab.errors import LabError
from scenelab.progress import progress

FOLDERS = ("images", "objects")
TEXTS = ("train.txt", "val.txt", "categories.txt", "object_categories.txt")
CHUNK = 1 << 20  # bytes in memory at a time; also the maximum size of an extended header
DRIVE = re.compile(r"[A-Za-z]:")
SPECIAL = "link, device or sparse file"
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error)
DAMAGE += (EOFError, ValueError, OverflowError, RecursionError, NotImplementedError)


class ArchiveError(LabError):
    """Error for an invalid archive; a downloaded copy may be deleted."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Maximum size of an archive's content, checked during extraction."""

    max_bytes: int = 8 << 30  # MiniPlaces has 0.8 GB
    max_files: int = 500_000  # MiniPlaces has 124,000
    max_file_bytes: int = 64 << 20  # MiniPlaces' largest file, the list of training images, has 4 MB


class Member(NamedTuple):
    """Member of an archive: a file, a folder or an entry to refuse."""

    name: str
    kind: str  # "file", "folder", or a description of a member to refuse
    size: int  # bytes announced by a tar header, counted if the member is skipped; 0 for zip
    data: Iterator[bytes]  # read lazily
    end: int  # bytes of the archive read so far, for the progress bar


def extract(archive: Path, folder: Path, *, limits: Limits = Limits()) -> None:
    """Extract the data set in a .tar, .tar.gz or .zip file into `folder`.

    The format is recognized by content, not by name. Only `images/…`, `objects/…` and the four lists are extracted,
    from the top level or from one leading folder, which is dropped. Modes, owners and times are ignored. After an
    error the caller must remove `folder`, which may be incomplete.

    Raises:
        ArchiveError: the archive is damaged, has no part of a data set, exceeds the limits, or has a link, a device, a
            duplicate name or a name that points outside the folder.
        LabError: the archive cannot be read or the folder cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with archive.open("rb") as file:
            folder.mkdir(parents=True, exist_ok=True)
            _unpack(file, folder, limits)
    except ArchiveError as error:
        raise ArchiveError(f"{archive} is refused: {error}; get the archive again, from a place you trust") from error
    except DAMAGE as error:
        cause = str(error) or type(error).__name__
        raise ArchiveError(f"{archive} is not a whole .tar, .tar.gz or .zip archive ({cause}); get it again") from error
    except OSError as error:
        cause = error.strerror or error
        raise LabError(f"cannot unpack {archive} into {folder}: {cause}; check both and free space") from error


def _unpack(file: IO[bytes], folder: Path, limits: Limits) -> None:
    """Extract the data set's members into `folder`; raise an ArchiveError for an unsafe or oversized member."""
    size = os.fstat(file.fileno()).st_size
    written = spent = shown = 0
    with progress("unpacking", size, unit="bytes") as advance:
        for number, member in enumerate(members(file), 1):
            if number > limits.max_files:
                raise ArchiveError(f"it holds more than {limits.max_files:,} files")
            place = _place(member.name)
            if member.kind not in ("file", "folder"):
                raise ArchiveError(f"it holds a {member.kind}, {member.name!r}")
            if place is None or member.kind == "folder":
                spent += member.size
            else:
                spent += _write(folder / place, member, min(limits.max_file_bytes, limits.max_bytes - spent))
                written += 1
            if spent > limits.max_bytes:
                raise ArchiveError(f"it unpacks to more than {limits.max_bytes:,} bytes")
            if member.end - shown >= CHUNK:
                advance(member.end - shown)
                shown = member.end
        advance(size - shown)
    if not written:
        raise ArchiveError("it holds no images/, no objects/ and no lists")


def _place(name: str) -> str | None:
    """Return a member's path relative to the data folder, or None to skip it; raise an ArchiveError if unsafe."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not name or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name or DRIVE.match(name):
        raise ArchiveError(f"the name {name!r} is not a plain path inside the folder")
    if any(part in ("__MACOSX", ".DS_Store") or part.startswith("._") for part in parts):
        return None
    for below in (parts, parts[1:]):
        if (len(below) > 1 and below[0] in FOLDERS) or (len(below) == 1 and below[0] in TEXTS):
            return "/".join(below)
    return None


def _write(path: Path, member: Member, max_bytes: int) -> int:
    """Write a member to a new file of at most `max_bytes` bytes and return the file's size."""
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "xb")  # noqa: SIM115
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"it holds {member.name!r} twice, or as both a file and a folder") from error
    with file:
        for chunk in member.data:
            size += len(chunk)
            if size > max_bytes:
                raise ArchiveError(f"{member.name!r} unpacks to more than {max_bytes:,} bytes")
            file.write(chunk)
    return size


def members(file: IO[bytes]) -> Iterator[Member]:
    """Return an iterator over the members of a zip, tar or gzipped tar file, recognized by its first bytes."""
    start = file.read(4)
    file.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(file)
    return _tar_members(_Stream(gzip.GzipFile(fileobj=file) if start[:2] == b"\x1f\x8b" else file), file)


class _Stream:
    """File wrapper from which `tarfile` reads; limits the size of a header in memory."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self.source, self.seek, self.tell = source, source.seek, source.tell
        self.header_bytes = 0  # read since the last member

    def read(self, size: int) -> bytes:
        self.header_bytes += size
        if size < 0 or self.header_bytes > CHUNK:
            raise ArchiveError(f"a header asks for {self.header_bytes:,} bytes")
        return self.source.read(size)


def _tar_members(stream: _Stream, file: IO[bytes]) -> Iterator[Member]:
    """Yield a tar file's members; require the end marker, since `tarfile` takes a damaged header for the end."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            stream.header_bytes = 0
            tar.members.clear()  # else all 100,000 members stay in memory
            if member.size < 0:
                raise ArchiveError(f"{member.name!r} has a negative size")
            is_file = member.isreg() and not member.issparse()
            kind = "folder" if member.isdir() else "file" if is_file else SPECIAL
            yield Member(member.name, kind, member.size, _tar_data(stream, member), file.tell())
        stream.seek(tar.offset)
        if stream.source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the end of the archive is missing")
        while rest := stream.source.read(CHUNK):  # gzip verifies its checksum at the end of the stream
            yield Member(".", "folder", len(rest), iter(()), file.tell())


def _tar_data(stream: _Stream, member: tarfile.TarInfo) -> Iterator[bytes]:
    """Yield the content of a file in chunks; if it ends early, `tarfile` raises at the next member."""
    stream.seek(member.offset_data)
    left = member.size
    while chunk := stream.source.read(min(left, CHUNK)):
        left -= len(chunk)
        yield chunk


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a zip file; the upper 16 bits of `external_attr` are the Unix mode, or 0."""
    end = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            end += member.compress_size
            form = stat.S_IFMT(member.external_attr >> 16)
            kind = "folder" if member.filename.endswith("/") or form == stat.S_IFDIR else "file"
            if form not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = SPECIAL
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                kind = "file that is encrypted or packed in an unusual way"
            yield Member(member.orig_filename, kind, 0, _zip_data(archive, member), end)


def _zip_data(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as source:
        yield from iter(lambda: source.read(CHUNK), b"")
