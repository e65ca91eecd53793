"""Sections of a report, composed of text, formulas, tables, figures and notes on missing results."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from markdown_it import MarkdownIt
from PIL import Image

from scenelab.errors import LabError
from scenelab.evaluation.results import Stamped
from scenelab.io import read_plain
from scenelab.report.collect import RunData

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")  # never loads files or URLs
TEMPLATES = files("scenelab.report") / "templates"
LARGE = 300_000  # bytes above which an image is reduced
PATH, DIGITS = re.compile(r' d="[^"]*"'), re.compile(r"(\d\.\d\d)\d+")
MAX_WIDTH = 1200  # pixels: 170 mm at 180 dpi
MAX_BYTES = 64 << 20  # maximum size of an image file before it is reduced
MAX_PIXELS = 50_000_000
R = TypeVar("R", bound=Stamped)


@dataclass
class Section:
    """Section of a report: key, title, and blocks as (type, variables) pairs for the template `report.html`."""

    key: str
    title: str
    blocks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def text(self, markdown: str) -> None:
        """Add Markdown paragraphs to the section; HTML in them is escaped."""
        self.blocks.append(("text", {"html": to_html(markdown)}))

    def prose(self, name: str) -> None:
        """Add the paragraphs of `templates/NAME.md` to the section; indented paragraphs are formulas."""
        for paragraph in (TEMPLATES / f"{name}.md").read_text(encoding="utf-8").strip().split("\n\n"):
            if paragraph.startswith("    "):
                self.blocks.append(("formula", {"text": paragraph.strip()}))
            else:
                self.text(paragraph)

    def heading(self, title: str) -> None:
        """Add a subheading to the section."""
        self.blocks.append(("heading", {"title": title}))

    def table(self, head: Sequence[str], rows: list[list[str]], caption: str) -> None:
        """Add a table to the section; right-align columns whose first non-empty cell starts with a digit or sign."""
        columns = [next(filter(None, column), "") for column in zip(*rows, strict=True)]
        numbers = [cell[:1].isdigit() or cell[:1] in tuple("+-−–") for cell in columns]
        self.blocks.append(("table", {"head": head, "rows": rows, "caption": caption, "numbers": numbers}))

    def figure(self, svg: str, alt: str, caption: str) -> None:
        """Add an SVG figure to the section; its path coordinates are cut to two decimals to save space."""
        svg = PATH.sub(lambda path: DIGITS.sub(r"\1", path[0]), svg)
        self.blocks.append(("svg", {"data": _inline(svg.encode(), "svg+xml"), "alt": alt, "caption": caption}))

    def image(self, path: Path, alt: str, caption: str) -> bool:
        """Add an image file to the section, or its SVG version if there is one; return False if both are missing."""
        drawing = path.with_suffix(".svg")
        if drawing.exists():
            self.figure(_read_drawing(drawing), alt, caption)
        elif path.exists():
            data = _inline(*_reduce(_read_regular(path), path))
            self.blocks.append(("image", {"data": data, "alt": alt, "caption": caption}))
        else:
            return False
        return True

    def stale(self, run: RunData, result: Stamped, command: str) -> None:
        """Add a warning with the `command` to repeat if the run's weights have changed since the measurement."""
        if run.is_stale(result):
            repeat = f"repeat `scenelab {command} {run.folder}`"
            self.text(f"**Warning:** the weights of {run.name} have changed since this was measured; {repeat}.")

    def missing(self, what: str, command: str) -> None:
        """Add a note to the section on a missing result and the command that creates it."""
        self.blocks.append(("missing", {"what": what, "command": command}))

    def each(
        self, runs: list[RunData], result_of: Callable[[RunData], R | None], what: str, command: str
    ) -> Iterator[tuple[RunData, R]]:
        """Yield each run and its result, below a heading if there are several runs; note a missing or stale result."""
        for run in runs:
            if len(runs) > 1:
                self.heading(run.name)
            if result := result_of(run):
                self.stale(run, result, command)
                yield run, result
            else:
                self.missing(f"{what} of {run.name}", f"scenelab {command} {run.folder}")


def to_html(markdown: str) -> str:
    """Return Markdown as HTML; raw HTML and images become text; headings are two levels lower (`#` becomes `h3`)."""
    tokens = MARKDOWN.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})


def _read_regular(path: Path) -> bytes:
    if path.is_symlink():  # a link could leak any file of the machine into the report
        raise LabError(f"{path} is a link; a report takes only files from the run's own folder")
    return read_plain(path, max_bytes=MAX_BYTES)


def _read_drawing(path: Path) -> str:
    text = _read_regular(path).decode("utf-8", "replace")
    if not text.startswith(("<?xml", "<svg")):
        raise LabError(f"{path} is not an SVG drawing; remove it or make it again")
    return text


def _reduce(content: bytes, path: Path) -> tuple[bytes, str]:
    """Return an image's bytes and format; above 300 kB, as a JPEG at most 1200 pixels wide if that has fewer bytes."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LabError(f"{path} is {image.width}×{image.height}; at most {MAX_PIXELS:,} pixels are read")
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"{path} is not a PNG or JPEG image ({reason}); remove it or make it again") from error
    original = content, (image.format or "").lower()
    if len(content) <= LARGE:
        return original
    buffer, smaller = io.BytesIO(), image.convert("RGB")
    smaller.thumbnail((MAX_WIDTH, image.height), Image.Resampling.LANCZOS)
    smaller.save(buffer, "JPEG", quality=78, optimize=True, progressive=True)
    return min(original, (buffer.getvalue(), "jpeg"), key=lambda form: len(form[0]))


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
