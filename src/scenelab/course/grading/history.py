"""What has changed since the class was last graded, and why."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from scenelab.course.grading.results import Grade
from scenelab.schema import Model

FILE = "grading.json"
CAUSES = {
    "rubric": "the rubric changed",
    "hidden": "the hidden checks changed",
    "seed": "the seed changed",
    "scenelab": "scenelab {} is now {}",
    "torch": "torch {} is now {}",
    "sandbox": "the sandbox {} is now {}",
}
"""What the points of a class depend on, and the sentence for a change of it."""


class Graded(Model):
    """A student's grade, as far as the next grading compares it."""

    digest: str
    late: bool
    points: float | None
    manual: dict[str, float]
    checks: dict[str, float]


class Grading(Model):
    """Grading of a class, stored as grading.json, with what differs from the grading before."""

    context: dict[str, str]  # values of the keys of `CAUSES`
    students: dict[str, Graded]
    causes: list[str]  # of all students
    changes: list[list[str]]  # student, points before and now, why, and the checks that differ

    @staticmethod
    def of(grades: Sequence[Grade], context: dict[str, str], earlier: "Grading | None") -> "Grading":
        """Describe a grading and compare it with an earlier one; return the earlier one if nothing has changed."""
        for name in ("rubric", "seed"):  # the seed is secret
            context = {**context, name: hashlib.sha256(context[name].encode()).hexdigest()}
        students = {grade.entry.student: _graded(grade) for grade in grades}
        if earlier is None:
            return Grading(context=context, students=students, causes=[], changes=[])
        if (context, students) == (earlier.context, earlier.students):
            return earlier
        pairs = {name: (earlier.context.get(name, ""), context[name]) for name in CAUSES}
        causes = [CAUSES[name].format(*pair) for name, pair in pairs.items() if pair[0] != pair[1]]
        names = sorted(students.keys() | earlier.students.keys())
        changes = [_change(name, earlier.students.get(name), students.get(name), causes) for name in names]
        return Grading(context=context, students=students, causes=causes, changes=[each for each in changes if each])


def _graded(grade: Grade) -> Graded:
    manual, checks = grade.manual or {}, {each.name: each.earned for each in grade.result.outcomes}
    late, digest = grade.entry.late, grade.result.digest
    return Graded(digest=digest, late=late, points=grade.points, manual=manual, checks=checks)


def _change(student: str, before: Graded | None, after: Graded | None, causes: list[str]) -> list[str]:
    """Return the cells of a row of `changes`, or none if nothing has changed."""
    points = [f"{each.points:g}" if each and each.points is not None else "–" for each in (before, after)]
    if before is None or after is None:
        return [student, *points, "submitted for the first time" if after else "the submission is no longer there", ""]
    if before == after:
        return []
    own = ["submitted other files"] if before.digest != after.digest else []
    own += [f"{'now' if after.late else 'no longer'} late"] if before.late != after.late else []
    own += ["people gave other points"] if before.manual != after.manual else []
    why = "; ".join([*own, *causes]) or "same files, rubric and versions: a check may have run out of time"
    pairs = {name: (before.checks.get(name, 0.0), after.checks.get(name, 0.0)) for name in before.checks | after.checks}
    checks = ", ".join(f"{name} {old:g} → {new:g}" for name, (old, new) in pairs.items() if old != new)
    return [student, *points, why, checks]


def read_grading(out: Path) -> Grading | None:
    """Read OUT/grading.json, or return None if the class has not been graded yet."""
    return Grading.read(out / FILE) if (out / FILE).exists() else None
