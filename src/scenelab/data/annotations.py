"""Read MiniPlaces' object annotations: one labeled polygon per object.

The file `objects/<image path>.xml` has one `<objects>` element per object and no root element.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw
from torch import Tensor

from scenelab.data.miniplaces import read_list
from scenelab.errors import LabError
from scenelab.io import read_text

SIDE = 128  # pixels: side of the annotated images
DECLARATION = re.compile(r"<\?xml[^>]*\?>")
FORBIDDEN = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
MAX_BYTES = 4_000_000  # per file; MiniPlaces' files have at most a few tens of thousands


@dataclass(frozen=True)
class SceneObject:
    """Annotated object: its class index and polygon.

    The polygon's corners are (x, y) in [0, 1], from the upper left corner of the image.
    """

    label: int
    outline: tuple[tuple[float, float], ...]


def read_objects(path: Path) -> list[SceneObject]:
    """Return the annotated objects of an image from its XML file; raise a LabError if it is missing or invalid."""
    try:
        text = read_text(path, max_bytes=MAX_BYTES)
        if FORBIDDEN.search(text):
            raise LabError(f"{path} declares entities or a document type; annotations must have neither")
        root = ElementTree.fromstring(f"<image>{DECLARATION.sub('', text)}</image>")
        return [_parse_object(element) for element in root.findall("objects")]
    except ElementTree.ParseError as error:
        raise LabError(f"{path} is not valid XML: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise LabError(f"{path} has an invalid object: {error}") from error


def _parse_object(element: ElementTree.Element) -> SceneObject:
    label = int(_text(element, "class"))
    if label < 0:
        raise ValueError(f"class is {label}; expected at least 0")
    outline = tuple((_coordinate(point, "x"), _coordinate(point, "y")) for point in element.iterfind("polygon/pt"))
    if len(outline) < 3:
        raise ValueError(f"the outline has {len(outline)} corners; expected at least 3")
    return SceneObject(label, outline)


def _coordinate(point: ElementTree.Element, name: str) -> float:
    """Return the coordinate `name` (x or y) of a point: the center of its 1-based pixel, divided by 128."""
    pixel = float(_text(point, name))
    if not -SIDE <= pixel <= 2 * SIDE:
        raise ValueError(f"{name} is {pixel:g}; expected 1 to {SIDE}")
    return min(1.0, max(0.0, (pixel - 0.5) / SIDE))


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f"<{name}> is missing")
    return text


def object_file(folder: Path, image: str) -> Path:
    """Return the path of the annotation file of an image such as `val/00000001.jpg`; it may not exist."""
    return (folder / "objects" / image).with_suffix(".xml")


def read_object_names(folder: Path) -> tuple[str, ...]:
    """Return the object classes' names by index, from `object_categories.txt`; raise a LabError if it is invalid."""
    path = folder / "object_categories.txt"
    entries = sorted(read_list(path), key=lambda entry: entry[1])
    if [label for _, label in entries] != list(range(len(entries))):
        raise LabError(f"{path} must number the object classes 0, 1, 2, … without gaps")
    return tuple(name.replace("_", " ") for name, _ in entries)


def draw_masks(objects: list[SceneObject], side: int) -> dict[int, Bool[Tensor, "h w"]]:
    """Return a side×side mask per class index: True inside any of the class's polygons."""
    masks: dict[int, Tensor] = {}
    for item in objects:
        canvas = Image.new("1", (side, side))
        corners = [(x * side - 0.5, y * side - 0.5) for x, y in item.outline]
        ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
        mask = torch.frombuffer(bytearray(canvas.convert("L").tobytes()), dtype=torch.uint8).view(side, side) > 0
        masks[item.label] = masks[item.label] | mask if item.label in masks else mask
    return masks
