"""Results in the formats of Gradescope and Autolab."""

import json
from typing import Any

from scenelab.course.grading.outputs.page import MAX_NOTES
from scenelab.course.grading.results import DIGITS, Grade, Outcome

HIDDEN = "hidden"  # Gradescope's visibility for what no student ever sees


def gradescope(grade: Grade) -> dict[str, Any]:
    """Return the content of Gradescope's results.json.

    The total score is given explicitly, so that penalties count. Source: Gradescope's documentation, "Autograder
    Specifications", section "Output format".
    """
    result = grade.result
    lines = [result.problem] if result.problem else []
    lines += [f"- {points:g} points: {text}" for text, points in grade.penalties]
    if grade.review:
        lines += ["Your instructor will look at this:", *(f"- {text}" for text in grade.review[:MAX_NOTES])]
    lines += [*result.notes, *result.remarks, f"Graded in: {result.sandbox}."]
    values: dict[str, Any] = {
        "score": grade.score,
        "output": "\n".join(lines),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": HIDDEN,
        "tests": [_test(number, outcome) for number, outcome in enumerate(result.outcomes, start=1)],
        "extra_data": {"digest": result.digest, "review": grade.review, "held": grade.held, "faults": result.faults},
    }
    if result.challenge and "top5_error" in result.challenge:
        errors = {f"top-{k} error %": result.challenge[f"top{k}_error"] for k in (5, 1)}
        values["leaderboard"] = [{"name": name, "value": value, "order": "asc"} for name, value in errors.items()]
    return values


def _test(number: int, outcome: Outcome) -> dict[str, Any]:
    details = [] if outcome.hidden else [text for text in (outcome.reason, outcome.example) if text]
    return {
        "name": f"{outcome.group}: {outcome.name}",
        "number": str(number),
        "score": outcome.earned,
        "max_score": outcome.points,
        "status": "passed" if outcome.status == "passed" else "failed",
        "output": "\n".join([outcome.text, *details]),
        "output_format": "text",
        "visibility": HIDDEN if outcome.hidden else "visible",
        "tags": [outcome.status],
    }


def autolab_line(grade: Grade) -> str:
    """Return Autolab's line of JSON: points per group, penalties as a negative score, values for the scoreboard.

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
