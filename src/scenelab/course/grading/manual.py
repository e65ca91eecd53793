"""Points given by people, merged into the grades."""

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from scenelab.course.grading.gradebook import match
from scenelab.course.grading.results import Grade
from scenelab.course.grading.rubric import Manual, Rubric
from scenelab.course.grading.tables import Id, Table, fold
from scenelab.errors import LabError

BEFORE = "grades-before.csv"
TITLE = re.compile(r".+ \([\d.]+\)")  # of a column of grades.csv for points given by people


def read_manual(path: Path, rubric: Rubric) -> tuple[Table, dict[int, Manual]]:
    """Read a table with columns named as the rubric's manual parts, with or without their points, as in grades.csv.

    Raises:
        LabError: no column is a manual part of the rubric.
    """
    table = Table.read(path, "--manual")
    names = {fold(each): part for part in rubric.manual for each in (part.name, f"{part.name} ({part.points:g})")}
    parts = {number: names[fold(name)] for number, name in enumerate(table.header) if fold(name) in names}
    if not parts:
        wanted = ", ".join(part.name for part in rubric.manual)
        raise LabError(f"--manual {path} has no column of a part that people grade; the rubric has: {wanted}")
    return table, parts


def keep_points(path: Path, manual: Path | None) -> None:
    """Copy the table `path`, which grading writes anew, to `BEFORE` if it has points of people.

    Raises:
        LabError: no table `manual` is given, or it is `path`.
    """
    if not path.exists():
        return
    table = Table.read(path, "--out")
    parts = [number for number, name in enumerate(table.header) if TITLE.fullmatch(name)]
    if not any(row[number].strip() for row in table.rows for number in parts):
        return
    if manual is None or path.samefile(manual):
        raise LabError(f"{path} has points given by people and is written anew; move it, and give it as --manual")
    if not path.with_name(BEFORE).exists():  # else a grading was stopped
        shutil.copy2(path, path.with_name(BEFORE))


def check_kept(path: Path, manual: Path, grades: Sequence[Grade]) -> None:
    """Raise a LabError if the earlier table `path` has points of people that the grades lack, else remove it.

    Points that differ count as lacking if `path` was saved after the table `manual`.
    """
    if not path.exists():
        return
    table, given = Table.read(path, "--out"), dict[str, dict[str, float]]()
    for grade in grades:
        given[grade.entry.student] = given[f"'{grade.entry.student}"] = grade.manual or {}  # ' is before a formula
    is_newer = path.stat().st_mtime > manual.stat().st_mtime
    for row in table.rows:
        for name, text in zip(table.header, row, strict=False):
            if TITLE.fullmatch(name) and text.strip():
                points = given.get(row[0], {}).get(name.rpartition(" (")[0])
                if points is None or (is_newer and f"{points:g}" != f"{float(text.replace(',', '.')):g}"):
                    raise LabError(
                        f"{path} has points given by people that --manual lacks, first {name} of {row[0]}: {text}; add "
                        "them there, then remove this file"
                    )
    path.unlink()


def merge_manual(
    table: Table, parts: dict[int, Manual], grades: Sequence[Grade], teams: dict[str, set[Id]]
) -> list[str]:
    """Set `manual` of the grades, for a whole team if one member's row has points; return notes on the rest."""
    claims, notes = match(table, range(len(table.rows)), grades, teams)
    given: dict[str, dict[str, float]] = {grade.entry.student: {} for grade in grades}
    for number, row in enumerate(table.rows):
        where = f"--manual {table.path}, row {number + 2}"
        values = {part: _points(row[column], part, where) for column, part in parts.items() if row[column].strip()}
        if values and number not in claims:
            notes.append(f"{where}, {row[0]}: matches no submission")
        for name in [owner.entry.student for owner in claims.get(number, [])]:
            for part, points in values.items():
                if given[name].setdefault(part.name, points) != points:
                    raise LabError(f"{where}: {part.name} of {name} has two values; keep one")
    for grade in grades:
        mates = [given[mate] for mate in grade.mates]
        grade.manual = {name: points for each in [*mates, given[grade.entry.student]] for name, points in each.items()}
    return notes


def _points(text: str, part: Manual, where: str) -> float:
    try:
        points = float(text.strip().replace(",", "."))
    except ValueError:
        points = math.nan
    if not 0 <= points <= part.points:
        raise LabError(f"{where}: {part.name} is {text.strip()[:40]!r}; give a number from 0 to {part.points:g}")
    return points
