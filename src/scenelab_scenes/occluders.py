"""Occluders in front of a scene, drawn independently of its kind so that they do not reveal the class."""

import numpy as np

from .difficulty import NUISANCE
from .palette import SHIRTS
from .plants import leaves, trunk
from .scene import Scene


def occlude(scene: Scene, *, indoors: bool) -> None:
    """Draw a random occluder in front of the scene, with a probability that depends on `NUISANCE`."""
    if not scene.chance(min(0.9, 0.38 * NUISANCE)):
        return
    outdoors = (_person, _tree, _pole, _fence, _twigs, _boughs)
    choices = (_person, _person, _pole, _table, _blur_disc) if indoors else outdoors
    choices[scene.count(0, len(choices))](scene)


def _person(scene: Scene) -> None:
    x, base, height = scene.between(0.1, 0.9), scene.between(0.85, 1.15), scene.between(0.28, 0.6)
    shirt = scene.tone(scene.pick(*SHIRTS))
    legs = scene.tone(scene.pick((0.16, 0.18, 0.26), (0.30, 0.26, 0.20)))
    skin = scene.tone(scene.pick((0.80, 0.60, 0.48), (0.45, 0.30, 0.22)))
    wide = 0.095 * height
    hip, shoulder = base - 0.48 * height, base - 0.84 * height
    for side in (-1, 1):
        scene.line([(x + side * 0.4 * wide, hip), (x + side * scene.between(0.3, 0.9) * wide, base)], legs, 0.8 * wide)
        hand = (x + side * scene.between(1.1, 1.6) * wide, hip)
        scene.line([(x + side * 0.95 * wide, shoulder + 0.03 * height), hand], shirt * 0.85, 0.38 * wide)
    neck, arm = shoulder - 0.02 * height, shoulder + 0.03 * height
    right = [(x + 0.5 * wide, neck), (x + 1.05 * wide, arm), (x + 0.85 * wide, hip + 0.03)]
    left = [(x - 0.85 * wide, hip + 0.03), (x - 1.05 * wide, arm)]
    scene.polygon([(x - 0.5 * wide, neck), *right, *left], shirt)
    scene.ellipse(x, base - 0.92 * height, 0.055 * height, 0.07 * height, skin)
    scene.ellipse(x, base - 0.95 * height, 0.058 * height, 0.045 * height, scene.tone((0.16, 0.11, 0.08)))


def _tree(scene: Scene) -> None:
    x = scene.between(0.02, 0.25) if scene.chance(0.5) else scene.between(0.75, 0.98)
    trunk(scene, x, 1.05, scene.between(0.02, 0.06), scene.pick((0.34, 0.26, 0.19), (0.42, 0.39, 0.35)), distance=0.0)


def _pole(scene: Scene) -> None:
    x = scene.between(0.05, 0.95)
    steel = scene.tone(scene.pick((0.40, 0.40, 0.42), (0.32, 0.24, 0.17), (0.75, 0.74, 0.72)))
    wide = scene.between(0.012, 0.035)
    scene.polygon([(x - wide, 1.1), (x - wide, -0.1), (x + wide, -0.1), (x + wide, 1.1)], steel * 0.75)
    scene.polygon([(x - wide, 1.1), (x - wide, -0.1), (x, -0.1), (x, 1.1)], steel)


def _fence(scene: Scene) -> None:
    rail = scene.between(0.72, 0.9)
    wood = scene.tone(scene.pick((0.48, 0.40, 0.32), (0.80, 0.79, 0.76), (0.25, 0.25, 0.27)))
    gap = scene.between(0.1, 0.25)
    for x in np.arange(scene.between(-0.1, 0.1), 1.1, gap):
        scene.box(x, rail - 0.03, x + 0.022, 1.1, wood * 0.85)
    for y in (rail, rail + scene.between(0.07, 0.12)):
        scene.box(-0.1, y, 1.1, y + 0.02, wood)


def _twigs(scene: Scene) -> None:
    """Draw thin branches with leaves that enter from an upper corner."""
    bark = scene.tone((0.20, 0.16, 0.12))
    side = 0.0 if scene.chance(0.5) else 1.0
    leaf = scene.tone(scene.pick((0.25, 0.38, 0.16), (0.55, 0.38, 0.14)), spread=0.1)
    for _ in range(scene.count(3, 7)):
        reach, drop = scene.between(0.2, 0.5) * (1 - 2 * side), scene.between(0.05, 0.35)
        start = (side, scene.between(-0.05, 0.15))
        scene.line([start, (side + 0.5 * reach, 0.4 * drop), (side + reach, drop)], bark, 0.008)
        for part in scene.rng.uniform(0.3, 1.0, 9):
            x, y = side + part * reach + scene.rng.normal(0, 0.02), part * drop + scene.rng.normal(0, 0.02)
            scene.ellipse(x, y, 0.016, 0.010, leaf * scene.between(0.7, 1.2))


def _boughs(scene: Scene) -> None:
    """Draw hanging leaves along the upper edge."""
    bottom, green = scene.between(0.15, 0.35), scene.pick((0.20, 0.32, 0.14), (0.14, 0.22, 0.12))
    leaves(scene, 0.0, bottom, green, cover=0.75, distance=0.0, fall=1.2)


def _table(scene: Scene) -> None:
    y = scene.between(0.84, 0.95)
    wood = scene.tone(scene.pick((0.45, 0.32, 0.22), (0.75, 0.73, 0.70), (0.25, 0.20, 0.17)))
    left, right = (scene.between(-0.2, 0.2), 1.1) if scene.chance(0.5) else (-0.1, scene.between(0.8, 1.2))
    scene.polygon([(left, y), (right, y), (right + 0.1, 1.2), (left - 0.1, 1.2)], wood)
    scene.box(left, y, right, y + 0.015, wood * 1.2)


def _blur_disc(scene: Scene) -> None:
    """Draw a close, out-of-focus object in a lower corner."""
    color = scene.tone(scene.pick((0.25, 0.35, 0.20), (0.45, 0.30, 0.25), (0.2, 0.2, 0.24)))
    x, y = (0.0 if scene.chance(0.5) else 1.0), scene.between(0.8, 1.05)
    for _ in range(4):
        scene.glow(x + scene.rng.normal(0, 0.08), y + scene.rng.normal(0, 0.06), scene.between(0.15, 0.35), color, 0.9)
