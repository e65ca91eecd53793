"""Class tables as CSV and HTML, and results in the format of Autolab."""

import io
import json
from typing import Any

from scenelab.course.grading.outputs.page import environment
from scenelab.course.grading.results import DIGITS, Grade
from scenelab.course.grading.rubric import Manual
from scenelab.io import FORMULA_STARTS, write_csv_row

LEADERBOARD = ["rank", "team", "top-5 error %", "top-1 error %", "bytes", "test images"]


def class_table(grades: list[Grade]) -> str:
    """Return the grades of a class as CSV: one row per student, empty columns for manually graded parts."""
    if not grades:
        return ""
    checks = list(dict.fromkeys(name for grade in grades for name in grade.rubric.checks))
    parts = list(dict.fromkeys(_title(part) for grade in grades for part in grade.rubric.manual))
    columns = ["student", "canvas_user", "automatic", "penalties", "score", "held", "late", *checks, *parts]
    columns += ["final", "challenge_top5_error", "team", "problem", "review", "sandbox", "faults"]
    return _csv([columns, *(_row(grade, checks, parts) for grade in grades)])


def _title(part: Manual) -> str:
    return f"{part.name} ({part.points:g})"


def _row(grade: Grade, checks: list[str], parts: list[str]) -> list[Any]:
    result = grade.result
    earned = {outcome.name: outcome.earned for outcome in result.outcomes}
    late = "late" if grade.entry.late else ""
    row = [grade.entry.student, grade.entry.user, grade.earned, -grade.deducted or 0.0, grade.score, grade.held, late]
    given = {_title(part): (grade.manual or {}).get(part.name, "") for part in grade.rubric.manual}
    row += [earned.get(name, 0.0 if name in grade.rubric.checks else "") for name in checks]
    row += [*(given.get(title, "") for title in parts), "" if grade.final is None else grade.final]
    row += [(result.challenge or {}).get("top5_error", ""), " ".join(grade.mates), result.problem]
    return [*row, "; ".join(grade.review[:5]), result.sandbox, "; ".join(result.faults)]


def _csv(rows: list[list[Any]]) -> str:
    """Return rows as CSV text; prefix an apostrophe to values that a spreadsheet would run as formulas."""
    text = io.StringIO()
    escaped = [[f"'{v}" if isinstance(v, str) and v.startswith(FORMULA_STARTS) else v for v in row] for row in rows]
    for row in escaped:
        write_csv_row(text, row)
    return text.getvalue()


def ranking(grades: list[Grade]) -> list[tuple[int, Grade]]:
    """Return (rank, grade) pairs, one per team (identical submissions), ranked by top-5, then by top-1 error."""
    teams: dict[str, tuple[tuple[float, float], Grade]] = {}
    for grade in grades:
        challenge = grade.result.challenge or {}
        if "top5_error" in challenge:
            teams.setdefault(grade.result.digest, ((challenge["top5_error"], challenge["top1_error"]), grade))
    errors = [error for error, _ in teams.values()]
    ranked = [(1 + sum(other < error for other in errors), grade) for error, grade in teams.values()]
    return sorted(ranked, key=lambda pair: (pair[0], pair[1].entry.student))


def _leaderboard_rows(grades: list[Grade]) -> list[list[Any]]:
    rows = []
    for rank, grade in ranking(grades):
        challenge = grade.result.challenge or {}
        values = [challenge[name] for name in ("top5_error", "top1_error", "bytes", "images")]
        rows.append([rank, " ".join([grade.entry.student, *grade.mates]), *values])
    return rows


def leaderboard(grades: list[Grade]) -> str:
    """Return the leaderboard as CSV, one row per team; students with identical submissions form a team."""
    return _csv([LEADERBOARD, *_leaderboard_rows(grades)])


def leaderboard_page(grades: list[Grade]) -> str:
    """Return the leaderboard as an HTML page."""
    template = environment(html=True).get_template("leaderboard.html")
    return template.render(head=LEADERBOARD, rows=_leaderboard_rows(grades))


def autolab_line(grade: Grade) -> str:
    """Return the result for Autolab as JSON: points per group of checks, negative penalties, scoreboard values.

    Source: Autolab's documentation, "Guide for Lab Authors", section on autograders' output.
    """
    scores: dict[str, float] = {}
    for outcome in grade.result.outcomes:
        scores[outcome.group] = round(scores.get(outcome.group, 0.0) + outcome.earned, DIGITS)
    scores["penalties"] = round(grade.score - grade.earned, DIGITS)
    line: dict[str, object] = {"scores": scores}
    error = (grade.result.challenge or {}).get("top5_error")
    if error is not None:
        line["scoreboard"] = [grade.score, round(100 - error, 3)]
    return json.dumps(line)
