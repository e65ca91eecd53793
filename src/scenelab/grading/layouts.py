"""How learning platforms name and lay out what they download: whose a file is, read from names alone.

Known are Canvas (named and anonymous), Moodle, Blackboard, Brightspace, Sakai, Autolab, Gradescope, and folders or
files named after students. Sources: the platforms' guides for instructors on downloading submissions.

Whether names are those of a class or of one submission follows one rule, `split`; docs/grading.md states it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

FOLDERS = ("code", "writeup", "results")
STUDENT = re.compile(r"student[ _-]?code.*\.py$", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")
MODELS = (".pth.tar", ".pth", ".pt", ".ckpt")  # an archive by its bytes, a single file by its meaning
DOCUMENTS = (".pdf", ".doc", ".docx", ".odt", ".rtf", ".pages", ".txt", ".md", ".tex")
JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
METADATA = ("index.html", "grades.csv", "grades.xls", "submission_metadata.yml", "timestamp.txt", "comments.txt",
            "feedbackText.html", "manifest.xml")  # fmt: skip
"""Files that platforms put beside submissions."""
ORDINARY = re.compile(
    r"^(code|src|source|sources?|scripts?|write-?ups?|reports?|papers?|results?|outputs?|docs?|documents?|data|datasets?"
    r"|models?|weights|checkpoints?|logs?|images?|imgs?|figures?|figs?|plots?|notebooks?|tests?|utils?|lib"
    r"|part[ _-]?\w+|q(uestion)?\d+|(hw|homework|assignment|proj|project)[ _-]?\d*"
    r"|submission|readme.*|notes?|main|kit|starter\w*)$",
    re.IGNORECASE,
)
"""Names that are a project's parts, not a student's."""

PATTERNS = (
    re.compile(r"^(?P<late>LATE_)?(?P<student>anon_(?P<user>[^_]+))_(?P<submission>\d+)_(?P<file>.+)$"),
    re.compile(r"^(?P<student>.+?)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$"),
    re.compile(r"^.+_(?P<student>(?P<user>[^_]+))_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)$"),
    re.compile(
        r"^(?P<user>\d+-\d+) ?- ?(?P<student>.+?) ?- ?(?P<when>[A-Z][a-z]+ \d+, \d{4}[^-]*?)(?: ?- ?(?P<file>.+))?$"
    ),
    re.compile(r"^(?P<student>(?P<user>[^@/\s]+@[^_/\s]+))_(?P<submission>\d+)_(?P<file>.+)$"),
    re.compile(r"^(?P<student>submission_(?P<user>\d+))$"),
    re.compile(r"^(?P<student>[^()]+?) ?\((?P<user>[^()\s]+)\)$"),
    re.compile(r"^(?P<student>.+?)(?P<late>_LATE)?_(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)$"),
)
"""Canvas (anonymous), Moodle, Blackboard, Brightspace, Autolab, Gradescope, Sakai, Canvas."""
FOLDERS_ONLY = (5, 6)  # of PATTERNS: a file `student_code (1).py` is not Sakai's
DATES = ("%Y-%m-%d-%H-%M-%S", "%b %d, %Y %I%M %p", "%B %d, %Y %I%M %p", "%b %d, %Y %I:%M %p", "%b %d, %Y %H%M")
AGAIN = re.compile(r"-(\d+)(?=(\.\w+)*$)")


@dataclass(frozen=True)
class Name:
    """What a platform's name says.

    Attributes:
        student: as the platform writes it.
        user: the platform's own number or name of the student.
        order: of several submissions of a student, the greater is the later.
        late: whether it says so.
        file: the name that the student gave the file.
    """

    student: str
    user: str
    order: tuple[float, int] = (0.0, 0)
    late: bool = False
    file: str = ""


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


def parse(name: str, *, folder: bool = False) -> Name | None:
    """What the name of a file or folder says, or None where no platform makes such a name."""
    for number, pattern in enumerate(PATTERNS):
        match = pattern.match(name)
        if match is None or (number in FOLDERS_ONLY and not folder):
            continue
        values = match.groupdict()
        file = values.get("file") or ""
        submission, again = values.get("submission"), AGAIN.search(file)
        when = _when(values["when"]) if values.get("when") else 0.0
        order = (when or float(submission or 0), int(again[1]) if again else 0)
        return Name(values["student"].strip(), values["user"], order, bool(values.get("late")), file)
    return None


def _when(text: str) -> float:
    for pattern in DATES:
        try:
            return datetime.strptime(text.strip(), pattern).timestamp()
        except ValueError:
            continue
    return 0.0


def original_name(name: str) -> str:
    """The name that a student gave a file, without what a platform put around it."""
    parsed = parse(name)
    return AGAIN.sub("", parsed.file) if parsed is not None and parsed.file else name


def is_archive(name: str) -> bool:
    """Whether a file is an archive by its name; a model is not."""
    return name.lower().endswith(ARCHIVES) and not name.lower().endswith(MODELS)


def stem(name: str) -> str:
    """A file's name without the endings of archives, code and documents."""
    while PurePosixPath(name).suffix.lower() in (*ARCHIVES, *DOCUMENTS, ".py", ".ipynb"):
        name = PurePosixPath(name).stem
    return name or "submission"


def looks_like_other(name: str) -> bool:
    """Whether a file inside a submission is named as a platform names another student's."""
    return parse(name) is not None and (is_archive(name) or name.endswith((".py", ".ipynb")))


@dataclass
class _Child:
    """An entry of a folder; `below` are the paths of files in it, `folder/` at the end of an empty one's."""

    name: str
    folder: bool
    below: list[str] = field(default_factory=list)

    @property
    def has_code(self) -> bool:
        """Whether it may be a whole submission: an archive, a notebook, a folder with the student's file in it."""
        if not self.folder:
            return is_archive(self.name) or self.name.endswith(".ipynb") or bool(STUDENT.match(self.name))
        names = [PurePosixPath(path) for path in self.below]
        return any(
            is_archive(path.name) or path.suffix == ".ipynb" or STUDENT.match(path.name) or "code" in path.parts[:-1]
            for path in names
        )

    @property
    def may_be_student(self) -> bool:
        """Whether it can be what a student handed in, code or not."""
        if ORDINARY.match(stem(self.name)):
            return False
        kinds = (".py", ".ipynb", *DOCUMENTS)
        return self.folder or is_archive(self.name) or self.name.lower().endswith(kinds)


def _children(paths: Iterable[str], prefix: str) -> dict[str, _Child]:
    children: dict[str, _Child] = {}
    for path in paths:
        if not path.startswith(prefix):
            continue
        name, slash, rest = path[len(prefix) :].partition("/")
        if not name or name.startswith(".") or name in JUNK:
            continue
        child = children.setdefault(name, _Child(name, bool(slash)))
        if rest:
            child.below.append(rest)
    return children


def split(paths: Iterable[str]) -> tuple[list[Group], list[str]] | None:
    """The students whose files these are, and names that were not understood; None where it is one submission.

    Folders that hold nothing but one other are passed through. Then, in this order:

    1. names of a platform, at least half of all: a class;
    2. `code/`, `writeup/`, `results/` or `student_code.py`: one submission;
    3. at least two archives, notebooks, folders with code, or files `student_code_NAME.py`; or one, beside documents or
       folders that are not named as parts of a project are: a class, each name a student;
    4. anything else: one submission.

    Args:
        paths: of files, with `/`; a folder without files ends with one.
    """
    paths, prefix = list(paths), ""
    children = _children(paths, prefix)
    while len(children) == 1:
        (only,) = children.values()
        if not only.folder or only.name in FOLDERS or parse(only.name, folder=True):
            break
        if not (deeper := _children(paths, f"{prefix}{only.name}/")):
            break
        prefix, children = f"{prefix}{only.name}/", deeper
    listed = [child for name, child in children.items() if name not in METADATA]
    parsed = [(child, parse(child.name, folder=child.folder)) for child in listed]
    named = [(child, name) for child, name in parsed if name is not None]
    if named and 2 * len(named) >= len(listed) and not _one_user_for_all(named):
        others = [child for child, name in parsed if name is None]
        return _of_platform(named, others, prefix)
    names = set(children)
    if names & set(FOLDERS) or "student_code.py" in {name.lower() for name in names}:
        return None
    students = [child for child in listed if child.may_be_student]
    loose = [child for child in listed if not child.folder and child.name.endswith(".py") and not child.has_code]
    bearing = [child for child in students if child.has_code]
    if len(bearing) >= 2 or (bearing and len(students) >= 2 and not loose):
        students = [child for child in listed if child.may_be_student or child.has_code]
        unknown = [child.name for child in listed if child not in students]
        return _by_name(students, prefix), unknown
    return None


def _one_user_for_all(named: list[tuple[_Child, Name]]) -> bool:
    """Whether what looks like a platform's number is the same in all of several archives, as in hw_3_1_alice.zip."""
    archives = [(child.name, name) for child, name in named if is_archive(child.name)]
    files = {stem(original_name(child)) for child, _ in archives}
    return len(archives) > 1 and len({name.user for _, name in archives}) == 1 and len(files) == len(archives)


def _of_platform(named: list[tuple[_Child, Name]], others: list[_Child], prefix: str) -> tuple[list[Group], list[str]]:
    groups = group_names([(prefix + child.name, name) for child, name in named])
    code = [child for child in others if child.has_code and child.may_be_student]
    return groups + _by_name(code, prefix), [child.name for child in others if child not in code]


def group_names(named: list[tuple[str, Name]]) -> list[Group]:
    """Files of a platform by student: of files of one name the last, of what has several times the latest time."""
    by_user: dict[str, list[tuple[str, Name]]] = {}
    for path, name in named:
        by_user.setdefault(name.user, []).append((path, name))
    groups = []
    for user, files in by_user.items():
        latest: dict[str, tuple[str, Name]] = {}
        for path, name in sorted(files, key=lambda each: each[1].order):
            latest[original_name(PurePosixPath(path).name).casefold()] = (path, name)
        kept = sorted(latest.values(), key=lambda each: each[1].order)
        times = {name.order[0] for _, name in kept if name.order[0] > LATEST_NUMBER}
        if times:
            kept = [(path, name) for path, name in kept if name.order[0] == max(times)]
        left = [PurePosixPath(path).name for path, _ in files if path not in {path for path, _ in kept}]
        notes = [f"handed in again: {', '.join(sorted(left)[:5])} gave way to a later file"] if left else []
        _, name = kept[-1]
        late = any(each.late for _, each in kept)
        groups.append(Group(name.student, [path for path, _ in kept], user, late, notes))
    return groups


LATEST_NUMBER = 1e8  # of a platform's submissions; a time in seconds is greater


def _by_name(children: list[_Child], prefix: str) -> list[Group]:
    """Archives, folders and files by what their names begin with: alice.zip and alice.pdf are one student's."""
    groups: dict[str, Group] = {}
    for child in sorted(children, key=lambda each: (each.folder, each.name)):
        student = child.name if child.folder else stem(child.name)
        group = groups.setdefault(student, Group(student))
        if child.folder and any(is_archive(path) for path in group.members):
            group.notes.append(f"the folder {child.name}/ lies beside an archive of that name, which was taken")
            continue
        group.members.append(prefix + child.name)
    return list(groups.values())
