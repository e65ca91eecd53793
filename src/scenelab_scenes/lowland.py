"""Painters of open landscapes: coast, desert, wheat_field."""

import numpy as np

from .backdrop import backdrop
from .land import boulder, dune, ground, massif, mesa, rock_face
from .palette import GREENS, ROCKS, SANDS, SEAS
from .plants import broadleaf, cactus, stalks
from .scene import Pair, Scene
from .sky import sky
from .texture import profile
from .water import sea, shore


def coast(scene: Scene) -> None:
    """Paint the sea and a beach or rocks, sometimes with a headland."""
    sky(scene)
    backdrop(scene, "none none hills", "city range dunes houses")
    sea(scene, scene.pick(*SEAS), swell=scene.between(0.05, 0.13))
    n = scene.side
    x = np.linspace(0, 1, n, dtype=np.float32)
    if scene.chance(0.45):
        _headland(scene, x)
    sandy = scene.chance(0.75)
    low, lean = scene.between(0.5, 0.88), scene.between(-0.5, 0.5)
    edge = scene.horizon + (1 - scene.horizon) * (low + lean * (x - 0.5) + 0.05 * profile(scene.rng, n, width=12))
    if sandy:
        shore(scene, edge, scene.pick((0.84, 0.74, 0.56), (0.76, 0.68, 0.56), (0.62, 0.55, 0.46)))
    rock = scene.pick(*ROCKS) * 0.8
    for _ in range(int(scene.rng.integers(0, 4) if sandy else scene.rng.integers(8, 18))):
        at = scene.between(0, 1)
        y = float(edge[int(at * (n - 1))]) + scene.rng.normal(0.03, 0.05)
        boulder(scene, at, y, scene.between(0.02, 0.09) * (0.4 + 0.8 * y), rock)


def _headland(scene: Scene, x: np.ndarray) -> None:
    side = x if scene.chance(0.5) else 1 - x
    reach, tall = scene.between(0.3, 0.7), scene.between(0.08, 0.30)
    outline = scene.horizon + 0.02 - tall * np.clip((reach - side) / (0.5 * reach), -0.2, 1)
    outline = outline - 0.012 * profile(scene.rng, len(x), width=80)
    bottom = scene.horizon + 0.02 + scene.between(0.0, 0.05)
    rock_face(scene, np.where(side < reach, outline, 2).astype(np.float32), bottom, scene.pick(*ROCKS), distance=0.4)
    cap = np.where(side < reach, outline - 0.008, 2).astype(np.float32)
    massif(scene, cap, float(cap.min()) + 0.25 * tall, scene.pick(*GREENS), distance=0.4, relief=0.2)


def desert(scene: Scene) -> None:
    """Paint rows of dunes, or a plain with shrubs, cacti, boulders and sometimes a mesa."""
    sky(scene)
    sand = scene.pick(*SANDS)
    backdrop(scene, "none mesas dunes", "range hills wood")
    if scene.chance(0.55):
        scene.box(0, scene.horizon, 1, 1, scene.tone(sand, 0.8))
        base = scene.horizon + scene.between(0.0, 0.05)
        layers = scene.count(2, 5)
        for layer in range(layers):
            near = (layer + 1) / layers
            height, color = 0.05 + 0.20 * near * scene.between(0.5, 1.0), sand * scene.between(0.93, 1.07)
            dune(scene, base + 0.03, height, color, distance=0.7 * (1 - near))
            base += (1 - scene.horizon) * scene.between(0.15, 0.45)
        return
    ground(scene, sand, sand * 0.95, contrast=scene.between(0.05, 0.12))
    if scene.chance(0.35):
        x, wide, tall = scene.between(0.1, 0.9), scene.between(0.15, 0.35), scene.between(0.10, 0.22)
        mesa(scene, x, scene.horizon + 0.02, wide, tall, sand * (0.85, 0.68, 0.60), distance=0.5)
    _scrub(scene)


def _scrub(scene: Scene) -> None:
    for near in np.sort(scene.rng.uniform(0, 1, scene.count(8, 26))) ** 2:
        x, y = scene.between(0, 1), scene.horizon + 0.02 + (0.95 - scene.horizon) * float(near)
        size = 0.01 + 0.09 * float(near)
        if scene.chance(0.3):
            cactus(scene, x, y, 2.6 * size, distance=0.5 * (1 - float(near)))
        elif scene.chance(0.4):
            boulder(scene, x, y, 0.6 * size, (0.55, 0.42, 0.32), distance=0.4 * (1 - float(near)))
        else:
            bush = scene.tone((0.38, 0.38, 0.22), 0.4 * (1 - float(near)), spread=0.12)
            for _ in range(5):
                u, v = x + scene.rng.normal(0, 0.4 * size), y - scene.between(0, 0.3) * size
                scene.ellipse(u, v, 0.4 * size, 0.25 * size, bush * scene.between(0.7, 1.1))


def wheat_field(scene: Scene) -> None:
    """Paint a field of ripe grain up to the horizon, sometimes with rows, wheel tracks or bales."""
    sky(scene)
    backdrop(scene, "wood hills none", "range city dunes houses")
    corn = scene.pick((0.80, 0.64, 0.28), (0.72, 0.56, 0.26), (0.66, 0.62, 0.26), (0.86, 0.74, 0.42))
    cells = scene.between(300, 500), scene.between(40, 200)
    ground(scene, corn, corn * 1.05, cells=cells, contrast=scene.between(0.10, 0.2))
    vanish = scene.between(0.1, 0.9), scene.horizon
    rows = int(scene.rng.integers(0, 2) * scene.rng.integers(12, 30))
    for x in np.linspace(-1.5, 2.5, rows):
        scene.line([vanish, (float(x), 1.05)], scene.tone(corn * 0.72), 0.006)
    if scene.chance(0.4):
        _tracks(scene, vanish, corn)
    for _ in range(scene.count(1, 4) if scene.chance(0.3) else 0):
        near = scene.between(0.02, 0.5)
        _bale(scene, scene.between(0, 1), scene.horizon + near * 0.6, 0.02 + 0.14 * near, corn)
    if scene.chance(0.35):
        x, tall, green = scene.between(0.1, 0.9), scene.between(0.06, 0.2), scene.pick(*GREENS)
        broadleaf(scene, x, scene.horizon + 0.02, tall, green, distance=0.4)
    height = scene.between(0.05, 0.28)
    for base in (1.0, 1.03, 1.06):
        stalks(scene, scene.count(20, 50), corn, base=base, height=height, ears=True)


def _tracks(scene: Scene, vanish: Pair, corn: np.ndarray) -> None:
    at, gap, wide = scene.between(0.1, 0.9), scene.between(0.2, 0.4), scene.between(0.02, 0.05)
    for x in (at - gap / 2, at + gap / 2):
        scene.polygon([vanish, (x + wide, 1.05), (x - wide, 1.05)], scene.tone(corn * 0.55))


def _bale(scene: Scene, x: float, base: float, radius: float, corn: np.ndarray) -> None:
    scene.ellipse(x, base, 1.3 * radius, 0.2 * radius, scene.tone(corn * 0.5))
    scene.box(x, base - 1.6 * radius, x + 1.1 * radius, base, scene.tone(corn * 0.75))
    scene.ellipse(x, base - 0.8 * radius, 0.8 * radius, 0.8 * radius, scene.tone(corn * 1.05))
    scene.ellipse(x, base - 0.8 * radius, 0.45 * radius, 0.45 * radius, scene.tone(corn * 0.85))
