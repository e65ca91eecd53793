"""Safe extraction of submissions: files stay inside the target folder, links are skipped, and sizes are limited.

Names are normalized first: backslashes become slashes, and Unicode becomes NFC. If names are then equal or differ only
in case, the last file overwrites the earlier ones, as in other extraction programs.

`python -m scenelab.course.grading.extract ARCHIVE FOLDER` extracts the archive of a class.
"""

import bz2
import lzma
import os
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from scenelab.archive import GZIP, JUNK, SPECIAL, Extractor, FullError, Member, read_chunks, tar_members, zip_members
from scenelab.course.grading.bounded import print_bounded
from scenelab.course.grading.filenames import MODELS, is_archive, original_name
from scenelab.course.submission import visible
from scenelab.errors import printable
from scenelab.io import DISK

MAX_NAME, MAX_PARTS, MAX_NOTES = 200, 12, 50  # characters per path, parts per path, notes per submission
SKIPPED = frozenset((*JUNK, *"__pycache__ site-packages .git Thumbs.db .ipynb_checkpoints .idea .vscode".split()))
FORMATS = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive"}
OPENERS = {**GZIP, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile}
OFFICE = (".docx", ".xlsx", ".pptx", ".odt", ".pages", ".jar", ".npz")  # zip files by content, kept as single files
BINARIES = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # first bytes on Linux, Windows, macOS
COMPILED = (".so", ".pyd", ".pyc", ".pyo", ".dll", ".dylib")
GRADED = (".py", ".ipynb", ".pdf")  # extracted first, before other files exceed the limits
MEMORY, CPU_SECONDS = 1 << 30, 1500  # bytes and seconds for the archive of a class
CLASS_FILES = 200_000
CUT = "; what comes after was not read"
GROWTH, MIN_BYTES, MAX_BYTES = 8, 1 << 30, 16 << 30  # growth factor of a class's archive, within these sizes


@dataclass(frozen=True, kw_only=True)
class ExtractionLimits:
    """Limits on a submission's extracted files: bytes per file, bytes in total, and number of files."""

    file_bytes: int = 100 << 20
    bytes: int = 300 << 20
    files: int = 5000


def archive_kind(path: Path) -> str:
    """Return "zip" or "tar" for an archive, recognized by its content, else ""."""
    with suppress(Exception):  # damaged archives raise errors of many types
        return "zip" if zipfile.is_zipfile(path) else "tar" if tarfile.is_tarfile(path) else ""
    return ""


def _damage(error: Exception) -> str:
    """Return a note "is damaged (…)" without paths for an error; re-raise errors of a full or broken disk."""
    if isinstance(error, OSError) and error.errno in DISK:
        raise error
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"is damaged ({' '.join(text.split())[:100] or type(error).__name__})"


class Extraction(Extractor):
    """Extraction of a submission, with counts of bytes and files, and notes on skipped or unusual files."""

    def __init__(self, limits: ExtractionLimits = ExtractionLimits()) -> None:
        super().__init__(4 * limits.files, limits.files, limits.bytes, limits.file_bytes)
        self.notes, self.folder = list[str](), Path()
        self._spellings: dict[tuple[Path, str], str] = {}

    def note(self, text: str) -> None:
        """Add a note, unless it is a duplicate or there are `MAX_NOTES` already."""
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def unpack(self, path: Path, folder: Path, *, skip: Path | None = None) -> None:
        """Extract a zip or tar to `folder`, or copy a file or a folder, without its subfolder `skip`, to `folder`.

        Damaged files and exceeded limits become notes.

        Raises:
            OSError: If the disk is full or broken.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.extract(self._members(path, skip))
        except FullError as error:
            self.notes.insert(0, f"{path.name}: {error}{CUT}")  # first, because readers show few
        except Exception as error:
            self.note(f"{path.name} {_damage(error)}")

    def _members(self, path: Path, skip: Path | None) -> Iterator[Member]:
        if path.is_dir():
            yield from self._in_folder(path, skip)
            return
        with path.open("rb") as file:
            start, name = file.read(4), original_name(path.name)
            kind = "" if path.name.lower().endswith((*MODELS, *OFFICE)) else archive_kind(path)
            file.seek(0)
            if kind == "zip":
                yield from zip_members(file, first=GRADED)
            elif kind == "tar":
                yield from tar_members(file, openers=OPENERS, whole=False)
            elif start in FORMATS or is_archive(path.name):
                self.note(f"{name} is {FORMATS.get(start, 'no zip')}; hand in a zip")
            else:
                yield Member(name, "file", read_chunks(lambda: path.open("rb")))

    def _in_folder(self, path: Path, skip: Path | None) -> Iterator[Member]:
        def note_error(error: OSError) -> None:
            if error.errno in DISK:
                raise error
            place = Path(error.filename)
            name = path.name if place == path else place.relative_to(path).as_posix()
            self.note(f"{name[:80]!r} cannot be read and was left out")

        for root, folders, names in os.walk(path, onerror=note_error):
            folders[:] = sorted(name for name in folders if name not in SKIPPED and Path(root, name) != skip)
            links = [name for name in folders if os.path.islink(os.path.join(root, name))]
            for source in (Path(root, name) for name in (*sorted(names), *links)):
                plain = os.path.isfile(source) and not os.path.islink(source)
                kind = "file" if plain or not os.path.lexists(source) else SPECIAL  # opening reports lack of access
                yield Member(source.relative_to(path).as_posix(), kind, read_chunks(lambda s=source: s.open("rb")))

    def place(self, member: Member, parts: list[str]) -> Path | None:
        """Return the path of a member, or None to skip it; names that differ only in case share a path."""
        if not parts or not SKIPPED.isdisjoint(parts) or parts[-1].startswith("._"):
            return None
        name = member.name
        too_long = len(name) > MAX_NAME or any(len(part.encode("utf-8", "replace")) > MAX_NAME for part in parts)
        rules = {
            "has too long a name": too_long,
            f"lies more than {MAX_PARTS} folders deep": len(parts) > MAX_PARTS,
            "is compiled code": name.endswith(COMPILED),
            "has unprintable characters in its name": visible(name) != name,
        }
        for problem, is_broken in rules.items():
            if is_broken:
                return self.report(name, problem)
        folder = self.folder
        for part in parts:
            plain = unicodedata.normalize("NFC", part)
            folder /= self._spellings.setdefault((folder, plain.casefold()), plain)
        return folder

    def report(self, name: str, problem: str, outcome: str = "and was left out") -> None:
        """Add a note on a problem."""
        self.note(f"{visible(name)[:80]!r} {problem} {outcome}".rstrip())

    def _write(self, member: Member, path: Path) -> None:
        """Write a file in place of an earlier one of the same name, unless it is damaged or machine code."""
        try:
            first = next(member.data, b"") if member.kind == "file" else b""
            if first.startswith(BINARIES):
                return self.report(member.name, "is compiled code")
            if path.is_file() and member.kind == "file":
                self.report(member.name, "is there twice, or in another spelling;", "the last was taken")
                self.bytes -= path.stat().st_size
                self.files -= 1
                path.unlink()
            super()._write(member._replace(data=chain([first], member.data)), path)
        except FullError:
            raise
        except PermissionError:
            self.report(member.name, "cannot be read")
        except Exception as error:
            self.report(member.name, _damage(error), "")


def _main(path: Path, folder: Path) -> list[str]:
    size = min(MAX_BYTES, max(MIN_BYTES, GROWTH * path.stat().st_size))
    extraction = Extraction(ExtractionLimits(file_bytes=MIN_BYTES, bytes=size, files=CLASS_FILES))
    extraction.unpack(path, folder)
    return [printable(note) for note in extraction.notes]


if __name__ == "__main__":
    print_bounded(lambda: _main(Path(sys.argv[1]), Path(sys.argv[2])), memory=MEMORY, seconds=CPU_SECONDS)
