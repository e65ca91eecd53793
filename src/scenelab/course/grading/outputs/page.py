"""Rendering of a student's grade page as Markdown or HTML."""

import re
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from scenelab.course.grading.checks.mistakes import find_mistake
from scenelab.course.grading.checks.verdict import cause_of
from scenelab.course.grading.gradebook import MAX_TEAM
from scenelab.course.grading.results import Grade, Outcome

MARKS = {"passed": "✓", "failed": "✗", "not run": "–"}
MAX_NOTES = 8  # review notes per page
TITLES = {
    "convolution": "Convolution",
    "attack": "Adversarial examples",
    "attention": "Attention maps",
    "model": "Your network",
    "vit": "Vision transformer",
}


def environment(*, html: bool) -> Environment:
    """Return the Jinja environment of the grader's templates, with a filter `md` that escapes Markdown."""
    loader = PackageLoader("scenelab.course.grading.outputs")
    jinja = Environment(
        loader=loader, autoescape=html, undefined=StrictUndefined, trim_blocks=not html, lstrip_blocks=not html
    )
    jinja.filters["md"] = lambda text: re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
    return jinja


def render_page(template: str, grade: Grade) -> str:
    """Render a student's grade with the template grade.md or grade.html; return Markdown or HTML with escaped text."""
    review_text = "Your instructor will look at this"
    if grade.held:
        review_text += f"; {grade.held:g} of your points are on hold until then"
    challenge = grade.result.challenge
    page = environment(html=template.endswith(".html")).get_template(template)
    return page.render(
        grade=grade,
        rubric=grade.rubric,
        groups=_groups(grade),
        shown=tell_once(grade.result.outcomes),
        marks=MARKS,
        challenge={"problem": "", **challenge} if challenge else None,
        review_text=f"{review_text}:",
        max_team=MAX_TEAM,
        max_notes=MAX_NOTES,
    )


def _groups(grade: Grade) -> list[dict[str, Any]]:
    groups = []
    for name, members in groupby(grade.result.outcomes, key=lambda outcome: outcome.group):
        outcomes = list(members)
        sums = {key: sum(getattr(each, key) for each in outcomes) for key in ("earned", "points")}
        groups.append({"title": TITLES.get(name, name.capitalize()), "outcomes": outcomes, **sums})
    return groups


def tell_once(outcomes: list[Outcome]) -> dict[str, tuple[str, str]]:
    """Return (reason, example) of each check by name, as the student may see them: each cause once, with its checks.

    Hidden checks reveal neither.
    """
    shown = {each.name: ("a hidden check" * (each.status != "passed"), "") for each in outcomes}
    causes: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if not outcome.hidden:
            causes.setdefault(cause_of(outcome.reason), []).append(outcome)
    for cause, (first, *others) in causes.items():
        names = ", ".join(each.name for each in others) if len(others) < len(outcomes) - 1 else "all others"
        more = f" (the same in {names})" if cause and others else ""
        failed = [each.name for each in (first, *others) if each.status == "failed"]
        mistake = find_mistake(failed, first.reason, {each.name: each.status for each in outcomes})
        known = f". Known mistake: {mistake.name}. {mistake.why}" if mistake else ""
        shown[first.name] = first.reason + more + known, first.example
        shown |= {each.name: (f"see {first.name}" * bool(cause), "") for each in others}
    return shown
