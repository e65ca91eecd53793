"""Gradescope's files: submission_metadata.json, which it gives, and results.json, which it reads.

Source: Gradescope's documentation, pages "Submission Metadata" and "Autograder Specifications".
"""

import math
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict

from scenelab.course.grading.outputs.page import MAX_NOTES, TITLES, environment, tell_once
from scenelab.course.grading.results import Grade, Outcome
from scenelab.errors import LabError
from scenelab.schema import Model, parse
from scenelab.terminal import say

Format = Literal["text", "html", "simple_format", "md", "ansi"]
Visibility = Literal["hidden", "after_due_date", "after_published", "visible"]
escape = environment(html=False).filters["md"]


class Dates(Model):
    """Dates of an assignment, or of one student's extension of it."""

    due_date: AwareDatetime | None = None


class User(Model):
    """A student who submitted; `assignment` has the dates that apply to this student."""

    assignment: Dates | None = None


class Earlier(Model):
    """An earlier submission of the same students, with its results.json."""

    results: Any = None


class Metadata(Model):
    """The part of submission_metadata.json that grading uses."""

    created_at: AwareDatetime
    assignment: Dates = Dates()
    users: tuple[User, ...] = ()
    previous_submissions: tuple[Earlier, ...] = ()

    @property
    def late(self) -> str:
        """How much later than the due date it was submitted, "" if it is on time; extensions count for the group."""
        dates = [each.due_date for each in (self.assignment, *(user.assignment for user in self.users)) if each]
        due = max((date for date in dates if date is not None), default=None)
        if due is None or self.created_at <= due:
            return ""
        minutes = math.ceil((self.created_at - due).total_seconds() / 60)
        days, hours = divmod(minutes // 60, 24)
        return " ".join(f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes % 60, "min")) if n)


class _Exact(Model):
    model_config = ConfigDict(extra="forbid")


class Test(_Exact):
    """One check in results.json."""

    score: float
    max_score: float
    status: Literal["passed", "failed"]
    name: str
    name_format: Format = "text"
    number: str
    output: str
    output_format: Format
    tags: tuple[str, ...] = ()
    visibility: Visibility


class Place(_Exact):
    """One column of the leaderboard in results.json."""

    name: str
    value: float | str
    order: Literal["asc", "desc"] = "desc"


class Results(_Exact):
    """Content of results.json."""

    score: float
    execution_time: float | None = None
    output: str
    output_format: Format
    visibility: Visibility
    stdout_visibility: Visibility
    extra_data: dict[str, Any]
    tests: tuple[Test, ...]
    leaderboard: tuple[Place, ...] = ()


def read_metadata(path: Path) -> Metadata | None:
    """Read a submission_metadata.json; if it is invalid, print why and return None: the grade matters more."""
    try:
        return Metadata.read(path)
    except LabError as error:
        say(f"late submissions are not recognized: {error}")
        return None


def read_results(path: Path) -> Results:
    """Read a results.json; raise a LabError if it is missing or Gradescope would not understand it."""
    return Results.read(path)


def gradescope(grade: Grade, metadata: Metadata | None = None) -> dict[str, Any]:
    """Return a student's grade as the content of Gradescope's results.json; `score` is the total after penalties.

    `metadata` says whether it was late, and what earlier submissions of the same students achieved.
    """
    result = grade.result
    if metadata is not None and metadata.late:
        grade = replace(grade, entry=replace(grade.entry, late=True))
    shown = tell_once(result.outcomes)
    values: dict[str, Any] = {
        "score": grade.score,
        "output": "\n".join(_lines(grade, metadata)),
        "output_format": "md",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [_test(number, each, grade, shown[each.name]) for number, each in enumerate(result.outcomes, start=1)],
        "extra_data": {"digest": result.digest, "review": grade.review, "held": grade.held, "faults": result.faults},
    }
    if result.challenge and "top5_error" in result.challenge:
        errors = {f"top-{k} error %": result.challenge[f"top{k}_error"] for k in (5, 1)}
        values["leaderboard"] = [{"name": name, "value": value, "order": "asc"} for name, value in errors.items()]
    return parse(Results, values).to_json()


def _test(number: int, outcome: Outcome, grade: Grade, shown: tuple[str, str]) -> dict[str, Any]:
    details = [] if outcome.hidden else filter(None, shown)
    return {
        "name": f"{outcome.group}: {outcome.name}",
        "number": str(number),
        "score": outcome.earned,
        "max_score": outcome.points,
        "status": "passed" if outcome.status == "passed" else "failed",
        "output": "\n".join([outcome.text, *details]),
        "output_format": "text",
        "visibility": grade.rubric.visibility.gradescope if outcome.hidden else "visible",
        "tags": [outcome.status],
    }


def _lines(grade: Grade, metadata: Metadata | None) -> list[str]:
    """Return the text above the checks as Markdown; it says nothing about hidden checks."""
    result, shown = grade.result, [outcome for outcome in grade.result.outcomes if not outcome.hidden]
    lines = [f"**{escape(result.problem)}**", ""] if result.problem else []
    lines += ["| part | points |", "|---|---|"]
    for name, members in groupby(shown, key=lambda outcome: outcome.group):
        points = [(outcome.earned, outcome.points) for outcome in members]
        earned, most = (round(sum(column), 4) for column in zip(*points, strict=True))
        lines.append(f"| {TITLES.get(name, escape(name))} | {earned:g} of {most:g} |")
    lines.append("")
    lines += [f"- {points:g} points deducted: {escape(text)}" for text, points in grade.penalties]
    if metadata is not None:
        lines += [f"- {metadata.late} after the due date"] if metadata.late else []
        lines += _changes(shown, metadata)
    if grade.review:
        lines += ["- Your instructor will look at this:"]
        lines += [f"    - {escape(text)}" for text in grade.review[:MAX_NOTES]]
    lines += [f"- {escape(text)}" for text in (*result.notes, *result.remarks, f"Graded in: {result.sandbox}.")]
    return lines


def _changes(shown: list[Outcome], metadata: Metadata) -> list[str]:
    """Return lines that compare the visible checks with those of the submission before."""
    earlier = (each.results for each in reversed(metadata.previous_submissions))
    tests = next((each["tests"] for each in earlier if isinstance(each, dict) and "tests" in each), None)
    if not isinstance(tests, list):
        return []
    named = [test for test in tests if isinstance(test, dict) and isinstance(test.get("name"), str)]
    before = {test["name"].partition(": ")[2]: test.get("status") for test in named}
    changed = [
        each for each in shown if each.name in before and (each.status == "passed") != (before[each.name] == "passed")
    ]
    lines = [f"- this is submission {len(metadata.previous_submissions) + 1}"]
    for text, passed in (("passed since the one before", True), ("no longer passed", False)):
        names = [each.name for each in changed if (each.status == "passed") is passed]
        lines += [f"- {text}: {escape(', '.join(names))}"] if names else []
    return lines
