"""Roads, cars, street lamps, sailboats and cranes."""

import numpy as np

from .buildings import WINDOW_LIGHT
from .palette import CARS, HULLS
from .scene import Pair, Scene


def toward(vanish: Pair, x: float, fraction: float) -> Pair:
    """Interpolate between the vanishing point (fraction 0) and the point (x, 1.05) (fraction 1)."""
    return vanish[0] + (x - vanish[0]) * fraction, vanish[1] + (1.05 - vanish[1]) * fraction


def road(scene: Scene, vanish: Pair, left: float, right: float, *, lanes: int, divided: bool) -> None:
    """Draw a straight road to the vanishing point, with shoulders and lane markings.

    `left` and `right` are the x of the road's edges at y = 1.05, just below the image. With `divided`, the middle line
    is yellow and solid.
    """
    x0, y0 = vanish
    asphalt = scene.pick((0.34, 0.34, 0.35), (0.26, 0.26, 0.28), (0.44, 0.42, 0.40))
    verge, wide = scene.tone(np.multiply(asphalt, 1.25)), 0.07 * (right - left)
    scene.polygon([(left - wide, 1.05), (x0 - 0.004, y0), (x0 + 0.004, y0), (right + wide, 1.05)], verge)
    scene.polygon([(left, 1.05), (x0 - 0.003, y0), (x0 + 0.003, y0), (right, 1.05)], scene.tone(asphalt))
    half = 0.012 * (right - left)
    white, yellow = scene.tone((0.92, 0.92, 0.88)), scene.tone((0.90, 0.72, 0.20))
    for mark in range(lanes + 1):
        across = left + (right - left) * (0.04 + 0.92 * mark / lanes)
        edge = mark in (0, lanes)
        color = yellow if (divided and mark == lanes // 2) else white
        for start, end in ((0.0, 1.0),) if edge or (divided and mark == lanes // 2) else _dashes(scene):
            corners = ((-half, start), (-half, end), (half, end), (half, start))
            scene.polygon([toward(vanish, across + aside, part) for aside, part in corners], color)


def _dashes(scene: Scene) -> list[Pair]:
    shift = scene.between(0, 1)
    depths = [(1 + k + shift) * 0.45 for k in range(12)]
    return [(min(1.0, 0.45 / (d + 0.22)), min(1.0, 0.45 / d)) for d in depths]


def car(scene: Scene, x: float, base: float, width: float, *, oncoming: bool) -> None:
    """Draw a car, seen from the front if `oncoming`, else from behind."""
    body, dark = scene.tone(scene.pick(*CARS)), scene.tone((0.06, 0.06, 0.07))
    van = scene.chance(0.25)
    roof, inset = (-1.05, 0.46) if van else (-0.72, 0.35)

    def placed(*points: Pair) -> list[Pair]:
        return [(x + width * across, base + width * down) for across, down in points]

    scene.ellipse(x, base, 0.56 * width, 0.07 * width, scene.tone((0.12, 0.12, 0.13)))
    for wheel in (x - 0.36 * width, x + 0.36 * width):
        scene.box(wheel - 0.09 * width, base - 0.2 * width, wheel + 0.09 * width, base, dark)
    scene.box(x - 0.5 * width, base - 0.45 * width, x + 0.5 * width, base - 0.10 * width, body)
    scene.polygon(placed((-0.5, -0.43), (-inset, roof), (inset, roof), (0.5, -0.43)), body * 0.9)
    glass = placed((-0.36, -0.46), (-0.29, roof + 0.05), (0.29, roof + 0.05), (0.36, -0.46))
    scene.polygon(glass, scene.light.zenith * 0.35 + 0.05)
    lamp = (1.0, 0.97, 0.85) if oncoming else (0.95, 0.12, 0.08)
    for at in (x - 0.40 * width, x + 0.40 * width):
        scene.ellipse(at, base - 0.33 * width, 0.07 * width, 0.045 * width, lamp)
        if scene.light.dark:
            scene.glow(at, base - 0.33 * width, (0.9 if oncoming else 0.4) * width, lamp, 0.7)


def lamp_post(scene: Scene, x: float, base: float, height: float, *, reach: float) -> None:
    """Draw a street lamp with an arm of length `reach` (negative to the left)."""
    steel = scene.tone((0.36, 0.37, 0.39), 0.1)
    top = base - height
    scene.line([(x, base), (x, top)], steel, 0.025 * height)
    scene.line([(x, top), (x + reach, top - 0.04 * height)], steel, 0.018 * height)
    if scene.light.dark:
        scene.glow(x + reach, top, 0.3 * height, WINDOW_LIGHT, 0.9)


def sailboat(scene: Scene, x: float, water: float, length: float, *, sail: bool, distance: float) -> None:
    """Draw a sailboat with its waterline at y = `water`, under sail if `sail`, else moored."""
    hull, trim = scene.tone(scene.pick(*HULLS), distance), scene.tone((0.92, 0.91, 0.88), distance)
    half, high = length / 2, 0.17 * length
    stern, bow = (x - half, water - high), (x + 1.1 * half, water - 1.15 * high)
    scene.polygon([stern, (x - 0.8 * half, water), (x + 0.75 * half, water), bow], hull)
    scene.line([stern, bow], trim, 0.03 * length)
    scene.box(x - 0.4 * half, water - 1.9 * high, x + 0.3 * half, water - high, trim)
    mast, top = x + 0.1 * half, water - high - length * scene.between(1.0, 1.5)
    scene.line([(mast, water - high), (mast, top)], scene.tone((0.78, 0.77, 0.74), distance), 0.03 * length)
    if sail:
        foot = water - 1.5 * high
        scene.polygon([(mast - 0.02, foot), (mast - 0.01, top), (mast - 0.85 * half, foot)], trim)
        scene.polygon([(mast + 0.01, foot), (mast + 0.01, top + 0.1 * length), (mast + 0.8 * half, foot)], trim * 0.92)
        return
    boom = [(mast, water - 2.2 * high), (mast - 0.85 * half, water - 2.1 * high)]
    scene.line(boom, scene.tone((0.25, 0.33, 0.52), distance), 0.06 * length)
    stay = scene.tone((0.55, 0.55, 0.55), distance)
    for end in (stern, bow):
        scene.line([(mast, top), end], stay, 0.003)


def crane(scene: Scene, x: float, base: float, height: float, *, distance: float) -> None:
    """Draw a harbor crane with portal, mast and boom."""
    paint = scene.tone(scene.pick((0.75, 0.30, 0.15), (0.30, 0.42, 0.58), (0.80, 0.65, 0.20)), distance)
    side = -1 if scene.chance(0.5) else 1
    for leg in (-0.14, 0.14):
        scene.line([(x + leg * height, base), (x + 0.5 * leg * height, base - 0.75 * height)], paint, 0.045 * height)
    knee = base - 0.75 * height
    scene.box(x - 0.14 * height, knee - 0.12 * height, x + 0.14 * height, knee, paint)
    scene.line([(x, knee), (x + side * 0.8 * height, base - 1.25 * height)], paint, 0.05 * height)
    top, tip = (x - side * 0.1 * height, knee - 0.4 * height), (x + side * 0.8 * height, base - 1.25 * height)
    scene.line([top, tip], paint, 0.02 * height)
    scene.line([(x, knee), top], paint, 0.04 * height)
    hook = x + side * 0.78 * height
    scene.line([(hook, base - 1.24 * height), (hook, base - 0.6 * height)], paint * 0.7, 0.004)
