"""Render a report as a self-contained HTML page, and the page as PDF."""

import sys
import warnings
from datetime import datetime, timezone
from typing import Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scenelab.errors import TYPOGRAPHY, LabError, printable
from scenelab.extras import PDF
from scenelab.report.collect import Collected
from scenelab.report.readers import SECTIONS, TITLES, Reader, keys
from scenelab.report.sections import TEMPLATES, to_html

PANGO = {"linux": "apt install libpango-1.0-0 libpangoft2-1.0-0", "darwin": "brew install pango"}


def render(collected: Collected, reader: Reader = "writeup") -> str:
    """Return the report for a reader as HTML that loads no external files.

    Raises:
        LabError: there is no run, and only the writeup shows studies.
    """
    if reader != "writeup" and not collected.runs:
        raise LabError(f"--for {reader} needs a run folder; studies alone have no classifier")
    team, names = collected.team, ", ".join(run.name for run in collected.runs)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string((TEMPLATES / "report.html").read_text(encoding="utf-8")).render(
        title=team.title or TITLES[reader].format(names),
        members=team.member,
        date=datetime.now(timezone.utc).date().isoformat(),
        summary=_summary(collected),
        sections=[make(collected) for make in SECTIONS[reader]],
        texts={key: Markup(to_html(team.text.get(key, ""))) for key in ("abstract", *keys(reader))},
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )
    return printable(html, keep=TYPOGRAPHY)


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
