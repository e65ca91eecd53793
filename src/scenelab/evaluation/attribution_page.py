"""A self-contained HTML page of attribution maps; it loads nothing from elsewhere."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from scenelab.evaluation.attribution_gallery import Gallery
from scenelab.evaluation.attribution_plots import paint
from scenelab.evaluation.results import Result
from scenelab.io import atomic_write

MIN_WIDTH = 160  # pixels of an image on the page
TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, result: Result, galleries: list[Gallery]) -> None:
    """Write the page; the figures of the tests in `result` are in the folder of `path`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(TEMPLATES))
    environment.globals |= {
        "paint": paint,
        "jpeg": _jpeg,
        "figure": lambda name: _data_url((path.parent / f"{name}.png").read_bytes(), "png"),
    }
    with atomic_write(path, "w") as file:
        file.write(environment.get_template("attribution.html").render(result=result, galleries=galleries))


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray((255 * pixels).round().astype(np.uint8))
    factor = -(-MIN_WIDTH // image.width)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return _data_url(buffer.getvalue(), "jpeg")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
