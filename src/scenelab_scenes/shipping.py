"""What floats in a harbour and what unloads it: yachts and cranes."""

from .palette import HULLS
from .scene import Scene


def sailboat(scene: Scene, x: float, water: float, length: float, *, sail: bool, distance: float) -> None:
    """A moored yacht or one under sail; `water` is its water line."""
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
    """A harbour crane: portal, mast and boom."""
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
