"""The page that a student reads, as Markdown and as HTML."""

import re
from itertools import groupby
from typing import Any

from jinja2 import Environment

from scenelab.course.grading.grade import Grade, Outcome

MARKS = {"passed": "✓", "failed": "✗", "not run": "–"}
SHOWN = 8  # marks for review
TITLES = {
    "convolution": "Convolution", "attack": "Adversarial samples", "attention": "Attention maps",
    "model": "Your network", "vit": "Vision transformer",
}  # fmt: skip


def _groups(grade: Grade) -> list[dict[str, Any]]:
    groups = []
    for name, members in groupby(grade.result.outcomes, key=lambda outcome: outcome.group):
        listed = list(members)
        earned, points = sum(each.earned for each in listed), sum(each.points for each in listed)
        groups.append(
            {"title": TITLES.get(name, name.capitalize()), "outcomes": listed, "earned": earned, "points": points}
        )
    return groups


def _told(outcome: Outcome) -> tuple[str, str]:
    """Reason and example that the student may see."""
    if outcome.hidden:
        return ("" if outcome.status == "passed" else "a hidden check"), ""
    return outcome.reason, outcome.example


def _escape(text: str) -> str:
    """Text that Markdown takes as text: student's words can make no link, picture or tag."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))


def markdown_page(grade: Grade) -> str:
    """The page as Markdown."""
    result, rubric = grade.result, grade.rubric
    lines = [f"# {_escape(rubric.name)}: {_escape(grade.entry.student)}", ""]
    lines += [f"**{grade.score:g} of {rubric.automatic:g} points** by checks; a person grades the rest.", ""]
    if result.problem:
        lines += [f"No check could be run: {_escape(result.problem)}", ""]
    lines += [f"- {points:g} points are taken off: {_escape(text)}" for text, points in grade.penalties]
    lines += [f"- handed in together with {_escape(', '.join(grade.mates))}"] if grade.mates else []
    lines += [f"- {_escape(note)}" for note in [*result.notes, *result.remarks]]
    if grade.review:
        lines += [f"- **{_escape(_held(grade))}**"] + [f"  - {_escape(text)}" for text in grade.review[:SHOWN]]
    for group in _groups(grade):
        lines += ["", f"## {group['title']}: {group['earned']:g} of {group['points']:g}", ""]
        for outcome in group["outcomes"]:
            reason, example = _told(outcome)
            lines.append(f"- {MARKS[outcome.status]} {outcome.earned:g} / {outcome.points:g} · {_escape(outcome.text)}")
            if reason:
                lines.append(f"  **{outcome.status}:** {_escape(reason)}")
            if example:
                lines += ["", *("      " + line for line in example.splitlines()), ""]
    lines += ["", *_challenge(grade), "", "## Graded by a person", ""]
    lines += [f"- … / {part.points:g} · {_escape(part.name)}" for part in rubric.manual]
    lines += ["", f"Graded in: {_escape(result.sandbox)}. Files: {result.digest[:16]}.", ""]
    return "\n".join(lines)


def _held(grade: Grade) -> str:
    """What the marks for review mean for the student."""
    text = "Your instructor will look at this"
    return f"{text}; {grade.held:g} of the points count when that is done:" if grade.held else f"{text}:"


def _challenge(grade: Grade) -> list[str]:
    challenge = grade.result.challenge
    if challenge is None:
        return []
    if "problem" in challenge:
        return ["## Challenge", "", f"Your model was not judged: {_escape(challenge['problem'])}"]
    errors = f"Top-5 error {challenge['top5_error']:.2f} %, top-1 error {challenge['top1_error']:.2f} %"
    return ["## Challenge", "", f"{errors} of {challenge['images']:,} test images."]


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ rubric.name }}: {{ grade.entry.student }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; display: flex; justify-content: space-between }
.score { font-size: 1.3rem } .quiet { color: #666; font-size: .9rem }
.check { border-top: 1px solid #ddd; padding: .5rem 0; display: grid; gap: 0 .5rem;
  grid-template-columns: 1.6rem 1fr auto }
.check > :nth-child(n+4) { grid-column: 2 / 4 }
.points { font-variant-numeric: tabular-nums; color: #444; white-space: nowrap }
.passed .mark { color: #0a7a32 } .failed .mark { color: #b3261e } .not .mark { color: #8a6d00 }
pre { background: #f5f5f2; padding: .6rem .8rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.35; margin: .4rem 0 }
.reason { margin: .1rem 0 } .off { color: #b3261e }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #e6e6e6 } pre { background: #2a2a2a } .points, .quiet { color: #aaa }
  .check { border-color: #3a3a3a } .passed .mark { color: #5fd38a } .failed .mark, .off { color: #ff8a80 }
  .not .mark { color: #e0c060 }
}
</style>
<h1>{{ rubric.name }}</h1>
<p class="score"><b>{{ grade.entry.student }}</b>: {{ "%g"|format(grade.score) }} of
{{ "%g"|format(rubric.automatic) }} points by checks</p>
{% if grade.result.problem %}<p class="off">No check could be run: {{ grade.result.problem }}</p>{% endif %}
<ul>
{% for text, points in grade.penalties %}<li class="off">{{ "%g"|format(points) }} points are taken off: {{ text }}</li>
{% endfor %}{% if grade.mates %}<li>handed in together with {{ grade.mates|join(", ") }}</li>{% endif %}
{% for note in grade.result.notes + grade.result.remarks %}<li>{{ note }}</li>
{% endfor %}{% if grade.review %}<li><b>{{ held }}</b><ul>
{% for text in grade.review[:shown] %}<li>{{ text }}</li>
{% endfor %}</ul></li>{% endif %}</ul>
{% for group in groups %}
<h2><span>{{ group.title }}</span><span>{{ "%g"|format(group.earned) }} of {{ "%g"|format(group.points) }}</span></h2>
{% for outcome in group.outcomes %}{% set reason, example = told(outcome) %}
<div class="check {{ outcome.status.split()[0] }}">
<span class="mark" title="{{ outcome.status }}">{{ marks[outcome.status] }}</span><span>{{ outcome.text }}</span>
<span class="points">{{ "%g"|format(outcome.earned) }} / {{ "%g"|format(outcome.points) }}</span>
{% if reason %}<p class="reason"><b>{{ outcome.status }}:</b> {{ reason }}</p>{% endif %}
{% if example %}<pre>{{ example }}</pre>{% endif %}</div>
{% endfor %}{% endfor %}
{% if challenge %}<h2><span>Challenge</span></h2><p>
{%- if challenge.problem %}Your model was not judged: {{ challenge.problem }}
{%- else %}Top-5 error {{ "%.2f"|format(challenge.top5_error) }} %,
top-1 error {{ "%.2f"|format(challenge.top1_error) }} % of {{ "{:,}".format(challenge.images) }} test images.{% endif %}
</p>{% endif %}
<h2><span>Graded by a person</span></h2>
{% for part in rubric.manual %}<div class="check"><span></span><span>{{ part.name }}</span>
<span class="points">… / {{ "%g"|format(part.points) }}</span></div>{% endfor %}
<p class="quiet">Graded in: {{ grade.result.sandbox }}. Files: {{ grade.result.digest[:16] }}.</p></html>
"""


def html_page(grade: Grade) -> str:
    """The page as HTML; everything that comes from the student is escaped."""
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            grade=grade,
            rubric=grade.rubric,
            groups=_groups(grade),
            told=_told,
            marks=MARKS,
            challenge=grade.result.challenge,
            held=_held(grade),
            shown=SHOWN,
        )
    )
