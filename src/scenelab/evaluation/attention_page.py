"""One self-contained HTML page of attention maps: nothing is loaded from anywhere when it is opened."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from scenelab.evaluation.attention_figures import Look, Row, paint
from scenelab.evaluation.gallery import Section
from scenelab.io import atomic_write

ENLARGED = 160  # pixels that an image has on the page at least
FIGURES = {
    "faithfulness": "Deletion and insertion curves of each method beside a random map and an edge detector",
    "sanity": "Rank correlation of the maps with those of the trained network as its layers are randomised",
    "objects": "Attribution over area on object classes, with 95 % intervals",
}
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Attention maps of {{ result.model }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto; max-width: 75rem;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; } td, th { padding: .25rem .5rem; text-align: left;
       vertical-align: top; font-weight: normal; } th { color: #444; }
td img { width: 10rem; height: 10rem; image-rendering: pixelated; display: block; }
figure { margin: 1rem 0; } figure img { max-width: 100%; } .scale { color: #444; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
@media print { tr { break-inside: avoid; } }
</style></head><body>
<h1>Attention maps of {{ result.model }}</h1>
<p>{{ result.images }} {{ (result.split or "own") }} images of {{ result.size }}×{{ result.size }} pixels,
{{ result.date }}. Every map is of the class that the network says.</p>
<ul>{% for name, what in result.methods.items() %}<li><b>{{ name }}</b>: {{ what }}</li>{% endfor %}</ul>
{% for name, text in texts.items() if name in pictures %}<h2>{{ name | capitalize }}</h2>
<p>{{ text }}</p><figure><img alt="{{ alts[name] }}" src="{{ pictures[name] }}"></figure>
{% if name == "sanity" %}<ul>{% for method, values in result.sanity.methods.items() %}
<li><b>{{ method }}</b> {{ values.verdict }}</li>{% endfor %}</ul>{% endif %}{% endfor %}
{% for section in sections %}<h2>{{ section.title | capitalize }}</h2>
<p class="scale">Colours run {{ section.caption }}.</p><div class="wide"><table>
<tr><th>image</th>{% for name in result.methods %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in section.tiles %}<tr>{% for tile in row.tiles %}
<td><img alt="{{ tile.alt }}" src="{{ tile.data }}">{% if loop.first %}{{ row.text }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endfor %}
</body></html>
"""


def write_page(path: Path, result: dict[str, Any], sections: list[Section], figures: Path) -> None:
    """Write the page.

    Args:
        result: what attribution.json holds.
        figures: the folder with the figures of the tests; those of tests that were not made now are left out.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    pictures = {name: _inline((figures / f"{name}.png").read_bytes()) for name in FIGURES if name in result}
    tiles = [
        {
            "title": section.title,
            "caption": section.rendering.caption,
            "tiles": [_tiles(row, section.rendering.look) for row in section.rows],
        }
        for section in sections
    ]
    text = environment.from_string(TEMPLATE).render(
        result=result, sections=tiles, pictures=pictures, alts=FIGURES, texts=_texts(result)
    )
    with atomic_write(path, "w") as file:
        file.write(text)


def _texts(result: dict[str, Any]) -> dict[str, str]:
    texts = {}
    if "faithfulness" in result:
        texts["faithfulness"] = (
            f"Mean over {result['faithfulness']['images']} images. Pixels are made grey, the most important first "
            "(deletion), or brought back into a blurred picture (insertion). The grey lines know nothing of this "
            "network; a map that is no better than they are tells nothing of it either."
        )
    if "sanity" in result:
        texts["sanity"] = (
            f"Mean over {result['sanity']['images']} images. Maps that stay alike when the network forgets what it "
            "learned show the picture, not the network."
        )
    if "objects" in result:
        count = len(result["objects"]["broken"])
        texts["objects"] = (
            f"{result['objects']['images']} annotated images, {count} broken annotations passed over. A density of 1 "
            "is what an evenly spread map has; a bar marks what maps of other images have on the same objects, and a "
            "dot "
            "is filled where the difference is beyond chance at 95 %; in brackets how many images show the object."
        )
    return texts


def _tiles(row: Row, look: Look) -> dict[str, Any]:
    said = row.text.replace("\n", ", ")
    tiles = [{"alt": f"image: {said}", "data": _picture(row.picture.permute(1, 2, 0).numpy(), "JPEG")}]
    for name, values in row.maps.items():
        tiles.append({"alt": f"{name} map: {said}", "data": _picture(paint(row.picture, values, look), "JPEG")})
    return {"text": said, "tiles": tiles}


def _picture(values: np.ndarray, form: str) -> str:
    image = Image.fromarray((255 * values).round().astype(np.uint8))
    times = -(-ENLARGED // image.width)
    image = image.resize((times * image.width, times * image.height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, form, quality=88)
    return _inline(buffer.getvalue(), form.lower())


def _inline(content: bytes, form: str = "png") -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
