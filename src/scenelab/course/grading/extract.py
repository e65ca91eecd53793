"""Unpacking what a student handed in, whatever it is: nothing leaves its folder, nothing is a link, there is an end.

A data set that is not what it says is refused (`data.archive`); a hand-in is read as far as it goes, and what was left
out is told, since somebody wants it graded.

Names are made alike before anything is decided on them: backslashes are slashes, Unicode is in form NFC. Of files whose
names are then the same, or differ in upper and lower case alone, the last one counts, as it does for every program that
unpacks them over each other.

`python -m scenelab.course.grading.extract ARCHIVE FOLDER` unpacks the archive of a class.
"""

import json
import os
import re
import resource
import shutil
import stat
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from scenelab.course.grading.filenames import MODELS, is_archive, original_name
from scenelab.errors import printable
from scenelab.io import DISK

CHUNK = 1 << 20
MOST_NAME = 200  # characters of a path
SKIPPED = ("__MACOSX", ".DS_Store", "__pycache__", ".git", "Thumbs.db", ".ipynb_checkpoints", ".idea", ".vscode")
PLAIN = stat.S_IFREG
OTHERS = {b"Rar!": "RAR", b"7z\xbc\xaf": "7z"}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others decompress without an end in sight
OFFICE = (".docx", ".xlsx", ".pptx", ".odt", ".pages", ".jar", ".npz")  # zips by their bytes, single files to people
BINARIES = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # of Linux, Windows, macOS
COMPILED = (".so", ".pyd", ".pyc", ".pyo", ".dll", ".dylib")
MOST_PARTS = 12  # of a path
DRIVE = re.compile(r"[A-Za-z]:")
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # kinds of characters that no honest name has


@dataclass
class ExtractionReport:
    """What came out, counted as it was written.

    Attributes:
        notes: what was left out or is odd, for the student.
        bytes: written so far.
        files: written so far.
        seen: entries looked at so far.
        names: of each folder, the spelling of what is in it.
    """

    notes: list[str] = field(default_factory=list)
    bytes: int = 0
    files: int = 0
    seen: int = 0
    names: dict[tuple[Path, str], str] = field(default_factory=dict)

    def spelled(self, folder: Path, parts: Iterable[str]) -> Path:
        """A path with each part as it was first written, whatever its case and Unicode form."""
        for part in parts:
            plain = unicodedata.normalize("NFC", part)
            folder /= self.names.setdefault((folder, plain.casefold()), plain)
        return folder

    def count(self, room: "ExtractionLimits") -> None:
        """Count an entry, whatever becomes of it."""
        self.seen += 1
        if self.seen > 4 * room.files:
            raise _FullError(f"holds more than {4 * room.files:,} entries")

    def note(self, text: str) -> None:
        """Add a note once; after fifty there are enough."""
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)


@dataclass(frozen=True, kw_only=True)
class ExtractionLimits:
    """How much a hand-in may bring."""

    file_bytes: int = 100 << 20
    bytes: int = 300 << 20
    files: int = 5000


class _FullError(Exception):
    """There is no more room."""


class _CompiledError(Exception):
    """A file is machine code."""


def unpack(
    path: Path,
    folder: Path,
    found: ExtractionReport,
    room: ExtractionLimits = ExtractionLimits(),
    *,
    skip: Path | None = None,
) -> None:
    """Write what a file or folder holds into `folder`.

    Args:
        path: a zip, a tar, a single .py file or a folder.
        folder: where to; made if it is not there.
        found: notes and counts go in here.
        room: how much may come.
        skip: a folder that is not looked into.

    Raises:
        OSError: the disk is full or broken.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            _from_folder(path, folder, found, room, skip)
        elif path.name.lower().endswith((*MODELS, *OFFICE)):
            _single(path, folder, found, room)
        elif zipfile.is_zipfile(path):
            _from_zip(path, folder, found, room)
        elif _is_tar(path):
            _from_tar(path, folder, found, room)
        else:
            _single(path, folder, found, room)
    except _FullError as error:
        found.note(f"{path.name}: {error}; what comes after was not read")
    except Exception as error:  # what damaged archives raise has no end: OSError, ValueError, LZMAError, …
        _raise_ours(error)
        found.note(f"{path.name} is damaged ({_said(error)})")


def _raise_ours(error: Exception) -> None:
    """A full or broken disk is not the student's fault."""
    if isinstance(error, OSError) and error.errno in DISK:
        raise error


def _said(error: Exception) -> str:
    """An error's text in one line, without the paths in it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:100] or type(error).__name__


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except Exception:
        return False


def _single(path: Path, folder: Path, found: ExtractionReport, room: ExtractionLimits) -> None:
    """A file by itself, under the name that the student gave it; an archive that is none is said."""
    with path.open("rb") as file:
        begin = file.read(4)
        if begin in OTHERS or (is_archive(path.name) and not path.name.endswith(MODELS)):
            kind = f"a {OTHERS[begin]} archive" if begin in OTHERS else "no zip"
            found.note(f"{original_name(path.name)} is {kind}; hand in a zip")
            return
        file.seek(0)
        place = _place(original_name(path.name), folder, found)
        if place is not None:
            _write(place, file, found, room, path.name)


def _place(name: str, folder: Path, found: ExtractionReport) -> Path | None:
    """Where an entry goes; None, with a note where it deserves one, where it is left out."""
    name = name.replace("\\", "/")
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    if any(part in SKIPPED for part in parts) or not parts or parts[-1].startswith("._"):
        return None
    shown = "".join("?" if unicodedata.category(letter) in UNSEEN else letter for letter in name)[:80]
    if name.startswith("/") or ".." in parts or DRIVE.match(name):
        found.note(f"{shown!r} leads out of the folder and was left out")
        return None
    if len(name) > MOST_NAME or any(len(part.encode("utf-8", "replace")) > MOST_NAME for part in parts):
        found.note(f"{shown!r}… has too long a name and was left out")
        return None
    if len(parts) > MOST_PARTS:
        found.note(f"{shown!r} lies more than {MOST_PARTS} folders deep and was left out")
        return None
    if name.endswith(COMPILED):
        found.note(f"{shown!r} is compiled code and was left out")
        return None
    if any(unicodedata.category(letter) in UNSEEN for letter in name):
        found.note(f"{shown!r} has unprintable characters in its name and was left out")
        return None
    return found.spelled(folder, parts)


def _write(path: Path, source: IO[bytes], found: ExtractionReport, room: ExtractionLimits, name: str) -> None:
    """Copy so much of a file as there is room for, counted as it comes, and count it."""
    if found.files >= room.files:
        raise _FullError(f"holds more than {room.files:,} files")
    if path.is_file():
        found.note(f"{name[:80]!r} is there twice, or in another spelling; the last was taken")
        found.bytes -= path.stat().st_size
        found.files -= 1
        path.unlink()
    made = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with path.open("xb") as target:
            made = True
            while part := source.read(CHUNK):
                if not written and part.startswith(BINARIES):
                    raise _CompiledError
                written += len(part)
                if found.bytes + written > room.bytes:
                    raise _FullError(f"holds more than {room.bytes >> 20} MiB")
                if written > room.file_bytes:
                    found.note(f"{name[:80]!r} has more than {room.file_bytes >> 20} MiB; it was cut off there")
                    break
                target.write(part)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        found.note(f"{name[:80]!r} is a file and a folder at once and was left out")
        return
    except UnicodeEncodeError:
        found.note(f"{name[:80]!a} has a name that no file can have and was left out")
        return
    except _CompiledError:
        found.note(f"{name[:80]!r} is compiled code and was left out")
        path.unlink()
        return
    except _FullError:
        raise
    except Exception as error:
        _raise_ours(error)
        found.note(f"{name[:80]!r} is damaged ({_said(error)})")
        if made:
            path.unlink()
        return
    finally:
        if made and path.is_file():
            found.bytes += path.stat().st_size
            found.files += 1


def _from_zip(path: Path, folder: Path, found: ExtractionReport, room: ExtractionLimits) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.infolist(), key=_rank):
            found.count(room)
            name = entry.filename.replace("\\", "/")  # PowerShell and .NET write them so
            place = _place(name, folder, found)
            if place is None:
                continue
            if name.endswith("/"):
                _make_folder(place)
                continue
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, PLAIN):
                found.note(f"{entry.filename[:80]!r} is a link or a device and was left out")
            elif entry.compress_type not in METHODS:
                found.note(f"{entry.filename[:80]!r} is packed in an unusual way; make the zip with zip_submission.py")
            elif entry.flag_bits & 1:
                found.note(f"{entry.filename[:80]!r} is encrypted; hand in a zip without a password")
            else:
                _guarded(lambda e=entry: archive.open(e), place, found, room, entry.filename)


def _rank(entry: zipfile.ZipInfo) -> bool:
    """What is graded comes first, whatever else fills the archive."""
    return not entry.filename.lower().endswith((".py", ".ipynb", ".pdf"))


def _from_tar(path: Path, folder: Path, found: ExtractionReport, room: ExtractionLimits) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            archive.members = []  # it would keep them all  # pyright: ignore[reportAttributeAccessIssue]
            found.count(room)
            place = _place(member.name, folder, found)
            if place is None:
                continue
            if member.isdir():
                _make_folder(place)
                continue
            if not member.isreg():
                found.note(f"{member.name[:80]!r} is a link or a device and was left out")
                continue
            _guarded(lambda m=member: archive.extractfile(m), place, found, room, member.name)


def _make_folder(place: Path) -> None:
    """An empty folder counts: a student who handed in nothing has one."""
    with suppress(FileExistsError, NotADirectoryError, UnicodeEncodeError):
        place.mkdir(parents=True, exist_ok=True)


def _guarded(
    open_entry: Callable[[], IO[bytes] | None], place: Path, found: ExtractionReport, room: ExtractionLimits, name: str
) -> None:
    """Write one entry; where it is damaged, say so and go on to the next."""
    try:
        source = open_entry()
    except Exception as error:
        _raise_ours(error)
        found.note(f"{name[:80]!r} is damaged ({_said(error)})")
        return
    if source is not None:
        with source:
            _write(place, source, found, room, name)


def _walk(folder: Path, found: ExtractionReport, skip: Path | None) -> Iterator[Path]:
    def tell(error: OSError) -> None:
        _raise_ours(error)
        place = Path(error.filename)
        name = folder.name if place == folder else place.relative_to(folder).as_posix()
        found.note(f"{name[:80]!r} cannot be read and was left out")

    for root, folders, names in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and Path(root, name) != skip)
        yield from (Path(root) / name for name in sorted(names))
        yield from (Path(root) / name for name in folders if (Path(root) / name).is_symlink())


def _from_folder(path: Path, folder: Path, found: ExtractionReport, room: ExtractionLimits, skip: Path | None) -> None:
    for source in _walk(path, found, skip):
        found.count(room)
        name = source.relative_to(path).as_posix()
        place = _place(name, folder, found)
        if place is None:
            continue
        try:
            if not stat.S_ISREG(source.lstat().st_mode):
                found.note(f"{name[:80]!r} is a link or a device and was left out")
                continue
            with source.open("rb") as file:
                _write(place, file, found, room, name)
        except PermissionError:
            found.note(f"{name[:80]!r} cannot be read and was left out")


def remove(folder: Path) -> None:
    """Delete what was unpacked, whatever its permissions."""
    shutil.rmtree(folder, ignore_errors=True)


MEMORY, SECONDS = 1 << 30, 1500  # that unpacking the archive of a class may take
GROWTH, LEAST, MOST = 8, 1 << 30, 16 << 30  # bytes that come out of it: so many times its own, within bounds


def main() -> None:
    """Unpack the archive of a class, whose members are archives and hardly shrink; prints the notes as JSON."""
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    most = min(MOST, max(LEAST, GROWTH * path.stat().st_size))
    found = ExtractionReport()
    try:
        unpack(path, folder, found, ExtractionLimits(file_bytes=LEAST, bytes=most, files=20_000))
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(json.dumps({"disk": error.strerror}))
        return
    print(json.dumps([printable(note) for note in found.notes]))


if __name__ == "__main__":
    main()
