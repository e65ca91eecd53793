"""Rendering of a student's grade page as Markdown or HTML."""

import re
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

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
        shown=_shown,
        marks=MARKS,
        challenge={"problem": "", **challenge} if challenge else None,
        review_text=f"{review_text}:",
        max_notes=MAX_NOTES,
    )


def _groups(grade: Grade) -> list[dict[str, Any]]:
    groups = []
    for name, members in groupby(grade.result.outcomes, key=lambda outcome: outcome.group):
        outcomes = list(members)
        sums = {key: sum(getattr(each, key) for each in outcomes) for key in ("earned", "points")}
        groups.append({"title": TITLES.get(name, name.capitalize()), "outcomes": outcomes, **sums})
    return groups


def _shown(outcome: Outcome) -> tuple[str, str]:
    """Return an outcome's reason and example as the student may see them; hidden checks reveal neither."""
    if outcome.hidden:
        return ("" if outcome.status == "passed" else "a hidden check"), ""
    return outcome.reason, outcome.example
