"""Discovery of submissions in archives and folders, from one student or a class."""

import os
import re
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scenelab.course.grading.bounded import run_bounded
from scenelab.course.grading.extract import CUT, archive_kind
from scenelab.course.grading.filenames import is_archive, is_student_file, parse, parse_all, stem
from scenelab.course.grading.layouts import Group, group_names, numbered_alike, split
from scenelab.course.grading.tables import SUBMITTERS, Id, fold, read_submitters
from scenelab.errors import LabError, printable

MAX_SHOWN = 40  # names or notes per message
SECONDS = 1800  # to extract the archive of a class
KINDS = {"canvas": "canvas", "canvas, text": "canvas", "moodle": "moodle", "gradescope": "gradescope"}
"""Kinds of ids by platform in `filenames.PATTERNS`; other platforms have logins."""


@dataclass(frozen=True)
class Entry:
    """Files and metadata of one student's submission."""

    student: str  # unique in a batch, and a valid file name
    paths: tuple[Path, ...]
    user: str = ""  # the platform's ID of the student
    late: bool = False
    notes: tuple[str, ...] = ()  # on the choice of the name and the files
    ids: frozenset[Id] = frozenset()  # of the student, or of a team's members, in the platform's tables


def gather(
    paths: Sequence[Path], scratch: Path, *, single: bool = False, skip: Path | None = None
) -> tuple[list[Entry], list[str]]:
    """Find the submissions in files and folders; return them sorted by student, and messages for the instructor.

    A single path contains a class or one submission; `layouts.split` decides. Each of several paths is one submission,
    so that the content of an archive cannot add another student. Paths named after the same student are merged
    into one submission.

    Args:
        paths: Archives, single files or folders.
        scratch: Folder to which the archive of a class is extracted.
        single: Whether to treat each path as one submission, even a single path.
        skip: Folder to ignore, such as the output folder of the grades.

    Raises:
        LabError: If a path does not exist, or the paths contain no submission.
    """
    for path in paths:
        if not path.exists():
            raise LabError(f"SUBMISSION {path} does not exist")
    paths = [path.resolve() for path in paths]
    lines: list[str] = []
    if single:
        groups = [Group(_student_of(path), [str(path)]) for path in paths]
    else:
        groups = _of_one(paths[0], scratch, lines, skip) if len(paths) == 1 else _of_several(paths)
    if not groups:
        raise LabError(f"there is no submission in {', '.join(map(str, paths))}; give archives or folders")
    return sorted(_unique(groups, lines), key=lambda entry: entry.student), lines


def _student_of(path: Path) -> str:
    return path.name if path.is_dir() else stem(path.name)


def _of_one(path: Path, scratch: Path, lines: list[str], skip: Path | None) -> list[Group]:
    parsed = parse(path.name)
    is_date = parsed is not None and re.fullmatch(r"\d+(\.\w+)*", parsed.file)  # submissions_2025_03_14.zip is a class
    if parsed is not None and not is_date and not path.is_dir():
        return [Group(parsed.student, [str(path)], parsed.user, parsed.late, platform=parsed.platform)]
    base, names = path, []
    if path.is_dir():
        inner = [child for child in path.iterdir() if not child.name.startswith((".", "__MACOSX")) and child != skip]
        if len(inner) == 1 and inner[0].is_file() and is_archive(inner[0].name):
            return _of_one(inner[0], scratch, lines, skip)
        if not inner:
            raise LabError(f"{path} is empty; give archives or folders")
        names = list(_names_in(path, skip))
    elif is_archive(path.name) and archive_kind(path):
        base = scratch / "class"
        lines += _unpack_class(path, base)
        names = list(_names_in(base))
    result = split(names)
    if result is None:
        lines += _ambiguity(path, names)
        return [Group(_student_of(path), [str(path)])]
    if cut := [line for line in lines if line.endswith(CUT)]:
        raise LabError(f"{cut[0].removesuffix(CUT)}; unpack it, and give its folder")
    groups, unknown = result
    tops = {Path(member).parent for each in groups if each.platform == "gradescope" for member in each.members}
    own = [base / name for name in names if Path(name).name == SUBMITTERS and Path(name).parent in tops]
    submitters = read_submitters(own[0]) if own else {}  # one inside a submission may claim to be anybody
    for group in groups:
        group.members = [str(base / member) for member in group.members]
        group.people = submitters.get(group.student, [])
    if unknown:
        shown = printable(", ".join(sorted(unknown)[:MAX_SHOWN]))
        lines.append(f"{path.name}: not understood and not graded: {shown}{' …' if len(unknown) > MAX_SHOWN else ''}")
    return groups


def _ambiguity(path: Path, names: list[str]) -> list[str]:
    """Return a list with one warning if a submission seems to contain several students' files, else []."""
    several = [name for name in names if is_archive(name) or parse(Path(name).name) is not None]
    if not any(is_student_file(name) for name in names):
        kinds = (".py", ".ipynb", ".pdf", ".docx", "/")
        several += [name for name in names if name.endswith(kinds) and name not in several and "/" not in name[:-1]]
    students = [name for name in names if is_student_file(Path(name).name)]
    several += students if len(students) > 1 else []
    if len(several) < 2:
        return []
    shown = printable(", ".join(dict.fromkeys(several[:MAX_SHOWN])))
    return [
        f"{printable(path.name)} was graded as one submission, though it holds {shown}; if these are students' "
        "own, give each a folder or archive with the student's name"
    ]


def _of_several(paths: Sequence[Path]) -> list[Group]:
    parsed = zip(paths, parse_all((path.name, False) for path in paths), strict=True)
    named = {path: name for path, name in parsed if name is not None}
    if numbered_alike([(path.name, name) for path, name in named.items()]):
        named = {}
    groups: dict[tuple[Path, str], Group] = {}
    for path in paths:
        if path not in named:  # files with one folder and stem belong together: alice.zip, alice.pdf
            student = _student_of(path)
            key = (path.parent if path.is_file() else path, student)
            groups.setdefault(key, Group(student)).members.append(str(path))
    return [*groups.values(), *group_names([(str(path), name) for path, name in named.items()])]


def _names_in(folder: Path, skip: Path | None = None) -> Iterator[str]:
    """Yield the relative paths of all files in a folder, and of empty folders with a trailing slash."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if Path(root, name) != skip)
        place = Path(root).relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        yield from (prefix + name for name in sorted(files))
        if prefix and not folders and not files:
            yield prefix


def _unpack_class(path: Path, folder: Path) -> list[str]:
    """Extract the archive of a class to `folder` in a memory- and time-limited process; return notes on problems."""
    try:
        notes = run_bounded(
            "scenelab.course.grading.extract", [path], folder, [str(path), str(folder)], seconds=SECONDS
        )
    except (subprocess.TimeoutExpired, OSError, ValueError):
        notes = [f"could not be unpacked: it takes too much time or memory{CUT}"]
    return [printable(f"{path.name}: {note}") for note in notes[:MAX_SHOWN]]


def _unique(groups: Sequence[Group], lines: list[str]) -> Iterator[Entry]:
    """Yield one entry per group, with a unique name valid for files; append messages about duplicates to `lines`."""
    taken: set[str] = set()
    names = Counter(fold(group.student) for group in groups)
    for group in groups:
        student = unicodedata.normalize("NFC", group.student)
        plain = re.sub(r"[^\w.-]+", "-", student).strip("-.")[:60] or "student"
        tries = (plain, *(f"{plain}-{mark}" for mark in [group.user or "2", *range(2, len(groups) + 4)]))
        name = next(each for each in tries if each.casefold() not in taken)
        notes = list(group.notes)
        if name != plain and not group.user:
            text = f"{printable(group.student)} is the name of several submissions; this one is {name}"
            notes.append(text)
            lines.append(f"{text}: {group.members[0]}")
        taken.add(name.casefold())
        is_known = names[fold(group.student)] == 1 and "anonymous" not in group.platform
        own = group.user or (group.student if is_known else "")
        people = [(KINDS.get(group.platform, "login"), own), *(("login", person) for person in group.people)]
        ids = frozenset((kind, fold(value)) for kind, value in people if value and "anonymous" not in group.platform)
        yield Entry(name, tuple(map(Path, group.members)), group.user, group.late, tuple(map(printable, notes)), ids)
