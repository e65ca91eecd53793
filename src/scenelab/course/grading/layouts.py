"""Decide from names alone whether files are a class or one submission, and group a class's files by student.

The rule is `split`; docs/grading.md explains it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from scenelab.course.grading.filenames import (
    AGAIN,
    BLACKBOARD,
    DOCUMENTS,
    ORDINARY,
    PATTERNS,
    Name,
    is_archive,
    is_student_file,
    original_name,
    parse,
    parse_all,
    person,
    stem,
)

FOLDERS = ("code", "writeup", "results")
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
METADATA = frozenset(
    (
        "index.html",
        "grades.csv",
        "grades.xls",
        "submission_metadata.yml",
        "timestamp.txt",
        "comments.txt",
        "feedbackText.html",
        "manifest.xml",
    )
)
"""Files that platforms put beside submissions."""
MAX_SUBMISSION_NUMBER = 1e8  # platforms number submissions below it; a time in seconds is greater


@dataclass
class Group:
    """One student's files among those that were given.

    Attributes:
        student: the name for the row.
        members: paths, in the order in which they are unpacked.
        user: the platform's number, or "".
        late: whether the platform says so.
        notes: what was decided.
    """

    student: str
    members: list[str] = field(default_factory=list)
    user: str = ""
    late: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass
class _Item:
    """An item of a folder; `below` lists the files in it, an empty folder as `name/`."""

    name: str
    folder: bool
    below: list[str] = field(default_factory=list)

    @property
    def has_code(self) -> bool:
        """Whether it may be a whole submission: an archive, a notebook, a folder with the student's file in it."""
        if not self.folder:
            return is_archive(self.name) or self.name.endswith(".ipynb") or is_student_file(self.name)
        names = [PurePosixPath(path) for path in self.below]
        return any(is_archive(path.name) or path.suffix in (".py", ".ipynb") for path in names)

    @property
    def is_whole(self) -> bool:
        """Whether it is a folder that holds a whole submission: code/ or the student's file."""
        names = [PurePosixPath(path) for path in self.below]
        return self.folder and any(
            path.parts[0].lower() == "code" or (path.suffix == ".py" and is_student_file(path.name)) for path in names
        )

    @property
    def is_section(self) -> bool:
        """Whether it is a folder of nothing but several people's archives."""
        below = [path for path in self.below if not path.startswith((".", *JUNK))]
        return (
            self.folder
            and all(is_archive(path) and "/" not in path for path in below)
            and len({person(path) for path in below} - {()}) > 1
        )

    @property
    def may_be_student(self) -> bool:
        """Whether it can be what somebody handed in, code or not."""
        kinds = (".py", ".ipynb", *DOCUMENTS)
        return bool(person(self.name)) and (self.folder or is_archive(self.name) or self.name.lower().endswith(kinds))

    @property
    def may_be_named(self) -> bool:
        """Sakai's folders are known by what lies in them too."""
        sakai = self.folder and PATTERNS[6].match(self.name) and not PATTERNS[7].match(self.name)
        return not sakai or any(path.startswith(("Submission attachment", "timestamp.txt")) for path in self.below)


def _items_of(paths: Iterable[str], prefix: str) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for path in paths:
        if not path.startswith(prefix):
            continue
        name, slash, rest = path[len(prefix) :].partition("/")
        if not name or name.startswith(".") or name in JUNK:
            continue
        item = items.setdefault(name, _Item(name, bool(slash)))
        if rest:
            item.below.append(rest)
    return items


def split(paths: Iterable[str]) -> tuple[list[Group], list[str]] | None:
    """Group files by student; return the groups and the names not understood, or None for a single submission.

    Folders that hold nothing but one other are passed through. Then, in this order:

    1. `code/`, `writeup/`, `results/` or `student_code.py`: one submission;
    2. names of a platform, at least half of all: a class;
    3. folders that hold several people's archives each: the classes of all of them;
    4. archives, folders, notebooks, documents and files `student_code_NAME.py` of at least two people, of which one has
       code: a class. A person is what is left of a name without a project's words (`hw3_alice_report.pdf`: alice);
    5. anything else: one submission.

    Args:
        paths: of files, with `/`; a folder without files ends with one.
    """
    paths, prefix = list(paths), ""
    items = _items_of(paths, prefix)
    while len(items) == 1:
        (only,) = items.values()
        named = only.may_be_named and parse(only.name, folder=True)
        if not only.folder or only.name.lower() in FOLDERS or named:
            break
        if not (deeper := _items_of(paths, f"{prefix}{only.name}/")):
            break
        prefix, items = f"{prefix}{only.name}/", deeper
    names = {name.lower() for name in items}
    if names & set(FOLDERS) or "student_code.py" in names:
        return None
    listed = [item for name, item in items.items() if name not in METADATA]
    possible = [item for item in listed if item.may_be_named]
    names_of = dict(zip((c.name for c in possible), parse_all((c.name, c.folder) for c in possible), strict=True))
    parsed = [(item, names_of.get(item.name)) for item in listed]
    named = [(item, name) for item, name in parsed if name is not None]
    if named and 2 * len(named) >= len(listed) and not numbered_alike([(c.name, name) for c, name in named]):
        others = [item for item, name in parsed if name is None]
        return _of_platform(named, others, prefix)
    if any(item.is_section for item in listed):
        return _of_sections(listed, prefix)
    students = [item for item in listed if item.may_be_student]
    loose = [item for item in listed if not item.folder and item.name.endswith(".py") and not item.has_code]
    bearing = [item for item in students if item.has_code]
    ordinary_code = [item for item in listed if item.folder and item.has_code and not item.may_be_student]
    if not any(is_archive(item.name) or is_student_file(item.name) for item in bearing if not item.folder):
        students = [item for item in students if item not in loose]
        if loose:
            return None  # a project's own files
    people = {_whose(stem(item.name)) for item in students}
    coders = {_whose(stem(item.name)) for item in bearing}
    wholes = [item for item in listed if item.is_whole]
    if len(wholes) >= 2 and not all(_is_part(item.name) for item in wholes):
        students = [item for item in listed if item in students or item.is_whole]
    elif not bearing or len(people) < 2 or (ordinary_code and len(coders) < 2):
        return None
    elif len(coders) >= 2:
        students = [item for item in listed if item in students or item.has_code]
    return _by_name(students, prefix), [item.name for item in listed if item not in students]


def _is_part(name: str) -> bool:
    """Return whether a name has only project words, except the number of a copy: starter, old, hw3 (1)."""
    words = re.findall(r"[^\W_]+", re.sub(r"\(\d+\)", "", stem(name).lower()))
    return all(word in ORDINARY or re.sub(r"\d+$", "", word) in ("hw", "homework", "part", "v") for word in words)


def numbered_alike(named: list[tuple[str, Name]]) -> bool:
    """Return whether the parsed student is just a shared word, as in hw_3_1_alice.zip, hw_3_1_bob.zip."""
    people = {person(original_name(name)) or person(parsed.file) for name, parsed in named}
    return (
        len({parsed.student for _, parsed in named}) == 1
        and not any(parsed.late for _, parsed in named)
        and all(parsed.user.isdigit() for _, parsed in named)
        and len(people - {()}) > 1
    )


def _of_platform(named: list[tuple[_Item, Name]], others: list[_Item], prefix: str) -> tuple[list[Group], list[str]]:
    groups = group_names([(prefix + item.name, name) for item, name in named])
    code = [item for item in others if item.has_code and item.may_be_student]
    return groups + _by_name(code, prefix), [item.name for item in others if item not in code]


def _of_sections(items: list[_Item], prefix: str) -> tuple[list[Group], list[str]]:
    """Group the archives of several folders; a folder called "late" marks its archives as late."""
    groups, unknown = [], []
    for item in items:
        archives = [path for path in item.below if is_archive(path) and "/" not in path]
        if not item.folder or not archives:
            unknown.append(item.name)
            continue
        late = "late" in item.name.lower()
        for group in _by_name([_Item(path, False) for path in archives], f"{prefix}{item.name}/"):
            group.late = late
            groups.append(group)
    return groups, unknown


def group_names(named: list[tuple[str, Name]]) -> list[Group]:
    """Group a platform's files by student; keep the last file of each name and the latest attempt."""
    named = _without_assignment(named)
    by_user: dict[tuple[str, str], list[tuple[str, Name]]] = {}
    for path, name in named:
        by_user.setdefault((name.user, name.student), []).append((path, name))
    groups = []
    for (user, _), files in by_user.items():
        latest: dict[str, tuple[str, Name]] = {}
        plain = {name.file.casefold() for _, name in files}
        for path, name in sorted(files, key=lambda each: each[1].order):
            original = AGAIN.sub("", name.file).casefold()  # part-1.zip is not a second part.zip unless that is there
            latest[original if original in plain else name.file.casefold()] = (path, name)
        kept = sorted(latest.values(), key=lambda each: each[1].order)
        times = {name.order[0] for _, name in kept if name.order[0] > MAX_SUBMISSION_NUMBER}
        if times:
            kept = [(path, name) for path, name in kept if name.order[0] == max(times)]
        left = [PurePosixPath(path).name for path, _ in files if path not in {path for path, _ in kept}]
        notes = [f"submitted again: {', '.join(sorted(left)[:5])} replaced by a later file"] if left else []
        _, name = kept[-1]
        late = any(each.late for _, each in kept)
        groups.append(Group(name.student, [path for path, _ in kept], user, late, notes))
    return groups


def _without_assignment(named: list[tuple[str, Name]]) -> list[tuple[str, Name]]:
    """Remove the assignment that Blackboard puts before the student: the prefix that all names share."""
    names = [name.student for path, name in named if PATTERNS[BLACKBOARD].match(PurePosixPath(path).name)]
    if not names:
        return named
    first, last = min(names), max(names)
    shared = next((first[:n] for n in range(len(first)) if first[: n + 1] != last[: n + 1]), first)
    cut = shared.rfind("_") + 1
    return [
        (path, replace(name, student=name.student[cut:], user=name.user[cut:]) if name.student in names else name)
        for path, name in named
    ]


def _by_name(items: list[_Item], prefix: str) -> list[Group]:
    """Group archives, folders and files by person: alice.zip and alice report.pdf belong together."""
    groups: dict[str, Group] = {}
    for item in sorted(items, key=lambda each: (not each.has_code, each.folder, len(each.name), each.name)):
        student = item.name if item.folder else stem(item.name)
        group = groups.setdefault(_whose(student), Group(student))
        if item.folder and any(is_archive(path) for path in group.members):
            group.notes.append(f"the folder {item.name}/ lies beside an archive of that name, which was taken")
            continue
        group.members.append(prefix + item.name)
    return sorted(groups.values(), key=lambda group: group.student)


def _whose(name: str) -> str:
    """Remove project words from a name; a name without any stays as it is (a-b, A-B and a b are three people)."""
    words = re.findall(r"[^\W_]+", name)
    own = [word for word in words if re.sub(r"\d", "", word.lower()) not in ORDINARY | {""}]
    ordinary = [word for word in words if re.sub(r"\d", "", word.lower()) in ORDINARY]
    return " ".join(own) if own and ordinary else name
