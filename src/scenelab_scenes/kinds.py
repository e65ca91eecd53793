"""The kinds of scene: one table, and the one function that turns a name and a seed into an image."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bedroom import bedroom
from .camera import expose
from .difficulty import AMBIGUITY
from .highland import forest, mountain, waterfall
from .light import draw_light, indoors
from .lowland import coast, desert, wheat_field
from .occluders import occlude
from .passage import corridor, library
from .scene import Scene
from .town import harbor, highway, skyscraper

MIN_SIZE = 16  # pixels; below this scenes are indistinguishable


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise ValueError for a number that is too small or is not an integer."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; give an integer of at least {least}")


@dataclass(frozen=True)
class _Kind:
    paint: Callable[[Scene], None]
    horizon: tuple[float, float] = (0.5, 0.5)  # range of the eye line, unit coordinate
    indoors: bool = False


_TABLE: dict[str, _Kind] = {
    "bedroom": _Kind(bedroom, indoors=True),
    "coast": _Kind(coast, (0.30, 0.58)),
    "corridor": _Kind(corridor, indoors=True),
    "desert": _Kind(desert, (0.32, 0.62)),
    "forest": _Kind(forest, (0.48, 0.72)),
    "harbor": _Kind(harbor, (0.36, 0.58)),
    "highway": _Kind(highway, (0.34, 0.60)),
    "library": _Kind(library, indoors=True),
    "mountain": _Kind(mountain, (0.52, 0.76)),
    "skyscraper": _Kind(skyscraper),
    "waterfall": _Kind(waterfall, (0.58, 0.84)),
    "wheat_field": _Kind(wheat_field, (0.30, 0.58)),
}

KINDS: tuple[str, ...] = tuple(sorted(_TABLE))
"""Names of the kinds, sorted; the position is the label."""


def render(kind: str, *, seed: int, size: int = 128) -> np.ndarray:
    """Paint one scene: a pure function of its arguments.

    Args:
        kind: one of `KINDS`.
        seed: any integer >= 0, of any magnitude.
        size: side in pixels, >= 16.

    Returns:
        uint8 (size, size, 3), RGB, 0 to 255.

    Raises:
        ValueError: an argument is out of range.
    """
    if kind not in _TABLE:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    check_at_least("seed", seed, 0)
    check_at_least("size", size, MIN_SIZE)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([zlib.crc32(kind.encode()), int(seed)])))
    recipe = _TABLE[kind]
    light = draw_light(rng)
    light = indoors(light, rng) if recipe.indoors else light
    horizon = float(rng.uniform(*recipe.horizon))
    scene = Scene(2 * size, rng, light, horizon, mixed=bool(rng.random() < AMBIGUITY))
    recipe.paint(scene)
    occlude(scene, indoors=recipe.indoors)
    return expose(scene.image, rng, size)
