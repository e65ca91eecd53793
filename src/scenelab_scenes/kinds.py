"""The kinds of scene (the classes), and rendering of an image from a kind and a seed."""

import zlib

import numpy as np

from .camera import expose
from .difficulty import AMBIGUITY
from .highland import forest, mountain, waterfall
from .interiors import bedroom, corridor, library
from .light import draw_light, indoors
from .lowland import coast, desert, wheat_field
from .occluders import occlude
from .scene import Scene
from .town import harbor, highway, skyscraper

MIN_SIZE = 16  # pixels; in smaller images the kinds are indistinguishable


def check_at_least(name: str, value: int, least: int) -> None:
    """Check that a value is an integer ≥ `least`; raise ValueError if not, with `name` in the message."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; give an integer of at least {least}")


_INDOORS = (bedroom, corridor, library)
_HORIZONS = {  # range of the horizon's y, in unit coordinates
    coast: (0.30, 0.58),
    desert: (0.32, 0.62),
    forest: (0.48, 0.72),
    harbor: (0.36, 0.58),
    highway: (0.34, 0.60),
    mountain: (0.52, 0.76),
    skyscraper: (0.5, 0.5),
    waterfall: (0.58, 0.84),
    wheat_field: (0.30, 0.58),
}
_PAINTERS = {painter.__name__: painter for painter in (*_INDOORS, *_HORIZONS)}

KINDS: tuple[str, ...] = tuple(sorted(_PAINTERS))
"""Sorted names of the kinds; the index of a name is its label."""


def render(kind: str, *, seed: int, size: int = 128) -> np.ndarray:
    """Return an image of a scene, uint8 RGB of shape (size, size, 3); equal arguments give equal images.

    Args:
        kind: name of the kind, one of `KINDS`.
        seed: any integer ≥ 0.
        size: side of the image in pixels, ≥ 16.

    Raises:
        ValueError: an argument is out of range.
    """
    if kind not in _PAINTERS:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    check_at_least("seed", seed, 0)
    check_at_least("size", size, MIN_SIZE)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([zlib.crc32(kind.encode()), int(seed)])))
    painter, light = _PAINTERS[kind], draw_light(rng)
    is_indoors = painter in _INDOORS
    light = indoors(light, rng) if is_indoors else light
    horizon = float(rng.uniform(*_HORIZONS.get(painter, (0.5, 0.5))))
    scene = Scene(2 * size, rng, light, horizon, mixed=bool(rng.random() < AMBIGUITY))
    painter(scene)
    occlude(scene, indoors=is_indoors)
    return expose(scene.image, rng, size)
