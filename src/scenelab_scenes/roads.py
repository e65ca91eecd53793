"""Roads and what is on and beside them: lane marks, cars, street lamps."""

import numpy as np

from .buildings import WINDOW_LIGHT
from .palette import CARS
from .scene import Scene


def road(scene: Scene, vanish: tuple[float, float], left: float, right: float, *, lanes: int, divided: bool) -> None:
    """A straight road from the lower edge (y = 1.05) to the vanishing point, with shoulders and lane marks."""
    x0, y0 = vanish
    asphalt = scene.pick((0.34, 0.34, 0.35), (0.26, 0.26, 0.28), (0.44, 0.42, 0.40))
    verge, wide = scene.tone(np.multiply(asphalt, 1.25)), 0.07 * (right - left)
    scene.polygon([(left - wide, 1.05), (x0 - 0.004, y0), (x0 + 0.004, y0), (right + wide, 1.05)], verge)
    scene.polygon([(left, 1.05), (x0 - 0.003, y0), (x0 + 0.003, y0), (right, 1.05)], scene.tone(asphalt))
    white, yellow = scene.tone((0.92, 0.92, 0.88)), scene.tone((0.90, 0.72, 0.20))
    for mark in range(lanes + 1):
        across = left + (right - left) * (0.04 + 0.92 * mark / lanes)
        edge = mark in (0, lanes)
        colour = yellow if (divided and mark == lanes // 2) else white
        for start, end in ((0.0, 1.0),) if edge or (divided and mark == lanes // 2) else _dashes(scene):
            _stripe(scene, vanish, across, 0.012 * (right - left), start, end, colour)


def _dashes(scene: Scene) -> list[tuple[float, float]]:
    shift = scene.between(0, 1)
    depths = [(1 + k + shift) * 0.45 for k in range(12)]
    return [(min(1.0, 0.45 / (d + 0.22)), min(1.0, 0.45 / d)) for d in depths]


def _stripe(
    scene: Scene, vanish: tuple[float, float], across: float, width: float, start: float, end: float, colour: np.ndarray
) -> None:
    x0, y0 = vanish
    corners = ((-1, start), (-1, end), (1, end), (1, start))
    scene.polygon([(x0 + (across + s * width - x0) * t, y0 + (1.05 - y0) * t) for s, t in corners], colour)


def car(scene: Scene, x: float, base: float, width: float, *, oncoming: bool) -> None:
    """A car seen from behind or from the front."""
    body, dark = scene.tone(scene.pick(*CARS)), scene.tone((0.06, 0.06, 0.07))
    van = scene.chance(0.25)
    roof, inset = (-1.05, 0.46) if van else (-0.72, 0.35)

    def placed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x + width * across, base + width * down) for across, down in points]

    scene.ellipse(x, base, 0.56 * width, 0.07 * width, scene.tone((0.12, 0.12, 0.13)))
    for wheel in (x - 0.36 * width, x + 0.36 * width):
        scene.box(wheel - 0.09 * width, base - 0.2 * width, wheel + 0.09 * width, base, dark)
    scene.box(x - 0.5 * width, base - 0.45 * width, x + 0.5 * width, base - 0.10 * width, body)
    scene.polygon(placed([(-0.5, -0.43), (-inset, roof), (inset, roof), (0.5, -0.43)]), body * 0.9)
    glass = placed([(-0.36, -0.46), (-0.29, roof + 0.05), (0.29, roof + 0.05), (0.36, -0.46)])
    scene.polygon(glass, scene.light.zenith * 0.35 + 0.05)
    lamp = (1.0, 0.97, 0.85) if oncoming else (0.95, 0.12, 0.08)
    for at in (x - 0.40 * width, x + 0.40 * width):
        scene.ellipse(at, base - 0.33 * width, 0.07 * width, 0.045 * width, lamp)
        if scene.light.dark:
            scene.glow(at, base - 0.33 * width, (0.9 if oncoming else 0.4) * width, lamp, 0.7)


def lamp_post(scene: Scene, x: float, base: float, height: float, *, reach: float) -> None:
    """A street lamp with an arm of length `reach` (negative to the left)."""
    steel = scene.tone((0.36, 0.37, 0.39), 0.1)
    top = base - height
    scene.line([(x, base), (x, top)], steel, 0.025 * height)
    scene.line([(x, top), (x + reach, top - 0.04 * height)], steel, 0.018 * height)
    if scene.light.dark:
        scene.glow(x + reach, top, 0.3 * height, WINDOW_LIGHT, 0.9)
