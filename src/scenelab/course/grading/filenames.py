"""Parsing of the names that learning platforms give to submitted files, to identify the student.

Supported platforms are Canvas (named and anonymous), Moodle, Blackboard, Brightspace, Sakai, Autolab and Gradescope.
Source: the platforms' guides for instructors on downloading submissions.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath

STUDENT = re.compile(r"student[ _-]?code.*\.py$", re.IGNORECASE)
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")
MODELS = (".pth.tar", ".pth", ".pt", ".ckpt")  # checkpoints: archives by content, kept as single files
DOCUMENTS = (".pdf", ".doc", ".docx", ".odt", ".rtf", ".pages", ".txt", ".md", ".tex")
ORDINARY = frozenset(
    """
my the of and for final new old all copy draft last latest version ver v student students own code codes coding
src source sources script scripts py python file files folder package layer layers module modules conv
convolution convolutions custom attack attacks pgd adversarial attention grad saliency net nets network networks
model models vit cnn simplenet train training test tests testing eval main utils util lib helper helpers common
core write up writeup writeups report reports paper pdf doc docs document documents readme note notes text txt
latex tex result results output outputs plot plots fig figs figure figures image images img imgs screenshot
screenshots pics data dataset datasets weights checkpoint checkpoints log logs runs hw homework assignment
assignments ass proj project projects part parts q question lab exercise task ps pset submission submissions
submit submitted hand handin in kit starter solution solutions answer answers extra bonus notebook notebooks
jupyter ipynb zip miniplaces cs cv ml dl
""".split()
)
"""Project words; the other words of a name identify a person."""
NUMBERED = re.compile(r"(s|st|stud|student|user|team|group|grp|participant|anon|candidate)[ _-]?\d+|[a-z]{0,3}\d{4,}")
"""People identified by number: student1, team-07, 20231234."""

_CANVAS = r"^(?P<student>.+?)(?P<late>_LATE)?_(?P<user>\d+)_"
_DAY = r"(?:[A-Z][a-z]+ \d+, \d{4}|\d+ [A-Z][a-z]+,? \d{4}|\d{4}-\d\d-\d\d)"
PATTERNS = {
    "canvas, anonymous": r"^(?P<late>LATE_)?(?P<student>anon_(?P<user>[^_]+))_(?P<submission>\d+)_(?P<file>.+)$",
    "moodle": r"^(?P<student>.+?)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$",
    "blackboard": r"^(?P<student>(?P<user>.+))_attempt_(?P<when>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)$",
    "brightspace": rf"^(?P<user>\d+-\d+) ?- ?(?P<student>.+?) ?- ?(?P<when>{_DAY}[^-]*?)(?: ?- ?(?P<file>.+))?$",
    "autolab": r"^(?P<student>(?P<user>[^@/\s]+@[^_/\s]+))_(?P<submission>\d+)_(?P<file>.+)$",
    "gradescope": r"^(?P<student>submission_(?P<user>\d+))$",
    "sakai": r"^(?P<student>[^()]+?) ?\((?P<user>[^()\s]+)\)$",
    "canvas": rf"{_CANVAS}(?P<submission>\d+)_(?P<file>.+)$",
    "canvas, text": rf"{_CANVAS}(?P<file>text\.html)$",
}
"""Regular expressions of file names by platform; earlier ones win ties in `parse`."""
FOLDERS_ONLY = ("gradescope", "sakai")  # not for files: `student_code (1).py` is not Sakai's
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".bmp", ".csv", ".npy", ".npz", ".json", ".log", ".pkl")
DAYS = ("%b %d, %Y", "%B %d, %Y", "%d %b, %Y", "%d %B, %Y", "%d %b %Y", "%d %B %Y", "%Y-%m-%d")
DATES = ("%Y-%m-%d-%H-%M-%S", *(f"{day} {time}" for day in DAYS for time in ("%I%M %p", "%I:%M %p", "%H%M", "%H:%M")))
AGAIN = re.compile(r"-(\d+)(?=(\.\w+)*$)")


@dataclass(frozen=True)
class Name:
    """Fields parsed from the name that a learning platform gave to a file."""

    student: str
    user: str  # the platform's ID of the student, a number or a name
    order: tuple[float, int] = (0.0, 0)  # (time or submission number, copy number); later is larger
    late: bool = False
    file: str = ""  # file name that the student chose
    platform: str = ""  # key in `PATTERNS`


def parse(name: str, *, folder: bool = False, platforms: Iterable[str] = PATTERNS) -> Name | None:
    """Parse the name of a file or folder; return None if it matches no platform's pattern.

    If several patterns match, use the one with the shortest student name, because the file name that follows is the
    student's choice and may contain anything.
    """
    matches = [
        (match.end("student") if platform != "canvas, anonymous" else -1, platform, match)
        for platform in platforms
        if (folder or platform not in FOLDERS_ONLY) and (match := re.match(PATTERNS[platform], name))
    ]
    if not matches or name.lower().endswith(PICTURES):
        return None
    _, platform, match = min(matches, key=lambda each: each[0])
    values = match.groupdict("")
    file = values.get("file", "")
    again = AGAIN.search(file)
    when = _timestamp(values["when"]) if "when" in values else float(values.get("submission", 0))
    order = (when, int(again[1]) if again else 0)
    return Name(values["student"].strip(), values["user"], order, bool(values.get("late")), file, platform)


def parse_all(names: Iterable[tuple[str, bool]]) -> list[Name | None]:
    """Parse (name, is_folder) pairs with the patterns of the most frequent platform; other names become None."""
    names = list(names)
    parsed = [parse(name, folder=folder) for name, folder in names]
    counts = Counter(name.platform for name in parsed if name is not None)
    if not counts:
        return parsed
    platform = counts.most_common(1)[0][0]
    alike = [each for each in PATTERNS if each.split(",")[0] == platform.split(",")[0]]
    tries = [[parse(name, folder=folder, platforms=[each]) for each in alike] for name, folder in names]
    return [min(filter(None, each), key=lambda name: len(name.student), default=None) for each in tries]


def _timestamp(text: str) -> float:
    for pattern in DATES:
        try:
            return datetime.strptime(text.strip(), pattern).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
    return 0.0


def original_name(name: str) -> str:
    """Return the file name that the student chose, without the platform's additions."""
    parsed = parse(name)
    return AGAIN.sub("", parsed.file) if parsed is not None and parsed.file else name


def is_archive(name: str) -> bool:
    """Return whether a file name has an archive's suffix; checkpoints (.pth.tar) are not archives."""
    return name.lower().endswith(ARCHIVES) and not name.lower().endswith(MODELS)


def stem(name: str) -> str:
    """Return a file name without suffixes of archives, code and documents, or "submission" if nothing is left."""
    while PurePosixPath(name).suffix.lower() in (*ARCHIVES, *DOCUMENTS, ".py", ".ipynb"):
        name = PurePosixPath(name).stem
    return name or "submission"


def looks_like_other(name: str) -> bool:
    """Return whether a file inside a submission is named like another student's submission."""
    return parse(name) is not None and (is_archive(name) or name.endswith((".py", ".ipynb")))


def is_student_file(name: str) -> bool:
    """Return whether a code file is named like student_code.py, alice_student_code.py or student-code-2.py."""
    return STUDENT.search(name) is not None


def person(name: str) -> tuple[str, ...]:
    """Return the lower-case words of a file name that identify a person: all except project words (`ORDINARY`)."""
    plain = stem(name).lower()
    if NUMBERED.fullmatch(plain):
        return (plain,)
    words = re.findall(r"[^\W\d_]+", plain)
    return tuple(word for word in words if word.removeprefix("my") not in ORDINARY | {""})
