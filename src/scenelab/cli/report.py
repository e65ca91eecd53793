"""scenelab report: write a report as one HTML page and as PDF."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Flag
from scenelab.terminal import say


def report(
    folders: Annotated[Positional[list[Path]], arg(metavar="RUN_OR_STUDY ...", help_behavior_hint="(required)")],
    *,
    out: Annotated[Path, arg(metavar="OUT")] = Path("report"),
    team: Annotated[Path | None, arg(metavar="TOML", help_behavior_hint="")] = None,
    compare: Flag = False,
    card: Flag = False,
    html_only: Flag = False,
    paper: Literal["A4", "Letter"] = "A4",
    reader: Annotated[Literal["practitioner", "writeup", "instructor"], arg(name="for")] = "writeup",
) -> None:
    """Write a report of runs and studies as HTML and PDF.

    For the writeup, it has the sections that the handout asks for; for a practitioner, what the classifier can and
    cannot do; for an instructor, a page on runs, provenance and what is missing. All figures come from the folders. If
    a result is missing, the report names the command that makes it. Writes OUT/report.html, a single file, and, if
    WeasyPrint is installed, OUT/report.pdf.

    Example: scenelab report runs/laptop runs/study-design --out report --team team.toml

    Args:
        folders: run folders and study folders, in the order of the report.
        out: folder to write to.
        team: file with the title, the members, and Markdown texts by section.
        compare: compare each run with the one before it, image by image.
        card: also write OUT/card.md, a model card of the first run.
        html_only: do not write the PDF.
        paper: size of the PDF's pages.
        reader: who reads the report.
    """
    import dataclasses

    from scenelab.errors import LabError
    from scenelab.report.card import make_card
    from scenelab.report.collect import collect, name_invalid_results
    from scenelab.report.readers import keys
    from scenelab.report.team import read_team
    from scenelab.report.write import load_weasyprint, render, to_pdf

    if not html_only:
        try:
            load_weasyprint()
        except LabError as error:
            html_only = True
            say(f"only HTML is written: {error}", file=sys.stderr)
    members = read_team(team, keys(reader))
    collected = dataclasses.replace(collect(folders), team=members, side_by_side=compare)
    with name_invalid_results(folders):
        html = render(collected, reader)
        model_card = make_card(collected) if card else ""
    _write(out / "report.html", html.encode())
    if card:
        _write(out / "card.md", model_card.encode())
    if not html_only:
        _write(out / "report.pdf", to_pdf(html, paper))


def _write(path: Path, content: bytes) -> None:
    from scenelab.io import atomic_write

    with atomic_write(path) as file:
        file.write(content)
    say(f"written: {path} ({len(content) / 1e6:.2f} MB)")
