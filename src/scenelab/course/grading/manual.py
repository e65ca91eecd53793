"""Points given by people, merged into the grades."""

import math
from collections.abc import Sequence
from pathlib import Path

from scenelab.course.grading.results import Grade
from scenelab.course.grading.rubric import Manual, Rubric
from scenelab.course.grading.tables import Id, Table, fold
from scenelab.errors import LabError


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


def merge_manual(
    table: Table, parts: dict[int, Manual], grades: Sequence[Grade], teams: dict[str, set[Id]]
) -> list[str]:
    """Set `manual` of the grades, for a whole team if one member's row has points; return notes on the rest."""
    owners: dict[Id, list[Grade]] = {}
    given: dict[str, dict[str, float]] = {grade.entry.student: {} for grade in grades}
    for grade in grades:
        name = grade.entry.student
        for each in {("student", fold(name)), *grade.entry.ids, *teams.get(name, ())}:
            owners.setdefault(each, []).append(grade)
    notes = []
    for number, row in enumerate(table.rows, start=2):
        where, student = f"--manual {table.path}, row {number}", table.cell(row, "student")
        ids = {("student", fold(student))} if student else table.ids(row)
        values = {part: _points(row[column], part, where) for column, part in parts.items() if row[column].strip()}
        names = {grade.entry.student for each in ids for grade in owners.get(each, [])}
        if values and not names:
            notes.append(f"{where}: nothing was submitted by {' '.join(sorted(value for _, value in ids))[:80]}")
        for name in names:
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
