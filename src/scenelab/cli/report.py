"""scenelab report: the writeup as one HTML page and as PDF."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def report(
    folders: Positional[list[Path]],
    *,
    out: Path = Path("report"),
    team: Path | None = None,
    compare: bool = False,
    card: bool = False,
    html_only: bool = False,
    paper: Literal["A4", "Letter"] = "A4",
) -> None:
    """Put runs and studies together as the writeup that the handout asks for.

    Writes OUT/report.html, which needs nothing from outside, and OUT/report.pdf from the same page. All figures come
    from the folders; what is missing there is named with the command that makes it.

    Example: scenelab report runs/laptop runs/study-design --out report --team team.toml

    Args:
        folders: run folders and folders of studies, in the order in which they are shown.
        out: folder to write to.
        team: a TOML file with title, members and texts in Markdown by section.
        compare: hold each run against the one before it, image by image.
        card: write OUT/card.md as well, a model card of the first run.
        html_only: leave the PDF out.
        paper: size of the PDF's pages.
    """
    from scenelab.report.card import make_card
    from scenelab.report.collect import collect, understood
    from scenelab.report.team import read_team
    from scenelab.report.write import KEYS, render, to_pdf

    found, told = collect(folders), read_team(team, KEYS)
    with understood(folders):
        html = render(found, told, side_by_side=compare)
        described = make_card(found) if card else ""
    _write(out / "report.html", html.encode())
    if card:
        _write(out / "card.md", described.encode())
    if not html_only:
        _write(out / "report.pdf", to_pdf(html, paper))


def _write(path: Path, content: bytes) -> None:
    from scenelab.io import atomic_write

    with atomic_write(path) as file:
        file.write(content)
    print(f"written: {path} ({len(content) / 1e6:.2f} MB)")
