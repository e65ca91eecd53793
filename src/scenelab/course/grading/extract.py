"""Safe extraction of submissions: files stay inside the target folder, links are skipped, and sizes are limited.

Names are normalized first: backslashes become slashes, and Unicode becomes NFC. If names are then equal or differ only
in case, the last file overwrites the earlier ones, as in other extraction programs.

`python -m scenelab.course.grading.extract ARCHIVE FOLDER` extracts the archive of a class.
"""

import os
import re
import shutil
import stat
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from scenelab.course.grading.bounded import print_bounded
from scenelab.course.grading.filenames import MODELS, is_archive, original_name
from scenelab.errors import printable
from scenelab.io import DISK

CHUNK = 1 << 20
MAX_NAME, MAX_PARTS, MAX_NOTES = 200, 12, 50  # characters per path, parts per path, notes per submission
SKIPPED = frozenset("__MACOSX .DS_Store __pycache__ .git Thumbs.db .ipynb_checkpoints .idea .vscode".split())
FORMATS = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive"}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other methods decompress to unbounded sizes
OFFICE = (".docx", ".xlsx", ".pptx", ".odt", ".pages", ".jar", ".npz")  # zip files by content, kept as single files
BINARIES = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # first bytes on Linux, Windows, macOS
COMPILED = (".so", ".pyd", ".pyc", ".pyo", ".dll", ".dylib")
DRIVE = re.compile(r"[A-Za-z]:")
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories of invisible characters
LINK = "is a link or a device and was left out"
MEMORY, CPU_SECONDS = 1 << 30, 1500  # bytes and seconds for the archive of a class
GROWTH, MIN_BYTES, MAX_BYTES = 8, 1 << 30, 16 << 30  # growth factor of a class's archive, within these sizes


@dataclass(frozen=True, kw_only=True)
class ExtractionLimits:
    """Limits on a submission's extracted files: bytes per file, bytes in total, and number of files."""

    file_bytes: int = 100 << 20
    bytes: int = 300 << 20
    files: int = 5000


@dataclass(frozen=True)
class _Entry:
    """A file or folder to extract; `open` returns a binary file, and a non-empty `refusal` is the reason to skip it."""

    name: str
    open: Callable[[], IO[bytes] | None]
    is_folder: bool = False
    refusal: str = ""


class _FullError(Exception):
    """Exception raised when the extracted files exceed a limit."""


class _CompiledError(Exception):
    """Exception raised when a file contains machine code."""


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


class Extraction:
    """Extraction of a submission, with counts of bytes and files, and notes on skipped or unusual files."""

    def __init__(self, limits: ExtractionLimits = ExtractionLimits()) -> None:
        self.limits, self.notes = limits, list[str]()
        self.bytes = self.files = self._entries_seen = 0
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for entry in self._entries(path, skip):
                self._extract(entry, folder)
        except _FullError as error:
            self.note(f"{path.name}: {error}; what comes after was not read")
        except Exception as error:
            self.note(f"{path.name} {_damage(error)}")

    def _entries(self, path: Path, skip: Path | None) -> Iterator[_Entry]:
        if path.is_dir():
            return self._in_folder(path, skip)
        if not path.name.lower().endswith((*MODELS, *OFFICE)) and (kind := archive_kind(path)):
            return _in_zip(path) if kind == "zip" else _in_tar(path)
        return self._single(path)

    def _single(self, path: Path) -> Iterator[_Entry]:
        name = original_name(path.name)
        with path.open("rb") as file:
            kind = FORMATS.get(file.read(4), "no zip" if is_archive(path.name) else "")
        if kind:
            self.note(f"{name} is {kind}; hand in a zip")
        else:
            yield _Entry(name, lambda: path.open("rb"))

    def _in_folder(self, path: Path, skip: Path | None) -> Iterator[_Entry]:
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
                refusal = "" if plain or not os.path.lexists(source) else LINK  # opening reports lack of access
                yield _Entry(source.relative_to(path).as_posix(), lambda s=source: s.open("rb"), refusal=refusal)

    def _extract(self, entry: _Entry, folder: Path) -> None:
        self._entries_seen += 1
        if self._entries_seen > 4 * self.limits.files:
            raise _FullError(f"holds more than {4 * self.limits.files:,} entries")
        place = self._place(entry.name.replace("\\", "/"), folder)  # PowerShell and .NET write backslashes
        if place is None:
            return
        if entry.is_folder:  # keep empty folders: a student who submitted nothing has one
            with suppress(FileExistsError, NotADirectoryError):
                place.mkdir(parents=True, exist_ok=True)
        elif entry.refusal:
            self.note(f"{entry.name[:80]!r} {entry.refusal}")
        else:
            self._write(entry, place)

    def _place(self, name: str, folder: Path) -> Path | None:
        """Return the path in `folder` of an entry, or None to skip it; names that differ only in case share a path."""
        parts = [part for part in PurePosixPath(name).parts if part != "."]
        if not parts or not SKIPPED.isdisjoint(parts) or parts[-1].startswith("._"):
            return None
        visible = "".join("?" if unicodedata.category(letter) in UNSEEN else letter for letter in name)
        too_long = len(name) > MAX_NAME or any(len(part.encode("utf-8", "replace")) > MAX_NAME for part in parts)
        rules = {
            " leads out of the folder": name.startswith("/") or ".." in parts or DRIVE.match(name),
            "… has too long a name": too_long,
            f" lies more than {MAX_PARTS} folders deep": len(parts) > MAX_PARTS,
            " is compiled code": name.endswith(COMPILED),
            " has unprintable characters in its name": visible != name,
        }
        for text, is_broken in rules.items():
            if is_broken:
                self.note(f"{visible[:80]!r}{text} and was left out")
                return None
        for part in parts:
            plain = unicodedata.normalize("NFC", part)
            folder /= self._spellings.setdefault((folder, plain.casefold()), plain)
        return folder

    def _write(self, entry: _Entry, path: Path) -> None:
        if self.files >= self.limits.files:
            raise _FullError(f"holds more than {self.limits.files:,} files")
        shown = f"{entry.name[:80]!r}"
        try:
            source = entry.open()
            if source is None:
                return
            with source:
                if path.is_file():
                    self.note(f"{shown} is there twice, or in another spelling; the last was taken")
                    self.bytes -= path.stat().st_size
                    self.files -= 1
                    path.unlink()
                self._copy(source, path, shown)
        except _FullError:
            raise
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            self.note(f"{shown} is a file and a folder at once and was left out")
        except PermissionError:
            self.note(f"{shown} cannot be read and was left out")
        except _CompiledError:
            self.note(f"{shown} is compiled code and was left out")
        except Exception as error:
            self.note(f"{shown} {_damage(error)}")

    def _copy(self, source: IO[bytes], path: Path, shown: str) -> None:
        """Copy a file up to the limits and count its bytes; remove the copy of a damaged file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            self.files += 1
            try:
                while part := source.read(CHUNK):
                    if not target.tell() and part.startswith(BINARIES):
                        raise _CompiledError
                    if self.bytes + len(part) > self.limits.bytes:
                        raise _FullError(f"holds more than {self.limits.bytes >> 20} MiB")
                    if target.tell() + len(part) > self.limits.file_bytes:
                        self.note(f"{shown} has more than {self.limits.file_bytes >> 20} MiB; it was cut off there")
                        break
                    target.write(part)
                    self.bytes += len(part)
            except _FullError:
                raise
            except Exception:
                self.files -= 1
                self.bytes -= target.tell()
                path.unlink()
                raise


def _in_zip(path: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        graded = (".py", ".ipynb", ".pdf")  # extracted first, before other files exceed the limits
        for info in sorted(archive.infolist(), key=lambda each: not each.filename.lower().endswith(graded)):
            refusal = ""
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                refusal = LINK
            elif info.compress_type not in METHODS:
                refusal = "is packed in an unusual way; make the zip with zip_submission.py"
            elif info.flag_bits & 1:
                refusal = "is encrypted; hand in a zip without a password"
            yield _Entry(info.filename, lambda i=info: archive.open(i), info.filename.endswith(("/", "\\")), refusal)


def _in_tar(path: Path) -> Iterator[_Entry]:
    with tarfile.open(path) as archive:
        for member in archive:
            archive.members = []  # otherwise it keeps all members  # pyright: ignore[reportAttributeAccessIssue]
            refusal = "" if member.isreg() else LINK
            yield _Entry(member.name, lambda m=member: archive.extractfile(m), member.isdir(), refusal)


def remove(folder: Path) -> None:
    """Delete a folder and its content; ignore errors."""
    shutil.rmtree(folder, ignore_errors=True)


def _main(path: Path, folder: Path) -> list[str]:
    size = min(MAX_BYTES, max(MIN_BYTES, GROWTH * path.stat().st_size))
    extraction = Extraction(ExtractionLimits(file_bytes=MIN_BYTES, bytes=size, files=20_000))
    extraction.unpack(path, folder)
    return [printable(note) for note in extraction.notes]


if __name__ == "__main__":
    print_bounded(lambda: _main(Path(sys.argv[1]), Path(sys.argv[2])), memory=MEMORY, seconds=CPU_SECONDS)
