"""From a file or folder that was handed in to the student's code: unpack, find the assignment's root and its file."""

import hashlib
import json
import re
import resource
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.files import DISK
from scenelab.grading.source import CONVOLUTION, Source, examine, read_text
from scenelab.grading.unpack import Room, Unpacked, unpack
from scenelab.handin import FOLDERS, FORBIDDEN, check

STUDENT = re.compile(r"student[ _-]?code.*\.py$", re.IGNORECASE)
DEEPEST = 2  # zips in zips
MOST_SOURCE = 2_000_000  # bytes of a file of code that is read
MOST_FILES = 60  # of code that are looked into
MEMORY, SECONDS = 1 << 30, 60  # that reading a hand-in may take, in a process of its own


@dataclass
class Submission:
    """What was handed in, unpacked below `folder`.

    Attributes:
        folder: all of it.
        root: the folder in it that holds code/, writeup/ and results/, as near as can be told.
        code: the student's file, or None.
        source: what that says by itself, and what modules beside it say.
        problem: why there is no code to run; empty where there is.
        notes: what is odd, for the student.
        violations: rules of the hand-in that are broken, each with what breaks it.
        digest: of all names and bytes: the same for the same hand-in.
    """

    folder: Path
    root: Path
    code: Path | None = None
    source: Source = field(default_factory=Source)
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)
    digest: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        paths = {name: None if path is None else str(path) for name, path in
                 (("folder", self.folder), ("root", self.root), ("code", self.code))}  # fmt: skip
        return {**asdict(self), **paths}

    @staticmethod
    def of(values: dict[str, Any]) -> "Submission":
        """From JSON."""
        code = None if values["code"] is None else Path(values["code"])
        source, folder, root = Source(**values["source"]), Path(values["folder"]), Path(values["root"])
        return Submission(**{**values, "folder": folder, "root": root, "code": code, "source": source})


def read(path: Path, folder: Path) -> Submission:
    """Unpack a hand-in into `folder` and find its parts; whatever it is, there is a result.

    It happens in a process with little memory and time: an archive or a file that is made to eat both ends that
    process.

    Raises:
        LabError: the disk is full or broken, which is nobody's hand-in's fault.
    """
    done = None
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from scenelab.grading.reading import main; main()", str(path), str(folder)],
            capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        told = json.loads(done.stdout)
        if "disk" in told:
            raise LabError(
                f"cannot unpack {path.name} below {folder}: {told['disk']}; free space or choose another --out, then "
                "run the command again: it goes on where it stopped"
            )
        return Submission.of(told)
    except (subprocess.TimeoutExpired, OSError, ValueError, KeyError, TypeError):
        why = (
            "it took too long"
            if done is None
            else "it took too much memory, or is damaged in a way that nobody foresaw"
        )
        return Submission(
            folder, folder, problem=_printable(f"{path.name} could not be read: {why}"), digest=_digest_of(path)
        )


def main() -> None:
    """What that process does: the arguments are the hand-in and the folder; prints the result as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        told = read_here(Path(sys.argv[1]), Path(sys.argv[2])).plain()
    except OSError as error:
        if error.errno not in DISK:
            raise
        told = {"disk": error.strerror}
    print(json.dumps(told))


def read_here(path: Path, folder: Path, room: Room | None = None) -> Submission:
    """What `read` does, in this process."""
    found, room = Unpacked(), room or Room()
    unpack(path, folder, found, room)
    _unpack_inner(folder, found, room)
    digest = _digest(folder) if found.files else _digest_of(path)
    code, source, problem = _find_code(folder)
    root = _find_root(folder, code)
    violations = find_violations(root)
    if code is not None:
        text, note = read_text(code)
        if note:
            found.note(note)
        code.write_text(text, encoding="utf-8")
        if code.parent.name != "code":
            found.note(f"student_code.py was looked for in code/ and found in {code.parent.relative_to(folder)}/")
        if code.name != "student_code.py":
            found.note(f"{code.name} was taken for student_code.py")
        _add_modules(source, code)
    notes = [_printable(note) for note in found.notes]
    violations = {rule: [_printable(each) for each in listed] for rule, listed in violations.items()}
    return Submission(folder, root, code, source, _printable(problem), notes, violations, digest)


def _printable(text: str) -> str:
    """Text that any file can hold: a file's name may be no text at all."""
    return text.encode("utf-8", "replace").decode()


def find_violations(root: Path) -> dict[str, list[str]]:
    """Rules of the hand-in that are broken, each with what breaks it."""
    found: dict[str, list[str]] = {}
    for problem in check(root, test=False):
        if problem.rule != "code":  # what does not parse costs its points already
            found.setdefault(problem.rule, []).append(str(problem).replace(f" in {root.resolve()}", ""))
    for name in FORBIDDEN:
        if any(path.is_file() for path in (root / name).rglob("*")):
            what = f"{name}/: data, logs and models are not handed in; take {name}/ out"
            found.setdefault("forbidden folders", []).append(what)
    return {rule: listed[:20] for rule, listed in found.items()}


def _add_modules(source: Source, code: Path) -> None:
    """What is found in modules of the hand-in that student_code.py imports, and that they import: ways to hide a call
    in any, foreign convolutions in those that the convolution uses. They are written as UTF-8 like student_code.py.
    """
    waiting, seen = _wanted(source, code.parent), set()
    while waiting and len(seen) < MOST_FILES:
        path, used = waiting.pop()
        if (path, used) in seen or path == code or path.stat().st_size > MOST_SOURCE:
            continue
        seen.add((path, used))
        path.write_text(read_text(path)[0], encoding="utf-8")
        found = examine(path, all_reached=used)
        shown = path.relative_to(code.parent)
        source.hiding += [f"{shown}, {note}" for note in found.hiding]
        source.foreign += [f"{shown}, {note}" for note in found.foreign]
        source.banned += [f"{shown}, {note}" for note in found.banned if used]
        waiting += [(inner, used) for inner, _ in _wanted(found, path.parent) + _wanted(found, code.parent)]


def _wanted(source: Source, folder: Path) -> list[tuple[Path, bool]]:
    """Files of the hand-in that a file imports, and whether its convolution uses them."""
    found = []
    for name in source.imports:
        place = folder.joinpath(*name.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                given = set(examine(path).defined) & {*source.names, *CONVOLUTION} if name in source.stars else set()
                found.append((path, name in source.uses or bool(given - set(source.defined))))
    return found


def _digest_of(path: Path) -> str:
    """Of a hand-in of which nothing could be unpacked."""
    if not path.is_file():
        return hashlib.sha256(path.name.encode("utf-8", "replace")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack_inner(folder: Path, found: Unpacked, room: Room) -> None:
    """Unpack zips that lie in the hand-in, as long as there is no code beside them."""
    for _ in range(DEEPEST):
        if any(STUDENT.match(path.name) and path.is_file() for path in folder.rglob("*.py")):
            return
        inner = [path for path in sorted(folder.rglob("*.zip")) if path.is_file() and zipfile.is_zipfile(path)]
        for path in inner:
            found.note(f"{path.relative_to(folder)} is a zip in the zip; hand in its content")
            unpack(path, path.with_name(f"{path.stem} (unpacked)"), found, room)
            path.unlink()
        if not inner:
            return


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode("utf-8", "replace"))
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _find_code(folder: Path) -> tuple[Path | None, Source, str]:
    """The file that is most likely the student's: by its name, by what it defines, by where it lies."""
    found = [path for path in sorted(folder.rglob("*.py")) if path.is_file()]
    files = [path for path in found if path.stat().st_size <= MOST_SOURCE]
    if not files:
        others = sorted({path.suffix or path.name for path in folder.rglob("*") if path.is_file()})[:6]
        return None, Source(), f"there is no Python file in it, only {', '.join(others) or 'nothing'}"
    named = [path for path in files if STUDENT.match(path.name)]
    examined = {path: examine(path) for path in (named or files)[:MOST_FILES]}

    def rank(path: Path) -> tuple[int, bool, bool, int, str]:
        depth = len(path.relative_to(folder).parts)
        return -examined[path].known, path.name != "student_code.py", path.parent.name != "code", depth, str(path)

    best = min(examined, key=rank)
    source = examined[best]
    if not source.known:
        names = ", ".join(name for name in source.defined if not name.startswith("_"))[:160]
        what = f"defines {names}" if names else "defines nothing"
        return None, source, f"{best.relative_to(folder)} is not this assignment's: it {what}, and none of its names"
    return best, source, ""


def _find_root(folder: Path, code: Path | None) -> Path:
    """The folder that the three of the handout lie in: above the code, else the one that holds most of them."""
    if code is not None and code.parent != folder:
        return code.parent.parent if code.parent.name in FOLDERS else code.parent
    candidates = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())][:200]
    return max(candidates, key=lambda path: sum((path / name).is_dir() for name in FOLDERS))
