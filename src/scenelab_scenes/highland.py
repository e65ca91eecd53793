"""Painters of woods and mountains: forest, mountain, waterfall."""

import itertools

import numpy as np

from .land import boulder, ground, hills, massif, peaks, rock_face
from .palette import GREENS, LEAVES, ROCKS
from .plants import broadleaf, conifer, leaves, tree_line, trunk
from .scene import Scene
from .sky import sky
from .texture import profile
from .water import fall, mirror, sea


def forest(scene: Scene) -> None:
    """Paint the inside of a forest: near and far trunks, leaves above, fallen leaves or moss below."""
    sky(scene, 0.75)
    leaf = scene.pick(*LEAVES)
    bark = scene.pick((0.32, 0.25, 0.19), (0.40, 0.36, 0.32), (0.26, 0.20, 0.16), (0.74, 0.72, 0.67))
    floor = scene.pick((0.34, 0.26, 0.15), (0.24, 0.30, 0.12), (0.42, 0.30, 0.16))
    leaves(scene, -0.01, scene.horizon + 0.03, leaf * 1.15, cover=scene.between(0.55, 0.9), distance=1.0)
    ground(scene, floor, floor * 0.5 + leaf * 0.5, cells=(500, 500), contrast=0.2)
    if scene.mixed:
        _path(scene)
    count = scene.count(7, 24) // (2 if scene.mixed else 1)
    for near in (np.sort(scene.rng.uniform(0, 1, count)) ** 1.5).tolist():
        base, distance = scene.horizon + 0.02 + (1.0 - scene.horizon) * near * 0.9, 0.9 * (1 - near)
        width = (0.006 + 0.05 * near) * scene.between(0.6, 1.2)
        trunk(scene, scene.between(0, 1), base, width, bark, distance=distance)
        if scene.chance(0.35):
            small = (0.08 + 0.25 * near) * scene.between(0.6, 1.2)
            plant = conifer if scene.chance(0.5) else broadleaf
            plant(scene, scene.between(0, 1), base, small, leaf, distance=distance)
    leaves(scene, -0.01, scene.between(0.25, 0.6), leaf, cover=scene.between(0.35, 0.75), distance=0.2, fall=0.8)


def _path(scene: Scene) -> None:
    x, y = scene.between(0.3, 0.7), scene.horizon
    earth = scene.tone(scene.pick((0.52, 0.44, 0.34), (0.42, 0.42, 0.42)), 0.1)
    right, left = scene.between(0.7, 1.1), scene.between(-0.1, 0.3)
    scene.polygon([(x - 0.01, y), (x + 0.01, y), (right, 1.05), (left, 1.05)], earth)


def mountain(scene: Scene) -> None:
    """Paint mountains, mostly with snow, behind woods, meadows or a lake."""
    sky(scene)
    base = scene.horizon + 0.02
    snow = None if scene.chance(0.2) else scene.between(0.15, 0.8)
    rock = scene.pick(*ROCKS)
    tall = scene.between(0.18, 0.26) if scene.mixed else scene.between(0.28, 0.55)
    massif(scene, peaks(scene, base, 0.75 * tall), base, rock * 1.05, distance=0.9, relief=0.4, snow=snow)
    massif(scene, peaks(scene, base, tall), base, rock * 0.85, distance=0.4, relief=0.5, snow=snow)
    meadow = scene.pick(*GREENS) if snow is None or snow > 0.25 else np.array((0.84, 0.88, 0.93))
    wood = scene.pick((0.16, 0.24, 0.16), (0.20, 0.28, 0.15))
    if scene.chance(0.4):
        massif(scene, hills(scene, base, 0.10), base, wood, distance=0.45, relief=0.2, mottle=350)
    lake = scene.chance(0.45 if scene.mixed else 0.3)
    if lake:
        tree_line(scene, base + 0.005, scene.between(0.02, 0.05), wood, distance=0.35)
        sea(scene, (0.16, 0.26, 0.32), top=base, swell=0.04)
        mirror(scene, base, 0.6, strength=scene.between(0.4, 0.95))
    else:
        ground(scene, meadow, meadow * 0.9, top=base, contrast=0.08)
    _firs(scene, wood * 1.1, lake)


def _firs(scene: Scene, wood: np.ndarray, lake: bool) -> None:
    for near in (np.sort(scene.rng.uniform(0, 1, scene.count(0, 18))) ** 2).tolist():
        if not lake or not 0.05 < near < 0.5:
            base = scene.horizon + 0.02 + (1.05 - scene.horizon) * near
            conifer(scene, scene.between(0, 1), base, 0.05 + 0.30 * near, wood, distance=0.5 * (1 - near))


def waterfall(scene: Scene) -> None:
    """Paint a waterfall over a rock face into a pool, between trees."""
    n = scene.side
    lip = scene.between(0.06, 0.30)
    sky(scene, lip + 0.15)
    foot = max(scene.horizon, lip + 0.30)
    rock, green = scene.pick(*ROCKS) * 0.8, scene.pick(*GREENS)
    backdrop_line = np.full(n, lip - 0.02, dtype=np.float32) - 0.10 * np.abs(profile(scene.rng, n, width=30))
    massif(scene, backdrop_line - scene.between(0.0, 0.1), lip + 0.2, green, distance=0.6, relief=0.25, mottle=350)
    tree_line(scene, lip + 0.02, scene.between(0.04, 0.14), green * 0.9, distance=0.4)
    face = (lip + 0.015 * profile(scene.rng, n, width=60)).astype(np.float32)
    rock_face(scene, face, foot + 0.02, rock, distance=0.25)
    water = scene.pick((0.16, 0.30, 0.32), (0.20, 0.34, 0.30), (0.18, 0.26, 0.30))
    sea(scene, water, top=foot, swell=scene.between(0.05, 0.14))
    _falls(scene, lip, foot)
    _banks(scene, lip, foot, rock, green)


def _falls(scene: Scene, lip: float, foot: float) -> None:
    middle = scene.between(0.3, 0.7)
    wide = scene.between(0.02, 0.05) if scene.mixed else scene.between(0.04, 0.24)
    steps = scene.count(1, 4)
    levels = np.linspace(lip, foot + 0.02, steps + 1)
    for top, bottom in itertools.pairwise(levels):
        flare = scene.between(0.0, 0.05)
        fall(scene, middle - wide, middle + wide, float(top), float(bottom), flare=flare, distance=0.1)
        middle, wide = middle + scene.rng.normal(0, 0.02), wide * scene.between(0.95, 1.4)
    for _ in range(scene.count(0, 3)):
        x, thin = scene.between(0.05, 0.95), scene.between(0.008, 0.03)
        fall(scene, x - thin, x + thin, lip + scene.between(0, 0.1), foot + 0.01, flare=0.01, distance=0.2)


def _banks(scene: Scene, lip: float, foot: float, rock: np.ndarray, green: np.ndarray) -> None:
    for near in np.sort(scene.rng.uniform(0, 1, scene.count(4, 16))).tolist():
        x, size = scene.between(0, 1), (0.02 + 0.07 * near) * scene.between(0.6, 1.4)
        boulder(scene, x, foot + 0.02 + (1 - foot) * near, size, rock * 0.9)
    for side in (0.0, 1.0):
        for _ in range(scene.count(0, 5)):
            x, base = abs(side - abs(scene.rng.normal(0, 0.09))), scene.between(lip + 0.25, 1.0)
            plant = conifer if scene.chance(0.5) else broadleaf
            plant(scene, x, base, scene.between(0.15, 0.35), green * 0.85, distance=0.1)
