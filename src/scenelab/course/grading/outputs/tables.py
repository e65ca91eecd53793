"""Tables for the instructor: the class as CSV, the challenge's leaderboard."""

import csv
import io
from typing import Any

from jinja2 import Environment

from scenelab.course.grading.grade import Grade

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")  # begin a formula when a spreadsheet opens the file


def class_table(grades: list[Grade]) -> str:
    """One row a student: the score, what it is made of, and empty columns for what people grade."""
    if not grades:
        return ""
    rubric = grades[0].rubric
    columns = ["student", "canvas_user", "automatic", "penalties", "score", "held", "late", *rubric.checks]
    columns += [f"{part.name} ({part.points:g})" for part in rubric.manual]
    columns += ["challenge_top5_error", "team", "problem", "review", "sandbox", "faults"]
    rows = [_row(grade) for grade in grades]
    return _csv([columns, *rows])


def _row(grade: Grade) -> list[Any]:
    result = grade.result
    earned = {outcome.name: outcome.earned for outcome in result.outcomes}
    taken = sum(points for _, points in grade.penalties)
    return [
        grade.entry.student, grade.entry.user, grade.earned, -taken if taken else 0.0, grade.score,
        grade.held, "late" if grade.entry.late else "", *(earned.get(name, 0.0) for name in grade.rubric.checks),
        *("" for _ in grade.rubric.manual), (result.challenge or {}).get("top5_error", ""), " ".join(grade.mates),
        result.problem, "; ".join(grade.review[:5]), result.sandbox, "; ".join(result.faults),
    ]  # fmt: skip


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_safe(value) for value in row] for row in rows])
    return text.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(DANGEROUS) else value


def ranking(grades: list[Grade]) -> list[tuple[int, Grade]]:
    """By the top-5 error, the top-1 error deciding ties; a team once; equal results share a rank."""
    judged, seen = [], set()
    for grade in grades:
        challenge = grade.result.challenge or {}
        if "top5_error" in challenge and grade.result.digest not in seen:
            seen.add(grade.result.digest)
            judged.append(((challenge["top5_error"], challenge["top1_error"]), grade))
    errors = [error for error, _ in judged]
    ranked = [(1 + sum(other < error for other in errors), grade) for error, grade in judged]
    return sorted(ranked, key=lambda pair: (pair[0], pair[1].entry.student))


def _board(grades: list[Grade]) -> list[list[Any]]:
    return [
        [rank, " ".join([grade.entry.student, *grade.mates]), _of(grade, "top5_error"), _of(grade, "top1_error"),
         _of(grade, "bytes"), _of(grade, "images")]
        for rank, grade in ranking(grades)
    ]  # fmt: skip


def _of(grade: Grade, name: str) -> Any:
    return (grade.result.challenge or {})[name]


BOARD = ["rank", "team", "top-5 error %", "top-1 error %", "bytes", "test images"]


def leaderboard(grades: list[Grade]) -> str:
    """The challenge as CSV."""
    return _csv([BOARD, *_board(grades)])


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Challenge</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { padding: .4rem .7rem; border-bottom: 1px solid #ddd }
th { text-align: left } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
</style>
<h1>MiniPlaces challenge</h1>
<table><tr>{% for name in head %}<th{% if loop.index != 2 %} class="number"{% endif %}>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for value in row %}<td{% if loop.index != 2 %} class="number"{% endif %}>
{%- if loop.index in (3, 4) %}{{ "%.2f"|format(value) }}{% elif loop.index > 4 %}{{ "{:,}".format(value) }}
{%- else %}{{ value }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></html>
"""


def leaderboard_page(grades: list[Grade]) -> str:
    """The challenge as a page."""
    return Environment(autoescape=True).from_string(PAGE).render(head=BOARD, rows=_board(grades))
