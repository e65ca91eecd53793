"""Render a report as a self-contained HTML page, and the page as PDF."""

import sys
import warnings
from datetime import datetime, timezone
from typing import Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scenelab.errors import TYPOGRAPHY, LabError, printable
from scenelab.extras import PDF
from scenelab.report.attribution import attention
from scenelab.report.collect import Collected
from scenelab.report.convolution import convolution
from scenelab.report.references import references
from scenelab.report.results import results
from scenelab.report.robustness import adversarial
from scenelab.report.sections import TEMPLATES, Section, to_html
from scenelab.report.team import Team
from scenelab.report.training import curves, design, process

KEYS = ("convolution", "process", "curves", "design", "results", "attention", "adversarial", "team", "references")
PANGO = {"linux": "apt install libpango-1.0-0 libpangoft2-1.0-0", "darwin": "brew install pango"}


def render(collected: Collected, team: Team, *, side_by_side: bool = False) -> str:
    """Return the report as HTML that loads no external files.

    With `side_by_side`, the results section compares each run with the previous one.
    """
    sections = [make(collected) for make in (convolution, process, curves, design)]
    sections += [results(collected, side_by_side=side_by_side), attention(collected), adversarial(collected)]
    sections += [_members(team), references(collected)]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string((TEMPLATES / "report.html").read_text(encoding="utf-8")).render(
        title=team.title,
        members=team.member,
        date=datetime.now(timezone.utc).date().isoformat(),
        summary=_summary(collected),
        sections=sections,
        texts={key: Markup(to_html(team.text[key])) if key in team.text else "" for key in ("abstract", *KEYS)},
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )
    return printable(html, keep=TYPOGRAPHY)


def _members(team: Team) -> Section:
    section = Section("team", "Contributions")
    if team.member:
        rows = [[member.name, member.did] for member in team.member]
        section.table(["name", "contribution"], rows, "Members of the team.")
    else:
        section.missing("the members of the team and their contributions", "scenelab report RUN --team team.toml")
    return section


def _summary(collected: Collected) -> list[dict[str, str]]:
    entries = []
    for run in collected.runs:
        if result := run.evaluation:
            what = f"{run.name}, {result.images} {result.split} images"
            value = f"{result.mirror.top1:.1f} % top-1, {result.mirror.top5:.1f} % top-5"
            value += " (with earlier weights)" if run.is_stale(result) else ""
            entries.append({"what": what, "value": value})
    return entries


def load_weasyprint() -> None:
    """Import WeasyPrint; raise a LabError with the fix if it or its system library Pango is missing."""
    PDF.require()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the versions of system libraries
            import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        fix = PANGO.get(sys.platform, "as WeasyPrint's documentation says")
        raise LabError(f"{PDF.name} needs Pango ({str(error).splitlines()[0]}); install it: {fix}") from error


def to_pdf(html: str, paper: Literal["A4", "Letter"]) -> bytes:
    """Return the HTML page as PDF bytes, with bookmarks and page numbers; no URL is loaded.

    Raises:
        LabError: WeasyPrint or its Pango library is missing.
    """
    load_weasyprint()
    from weasyprint import CSS, HTML
    from weasyprint.urls import URLFetcher

    page = HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=["data"], fail_on_errors=True))
    return page.write_pdf(pdf_tags=True, stylesheets=[CSS(string=f"@page {{ size: {paper}; }}")])  # pyright: ignore[reportReturnType]
