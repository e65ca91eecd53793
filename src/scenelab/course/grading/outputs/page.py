"""The page that a student reads, as Markdown and as HTML."""

import re
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from scenelab.course.grading.results import Grade, Outcome

MARKS = {"passed": "✓", "failed": "✗", "not run": "–"}
MAX_NOTES = 8  # notes for review
TITLES = {
    "convolution": "Convolution",
    "attack": "Adversarial examples",
    "attention": "Attention maps",
    "model": "Your network",
    "vit": "Vision transformer",
}


def markdown_page(grade: Grade) -> str:
    """Render the page as Markdown; text of the student is escaped."""
    return _render("grade.md", grade)


def html_page(grade: Grade) -> str:
    """Render the page as HTML; text of the student is escaped."""
    return _render("grade.html", grade)


def environment(*, html: bool) -> Environment:
    """Return the Jinja environment of the grader's templates; `md` escapes text for Markdown."""
    loader = PackageLoader("scenelab.course.grading.outputs")
    jinja = Environment(
        loader=loader, autoescape=html, undefined=StrictUndefined, trim_blocks=not html, lstrip_blocks=not html
    )
    jinja.filters["md"] = _escape_markdown
    return jinja


def _render(template: str, grade: Grade) -> str:
    result = grade.result
    return (
        environment(html=template.endswith(".html"))
        .get_template(template)
        .render(
            grade=grade,
            rubric=grade.rubric,
            groups=_groups(grade),
            shown=_shown,
            marks=MARKS,
            challenge={"problem": "", **result.challenge} if result.challenge else None,
            review_text=_review_text(grade),
            max_notes=MAX_NOTES,
        )
    )


def _groups(grade: Grade) -> list[dict[str, Any]]:
    groups = []
    for name, members in groupby(grade.result.outcomes, key=lambda outcome: outcome.group):
        outcomes = list(members)
        earned, points = sum(each.earned for each in outcomes), sum(each.points for each in outcomes)
        title = TITLES.get(name, name.capitalize())
        groups.append({"title": title, "outcomes": outcomes, "earned": earned, "points": points})
    return groups


def _shown(outcome: Outcome) -> tuple[str, str]:
    """Return the reason and the example that the student may see."""
    if outcome.hidden:
        return ("" if outcome.status == "passed" else "a hidden check"), ""
    return outcome.reason, outcome.example


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))


def _review_text(grade: Grade) -> str:
    text = "Your instructor will look at this"
    return f"{text}; {grade.held:g} of your points are on hold until then:" if grade.held else f"{text}:"
