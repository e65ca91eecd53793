"""Rules that group submitted files by student, judging by file names alone.

`split` applies the rules; docs/grading.md explains them.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from scenelab.course.grading import filenames
from scenelab.course.grading.filenames import ORDINARY, PATTERNS, Name, is_archive, is_student_file, person, stem

FOLDERS = ("code", "writeup", "results")
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
METADATA = """index.html grades.csv grades.xls submission_metadata.yml timestamp.txt comments.txt feedbackText.html
manifest.xml""".split()
"""Files that platforms add next to submissions."""
LATE = re.compile(
    r"(?<![^\W_])(?<!\b(?:not|non)[ _-])(?<!_(?:not|non)[ _-])(?<!\bno[ _-])late(?!st|r|x)", re.IGNORECASE
)


@dataclass
class Group:
    """Paths of one student's files (`members`), in extraction order; `user` is the student's ID on the platform."""

    student: str
    members: list[str] = field(default_factory=list)
    user: str = ""
    late: bool = False
    notes: list[str] = field(default_factory=list)
    platform: str = ""  # key in `filenames.PATTERNS`
    people: list[str] = field(default_factory=list)  # logins, emails and numbers of a team's members


@dataclass
class _Item:
    """A file or folder; `below` lists the relative paths in a folder: files, and empty subfolders with final "/"."""

    name: str
    folder: bool
    below: list[str] = field(default_factory=list)

    @property
    def has_code(self) -> bool:
        if not self.folder:
            return is_archive(self.name) or self.name.endswith(".ipynb") or is_student_file(self.name)
        return any(is_archive(path) or path.endswith((".py", ".ipynb")) for path in self.below)

    @property
    def is_whole(self) -> bool:  # contains code/ or a student's code file
        paths = [PurePosixPath(path) for path in self.below]
        return any(path.parts[0].lower() == "code" or is_student_file(path.name) for path in paths)

    @property
    def is_section(self) -> bool:  # contains only archives, from at least two people
        below = [path for path in self.below if not path.startswith((".", *JUNK))]
        are_archives = all(is_archive(path) and "/" not in path for path in below)
        return are_archives and len({person(path) for path in below} - {()}) > 1

    @property
    def may_be_student(self) -> bool:
        kinds = (".py", ".ipynb", *filenames.DOCUMENTS)
        return bool(person(self.name)) and (self.folder or is_archive(self.name) or self.name.lower().endswith(kinds))

    @property
    def may_be_named(self) -> bool:  # by a platform; a name in Sakai's style needs Sakai's files in the folder
        matches = {name for name in ("sakai", "canvas") if self.folder and re.match(PATTERNS[name], self.name)}
        starts = ("Submission attachment", "timestamp.txt")
        return matches != {"sakai"} or any(path.startswith(starts) for path in self.below)


def _items_of(paths: Iterable[str], prefix: str) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for path in (path[len(prefix) :] for path in paths if path.startswith(prefix)):
        name, slash, rest = path.partition("/")
        if name and not name.startswith(".") and name not in JUNK:
            item = items.setdefault(name, _Item(name, bool(slash)))
            item.below += [rest] if rest else []
    return items


def split(paths: Iterable[str]) -> tuple[list[Group], list[str]] | None:
    """Group files by student; return the groups and the unused names, or None for a single submission.

    Descend as long as a folder contains only one folder. Then apply the first rule that matches:

    1. `code/`, `writeup/`, `results/` or `student_code.py` exists: one submission;
    2. at least half of the names match a platform's pattern: a class;
    3. a folder contains only archives, from at least two people: a class, with one folder per section;
    4. archives, folders, notebooks, documents and files `student_code_NAME.py` of at least two people, one of them with
       code: a class. A name without project words identifies a person (`hw3_alice_report.pdf`: alice);
    5. otherwise: one submission.

    `paths` are relative paths of files, and of empty folders with a final `/`.
    """
    prefix, items = _descend(list(paths))
    names = {name.lower() for name in items}
    if names & set(FOLDERS) or "student_code.py" in names:
        return None
    items = [item for name, item in items.items() if name not in METADATA]
    possible = [item for item in items if item.may_be_named]
    parsed = zip(possible, filenames.parse_all((item.name, item.folder) for item in possible), strict=True)
    named = [(item, name) for item, name in parsed if name is not None]
    if named and 2 * len(named) >= len(items) and not numbered_alike([(item.name, name) for item, name in named]):
        taken = {item.name for item, _ in named}
        others = [item for item in items if item.name not in taken]
        code = [item for item in others if item.has_code and item.may_be_student]
        groups = group_names([(prefix + item.name, name) for item, name in named]) + _by_name(code, prefix)
        return groups, [item.name for item in others if item not in code]
    if any(item.is_section for item in items):
        return _of_sections(items, prefix)
    students = _students(items)
    if not students:
        return None
    return _by_name(students, prefix), [item.name for item in items if item not in students]


def _descend(paths: list[str]) -> tuple[str, dict[str, _Item]]:
    """Descend while a folder contains only one folder; return the last folder's path prefix and its items by name."""
    prefix, items = "", _items_of(paths, "")
    while len(items) == 1:
        (only,) = items.values()
        is_named = only.may_be_named and filenames.parse(only.name, folder=True)
        deeper = _items_of(paths, f"{prefix}{only.name}/")
        if not only.folder or only.name.lower() in FOLDERS or is_named or not deeper:
            break
        prefix, items = f"{prefix}{only.name}/", deeper
    return prefix, items


def _students(items: list[_Item]) -> list[_Item]:
    """Return the items submitted by the students of a class, or [] if rule 4 of `split` does not match."""
    students = [item for item in items if item.may_be_student]
    coded = [item for item in students if item.has_code]
    has_own_files = any(not item.folder and item.name.endswith(".py") and not item.has_code for item in items)
    if has_own_files and not any(
        is_archive(each.name) or is_student_file(each.name) for each in coded if not each.folder
    ):
        return []
    people, coders = ({_without_project_words(stem(item.name)) for item in group} for group in (students, coded))
    wholes = [item for item in items if item.is_whole]
    if len(wholes) >= 2 and not all(_is_project_name(item.name) for item in wholes):
        return [item for item in items if item in students or item.is_whole]
    has_ordinary_code = any(item.folder and item.has_code and not item.may_be_student for item in items)
    if not coded or len(people) < 2 or (has_ordinary_code and len(coders) < 2):
        return []
    return [item for item in items if item in students or item.has_code] if len(coders) >= 2 else students


def _is_project_name(name: str) -> bool:
    """Return whether a name consists of project words and a copy number only: starter, old, hw3 (1)."""
    words = re.findall(r"[^\W_]+", re.sub(r"\(\d+\)", "", stem(name).lower()))
    return all(word in ORDINARY or re.sub(r"\d+$", "", word) in ("hw", "homework", "part", "v") for word in words)


def numbered_alike(named: list[tuple[str, Name]]) -> bool:
    """Return whether a platform's pattern matched several people's files only by chance.

    All parsed names then have the same student, as in hw_3_1_alice.zip and hw_3_1_bob.zip (student "hw").
    """
    people = {person(filenames.original_name(name)) or person(parsed.file) for name, parsed in named}
    return (
        len({parsed.student for _, parsed in named}) == 1
        and all(parsed.user.isdigit() and not parsed.late for _, parsed in named)
        and len(people - {()}) > 1
    )


def _of_sections(items: list[_Item], prefix: str) -> tuple[list[Group], list[str]]:
    """Group the archives in each section's folder by person; return the groups and the names of other items.

    Groups are late if the section's name contains "late". `prefix` is the path of the parent folder, with a slash.
    """
    groups, unknown = [], []
    for item in items:
        archives = [_Item(path, False) for path in item.below if is_archive(path) and "/" not in path]
        if not archives:
            unknown.append(item.name)
        for group in _by_name(archives, f"{prefix}{item.name}/"):
            groups.append(replace(group, late=LATE.search(item.name) is not None))
    return groups, unknown


def group_names(named: list[tuple[str, Name]]) -> list[Group]:
    """Group (path, parsed name) pairs by student; keep the last file of each name, from the latest attempt only."""
    by_user: dict[tuple[str, str], list[tuple[str, Name]]] = {}
    for path, name in _without_assignment(named):
        by_user.setdefault((name.user, name.student), []).append((path, name))
    groups = []
    for (user, student), files in by_user.items():
        files.sort(key=lambda each: each[1].order)
        latest: dict[str, tuple[str, Name]] = {}
        names = {name.file.casefold() for _, name in files}
        for path, name in files:  # part-1.zip is a newer part.zip only if part.zip exists
            original = filenames.AGAIN.sub("", name.file).casefold()
            latest[original if original in names else name.file.casefold()] = (path, name)
        times = {name.order[0] for _, name in latest.values() if "<when>" in PATTERNS[name.platform]}
        last = [each for each in files if each in latest.values() and (not times or each[1].order[0] == max(times))]
        members, late = [path for path, _ in last], any(name.late for _, name in last)
        replaced = sorted(PurePosixPath(path).name for path, _ in files if path not in members)
        notes = [f"submitted again: {', '.join(replaced[:5])} replaced by a later file"] if replaced else []
        groups.append(Group(student, members, user, late, notes, files[0][1].platform))
    return groups


def _without_assignment(named: list[tuple[str, Name]]) -> list[tuple[str, Name]]:
    """Remove Blackboard's assignment title, the prefix that all names share, from student and user names."""
    names = [name.student for path, name in named if re.match(PATTERNS["blackboard"], PurePosixPath(path).name)]
    cut = os.path.commonprefix(names).rfind("_") + 1  # noqa: RUF071 - of characters
    return [
        (path, replace(name, student=name.student[cut:], user=name.user[cut:]) if name.student in names else name)
        for path, name in named
    ]


def _by_name(items: list[_Item], prefix: str) -> list[Group]:
    """Group archives, folders and files by person: alice.zip and alice report.pdf form one group."""
    groups: dict[str, Group] = {}
    for item in sorted(items, key=lambda each: (not each.has_code, each.folder, len(each.name), each.name)):
        student = item.name if item.folder else stem(item.name)
        group = groups.setdefault(_without_project_words(student), Group(student))
        if item.folder and any(is_archive(path) for path in group.members):
            group.notes.append(f"the folder {item.name}/ lies beside an archive of that name, which was taken")
        else:
            group.members.append(prefix + item.name)
    return sorted(groups.values(), key=lambda group: group.student)


def _without_project_words(name: str) -> str:
    """Return a name without its project words, or unchanged if all or no words are project words."""
    words = re.findall(r"[^\W_]+", name)
    own = [word for word in words if re.sub(r"\d", "", word.lower()) not in ORDINARY | {""}]
    has_project_words = any(re.sub(r"\d", "", word.lower()) in ORDINARY for word in words)
    return " ".join(own) if own and has_project_words else name
