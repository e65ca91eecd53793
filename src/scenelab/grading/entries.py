"""Which submissions there are in what the grader was given: zips, folders, and what Canvas downloads in bulk."""

import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError
from scenelab.grading.reading import STUDENT
from scenelab.grading.unpack import Room, Unpacked, unpack
from scenelab.handin import FOLDERS

CANVAS = re.compile(r"^(?P<name>[^_]+)(?P<late>_LATE)?_(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)$")
AGAIN = re.compile(r"-(\d+)(?:\.\w+)*$")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z")
BULK = Room(file_bytes=1 << 30, bytes=16 << 30, files=20_000)


@dataclass(frozen=True)
class Entry:
    """One student's hand-in.

    Attributes:
        student: unique in a batch; Canvas's short name, or the file's.
        path: the file or folder.
        user: Canvas's number, or "".
        late: whether Canvas says so.
    """

    student: str
    path: Path
    user: str = ""
    late: bool = False


def gather(paths: list[Path], scratch: Path, *, single: bool = False) -> list[Entry]:
    """All submissions in the files and folders given, in order of their students.

    Of a student who handed in again, Canvas's numbers tell the last, and that one is taken.

    Args:
        paths: each a submission, or a folder or a zip of them.
        scratch: where bulk zips are unpacked.
        single: each path is one submission, whatever is in it.

    Raises:
        LabError: a path does not exist, or there is nothing in them.
    """
    entries: list[Entry] = []
    for number, path in enumerate(paths):
        if not path.exists():
            raise LabError(f"SUBMISSION {path} does not exist")
        entries += [_entry(path.resolve())] if single else _of(path.resolve(), scratch / f"bulk-{number}")
    if not entries:
        raise LabError(f"there is no submission in {', '.join(map(str, paths))}; give zips or folders")
    return sorted(_unique(_latest(entries)), key=lambda entry: entry.student)


def _of(path: Path, scratch: Path) -> Iterator[Entry]:
    if path.is_dir():
        yield from _in_folder(path)
    elif zipfile.is_zipfile(path) and _is_bulk(path):
        found = Unpacked()
        unpack(path, scratch, found, BULK)
        if found.notes:
            print(f"{path.name}: {'; '.join(found.notes[:5])}", file=sys.stderr)
        yield from _in_folder(scratch)
    else:
        yield _entry(path)


def _is_bulk(path: Path) -> bool:
    """Whether a zip is a download of many: most of what is in it has Canvas's names."""
    if CANVAS.match(path.name):
        return False  # a student's own
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.namelist()
    except Exception:
        return False  # damaged: said where it is read
    names = [name for name in listed if not name.startswith("__MACOSX") and not name.endswith("/")]
    return (
        bool(names)
        and sum(bool(CANVAS.match(name.rpartition("/")[2])) and name.count("/") <= 1 for name in names) > len(names) / 2
    )


def _entry(path: Path) -> Entry:
    match = CANVAS.match(path.name)
    if match:
        return Entry(match["name"], path, match["user"], bool(match["late"]))
    return Entry(_stem(path), path)


def _stem(path: Path) -> str:
    name = path.name
    while path.is_file() and Path(name).suffix.lower() in (*ARCHIVES, ".py"):
        name = Path(name).stem
    return name or "submission"


def _in_folder(folder: Path) -> Iterator[Entry]:
    children = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__MACOSX"))]
    canvas = [path for path in children if CANVAS.match(path.name)]
    if canvas:
        yield from map(_entry, [*canvas, *(path for path in children if path not in canvas and _is_archive(path))])
        return
    if _is_submission(folder):
        yield _entry(folder)
        return
    inner = [path for path in children if path.is_dir() and _holds_submission(path)]
    archives = [path for path in children if _is_archive(path)]
    if len(inner) + len(archives) <= 1 and not archives:
        yield _entry(folder)
        return
    yield from map(_entry, [*inner, *archives])


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in ARCHIVES


def _is_submission(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return bool(names & set(FOLDERS)) or any(STUDENT.match(name) for name in names)


def _holds_submission(folder: Path) -> bool:
    return any(path.suffix in (".py", *ARCHIVES) for path in folder.rglob("*"))


def _latest(entries: list[Entry]) -> Iterator[Entry]:
    """Of each Canvas user the last hand-in that can hold code: Canvas counts its files up, and numbers a file that is
    handed in again under the same name.
    """

    def order(entry: Entry) -> tuple[bool, int, int]:
        match, again = CANVAS.match(entry.path.name), AGAIN.search(entry.path.name)
        holds = entry.path.is_dir() or entry.path.suffix.lower() in (*ARCHIVES, ".py")
        return holds, (int(match["submission"]) if match else 0), (int(again[1]) if again else 0)

    last: dict[str, Entry] = {}
    for entry in entries:
        if not entry.user:
            yield entry
        elif entry.user not in last or order(entry) > order(last[entry.user]):
            last[entry.user] = entry
    yield from last.values()


def _unique(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Names that a file can have, and no two alike."""
    taken: set[str] = set()
    for entry in entries:
        plain = re.sub(r"[^\w.-]+", "-", entry.student).strip("-.")[:60] or "student"
        tries = (f"{plain}-{mark}" for mark in [entry.user or "2", *range(2, len(taken) + 4)])
        name = plain
        while name.lower() in taken:
            name = next(tries)
        taken.add(name.lower())
        yield Entry(name, entry.path, entry.user, entry.late)
