"""How learning platforms name and lay out what they download: whose a file is, read from names alone.

Known are Canvas (named and anonymous), Moodle, Blackboard, Brightspace, Sakai, Autolab, Gradescope, and folders or
files named after students. Sources: the platforms' guides for instructors on downloading submissions.

Whether names are those of a class or of one submission follows one rule, `split`; docs/grading.md states it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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
ORDINARY = frozenset((
    "my", "the", "of", "and", "for", "final", "new", "old", "all", "copy", "draft", "last", "latest", "version",
    "ver", "v", "student", "students", "own", "code", "codes", "coding", "src", "source", "sources", "script",
    "scripts", "py", "python", "file", "files", "folder", "package", "layer", "layers", "module", "modules",
    "conv", "convolution", "convolutions", "custom", "attack", "attacks", "pgd", "adversarial", "attention",
    "grad", "saliency", "net", "nets", "network", "networks", "model", "models", "vit", "cnn", "simplenet",
    "train", "training", "test", "tests", "testing", "eval", "main", "utils", "util", "lib", "helper",
    "helpers", "common", "core", "write", "up", "writeup", "writeups", "report", "reports", "paper", "pdf",
    "doc", "docs", "document", "documents", "readme", "note", "notes", "text", "txt", "latex", "tex", "result",
    "results", "output", "outputs", "plot", "plots", "fig", "figs", "figure", "figures", "image", "images",
    "img", "imgs", "screenshot", "screenshots", "pics", "data", "dataset", "datasets", "weights", "checkpoint",
    "checkpoints", "log", "logs", "runs", "hw", "homework", "assignment", "assignments", "ass", "proj",
    "project", "projects", "part", "parts", "q", "question", "lab", "exercise", "task", "ps", "pset",
    "submission", "submissions", "submit", "submitted", "hand", "handin", "in", "kit", "starter", "solution",
    "solutions", "answer", "answers", "extra", "bonus", "notebook", "notebooks", "jupyter", "ipynb", "zip",
    "miniplaces", "cs", "cv", "ml", "dl",
))  # fmt: skip
"""Words that name a part of a project: what is left of a name without them, and without numbers, is a person's."""

NUMBERED = re.compile(r"(s|st|stud|student|user|team|group|grp|participant|anon|candidate)[ _-]?\d+|[a-z]{0,3}\d{4,}")
"""People by number: student1, team-07, 20231234."""

PATTERNS = (
    re.compile(r"^(?P<late>LATE_)?(?P<student>anon_(?P<user>[^_]+))_(?P<submission>\d+)_(?P<file>.+)$"),
    re.compile(r"^(?P<student>.+?)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$"),
    re.compile(r"^(?P<student>(?P<user>.+))_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)$"),
    re.compile(
        r"^(?P<user>\d+-\d+) ?- ?(?P<student>.+?) ?- ?"
        r"(?P<when>(?:[A-Z][a-z]+ \d+, \d{4}|\d+ [A-Z][a-z]+,? \d{4}|\d{4}-\d\d-\d\d)[^-]*?)(?: ?- ?(?P<file>.+))?$"
    ),
    re.compile(r"^(?P<student>(?P<user>[^@/\s]+@[^_/\s]+))_(?P<submission>\d+)_(?P<file>.+)$"),
    re.compile(r"^(?P<student>submission_(?P<user>\d+))$"),
    re.compile(r"^(?P<student>[^()]+?) ?\((?P<user>[^()\s]+)\)$"),
    re.compile(r"^(?P<student>.+?)(?P<late>_LATE)?_(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)$"),
    re.compile(r"^(?P<student>.+?)(?P<late>_LATE)?_(?P<user>\d+)_(?P<file>text\.html)$"),
)
"""Canvas (anonymous), Moodle, Blackboard, Brightspace, Autolab, Gradescope, Sakai, Canvas, Canvas's texts."""
ANONYMOUS, CANVAS = 0, (0, 7, 8)
BLACKBOARD, FOLDERS_ONLY = 2, (5, 6)  # of PATTERNS: a file `student_code (1).py` is not Sakai's
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".bmp", ".csv", ".npy", ".npz", ".json", ".log", ".pkl")
DAYS = ("%b %d, %Y", "%B %d, %Y", "%d %b, %Y", "%d %B, %Y", "%d %b %Y", "%d %B %Y", "%Y-%m-%d")
DATES = ("%Y-%m-%d-%H-%M-%S", *(f"{day} {time}" for day in DAYS for time in ("%I%M %p", "%I:%M %p", "%H%M", "%H:%M")))
LATEST_NUMBER = 1e8  # of a platform's submissions; a time in seconds is greater
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
        platform: index of its pattern.
    """

    student: str
    user: str
    order: tuple[float, int] = (0.0, 0)
    late: bool = False
    file: str = ""
    platform: int = -1


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


def parse(name: str, *, folder: bool = False, platform: int | None = None) -> Name | None:
    """What the name of a file or folder says, or None where no platform makes such a name.

    Where several could have made it, the one counts that leaves the shortest student: what follows is the name that the
    student gave the file, and may look like anything.

    Args:
        name: of a file or folder.
        folder: whether it is a folder.
        platform: the only one that is asked, an index of PATTERNS.
    """
    found = [
        (number, match)
        for number, pattern in enumerate(PATTERNS)
        if (platform is None or number == platform) and (match := pattern.match(name)) is not None
        and (folder or number not in FOLDERS_ONLY)
    ]  # fmt: skip
    if not found or name.lower().endswith(PICTURES):
        return None
    number, match = min(found, key=lambda each: (each[0] != ANONYMOUS, each[1].end("student"), each[0]))
    values = match.groupdict()
    file = values.get("file") or ""
    submission, again = values.get("submission"), AGAIN.search(file)
    when = _when(values["when"]) if values.get("when") else 0.0
    order = (when or float(submission or 0), int(again[1]) if again else 0)
    return Name(values["student"].strip(), values["user"], order, bool(values.get("late")), file, number)


def parse_all(names: Iterable[tuple[str, bool]]) -> list[Name | None]:
    """What names say that one platform made: the one that most of them are of.

    Args:
        names: each with whether it is a folder's.
    """
    names = list(names)
    first = [parse(name, folder=folder) for name, folder in names]
    counts = Counter(name.platform for name in first if name is not None)
    if not counts:
        return first
    platform = counts.most_common(1)[0][0]
    alike = {platform, *(CANVAS if platform in CANVAS else ())}
    parsed = []
    for name, folder in names:
        tries = (parse(name, folder=folder, platform=each) for each in sorted(alike))
        parsed.append(min((each for each in tries if each), key=lambda each: len(each.student), default=None))
    return parsed


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


def is_student_file(name: str) -> bool:
    """Whether a file of code has the student's name: student_code.py, alice_student_code.py, student-code-2.py."""
    return STUDENT.search(name) is not None


def person(name: str) -> tuple[str, ...]:
    """What is left of a name without a project's words and numbers; empty where nothing is."""
    plain = stem(name).lower()
    if NUMBERED.fullmatch(plain):
        return (plain,)
    words = re.findall(r"[^\W\d_]+", plain)
    return tuple(word for word in words if word.removeprefix("my") not in ORDINARY | {""})


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
    children = _children(paths, prefix)
    while len(children) == 1:
        (only,) = children.values()
        named = only.may_be_named and parse(only.name, folder=True)
        if not only.folder or only.name.lower() in FOLDERS or named:
            break
        if not (deeper := _children(paths, f"{prefix}{only.name}/")):
            break
        prefix, children = f"{prefix}{only.name}/", deeper
    names = {name.lower() for name in children}
    if names & set(FOLDERS) or "student_code.py" in names:
        return None
    listed = [child for name, child in children.items() if name not in METADATA]
    possible = [child for child in listed if child.may_be_named]
    names_of = dict(zip((c.name for c in possible), parse_all((c.name, c.folder) for c in possible), strict=True))
    parsed = [(child, names_of.get(child.name)) for child in listed]
    named = [(child, name) for child, name in parsed if name is not None]
    if named and 2 * len(named) >= len(listed) and not numbered_alike([(c.name, name) for c, name in named]):
        others = [child for child, name in parsed if name is None]
        return _of_platform(named, others, prefix)
    if any(child.is_section for child in listed):
        return _of_sections(listed, prefix)
    students = [child for child in listed if child.may_be_student]
    loose = [child for child in listed if not child.folder and child.name.endswith(".py") and not child.has_code]
    bearing = [child for child in students if child.has_code]
    ordinary_code = [child for child in listed if child.folder and child.has_code and not child.may_be_student]
    if not any(is_archive(child.name) or is_student_file(child.name) for child in bearing if not child.folder):
        students = [child for child in students if child not in loose]
        if loose:
            return None  # a project's own files
    people = {_whose(stem(child.name)) for child in students}
    coders = {_whose(stem(child.name)) for child in bearing}
    wholes = [child for child in listed if child.is_whole]
    if len(wholes) >= 2 and not all(_is_part(child.name) for child in wholes):
        students = [child for child in listed if child in students or child.is_whole]
    elif not bearing or len(people) < 2 or (ordinary_code and len(coders) < 2):
        return None
    elif len(coders) >= 2:
        students = [child for child in listed if child in students or child.has_code]
    return _by_name(students, prefix), [child.name for child in listed if child not in students]


def _is_part(name: str) -> bool:
    """Whether a name is made of a project's words alone, but for the number of a copy: starter, old, hw3 (1)."""
    words = re.findall(r"[^\W_]+", re.sub(r"\(\d+\)", "", stem(name).lower()))
    return all(word in ORDINARY or re.sub(r"\d+$", "", word) in ("hw", "homework", "part", "v") for word in words)


def numbered_alike(named: list[tuple[str, Name]]) -> bool:
    """Whether what looks like a platform's student is a word that all share, as in hw_3_1_alice.zip, hw_3_1_bob.zip."""
    people = {person(original_name(name)) or person(parsed.file) for name, parsed in named}
    return (
        len({parsed.student for _, parsed in named}) == 1
        and not any(parsed.late for _, parsed in named)
        and all(parsed.user.isdigit() for _, parsed in named)
        and len(people - {()}) > 1
    )


def _of_platform(named: list[tuple[_Child, Name]], others: list[_Child], prefix: str) -> tuple[list[Group], list[str]]:
    groups = group_names([(prefix + child.name, name) for child, name in named])
    code = [child for child in others if child.has_code and child.may_be_student]
    return groups + _by_name(code, prefix), [child.name for child in others if child not in code]


def _of_sections(children: list[_Child], prefix: str) -> tuple[list[Group], list[str]]:
    """The archives of several folders; those of a folder called late are."""
    groups, unknown = [], []
    for child in children:
        archives = [path for path in child.below if is_archive(path) and "/" not in path]
        if not child.folder or not archives:
            unknown.append(child.name)
            continue
        late = "late" in child.name.lower()
        for group in _by_name([_Child(path, False) for path in archives], f"{prefix}{child.name}/"):
            group.late = late
            groups.append(group)
    return groups, unknown


def group_names(named: list[tuple[str, Name]]) -> list[Group]:
    """Files of a platform by student: of files of one name the last, of what has several times the latest time."""
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
        times = {name.order[0] for _, name in kept if name.order[0] > LATEST_NUMBER}
        if times:
            kept = [(path, name) for path, name in kept if name.order[0] == max(times)]
        left = [PurePosixPath(path).name for path, _ in files if path not in {path for path, _ in kept}]
        notes = [f"handed in again: {', '.join(sorted(left)[:5])} gave way to a later file"] if left else []
        _, name = kept[-1]
        late = any(each.late for _, each in kept)
        groups.append(Group(name.student, [path for path, _ in kept], user, late, notes))
    return groups


def _without_assignment(named: list[tuple[str, Name]]) -> list[tuple[str, Name]]:
    """Blackboard puts the assignment before the student: what all names share, up to an underscore, is that."""
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


def _by_name(children: list[_Child], prefix: str) -> list[Group]:
    """Archives, folders and files by person: alice.zip and alice report.pdf are one student's."""
    groups: dict[str, Group] = {}
    for child in sorted(children, key=lambda each: (not each.has_code, each.folder, len(each.name), each.name)):
        student = child.name if child.folder else stem(child.name)
        group = groups.setdefault(_whose(student), Group(student))
        if child.folder and any(is_archive(path) for path in group.members):
            group.notes.append(f"the folder {child.name}/ lies beside an archive of that name, which was taken")
            continue
        group.members.append(prefix + child.name)
    return sorted(groups.values(), key=lambda group: group.student)


def _whose(name: str) -> str:
    """A name without a project's words; one that has none of them as it is: a-b, A-B and a b are three people."""
    words = re.findall(r"[^\W_]+", name)
    own = [word for word in words if re.sub(r"\d", "", word.lower()) not in ORDINARY | {""}]
    ordinary = [word for word in words if re.sub(r"\d", "", word.lower()) in ORDINARY]
    return " ".join(own) if own and ordinary else name
