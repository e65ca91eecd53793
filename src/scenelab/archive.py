"""Extract untrusted zip and tar files within limits: only regular files and folders, only below one folder."""

import errno
import gzip
import re
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from scenelab.errors import LabError

CHUNK = 1 << 20  # bytes in memory at a time; also the maximum size of an extended header
DRIVE = re.compile(r"[A-Za-z]:")
JUNK = ("__MACOSX", ".DS_Store")
SPECIAL = "is a link or a device"
Opener = Callable[[IO[bytes]], Any]
GZIP: dict[bytes, Opener] = {b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file)}
"""Functions that open a compressed file, by the file's first bytes."""


class ArchiveError(LabError):
    """Error for an archive that is damaged or has disallowed content."""


class FullError(ArchiveError):
    """Error for an archive with too many members, files or bytes."""


class Member(NamedTuple):
    """Member of an archive: its name, kind and content, which is read lazily."""

    name: str
    kind: str  # "file", "folder", or the reason to refuse it
    data: Iterator[bytes]
    size: int = 0  # bytes announced by a tar header
    end: int = 0  # bytes of the archive read so far


class Extractor(ABC):
    """Base class of extractors with limits; subclasses choose paths and handle problems."""

    def __init__(self, max_members: int, max_files: int, max_bytes: int, max_file_bytes: int) -> None:
        self.max_members, self.max_files = max_members, max_files
        self.max_bytes, self.max_file_bytes = max_bytes, max_file_bytes
        self.members = self.files = self.bytes = 0

    @abstractmethod
    def place(self, member: Member, parts: list[str]) -> Path | None:
        """Return the path to write a member to, or None to skip it; `parts` are the components of its name."""

    @abstractmethod
    def report(self, name: str, problem: str, outcome: str = "and was left out") -> None:
        """Handle a problem with a member, or raise an exception; `outcome` says what was done with the member."""

    def extract(self, members: Iterable[Member]) -> None:
        """Extract all members in their order; raise a FullError at a limit."""
        for member in members:
            self.members += 1
            if self.members > self.max_members:
                raise FullError(f"it holds more than {self.max_members:,} files")
            if (parts := split_name(member.name)) is None:
                self.report(member.name, "is not a plain path: it leads out of the folder")
            elif member.kind not in ("file", "folder"):
                self.report(member.name, member.kind)
            elif (path := self.place(member, parts)) is not None:
                self._write(member, path)
            if self.bytes > self.max_bytes:
                raise FullError(f"it holds more than {self.max_bytes / 2**20:g} MiB")

    def _write(self, member: Member, path: Path) -> None:
        left = self.max_bytes - self.bytes
        try:
            if member.kind == "folder":
                return path.mkdir(parents=True, exist_ok=True)
            if self.files >= self.max_files:
                raise FullError(f"it holds more than {self.max_files:,} files")
            size, is_whole = write_file(path, member.data, min(left, self.max_file_bytes))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return self.report(member.name, "is there twice, or is a file and a folder at once,")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return self.report(member.name, "has a name that is too long for this disk")
        self.files, self.bytes = self.files + 1, self.bytes + size
        if not is_whole and left <= self.max_file_bytes:
            raise FullError(f"it holds more than {self.max_bytes / 2**20:g} MiB")
        if not is_whole:
            self.report(member.name, f"has more than {self.max_file_bytes / 2**20:g} MiB", "and was cut off there")


def split_name(name: str) -> list[str] | None:
    """Return a member name's components, split at slashes and backslashes; None if it points outside the folder."""
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    is_outside = plain.startswith("/") or ".." in parts or "\0" in name or DRIVE.match(name)
    return None if is_outside else parts


def write_file(path: Path, data: Iterable[bytes], max_bytes: int) -> tuple[int, bool]:
    """Write at most `max_bytes` to a new file; return its size and whether all data fit. Delete it if `data` fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with open(path, "xb") as file:
        try:
            for chunk in data:
                if size + len(chunk) > max_bytes:
                    return size, False
                size += file.write(chunk)
        except BaseException:
            path.unlink()
            raise
    return size, True


def read_chunks(open_file: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    """Open a file and yield its content in chunks."""
    with open_file() as file:
        while chunk := file.read(CHUNK):
            yield chunk


def zip_members(file: IO[bytes], *, first: tuple[str, ...] = ()) -> Iterator[Member]:
    """Yield the members of a zip file, those with the suffixes `first` before the others."""
    end = 0
    with zipfile.ZipFile(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: not info.filename.lower().endswith(first)):
            end += info.compress_size
            form, name = stat.S_IFMT(info.external_attr >> 16), _zip_name(info)  # the Unix mode, or 0
            kind = "folder" if name.endswith(("/", "\\")) or form == stat.S_IFDIR else "file"
            if form not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = SPECIAL
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others are not bounded
                kind = "is packed in an unusual way; expected deflate"
            elif info.flag_bits & 1:
                kind = "is encrypted; expected no password"
            yield Member(name, kind, read_chunks(lambda info=info: archive.open(info)), end=end)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name; if the UTF-8 flag 0x800 is missing (macOS), try UTF-8 before `zipfile`'s cp437."""
    with suppress(UnicodeError):
        if not info.flag_bits & 0x800:
            return info.orig_filename.encode("cp437").decode()
    return info.orig_filename


class _Stream:
    """File object for `tarfile`; raises an ArchiveError if the headers of one member exceed 1 MiB."""

    def __init__(self, source: Any) -> None:
        self.source, self.seek, self.tell = source, source.seek, source.tell
        self.header_bytes = 0  # read since the last member

    def read(self, size: int) -> bytes:
        self.header_bytes += size
        if size < 0 or self.header_bytes > CHUNK:
            raise ArchiveError(f"a header asks for {self.header_bytes:,} bytes")
        return self.source.read(size)


def tar_members(file: IO[bytes], *, openers: dict[bytes, Opener] = GZIP, whole: bool = True) -> Iterator[Member]:
    """Yield the members of a tar file, which may be compressed in a format of `openers`.

    With `whole`, raise an EOFError without an end marker, because `tarfile` takes a damaged header for the end.
    """
    start = file.read(6)
    file.seek(0)
    source = next((opener(file) for magic, opener in openers.items() if start.startswith(magic)), file)
    stream = _Stream(source)
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[arg-type]
        while (member := tar.next()) is not None:
            stream.header_bytes = 0
            tar.members.clear()  # else all 100,000 members stay in memory
            if member.size < 0:
                raise ArchiveError(f"{member.name!r} has a negative size")
            is_file = member.isreg() and not member.issparse()
            kind = "folder" if member.isdir() else "file" if is_file else SPECIAL
            yield Member(member.name, kind, _tar_data(stream, member), member.size, file.tell())
        if not whole:
            return
        stream.seek(tar.offset)
        if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the end of the archive is missing")
        while rest := source.read(CHUNK):  # gzip verifies its checksum at the end of the stream
            yield Member(".", "folder", iter(()), len(rest), file.tell())


def _tar_data(stream: _Stream, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream.seek(member.offset_data)
    left = member.size
    while left:
        chunk = stream.source.read(min(left, CHUNK))
        if not chunk:
            raise EOFError("unexpected end of data")
        left -= len(chunk)
        yield chunk
