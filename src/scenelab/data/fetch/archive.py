"""Extract MiniPlaces from an untrusted archive; anything unsafe or unexpected refuses the whole archive."""

import gzip
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scenelab.archive import CHUNK, ArchiveError, Extractor, Member, tar_members, zip_members
from scenelab.data.image_files import is_of_other_program
from scenelab.errors import LabError
from scenelab.progress import Advance, progress

FOLDERS = ("images", "objects")
TEXTS = ("train.txt", "val.txt", "categories.txt", "object_categories.txt")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error)
DAMAGE += (EOFError, ValueError, OverflowError, RecursionError, NotImplementedError)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on an archive's content, checked during extraction: bytes in total, files, and bytes per file."""

    max_bytes: int = 8 << 30  # MiniPlaces has 0.8 GB
    max_files: int = 500_000  # MiniPlaces has 124,000
    max_file_bytes: int = 64 << 20  # MiniPlaces' largest file, the list of training images, has 4 MB


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
    size, start = os.fstat(file.fileno()).st_size, file.read(4)
    file.seek(0)
    members = zip_members(file) if start in (b"PK\x03\x04", b"PK\x05\x06") else tar_members(file)
    with progress("unpacking", size, unit="bytes") as advance:
        extraction = _Extraction(folder, limits, advance)
        extraction.extract(members)
        advance(size - extraction.reported)
    if not extraction.files:
        raise ArchiveError("it holds no images/, no objects/ and no lists")


class _Extraction(Extractor):
    """Extractor of a data set. Any problem refuses the archive. Skipped tar members count towards `max_bytes`."""

    def __init__(self, folder: Path, limits: Limits, advance: Advance) -> None:
        super().__init__(limits.max_files, limits.max_files, limits.max_bytes, limits.max_file_bytes)
        self.folder, self.advance, self.reported = folder, advance, 0

    def place(self, member: Member, parts: list[str]) -> Path | None:
        if member.end - self.reported >= CHUNK:
            self.advance(member.end - self.reported)
            self.reported = member.end
        for below in (parts, parts[1:]):
            is_wanted = (len(below) > 1 and below[0] in FOLDERS) or (len(below) == 1 and below[0] in TEXTS)
            if is_wanted and not any(map(is_of_other_program, parts)):
                return self.folder.joinpath(*below)
        self.bytes += member.size
        return None

    def report(self, name: str, problem: str, outcome: str = "") -> None:
        raise ArchiveError(f"{name!r} {problem.rstrip(',')}")
