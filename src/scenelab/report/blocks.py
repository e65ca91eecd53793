"""What a section is made of: text, formulas, tables, figures, and notes of what is missing."""

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from PIL import Image

from scenelab.errors import LabError
from scenelab.io import read_plain

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")  # nothing is loaded
LARGE = 300_000  # bytes of a picture
PATH, LONG = re.compile(r' d="[^"]*"'), re.compile(r"(\d\.\d\d)\d+")
WIDEST = 1200  # pixels: 170 mm at 180 an inch
LARGEST = 64 << 20  # bytes of a picture, before it is made smaller
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Block:
    """One piece; `kind` names its form in the template."""

    kind: str
    content: dict[str, Any]


@dataclass
class Section:
    """A chapter with its heading and pieces; `missing` counts those that no run has."""

    key: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    def text(self, markdown: str) -> None:
        """Add a paragraph, or several, in Markdown; HTML in it is shown as it stands."""
        self.blocks.append(Block("text", {"html": to_html(markdown)}))

    def heading(self, title: str) -> None:
        self.blocks.append(Block("heading", {"title": title}))

    def formula(self, text: str) -> None:
        self.blocks.append(Block("formula", {"text": text}))

    def table(self, head: list[str], rows: list[list[str]], caption: str) -> None:
        """Add a table; columns whose first cell that is not empty begins with a digit or a sign are of numbers."""
        columns = [next(filter(None, column), "") for column in zip(*rows, strict=True)]
        numbers = [bool(cell) and (cell[0].isdigit() or cell[0] in "+-−–") for cell in columns]
        self.blocks.append(Block("table", {"head": head, "rows": rows, "caption": caption, "numbers": numbers}))

    def figure(self, svg: str, alt: str, caption: str) -> None:
        """Add a drawing."""
        self.blocks.append(Block("svg", {"data": _inline(svg.encode(), "svg+xml"), "alt": alt, "caption": caption}))

    def picture(self, path: Path, alt: str, caption: str) -> None:
        """Add an image file, or the drawing of the same name beside it."""
        drawing = path.with_suffix(".svg")
        if drawing.exists():
            self.figure(shorten(_read_drawing(drawing)), alt, caption)
            return
        data = _inline(*_smaller(_read_own(path), path))
        self.blocks.append(Block("picture", {"data": data, "alt": alt, "caption": caption}))

    def missing(self, what: str, command: str) -> None:
        """Say what no run has, and which command makes it."""
        self.blocks.append(Block("missing", {"what": what, "command": command}))


def shorten(svg: str) -> str:
    """Paths to a hundredth of a point, which is finer than any printer."""
    return PATH.sub(lambda path: LONG.sub(r"\1", path[0]), svg)


def to_html(markdown: str) -> str:
    """Markdown as HTML: HTML and pictures in it are shown as they stand, headings come below those of the report."""
    tokens = MARKDOWN.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})


def _read_own(path: Path) -> bytes:
    """A file of the run itself: a link could bring any file of this machine into a report that is given away."""
    if path.is_symlink():
        raise LabError(f"{path} is a link; a report takes only files that lie in the run's own folder")
    return read_plain(path, max_bytes=LARGEST)


def _read_drawing(path: Path) -> str:
    text = _read_own(path).decode("utf-8", "replace")
    if not text.startswith(("<?xml", "<svg")):
        raise LabError(f"{path} is no SVG drawing; remove it, or make it again")
    return text


def _smaller(content: bytes, path: Path) -> tuple[bytes, str]:
    """A large PNG as JPEG, not wider than is printed: sheets of photographs have megabytes otherwise."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LabError(f"{path} is {image.width}×{image.height}; at most {MAX_PIXELS:,} pixels are read")
            return _shrunk(content, image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabError(f"{path} is no picture ({str(error).splitlines()[0]}); remove it, or make it again") from error


def _shrunk(content: bytes, image: Image.Image) -> tuple[bytes, str]:
    kind = (image.format or "").lower()
    if len(content) <= LARGE:
        image.load()
        return content, kind
    buffer = io.BytesIO()
    smaller = image.convert("RGB")
    smaller.thumbnail((WIDEST, image.height), Image.Resampling.LANCZOS)
    smaller.save(buffer, "JPEG", quality=78, optimize=True, progressive=True)
    return min((content, kind), (buffer.getvalue(), "jpeg"), key=lambda form: len(form[0]))


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
