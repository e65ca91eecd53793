"""The class at a glance: class.html."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any
from unicodedata import normalize

from scenelab.course.grading.gradebook import MAX_TEAM, Gradebook
from scenelab.course.grading.history import Grading
from scenelab.course.grading.outputs.exports import ranking
from scenelab.course.grading.outputs.page import TITLES, environment
from scenelab.course.grading.results import Grade, common_rubric

BINS = 10  # bars per distribution
PLACE = re.compile(r" \([^()]*, line \d+(?::.*\)$|[^()]*\))", re.DOTALL)  # as SubmissionError and the checks write it
NUMBER = re.compile(r"-?\d[\d.,]*(?:e[+-]?\d+)?")
HOME = re.compile(r"((?:/home|/Users|\\Users)[/\\])[^/\\\s]+")


@dataclass
class Group:
    """Students with the same message, in whose `text` numbers that differ are left out."""

    text: str
    grades: list[Grade] = field(default_factory=list)
    points: float = 0.0  # lost by all of them


def _distribution(title: str, maximum: float, values: list[float]) -> dict[str, Any]:
    """Return the number of students per tenth of the maximum, the last including the maximum, and a summary."""
    counts = Counter(min(BINS - 1, int(BINS * value / maximum + 1e-9)) for value in values)
    summary = f"mean {mean(values):.2f}, median {median(values):.2f} of {maximum:g}"
    return {"title": title, "maximum": maximum, "bars": [counts[each] for each in range(BINS)], "summary": summary}


def group_texts(items: Iterable[tuple[str, Grade, float]]) -> list[Group]:
    """Group (text, grade, points) by text, apart from numbers and places in files; the largest group comes first."""
    groups: dict[str, Group] = {}
    for text, grade, points in items:
        short = PLACE.sub("", text.split(":")[0] if text.startswith("skipped, ") else text) or "no reason given"
        group = groups.setdefault(NUMBER.sub("…", short), Group(short))
        group.text = short if short == group.text else NUMBER.sub("…", short)
        group.points += points
        if grade not in group.grades:
            group.grades.append(grade)
    return sorted(groups.values(), key=lambda group: (-len(group.grades), -group.points, group.text))


def _checks(grades: Sequence[Grade], *, is_public: bool) -> list[dict[str, Any]]:
    """Return each check with the numbers of outcomes and the reasons; the one that cost most points comes first.

    If the page is public, hidden checks have no reasons.
    """
    rows = {}
    for grade in grades:
        for each in grade.result.outcomes:
            part = TITLES.get(each.group, each.group.capitalize())
            row = rows.setdefault(each.name, {"outcome": each, "part": part, "counts": Counter(), "losses": []})
            row["counts"][each.status] += 1
            if each.status != "passed":
                reason = "a hidden check" if is_public and each.hidden else each.reason
                row["losses"].append((reason, grade, each.points - each.earned))
    for row in rows.values():
        row |= {"reasons": group_texts(row["losses"]), "lost": sum(points for *_, points in row["losses"])}
    return sorted(rows.values(), key=lambda row: (-row["lost"], -len(row["losses"])))


def _distributions(grades: Sequence[Grade]) -> list[dict[str, Any]]:
    rubric, finals = common_rubric(grades), [grade.final for grade in grades if grade.final is not None]
    plots = [("Score", rubric.automatic, [grade.score for grade in grades]), ("Final points", rubric.points, finals)]
    for part in dict.fromkeys(each.group for grade in grades for each in grade.result.outcomes):
        own = [[each for each in grade.result.outcomes if each.group == part] for grade in grades]
        maximum = max(sum(each.points for each in outcomes) for outcomes in own)
        sums = [sum(each.earned for each in outcomes) for outcomes in own]
        plots.append((TITLES.get(part, part.capitalize()), maximum, sums))
    return [_distribution(*plot) for plot in plots if plot[1] and plot[2]]


def _names(grades: Sequence[Grade]) -> re.Pattern[str]:
    """Match students' names with any characters between their words, and the ids behind them in names of files."""
    names = sorted({grade.entry.student for grade in grades}, key=len, reverse=True)
    any_name = "|".join(r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", name) or [name])) for name in names)
    return re.compile(rf"(?<![^\W_])(?:{any_name})(?:(?:_LATE)?(?:_\d+)+|(?![^\W_]))", re.IGNORECASE)


def class_page(
    grades: Sequence[Grade], *, anonymous: bool, gradebook: Gradebook | None, grading: Grading, notes: Sequence[str]
) -> str:
    """Return the page of a class as HTML; students are named in closed details, or not at all if `anonymous`."""
    checks, own = _checks(grades, is_public=anonymous), _names(grades)
    penalties = [(text.split(": ")[0], grade, points) for grade in grades for text, points in grade.penalties]
    rubric = common_rubric(grades)
    given = {part.name: [(each.manual or {}).get(part.name) for each in grades] for part in rubric.manual}
    return environment(html=True).get_template("class.html").render(
        grades=grades,
        rubric=rubric,
        anonymous=anonymous,
        hide=lambda text: own.sub("…", HOME.sub(r"\1…", normalize("NFC", text))) if anonymous else text,
        distributions=_distributions(grades),
        checks=checks,
        mistakes=group_texts(each for row in checks for each in row["losses"] if not each[0].startswith("skipped, ")),
        problems=group_texts((grade.result.problem, grade, 0) for grade in grades if grade.result.problem),
        penalties=group_texts(penalties),
        reviews=group_texts((text, grade, 0) for grade in grades for text in grade.review),
        teams=sorted({tuple(sorted([grade.entry.student, *grade.mates])) for grade in grades if grade.mates}),
        max_team=MAX_TEAM,
        given={name: [value for value in values if value is not None] for name, values in given.items()},
        mean=mean,
        leaders=ranking(list(grades)),
        faults=group_texts((text, grade, 0) for grade in grades for text in grade.result.faults),
        gradebook=gradebook,
        grading=grading,
        notes=notes,
        is_compared=any(note.startswith("similarity, for") for note in notes),
    )  # fmt: skip
