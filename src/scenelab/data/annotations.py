"""MiniPlaces' object annotations: which objects an image shows, and where, as polygons.

A file `objects/<path of the image>.xml` is a sequence of elements without a root: `filename`, `folder`, `class`, and
for each object `objects` with its class, a polygon of `pt` (x, y) and a box, in pixels of the 128×128 image from 1.
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

SIDE = 128  # of the images that the coordinates are of
DECLARATION = re.compile(r"<\?xml[^>]*\?>")
FORBIDDEN = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
LARGEST = 4_000_000  # bytes; the longest of MiniPlaces' files has a few ten thousand


@dataclass(frozen=True)
class SceneObject:
    """One object: its class and the corners of its outline, (x, y) from 0 to 1 from the left upper corner."""

    label: int
    outline: tuple[tuple[float, float], ...]


def read_objects(path: Path) -> list[SceneObject]:
    """The objects of one image.

    Raises:
        LabError: the file is missing, no XML, or an object has no class or fewer than three corners.
    """
    try:
        text = read_text(path, max_bytes=LARGEST)
        if FORBIDDEN.search(text):
            raise LabError(f"{path} declares entities or a document type; annotations have neither")
        root = ElementTree.fromstring(f"<image>{DECLARATION.sub('', text)}</image>")
        return [_read(element) for element in root.findall("objects")]
    except ElementTree.ParseError as error:
        raise LabError(f"{path} cannot be read: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise LabError(f"{path} has an object without a class or an outline of numbers: {error}") from error


def _read(element: ElementTree.Element) -> SceneObject:
    label = int(_text(element, "class"))
    if label < 0:
        raise ValueError(f"class {label}")
    points = tuple((_place(point, "x"), _place(point, "y")) for point in element.iterfind("polygon/pt"))
    if len(points) < 3:
        raise ValueError(f"an outline of {len(points)} corners")
    return SceneObject(label, points)


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.findtext(name)
    if found is None:
        raise ValueError(f"no <{name}>")
    return found


def _place(point: ElementTree.Element, name: str) -> float:
    """A coordinate as a share of the side: pixels are counted from 1, and the share is that of the pixel's centre."""
    value = float(_text(point, name))
    if not -SIDE <= value <= 2 * SIDE:
        raise ValueError(f"a corner at {value:g}")
    return min(1.0, max(0.0, (value - 0.5) / SIDE))


def object_file(folder: Path, image: str) -> Path:
    """Where the annotation of an image is, whether it exists or not.

    Args:
        image: its path as the lists have it, `val/00000001.jpg`.
    """
    return (folder / "objects" / image).with_suffix(".xml")


def read_object_names(folder: Path) -> tuple[str, ...]:
    """The names of the object classes by number, from `object_categories.txt`.

    Raises:
        LabError: the list is missing, or its numbers have gaps.
    """
    path = folder / "object_categories.txt"
    entries = sorted(read_list(path), key=lambda entry: entry[1])
    if [label for _, label in entries] != list(range(len(entries))):
        raise LabError(f"{path} must number the object classes 0, 1, 2, … without gaps")
    return tuple(name.replace("_", " ") for name, _ in entries)


def draw_masks(objects: list[SceneObject], side: int) -> dict[int, Bool[Tensor, "h w"]]:
    """For each class the pixels of a side×side picture that lie in one of its outlines."""
    masks: dict[int, Tensor] = {}
    for item in objects:
        canvas = Image.new("1", (side, side))
        corners = [(x * side - 0.5, y * side - 0.5) for x, y in item.outline]
        ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
        mask = torch.frombuffer(bytearray(canvas.convert("L").tobytes()), dtype=torch.uint8).view(side, side) > 0
        masks[item.label] = masks[item.label] | mask if item.label in masks else mask
    return masks
