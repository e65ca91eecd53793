"""Backdrops at the horizon of outdoor scenes; mixed scenes borrow a backdrop of another kind."""

from collections.abc import Callable

from .buildings import house, skyline
from .land import dune, hills, massif, mesa, peaks
from .palette import GREENS, ROCKS, SANDS
from .plants import tree_line
from .scene import Scene
from .traffic import crane


def _none(scene: Scene) -> None:
    """Draw no backdrop."""


def _hills(scene: Scene) -> None:
    base = scene.horizon + 0.01
    for distance in (1.0, 0.65):
        height = scene.between(0.04, 0.14) * distance
        massif(scene, hills(scene, base, height), base, scene.pick(*GREENS), distance=distance, relief=0.15)


def _range(scene: Scene) -> None:
    base, height = scene.horizon + 0.01, scene.between(0.08, 0.22)
    snow = scene.between(0.4, 0.8) if scene.chance(0.6) else None
    massif(scene, peaks(scene, base, height), base, scene.pick(*ROCKS), distance=1.0, snow=snow)


def _wood(scene: Scene) -> None:
    tree_line(scene, scene.horizon + 0.012, scene.between(0.03, 0.10), scene.pick(*GREENS), distance=0.6)


def _city(scene: Scene) -> None:
    skyline(scene, scene.horizon + 0.01, scene.between(0.10, 0.24), distance=0.9)


def _dunes(scene: Scene) -> None:
    dune(scene, scene.horizon + 0.01, scene.between(0.03, 0.08), scene.pick(*SANDS), distance=0.8)


def _mesas(scene: Scene) -> None:
    rock = scene.pick((0.66, 0.40, 0.28), (0.58, 0.42, 0.32))
    for _ in range(scene.count(1, 4)):
        x, wide, tall = scene.between(0, 1), scene.between(0.08, 0.25), scene.between(0.05, 0.14)
        mesa(scene, x, scene.horizon + 0.01, wide, tall, rock, distance=0.8)


def _houses(scene: Scene) -> None:
    x = scene.between(-0.1, 0.3)
    while x < scene.between(0.5, 1.1):
        wide = scene.between(0.05, 0.10)
        house(scene, x, scene.horizon + 0.015, wide, distance=0.4)
        x += wide * scene.between(1.0, 1.8)


def _cranes(scene: Scene) -> None:
    for _ in range(scene.count(1, 4)):
        crane(scene, scene.between(0.05, 0.95), scene.horizon + 0.01, scene.between(0.10, 0.25), distance=0.6)


_BACKDROPS: dict[str, Callable[[Scene], None]] = {
    painter.__name__.removeprefix("_"): painter
    for painter in (_none, _hills, _range, _wood, _city, _dunes, _mesas, _houses, _cranes)
}


def backdrop(scene: Scene, usual: str, borrowed: str) -> None:
    """Draw a random backdrop: one of `usual`, or one of `borrowed` in a mixed scene (names separated by spaces)."""
    options = (borrowed if scene.mixed else usual).split()
    _BACKDROPS[options[scene.count(0, len(options))]](scene)
