"""From sections to one self-contained HTML page, and from the same page to a PDF."""

import warnings
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import ImageFile

from scenelab.errors import LabError
from scenelab.report.blocks import Section, to_html
from scenelab.report.collect import Collected
from scenelab.report.convolution import convolution
from scenelab.report.looking import adversarial, attention
from scenelab.report.references import references
from scenelab.report.results import results
from scenelab.report.team import Team
from scenelab.report.training import curves, design, process

KEYS = ("convolution", "process", "curves", "design", "results", "attention", "adversarial", "team", "references")


def make_sections(found: Collected, team: Team, *, side_by_side: bool = False) -> list[Section]:
    """All sections in the handout's order."""
    return [
        convolution(found), process(found), curves(found), design(found),
        results(found, side_by_side=side_by_side), attention(found), adversarial(found), _team(team), references(found),
    ]  # fmt: skip


def _team(team: Team) -> Section:
    section = Section("team", "Who did what")
    if team.members:
        section.table(["name", "contribution"], [list(member) for member in team.members], "Members of the team.")
    else:
        section.missing("the members of the team and what each did", "scenelab report RUN --team team.toml")
    return section


def render(found: Collected, team: Team, *, side_by_side: bool = False) -> str:
    """The whole page; nothing is loaded from anywhere when it is opened."""
    folder = files("scenelab.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    sections = make_sections(found, team, side_by_side=side_by_side)
    texts = {key: Markup(to_html(team.texts[key])) if key in team.texts else "" for key in KEYS}
    abstract = team.texts.get("abstract")
    return template.render(
        title=team.title,
        members=team.members,
        date=datetime.now(UTC).date().isoformat(),
        abstract=Markup(to_html(abstract)) if abstract else "",
        summary=_summary(found),
        sections=sections,
        texts=texts,
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),
    )


def _summary(found: Collected) -> list[dict[str, str]]:
    """The figures that a reader looks for first."""
    entries: list[dict[str, Any]] = []
    for run in found.runs:
        if run.evaluation:
            part = run.evaluation["mirror"]
            entries.append(
                {
                    "what": f"{run.name}, {run.evaluation['images']} {run.evaluation['split']} images",
                    "value": f"{part['top1']:.1f} % top-1, {part['top5']:.1f} % top-5"
                    + (" (of other weights)" if run.stale(run.evaluated) else ""),
                }
            )
    return entries


def to_pdf(html: str, paper: Literal["A4", "Letter"]) -> bytes:
    """The page on paper, with bookmarks and page numbers; nothing is fetched.

    Raises:
        LabError: WeasyPrint or the Pango library that it needs is missing.
    """
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of system libraries that later versions will want
            from weasyprint import CSS, HTML
            from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:
        raise LabError(
            "the PDF needs WeasyPrint and Pango (pip install weasyprint; Debian: apt install libpango-1.0-0 "
            f"libpangoft2-1.0-0): {str(error).splitlines()[0]}"
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated  # WeasyPrint lets the whole process read cut-off images
    inside = URLFetcher(allowed_protocols=["data"], fail_on_errors=True)
    page = HTML(string=html, url_fetcher=inside)
    return page.write_pdf(pdf_tags=True, stylesheets=[CSS(string=f"@page {{ size: {paper}; }}")])  # pyright: ignore[reportReturnType]
