"""Plants: conifers, broadleaf trees, tree lines, foliage, trunks, stalks and cacti."""

import numpy as np

from .scene import Color, Scene, planes
from .texture import grain, profile, smoothstep


def conifer(scene: Scene, x: float, base: float, height: float, color: Color, *, distance: float) -> None:
    """Draw a conifer: a short trunk and tiers of branches that narrow towards the top."""
    bark, dark = scene.tone((0.25, 0.18, 0.12), distance), scene.tone(np.multiply(color, 0.72), distance)
    scene.box(x - 0.02 * height, base - 0.15 * height, x + 0.02 * height, base, bark)
    tiers = 6 if height > 0.15 else 4
    lit = scene.tone(color, distance, spread=0.06)
    for tier in range(tiers):
        part = tier / tiers
        low, wide = base - height * (0.08 + 0.86 * part), height * 0.24 * (1.05 - part) * scene.between(0.85, 1.15)
        peak = low - height * 0.30 * (1.1 - 0.5 * part)
        scene.polygon([(x - wide, low), (x, peak), (x + wide, low), (x, low - 0.03 * height)], dark)
        scene.polygon([(x - wide, low), (x, peak), (x, low - 0.05 * height)], lit)


def broadleaf(scene: Scene, x: float, base: float, height: float, color: Color, *, distance: float) -> None:
    """Draw a broadleaf tree: a trunk and a round crown that is brighter at the top."""
    scene.box(x - 0.03 * height, base - 0.5 * height, x + 0.03 * height, base, scene.tone((0.27, 0.20, 0.14), distance))
    clumps = 6 if height < 0.12 else 26
    lit = scene.tone(color, distance, spread=0.05)
    for part, (across, down, size) in zip(np.linspace(0, 1, clumps), scene.rng.normal(0, 1, (clumps, 3)), strict=True):
        radius = height * max(0.05, (0.14 if height < 0.12 else 0.085) + 0.02 * size)
        reach = 0.20 * (1 - 0.6 * abs(part - 0.4))
        u, v = x + reach * across * height, base - (0.42 + 0.42 * part + 0.05 * down) * height
        scene.ellipse(u, v, radius, 0.8 * radius, lit * (0.62 + 0.5 * part + 0.05 * size))


def tree_line(scene: Scene, base: float, height: float, color: Color, *, distance: float) -> None:
    """Draw a distant forest: a ragged band of treetops above y = `base`."""
    n = scene.side
    crowns = np.abs(profile(scene.rng, n, width=200)) * 0.5 + 0.3 * profile(scene.rng, n, width=40) + 0.5
    outline = base - height * np.clip(crowns, 0.15, 1.6)
    first, last = scene.row(float(outline.min())), scene.row(base)
    if last - first < 2:
        return
    leaves = grain(scene.rng, last - first, n, width=300, height=300.0 * (last - first) / n + 4)
    depth = np.arange(first, last, dtype=np.float32)[:, None] - outline[None, :] * n
    scene.lay(planes(scene.tone(color, distance)) * (0.9 + 0.16 * leaves), np.clip(depth, 0, 1), row=first)


def leaves(
    scene: Scene, top: float, bottom: float, color: Color, *, cover: float, distance: float, fall: float = 0.0
) -> None:
    """Draw foliage over the full width, from y = `top` to `bottom`.

    `cover` is its density, 0 to 1; a positive `fall` reduces the density towards the bottom.
    """
    n = scene.side
    first, last = scene.row(top), scene.row(bottom)
    rows = last - first
    if rows < 4:
        return
    clumps = grain(scene.rng, rows, n, width=120, height=max(8.0, 120.0 * rows / n))
    fine = grain(scene.rng, rows, n, width=420, height=max(8.0, 420.0 * rows / n))
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 2
    mask = smoothstep(clumps + 0.6 * fine + 3.0 * (cover - 0.5) - fall * 3 * ramp, -0.1, 0.25)
    shade = 0.85 + 0.17 * fine + 0.14 * clumps
    scene.lay(planes(scene.tone(color, distance)) * shade, mask, row=first)


def trunk(
    scene: Scene, x: float, base: float, width: float, color: Color, *, distance: float, top: float = -0.05
) -> None:
    """Draw a trunk from y = `base` up to `top`, with a shadowed side, bark marks and a few branches."""
    lean = scene.rng.normal(0, 0.03)
    body = [(x - width, base), (x - 0.7 * width + lean, top), (x + 0.7 * width + lean, top), (x + width, base)]
    scene.polygon(body, scene.tone(np.multiply(color, 0.72), distance))
    side = -1 if scene.light.sun[0] < 0.5 else 1
    lit = [(x + side * width, base), (x + side * 0.7 * width + lean, top), (x + lean, top), (x, base)]
    scene.polygon(lit, scene.tone(color, distance))
    flaw = scene.tone(np.multiply(color, 0.55), distance)
    for _ in range(int(width * 250)):
        at, across = scene.between(top, base), scene.between(-0.7, 0.7) * width
        scene.line([(x + across, at), (x + across + 0.1 * width, at + scene.between(0.02, 0.08))], flaw, width * 0.12)
    for _ in range(scene.count(0, 3)):
        part, reach = scene.between(0.15, 0.6), scene.between(-1, 1) * 0.22
        u, v = x + lean * (1 - part), top + part * (base - top)
        tip = u + reach, v - abs(reach) * scene.between(0.3, 1.2)
        scene.line([(u, v), tip], scene.tone(np.multiply(color, 0.8), distance), 0.5 * width)


def stalks(scene: Scene, count: int, color: Color, *, base: float, height: float, ears: bool) -> None:
    """Draw `count` stalks of grass close to the camera, rising from y = `base`, with ears of grain if `ears`."""
    lit = scene.tone(color)
    low, high = (-0.02, 0.6, -0.03, 0.6), (1.02, 1.1, 0.07, 1.15)
    for x, tall, lean, level in scene.rng.uniform(low, high, (count, 4)).tolist():
        shade, tip = lit * level, (x + lean, base - tall * height)
        scene.line([(x, base), tip], shade, 0.006)
        if ears:
            scene.ellipse(tip[0], tip[1], 0.009, 0.026, shade)


def cactus(scene: Scene, x: float, base: float, height: float, *, distance: float) -> None:
    """Draw a saguaro cactus with up to two arms."""
    green = scene.tone((0.30, 0.42, 0.24), distance, spread=0.08)
    wide = 0.13 * height
    scene.line([(x, base), (x, base - height)], green, wide)
    scene.ellipse(x, base - height, wide / 2, wide / 2, green)
    for side in (-1, 1):
        if scene.chance(0.7):
            low, out = base - height * scene.between(0.3, 0.55), x + side * 0.25 * height
            scene.line([(x, low), (out, low), (out, low - height * scene.between(0.2, 0.4))], green, 0.75 * wide)
