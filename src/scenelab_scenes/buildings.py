"""Buildings: towers with windows, skylines and houses."""

import numpy as np

from .scene import Color, Scene

WINDOW_LIGHT = (1.0, 0.86, 0.55)


def tower(scene: Scene, corners: np.ndarray, color: Color, *, floors: int, bays: int, distance: float) -> None:
    """Draw one face of a tall building with `floors` rows and `bays` columns of windows.

    `corners` are four points in unit coordinates, shape (4, 2): bottom left, top left, top right, bottom right.
    """
    wall = scene.tone(color, distance)
    scene.polygon(corners, wall)
    style = scene.rng.random()
    sky = scene.light.zenith * 0.5 + scene.light.rim * 0.3
    glass = sky * 0.6 + wall * 0.25 if style < 0.5 else wall * 0.6
    if style < 0.75:
        bands = _panes(corners, np.arange(floors) / floors, np.zeros(floors), 1 / floors, 1.0, margin=(0.22, 0.0))
        scene.polygons(bands, np.broadcast_to(glass, (floors, 3)))
    else:
        scene.polygon(corners + (corners.mean(axis=0) - corners) * 0.04, glass)
    edges = np.arange(bays + 1) / bays - 0.15 / bays
    piers = _panes(corners, np.zeros(bays + 1), edges, 1.0, 0.3 / bays, margin=(0.0, 0.0))
    scene.polygons(piers[1:-1], np.broadcast_to(wall * (1.0 if style < 0.5 else 0.9), (bays - 1, 3)))
    lit = scene.between(0.15, 0.5) if scene.light.dark else scene.between(0, 0.03)
    _lit_windows(scene, corners, floors, bays, lit, distance)


def _lit_windows(scene: Scene, corners: np.ndarray, floors: int, bays: int, share: float, distance: float) -> None:
    kept = float(np.exp(-0.5 * scene.light.haze * distance))
    count = int(share * floors * bays)
    if not count:
        return
    floor, bay = scene.rng.integers(floors, size=count), scene.rng.integers(bays, size=count)
    panes = _panes(corners, floor / floors, bay / bays, 1 / floors, 1 / bays, margin=(0.22, 0.2))
    glow = np.asarray(WINDOW_LIGHT) * scene.rng.uniform(0.6, 1.0, (count, 1)) * kept + scene.light.rim * (1 - kept)
    scene.polygons(panes, glow)


def _panes(
    corners: np.ndarray, up: np.ndarray, across: np.ndarray, tall: float, wide: float, *, margin: tuple[float, float]
) -> np.ndarray:
    """Return the corners (k, 4, 2) of k window panes of a building's face; all lengths are fractions of the face.

    Pane i starts at (across[i], up[i]). `margin` is the empty border as a fraction of the pane: vertical, horizontal.
    """
    low_left, top_left, top_right, low_right = corners
    (down, side), sides = margin, []
    for v, u in ((down, side), (1 - down, side), (1 - down, 1 - side), (down, 1 - side)):
        height, width = (up + v * tall)[:, None], (across + u * wide)[:, None]
        left, right = low_left + (top_left - low_left) * height, low_right + (top_right - low_right) * height
        sides.append(left + (right - left) * width)
    return np.stack(sides, axis=1)


def skyline(scene: Scene, base: float, height: float, *, distance: float) -> None:
    """Draw a row of distant city blocks that stand at y = `base`."""
    x = -0.05
    while x < 1.0:
        wide = scene.between(0.04, 0.11)
        tall = height * scene.between(0.3, 1.0) * (1.25 if scene.chance(0.15) else 0.8)
        corners = np.array([(x, base), (x, base - tall), (x + wide, base - tall), (x + wide, base)])
        color = scene.pick((0.45, 0.47, 0.50), (0.55, 0.50, 0.45), (0.40, 0.44, 0.50))
        tower(scene, corners, color, floors=max(2, int(tall * 50)), bays=max(2, int(wide * 45)), distance=distance)
        x += wide * scene.between(0.8, 1.4)


def house(scene: Scene, x: float, base: float, width: float, *, distance: float) -> None:
    """Draw a small house with a gabled roof; (x, base) is its lower left corner."""
    wall = scene.pick((0.85, 0.82, 0.75), (0.70, 0.30, 0.24), (0.80, 0.65, 0.40), (0.50, 0.58, 0.65))
    tall = width * scene.between(0.6, 1.3)
    scene.box(x, base - tall, x + width, base, scene.tone(wall, distance))
    roof = scene.tone(scene.pick((0.45, 0.22, 0.17), (0.28, 0.28, 0.31)), distance)
    eaves, ridge = base - tall, (x + 0.5 * width, base - 1.5 * tall)
    scene.polygon([(x - 0.08 * width, eaves), ridge, (x + 1.08 * width, eaves)], roof)
    is_lit = scene.light.dark and scene.chance(0.6)
    pane = np.asarray(WINDOW_LIGHT) if is_lit else scene.tone((0.2, 0.24, 0.3), distance)
    for part in (0.18, 0.58):
        scene.box(x + part * width, base - 0.75 * tall, x + (part + 0.22) * width, base - 0.4 * tall, pane)
