"""Gradescope's results.json."""

from typing import Any

from scenelab.course.grading.grade import Grade, Outcome
from scenelab.course.grading.outputs.page import SHOWN

HIDDEN = "hidden"  # Gradescope's word for what no student ever sees


def gradescope(grade: Grade) -> dict[str, Any]:
    """All of it, as Gradescope's documentation ("Autograder Specifications", section "Output format") has it.

    The whole score is given, so that penalties count; a hidden check is told of in one line that shows no more than
    that it is hidden.
    """
    tests = [_test(number, outcome) for number, outcome in enumerate(grade.result.outcomes, start=1)]
    told = [grade.result.problem] if grade.result.problem else []
    told += [f"- {points:g} points: {text}" for text, points in grade.penalties]
    if grade.review:
        told += ["Your instructor will look at this:", *(f"- {text}" for text in grade.review[:SHOWN])]
    told += [*grade.result.notes, *grade.result.remarks, f"Graded in: {grade.result.sandbox}."]
    values: dict[str, Any] = {
        "score": grade.score, "output": "\n".join(told), "output_format": "text", "visibility": "visible",
        "stdout_visibility": HIDDEN, "tests": tests,
        "extra_data": {"digest": grade.result.digest, "review": grade.review, "held": grade.held,
                       "faults": grade.result.faults},
    }  # fmt: skip
    challenge = grade.result.challenge or {}
    if "top5_error" in challenge:
        values["leaderboard"] = [
            {"name": "top-5 error %", "value": challenge["top5_error"], "order": "asc"},
            {"name": "top-1 error %", "value": challenge["top1_error"], "order": "asc"},
        ]
    return values


def _test(number: int, outcome: Outcome) -> dict[str, Any]:
    lines = [outcome.text]
    if not outcome.hidden:
        lines += [text for text in (outcome.reason, outcome.example) if text]
    return {
        "name": f"{outcome.group}: {outcome.name}", "number": str(number), "score": outcome.earned,
        "max_score": outcome.points, "status": "passed" if outcome.status == "passed" else "failed",
        "output": "\n".join(lines), "output_format": "text", "visibility": HIDDEN if outcome.hidden else "visible",
        "tags": [outcome.status],
    }  # fmt: skip
