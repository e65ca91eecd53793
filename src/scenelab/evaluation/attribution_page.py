"""A self-contained HTML page of attribution maps; it loads nothing from elsewhere."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from scenelab.evaluation.attribution_gallery import Gallery
from scenelab.evaluation.attribution_plots import Row, Style, paint
from scenelab.io import atomic_write

MIN_WIDTH = 160  # pixels of an image on the page
TEMPLATE = Path(__file__).with_suffix(".html")
ALTERNATIVES = {
    "faithfulness": "Deletion and insertion curves of each method beside a random map and an edge detector",
    "sanity": "Rank correlation of the maps with those of the trained network as its layers are randomized",
    "objects": "Attribution over area on object classes, with 95 % intervals",
}
TEXTS = {
    "faithfulness": (
        "Mean over {images} images. Pixels are made gray, the most important first (deletion), or restored in a "
        "blurred image (insertion). The gray lines do not depend on this network; a map that is no better does not "
        "explain it."
    ),
    "sanity": (
        "Mean over {images} images. Maps that stay alike when the network forgets what it learned show the image, not "
        "the network."
    ),
    "objects": (
        "{images} annotated images, {broken} invalid annotations skipped. An evenly spread map has density 1. A bar "
        "marks the maps of other images on the same objects; a dot is filled where the difference is significant at "
        "95 %. In brackets: the number of images that show the object."
    ),
}


def write_page(path: Path, result: dict[str, Any], galleries: list[Gallery], figures: Path) -> None:
    """Write the page.

    Args:
        result: the content of attribution.json.
        figures: the folder with the figures of the tests in `result`.
    """
    tests = [
        {
            "name": name,
            "text": TEXTS[name].format(images=result[name]["images"], broken=len(result[name].get("broken", ()))),
            "alt": ALTERNATIVES[name],
            "data": _data_url((figures / f"{name}.png").read_bytes(), "png"),
        }
        for name in TEXTS
        if name in result
    ]
    sections = [
        {
            "title": gallery.title,
            "caption": gallery.rendering.caption,
            "rows": [_tiles(row, gallery.rendering.style) for row in gallery.rows],
        }
        for gallery in galleries
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    with atomic_write(path, "w") as file:
        file.write(template.render(result=result, tests=tests, sections=sections))


def _tiles(row: Row, style: Style) -> dict[str, Any]:
    text = row.text.replace("\n", ", ")
    tiles = [{"alt": f"image: {text}", "data": _jpeg(row.image.permute(1, 2, 0).numpy())}]
    for name, values in row.maps.items():
        tiles.append({"alt": f"{name} map: {text}", "data": _jpeg(paint(row.image, values, style))})
    return {"text": text, "tiles": tiles}


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray((255 * pixels).round().astype(np.uint8))
    factor = -(-MIN_WIDTH // image.width)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return _data_url(buffer.getvalue(), "jpeg")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
