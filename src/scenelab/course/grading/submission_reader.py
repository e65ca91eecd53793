"""Extraction and analysis of a submission: its root folder, code file, static findings and rule violations."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scenelab.course.grading.bounded import print_bounded, run_bounded
from scenelab.course.grading.extract import Extraction, ExtractionLimits
from scenelab.course.grading.filenames import is_archive, is_student_file, looks_like_other, person
from scenelab.course.grading.notebooks import EXPORTED, tolerant, write_cells
from scenelab.course.grading.source_text import read_text
from scenelab.course.grading.static_checks import CONVOLUTION, Source, examine
from scenelab.course.submission import FOLDERS, FORBIDDEN, check
from scenelab.errors import printable
from scenelab.io import sha256

GIVEN = ("main.py", "test_conv.py", "check.py", "miniplaces.py", "zip_submission.py")  # of the kit, not the student's
OLD = re.compile(r"(?<![a-z])(old|orig|original|backup|bak|copy|draft|starter|template)(?![a-z])", re.IGNORECASE)
MAX_DEPTH = 2  # levels of archives in archives
ENOUGH = 4  # names of the assignment in a file; more do not raise its rank
MAX_SOURCE_BYTES = 2_000_000  # per code file
MAX_FILES = 400  # code files that are read
MEMORY, SECONDS = 1 << 30, 60  # bytes and seconds to read one submission


@dataclass
class Submission:
    """A submission extracted to `folder`, and the results of its analysis."""

    folder: Path
    root: Path  # folder that most likely contains code/, writeup/ and results/
    code: Path | None = None  # the student's file
    source: Source = field(default_factory=Source)  # findings in that file and in modules that it imports
    problem: str = ""  # why there is no code to run
    notes: list[str] = field(default_factory=list)  # unusual facts, for the student
    violations: dict[str, list[str]] = field(default_factory=dict)  # broken rules, each with its occurrences
    review: list[str] = field(default_factory=list)  # notes for manual review
    digest: str = ""  # hash of all names and bytes

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Submission":
        """Build a submission from the dict of its fields, as decoded from JSON."""
        code = None if values["code"] is None else Path(values["code"])
        places = {"folder": Path(values["folder"]), "root": Path(values["root"]), "code": code}
        return Submission(**{**values, **places, "source": Source(**values["source"])})


def read(paths: Sequence[Path], folder: Path, *, skip: Path | None = None) -> Submission:
    """Extract a submission from files and folders to `folder`, and return its analysis.

    This runs in a process with limited memory and time; if it fails, `problem` of the result says why. The folder
    `skip`, such as the output folder of the grades, is ignored.

    Raises:
        LabError: If the disk is full or broken.
    """
    arguments = [str(folder), str(skip or ""), *map(str, paths)]
    why = "it took too much memory, or is damaged in an unexpected way"
    try:
        module = "scenelab.course.grading.submission_reader"
        return Submission.from_dict(run_bounded(module, paths, folder, arguments, seconds=SECONDS))
    except subprocess.TimeoutExpired:
        why = "it took too long"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    names = ", ".join(path.name for path in paths)
    problem = printable(f"{names} could not be read: {why}")
    return Submission(folder, folder, problem=problem, digest=_digest(paths))


def _read_here(paths: Sequence[Path], folder: Path, skip: Path | None) -> Submission:
    extraction = Extraction(ExtractionLimits())
    for path in paths:
        extraction.unpack(path, folder, skip=skip)
    review = _names_of_others(folder) if len(paths) == 1 else []
    _unpack_inner(folder, extraction)
    digest = _digest(_files(folder), folder) if extraction.files else _digest(paths)
    code, source, problem = _find_code(folder, extraction)
    root = _find_root(folder, code)
    violations = _find_violations(root)
    if code is not None:
        text, note = read_text(code)
        if note:
            extraction.note(note)
        if EXPORTED.search(text):
            text = tolerant(text)
            extraction.note(f"{code.name} was exported from a notebook; statements that fail were left out")
        _rewrite(code, text, source, folder)
        if code.parent.name != "code":
            extraction.note(f"student_code.py was looked for in code/ and found in {code.parent.relative_to(folder)}/")
        if code.name != "student_code.py":
            extraction.note(f"{code.name} was taken for student_code.py")
        for notes in (source.hiding, source.foreign, source.banned, source.review):
            notes[:] = [f"{code.name}, {note}" for note in notes]
        _add_modules(source, code, folder)
    problem = problem or ("" if code is not None else "nothing was handed in")
    notes = [printable(note) for note in extraction.notes]
    return Submission(folder, root, code, source, printable(problem), notes, violations, review, digest)


def _rewrite(path: Path, text: str, source: Source, folder: Path) -> None:
    """Overwrite a code file with `text` as UTF-8, and store its SHA-256 in `source.scanned`."""
    data = text.encode()
    path.write_bytes(data)
    source.scanned[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()


def _files(folder: Path, pattern: str = "*") -> list[Path]:
    return [path for path in sorted(folder.rglob(pattern)) if path.is_file()]


def _names_of_others(folder: Path) -> list[str]:
    """Return a list with one note if files are named like other students' submissions, else []."""
    files = _files(folder)
    names = sorted(path.name for path in files if looks_like_other(path.name))
    archives = sorted(path.name for path in files if is_archive(path.name) and person(path.name))
    names = names or (archives if len(archives) > 1 else [])
    if not names:
        return []
    shown = printable(", ".join(names[:3])) + (" …" if len(names) > 3 else "")
    return [f"holds what looks like the submission of others ({shown}); all of it was graded as one submission"]


def _find_violations(root: Path) -> dict[str, list[str]]:
    violations: dict[str, list[str]] = {}
    for problem in check(root, test=False):
        if problem.rule != "code":  # code that cannot be parsed loses its points anyway
            text = str(problem).replace(f" in {root.resolve()}", "")
            violations.setdefault(problem.rule, []).append(printable(text))
    for name in FORBIDDEN:
        if any(path.suffix != ".py" for path in _files(root / name)):
            what = f"{name}/: data, logs and models must not be submitted; remove {name}/"
            violations.setdefault("forbidden folders", []).append(what)
    return {rule: texts[:20] for rule, texts in violations.items()}


def _add_modules(source: Source, code: Path, folder: Path) -> None:
    """Add findings in modules that student_code.py imports, even indirectly, to `source`; rewrite them as UTF-8.

    Library convolutions count only in modules that the convolution uses. Modules beyond the limits on size and number
    are not in `scanned`; they are flagged when they run.
    """
    waiting, seen = [*_imported(source, code.parent)], set()
    while waiting and len(seen) < MAX_FILES:
        path, is_used = waiting.pop()
        if (path, is_used) in seen or path == code or path.stat().st_size > MAX_SOURCE_BYTES:
            continue
        seen.add((path, is_used))
        _rewrite(path, read_text(path)[0], source, folder)
        module = examine(path, all_reached=is_used)
        shown = path.relative_to(folder)
        source.hiding += [f"{shown}, {note}" for note in module.hiding]
        source.foreign += [f"{shown}, {note}" for note in module.foreign]
        source.banned += [f"{shown}, {note}" for note in module.banned if is_used]
        waiting += [(inner, is_used) for place in (path, code) for inner, _ in _imported(module, place.parent)]
    for notes in (source.hiding, source.foreign, source.banned):
        notes[:] = dict.fromkeys(printable(note) for note in notes)


def _imported(source: Source, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield (path, is_used) per imported file of the submission; `is_used` tells if the convolution uses the file."""
    for name in source.imports:
        parts = name.split(".")
        places = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
        module = places[-1].with_suffix(".py") if parts[-1] else places[-1]
        for path in (module, *(place / "__init__.py" for place in places)):  # a package's __init__.py runs as well
            if path.is_file():
                names = set(examine(path).defined) & {*source.names, *CONVOLUTION} if name in source.stars else set()
                yield path, name in source.uses or bool(names - set(source.defined))


def _digest(paths: Sequence[Path], folder: Path | None = None) -> str:
    """Return the SHA-256 of the files' names, relative to `folder` if given, and contents."""
    total = hashlib.sha256()
    for path in paths:
        name = path.relative_to(folder).as_posix() if folder else path.name
        total.update(f"{name}\0".encode("utf-8", "replace"))
        if path.is_file():
            total.update(f"{path.stat().st_size}\0".encode() + sha256(path))
    return total.hexdigest()


def _unpack_inner(folder: Path, extraction: Extraction) -> None:
    """Replace archives in the submission by their content, up to `MAX_DEPTH` levels, until a code file is found."""
    for _ in range(MAX_DEPTH):
        if any(is_student_file(path.name) for path in _files(folder, "*.py")):
            return
        for path in [path for path in _files(folder) if is_archive(path.name)]:
            name = path.relative_to(folder)
            extraction.note(f"{name} is a zip in the zip, or beside other files; its content was graded")
            extraction.unpack(path, path.with_name(f"{path.stem} (unpacked)"))
            path.unlink()


def _find_code(folder: Path, extraction: Extraction) -> tuple[Path | None, Source, str]:
    """Return the most likely code file, the findings in it, and the problem that prevents grading, if any.

    If no file with the expected name is filled in, all files and the code cells of notebooks are candidates, too.
    """
    every = _files(folder)
    files = [path for path in every if path.suffix == ".py" and path.stat().st_size <= MAX_SOURCE_BYTES]
    own = [path for path in files if path.name not in GIVEN]
    sources = {path: examine(path) for path in [path for path in own if is_student_file(path.name)][:MAX_FILES]}
    cells = {}
    whole = (each.answered and not each.unfilled for each in sources.values())
    if not any(whole) and not any(_only_imports(each, path.parent) for path, each in sources.items()):
        notebooks = [path for path in every if path.suffix.lower() == ".ipynb"]
        cells = {written: path for path in notebooks if (written := write_cells(path)) is not None}
        others = [path for path in [*own, *cells] or files if path not in sources]
        sources |= {path: examine(path) for path in others[:MAX_FILES]}
    if not sources:
        kinds = sorted({path.suffix or path.name for path in every})[:6]
        if kinds:
            return None, Source(), f"there is no Python file in it, only {', '.join(kinds)}"
        return None, Source(), extraction.notes[0] if extraction.notes else "it is empty: nothing was handed in"
    best = _most_likely(sources, folder)
    for path in cells.keys() - {best}:
        path.unlink()
    source, shown = sources[best], best.relative_to(folder)
    others = [path for path in sources if path != best and is_student_file(path.name) and sources[path].known]
    if others:
        names = ", ".join(path.relative_to(folder).as_posix() for path in others[:4])
        extraction.note(f"{shown} was graded, and not {names}")
    if not source.known and not (best.name == "student_code.py" and _only_imports(source, best.parent)):
        names = ", ".join(name for name in source.defined if not name.startswith("_"))[:160]
        what = f"defines {names}" if names else "defines nothing"
        return None, source, f"{shown} is not this assignment's: it {what}, and none of its names"
    if best in cells:
        name = cells[best].name
        extraction.note(f"{name} is a notebook: its code cells were graded as a file; hand in student_code.py")
    return best, source, ""


def _most_likely(sources: dict[Path, Source], folder: Path) -> Path:
    """Return the file with most of the answers; of equal ones the one with the expected name, or the last version."""

    def rank(path: Path) -> tuple[bool | int | str, ...]:
        source, place = sources[path], path.relative_to(folder)
        numbers = re.findall(r"\d+", place.as_posix())
        return (
            not source.known,
            -source.answered,
            bool(source.error),
            0 if source.answered else -len(source.defined),  # an own network beside the kit's
            -min(source.known, ENOUGH),
            OLD.search(place.as_posix()) is not None,
            path.name != "student_code.py",
            path.parent.name != "code",
            "final" not in place.as_posix().lower(),
            -int(numbers[-1]) if numbers else 0,
            len(place.parts),
            str(path),
        )

    return min(sources, key=rank)


def _only_imports(source: Source, folder: Path) -> bool:
    """Return whether a file defines none of the assignment's names, and imports a module in its folder."""
    if source.known:
        return False
    places = [folder.joinpath(*name.split(".")) for name in source.imports]
    return any(place.with_suffix(".py").is_file() or place.is_dir() for place in places if place != folder)


def _find_root(folder: Path, code: Path | None) -> Path:
    """Return the root folder of the submission, usually the parent of code/.

    Choose the folder that contains most of code/, writeup/ and results/. It contains the code file, unless this is not
    in a subfolder.
    """
    if code is not None and code.parent != folder:
        candidates = [path for path in code.parents if path.is_relative_to(folder)]
        if code.parent.name.lower() in FOLDERS:
            candidates = candidates[1:] + candidates[:1]
    else:
        candidates = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())][:200]
    return max(candidates, key=lambda path: sum((path / name).is_dir() for name in FOLDERS))


def _main(folder: str, skip: str, *paths: str) -> dict[str, Any]:
    return asdict(_read_here([*map(Path, paths)], Path(folder), Path(skip) if skip else None))


if __name__ == "__main__":
    print_bounded(lambda: _main(*sys.argv[1:]), memory=MEMORY, seconds=SECONDS)
