"""Extract an untrusted archive: regular files only, below one folder, within limits."""

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
CHUNK = 1 << 20  # bytes in memory at a time; also the largest extended header that is read
DRIVE = re.compile(r"[A-Za-z]:")
SPECIAL = "link, device or sparse file"
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error)
DAMAGE += (EOFError, ValueError, OverflowError, RecursionError, NotImplementedError)


class ArchiveError(LabError):
    """The archive itself is invalid, so a downloaded copy is not worth keeping."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Maximum size of an archive's content, counted in bytes written or skipped, not by its headers."""

    max_bytes: int = 8 << 30  # MiniPlaces has 0.8 GB
    max_files: int = 500_000  # … 124,000
    max_file_bytes: int = 64 << 20  # … 4 MB, its list of training images


class Member(NamedTuple):
    """One member of an archive."""

    name: str
    kind: str  # "file", "folder" or a name for what is refused
    size: int  # as announced: what skipping it costs
    data: Iterator[bytes]  # read lazily
    end: int  # bytes of the archive up to here, for the progress bar


def extract(archive: Path, folder: Path, *, limits: Limits = Limits()) -> None:
    """Extract the data set in a .tar, .tar.gz or .zip file, recognized by its content, into a new `folder`.

    Extracts `images/…`, `objects/…` and the four lists, at the top or below one leading folder, which is dropped, and
    skips all other regular files. Modes, owners and times are ignored. After an error `folder` holds a part of the
    data set: the caller removes it.

    Raises:
        ArchiveError: the archive is damaged, holds no part of a data set, exceeds the limits or holds a link, device,
            duplicate name or name that leads out of the folder.
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
    """Write the members of the data set below `folder` and check all others."""
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
    """Return the path of a member in a data folder, None for a member to skip."""
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
    """Write a new file of at most `max_bytes` bytes; return its size."""
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
    """Return the members of an archive, whose kind its first bytes say."""
    start = file.read(4)
    file.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(file)
    return _tar_members(_Stream(gzip.GzipFile(fileobj=file) if start[:2] == b"\x1f\x8b" else file), file)


class _Stream:
    """The file that `tarfile` reads headers from; refuses headers that would fill the memory."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self.source, self.seek, self.tell = source, source.seek, source.tell
        self.header_bytes = 0  # since the last member

    def read(self, size: int) -> bytes:
        self.header_bytes += size
        if size < 0 or self.header_bytes > CHUNK:
            raise ArchiveError(f"a header asks for {self.header_bytes:,} bytes")
        return self.source.read(size)


def _tar_members(stream: _Stream, file: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a tar file; requires its end mark, because a damaged header would look like the end."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            stream.header_bytes = 0
            tar.members.clear()  # or each of 100,000 stays in memory
            if member.size < 0:
                raise ArchiveError(f"{member.name!r} has a negative size")
            is_file = member.isreg() and not member.issparse()
            kind = "folder" if member.isdir() else "file" if is_file else SPECIAL
            yield Member(member.name, kind, member.size, _tar_data(stream, member), file.tell())
        stream.seek(tar.offset)
        if stream.source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the end of the archive is missing")
        while rest := stream.source.read(CHUNK):  # up to the checksum of a .gz
            yield Member(".", "folder", len(rest), iter(()), file.tell())


def _tar_data(stream: _Stream, member: tarfile.TarInfo) -> Iterator[bytes]:
    """Yield the bytes of a file; `tarfile` raises at the next member if they end early."""
    stream.seek(member.offset_data)
    left = member.size
    while chunk := stream.source.read(min(left, CHUNK)):
        left -= len(chunk)
        yield chunk


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    """Yield the members of a zip file; the upper half of `external_attr` is a Unix mode, or 0."""
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
