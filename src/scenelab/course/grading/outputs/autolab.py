"""Autolab's last line of output: JSON with a score a problem and the scoreboard's values."""

import json

from scenelab.course.grading.grade import DIGITS, Grade


def autolab_line(grade: Grade) -> str:
    """One line: scores by group of checks, what is taken off as a negative one, and the challenge for the scoreboard.

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
