"""Grades of a class that was never graded: results as the grader stores them, made of the mistakes in mutants.py."""

import random
from pathlib import Path

from mutants import MUTANTS
from scenelab.course.grading.checks import CHECKS
from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.results import Grade, Outcome, Result
from scenelab.course.grading.rubric import Rubric, read_rubric

FIRST = "Zoë José Nguyễn O'Neil Łukasz Anne-Marie Søren 李 Müge D’Arcy Íñigo Ann Bob Chloé Dmitri Евгения".split()
LAST = "García-López van·der·Berg Smith 王 Þórsson St.·John Ångström Ferreira,·Jr. Ó·Súilleabháin Lee".split()
MARK = "skipped, because {} did not pass: {}"
BANNED = "calls a convolution that is not its own (aten::convolution code/student_code.py, line {}); write it yourself"
RULES = ("results/ is missing", "writeup/ has no PDF", "code/ holds data")


def sortable(number: int) -> str:
    """A name as Canvas sorts it, unique because of its middle name."""
    last = LAST[number % len(LAST)].replace("·", " ")
    return f"{last}, {FIRST[number % len(FIRST)]} {'ABCDEFGHIJ'[number // 10 % 10]}."


def downloaded(number: int, late: bool) -> str:
    """The name that Canvas gives to the same person's file."""
    name = "".join(each for each in sortable(number).lower() if each.isalnum())
    return f"{name}{'_LATE' if late else ''}_{1000 + number}_{50000 + number}_submission.zip"


def outcomes(rubric: Rubric, change, draw: random.Random) -> list[Outcome]:
    loses = change.loses if change else frozenset()
    result = []
    for name, points in rubric.checks.items():
        check = CHECKS[name]
        each = Outcome(name, check.group, check.text, points, "passed", points)
        if change and change.name == "everything" and check.group == "convolution":
            each.status = "failed" if name == "conv_by_hand" else "not run"
            each.reason = BANNED.format(draw.randint(9, 90))
            if each.status == "not run":
                each.reason = MARK.format("conv_by_hand", each.reason)
            each.earned = 0.0
        elif name in loses:
            each.status, each.earned = "failed", 0.0
            each.reason = f"the values are wrong by {draw.random():.3f}; {change.says or change.name}"
        result.append(each)
    return result


class _Everything:
    name, says, loses = "everything", "", frozenset()


def make_class(count: int = 100, *, rubric: Rubric | None = None, seed: int = 0) -> list[Grade]:
    """Grades of `count` students with Canvas's numbers 1000, 1001, …; some late, in teams, to review, not run."""
    draw, rubric = random.Random(seed), rubric or read_rubric()
    kinds = [None, None, None, _Everything, *MUTANTS[:59]]
    grades: list[Grade] = []
    for number in range(count):
        late, parts = draw.random() < 0.1, downloaded(number, False).split("_")
        path, ids = Path(downloaded(number, late)), frozenset({("canvas", parts[1])})
        entry = Entry(parts[0], (path,), parts[1], late, (), ids)
        if number % 7 == 3:  # a team: the same files as the one before
            earlier = grades[-1]
            grade = Grade(entry, earlier.result, rubric, [earlier.entry.student, *earlier.mates])
            for mate in grade.mates:
                next(each for each in grades if each.entry.student == mate).mates.append(entry.student)
        else:
            change = draw.choices(kinds, [8, 4, 4, 3, *(6 / (3 + rank) for rank in range(len(kinds) - 4))])[0]
            result = Result(
                f"key{number}", f"{number:064x}", "bubblewrap", outcomes=outcomes(rubric, change, draw), complete=True
            )
            result.violations = {rule: [f"place {number}"] for rule in RULES if draw.random() < 0.08}
            result.gpu = ["student_code.py, line 3: .cuda()"] if draw.random() < 0.05 else []
            if draw.random() < 0.08:
                result.review = [f"import pickle could hide what is called (student_code.py, line {number})"]
            if draw.random() < 0.3:
                error = round(draw.uniform(20, 60), 2)
                result.challenge = {
                    "model": "m",
                    "bytes": 1,
                    "images": 9,
                    "top1_error": error + 25,
                    "top5_error": error,
                }
            if number % 33 == 12:
                result.problem = f"does not parse: line {number}: invalid syntax"
                for each in result.outcomes:
                    each.status, each.earned, each.reason = "not run", 0.0, result.problem
            grade = Grade(entry, result, rubric)
        grades.append(grade)
    return sorted(grades, key=lambda grade: grade.entry.student)
