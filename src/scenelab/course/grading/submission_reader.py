"""From a file or folder that was handed in to the student's code: unpack, find the assignment's root and its file."""

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scenelab.course.grading.extract import ExtractionLimits, ExtractionReport, unpack
from scenelab.course.grading.filenames import is_archive, is_student_file, looks_like_other, person
from scenelab.course.grading.notebooks import write_cells
from scenelab.course.grading.static_checks import CONVOLUTION, Source, examine, read_text
from scenelab.course.kit import files as kit_files
from scenelab.course.kit.strip_solutions import YEARS
from scenelab.course.submission import FOLDERS, FORBIDDEN, check
from scenelab.errors import LabError, printable
from scenelab.io import DISK
from scenelab.runtime import run_module

GIVEN = ("main.py", "test_conv.py", "miniplaces.py", "zip_submission.py")  # files of the kit that are not the student's
DEEPEST = 2  # zips in zips
ENOUGH = 4  # of the assignment's names, for a file to be the student's
MOST_SOURCE = 2_000_000  # bytes of a file of code that is read
MOST_FILES = 400  # of code that are looked into
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
        review: what a person should look at.
        digest: of all names and bytes: the same for the same hand-in.
    """

    folder: Path
    root: Path
    code: Path | None = None
    source: Source = field(default_factory=Source)
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)
    review: list[str] = field(default_factory=list)
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


def read(paths: Sequence[Path], folder: Path, *, skip: Path | None = None) -> Submission:
    """Unpack what a student handed in into `folder` and find its parts; whatever it is, there is a result.

    It happens in a process with little memory and time: an archive or a file that is made to eat both ends that
    process.

    Args:
        paths: archives, single files or folders, which together are the submission.
        folder: where to.
        skip: a folder that is not looked into: the one for the grades may lie in a submission.

    Raises:
        LabError: the disk is full or broken, which is nobody's hand-in's fault.
    """
    names = ", ".join(path.name for path in paths)
    done = None
    try:
        done = run_module(
            "scenelab.course.grading.submission_reader",
            [str(folder), str(skip or ""), *map(str, paths)],
            seconds=SECONDS,
        )
        told = json.loads(done.stdout)
        if "disk" in told:
            raise LabError(
                f"cannot unpack {names} below {folder}: {told['disk']}; free space or choose another --out, then "
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
            folder, folder, problem=printable(f"{names} could not be read: {why}"), digest=_digest_of(paths)
        )


def main() -> None:
    """What that process does: the arguments are the folder and what was handed in; prints the result as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        skip = Path(sys.argv[2]) if sys.argv[2] else None
        told = read_here([Path(each) for each in sys.argv[3:]], Path(sys.argv[1]), skip=skip).plain()
    except OSError as error:
        if error.errno not in DISK:
            raise
        told = {"disk": error.strerror}
    print(json.dumps(told))


def read_here(
    paths: Sequence[Path], folder: Path, room: ExtractionLimits | None = None, *, skip: Path | None = None
) -> Submission:
    """What `read` does, in this process."""
    found, room = ExtractionReport(), room or ExtractionLimits()
    for path in paths:
        unpack(path, folder, found, room, skip=skip)
    review = _others(folder) if len(paths) == 1 else []
    _unpack_inner(folder, found, room)
    digest = _digest(folder) if found.files else _digest_of(paths)
    code, source, problem = _find_code(folder, found)
    root = _find_root(folder, code)
    violations = find_violations(root)
    if code is not None:
        text, note = read_text(code)
        if note:
            found.note(note)
        _rewrite(code, text, source, folder)
        if code.parent.name != "code":
            found.note(f"student_code.py was looked for in code/ and found in {code.parent.relative_to(folder)}/")
        if code.name != "student_code.py":
            found.note(f"{code.name} was taken for student_code.py")
        for listed in (source.hiding, source.foreign, source.banned, source.review):
            listed[:] = [f"{code.name}, {note}" for note in listed]
        _add_modules(source, code, folder)
    notes = [printable(note) for note in found.notes]
    violations = {rule: [printable(each) for each in listed] for rule, listed in violations.items()}
    problem = problem or ("" if code is not None else "nothing was handed in")
    return Submission(folder, root, code, source, printable(problem), notes, violations, review, digest)


def _rewrite(path: Path, text: str, source: Source, folder: Path) -> None:
    """Write a file of code as UTF-8, as it was read, and remember its digest."""
    data = text.encode()
    path.write_bytes(data)
    source.scanned[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()


def _others(folder: Path) -> list[str]:
    """Archives and files of code in a submission that carry names as if they were other students'."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = sorted(path.name for path in files if looks_like_other(path.name))
    archives = sorted(path.name for path in files if is_archive(path.name) and person(path.name))
    names = names or (archives if len(archives) > 1 else [])
    if not names:
        return []
    listed = printable(", ".join(names[:3])) + (" …" if len(names) > 3 else "")
    return [f"holds what looks like the submission of others ({listed}); all of it was graded as one submission"]


def find_violations(root: Path) -> dict[str, list[str]]:
    """Rules of the hand-in that are broken, each with what breaks it."""
    found: dict[str, list[str]] = {}
    for problem in check(root, test=False):
        if problem.rule != "code":  # what does not parse costs its points already
            found.setdefault(problem.rule, []).append(str(problem).replace(f" in {root.resolve()}", ""))
    for name in FORBIDDEN:
        if any(path.is_file() for path in (root / name).rglob("*")):
            what = f"{name}/: data, logs and models must not be submitted; remove {name}/"
            found.setdefault("forbidden folders", []).append(what)
    return {rule: listed[:20] for rule, listed in found.items()}


def _add_modules(source: Source, code: Path, folder: Path) -> None:
    """Read modules of the submission that student_code.py imports, and that they import: words that could hide a call
    in any, foreign convolutions in those that the convolution uses. They are written as UTF-8 like student_code.py.

    A module that is not among the `scanned` afterwards, because it is too long, one of too many, or lies elsewhere, is
    noticed when it runs.
    """
    waiting, seen = _wanted(source, code.parent), set()
    while waiting and len(seen) < MOST_FILES:
        path, used = waiting.pop()
        if (path, used) in seen or path == code or path.stat().st_size > MOST_SOURCE:
            continue
        seen.add((path, used))
        _rewrite(path, read_text(path)[0], source, folder)
        found = examine(path, all_reached=used)
        shown = path.relative_to(folder)
        source.hiding += [f"{shown}, {note}" for note in found.hiding]
        source.foreign += [f"{shown}, {note}" for note in found.foreign]
        source.banned += [f"{shown}, {note}" for note in found.banned if used]
        waiting += [(inner, used) for inner, _ in _wanted(found, path.parent) + _wanted(found, code.parent)]
    for listed in (source.hiding, source.foreign, source.banned):
        listed[:] = dict.fromkeys(printable(note) for note in listed)


def _wanted(source: Source, folder: Path) -> list[tuple[Path, bool]]:
    """Files of the submission that a file imports, and whether its convolution uses them; the `__init__.py` of a
    package runs with each of its modules.
    """
    files = []
    for name in source.imports:
        parts = name.split(".")
        places = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
        for path in (places[-1].with_suffix(".py") if parts[-1] else places[-1], *(p / "__init__.py" for p in places)):
            if path.is_file():
                given = set(examine(path).defined) & {*source.names, *CONVOLUTION} if name in source.stars else set()
                files.append((path, name in source.uses or bool(given - set(source.defined))))
    return files


def _digest_of(paths: Sequence[Path]) -> str:
    """Of a hand-in of which nothing could be unpacked."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode("utf-8", "replace"))
        if path.is_file():
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _unpack_inner(folder: Path, found: ExtractionReport, room: ExtractionLimits) -> None:
    """Unpack zips that lie in the hand-in, as long as there is no code beside them."""
    for _ in range(DEEPEST):
        if any(is_student_file(path.name) and path.is_file() for path in folder.rglob("*.py")):
            return
        inner = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_archive(path.name)]
        for path in inner:
            found.note(f"{path.relative_to(folder)} is a zip in the zip, or beside other files; its content was graded")
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


def _find_code(folder: Path, unpacked: ExtractionReport) -> tuple[Path | None, Source, str]:
    """The file that is most likely the student's: by its name, by what it defines, by where it lies.

    Where none has the student's name, the code cells of notebooks are looked at as well.
    """
    every = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in every if path.suffix == ".py" and path.stat().st_size <= MOST_SOURCE]
    own = [path for path in files if path.name not in GIVEN]
    cells = {}
    if not any(is_student_file(path.name) and examine(path).known for path in own):
        notebooks = [path for path in every if path.suffix.lower() == ".ipynb"]
        cells = {written: path for path in notebooks if (written := write_cells(path)) is not None}
    files = [*own, *cells] or files
    if not files:
        others = sorted({path.suffix or path.name for path in every})[:6]
        if not others:
            return None, Source(), "it is empty: nothing was handed in" if not unpacked.notes else unpacked.notes[0]
        return None, Source(), f"there is no Python file in it, only {', '.join(others)}"
    named = [path for path in files if is_student_file(path.name)]
    examined = {path: examine(path) for path in (named or files)[:MOST_FILES]}
    given = {_plain(text) for year in YEARS for text in _kit(year)} if len(examined) > 1 else set()

    def rank(path: Path) -> tuple[bool, bool, int, bool, bool, int, str]:
        known, depth = examined[path].known, len(path.relative_to(folder).parts)
        unchanged = bool(given) and _plain(read_text(path)[0]) in given
        few = -known if known < ENOUGH else -ENOUGH
        return not known, unchanged, few, path.name != "student_code.py", path.parent.name != "code", depth, str(path)

    best = min(examined, key=rank)
    source = examined[best]
    others = [path for path in examined if path != best and path.name == best.name and examined[path].known]
    if others:
        names = ", ".join(path.relative_to(folder).as_posix() for path in others[:4])
        unpacked.note(f"{best.relative_to(folder)} was graded; of the same name there are {names}")
    if not source.known and not (best.name == "student_code.py" and _imports_own(source, best.parent)):
        names = ", ".join(name for name in source.defined if not name.startswith("_"))[:160]
        what = f"defines {names}" if names else "defines nothing"
        return None, source, f"{best.relative_to(folder)} is not this assignment's: it {what}, and none of its names"
    if best in cells:
        name = cells[best].name
        unpacked.note(f"{name} is a notebook: its code cells were graded as a file; hand in student_code.py")
    return best, source, ""


def _imports_own(source: Source, folder: Path) -> bool:
    """Whether a file takes names from modules beside it."""
    places = [folder.joinpath(*name.split(".")) for name in source.imports]
    return any(place.with_suffix(".py").is_file() or place.is_dir() for place in places if place != folder)


def _plain(text: str) -> str:
    return "".join(text.split())


def _kit(year: int) -> list[str]:
    """What the kit of a year has as student_code.py; nothing in a copy that comes without it."""
    try:
        return [kit_files(year)["code/student_code.py"]]
    except (OSError, KeyError, LabError):
        return []


def _find_root(folder: Path, code: Path | None) -> Path:
    """The folder that the three of the handout lie in: above the code, else the one that holds most of them."""
    if code is not None and code.parent != folder:
        return code.parent.parent if code.parent.name in FOLDERS else code.parent
    candidates = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())][:200]
    return max(candidates, key=lambda path: sum((path / name).is_dir() for name in FOLDERS))


if __name__ == "__main__":
    main()
