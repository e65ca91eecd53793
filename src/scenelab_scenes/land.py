"""Land: mountains, hills, dunes, mesas, rock faces and open ground."""

import numpy as np

from .scene import Color, Pair, Scene, planes
from .texture import grain, plane, profile, smoothstep, swell


def ground(
    scene: Scene, near: Color, far: Color, top: float | None = None, cells: Pair = (300, 300), contrast: float = 0.12
) -> None:
    """Draw open ground from y = `top` (the horizon by default) to the lower edge, with noise in perspective.

    `near` and `far` are its colors, `cells` the frequencies of the noise across and along the line of sight.
    """
    top, (across, along) = scene.horizon if top is None else top, cells
    n, start = scene.side, scene.row(top)
    rows = n - start
    t = (np.linspace(0, 1, rows, dtype=np.float32) ** 0.6)[None, :, None]
    colors = planes(scene.tone(far, 0.8)) * (1 - t) + planes(scene.tone(near)) * t
    mottle = plane(scene.rng, rows, n, across=across, along=along)
    mottle = mottle + 0.5 * plane(scene.rng, rows, n, across=across / 6, along=along / 6)
    scene.lay(colors * (1 + contrast * mottle), row=start)


def peaks(scene: Scene, base: float, height: float) -> np.ndarray:
    """Return the outline of a mountain range: y in unit coordinates per pixel column, float32 (side,)."""
    n = scene.side
    x = np.linspace(0, 1, n, dtype=np.float32) + 0.02 * profile(scene.rng, n, width=60)
    outline = np.zeros(n, dtype=np.float32)
    for rank in range(scene.count(2, 6)):
        middle = scene.between(0.1, 0.9) if rank == 0 else scene.between(-0.1, 1.1)
        tall = 1.0 if rank == 0 else scene.between(0.4, 0.9)
        away = x - middle
        wide = np.where(away < 0, scene.between(0.25, 0.7), scene.between(0.25, 0.7)).astype(np.float32)
        outline = np.maximum(outline, tall * (1 - np.abs(away) / wide))
    return base - height * np.clip(outline + 0.035 * profile(scene.rng, n, width=70), 0.02, 1.2)


def hills(scene: Scene, base: float, height: float) -> np.ndarray:
    """Return the outline of rolling hills: y in unit coordinates per pixel column, float32 (side,)."""
    n = scene.side
    outline = 0.55 + 0.35 * swell(scene.rng, n, waves=1.2) + 0.06 * profile(scene.rng, n, width=60)
    return base - height * np.clip(outline, 0.02, 2)


def massif(
    scene: Scene,
    outline: np.ndarray,
    bottom: float,
    color: Color,
    *,
    distance: float,
    relief: float = 0.35,
    snow: float | None = None,
    mottle: float = 160,
) -> None:
    """Draw hills or mountains between an outline and y = `bottom`, with lit and shadowed slopes.

    `outline` (side,) is the y of the ridge per pixel column, in unit coordinates. `relief` is the contrast between lit
    and shadowed slopes, 0 to 1. `snow` is the height of the snow line as a fraction of the total height, None for no
    snow. `mottle` is the frequency of the noise in cells per image side.
    """
    n = scene.side
    first, last = scene.row(float(outline.min())), scene.row(bottom)
    if last - first < 2:
        return
    y = (np.arange(first, last, dtype=np.float32) / n)[:, None]
    depth = y - outline[None, :]
    rough = grain(scene.rng, last - first, n, width=mottle, height=mottle * (last - first) / n)
    facing = _facing(scene, outline, depth, rough)
    shade = 0.88 + relief * (0.7 * facing + 0.22 * rough)
    colors = planes(scene.tone(color, distance)) * shade
    if snow is not None:
        tall = (bottom - y) / max(1e-3, bottom - float(outline.min()))
        cap = smoothstep(tall + 0.05 * rough - 0.06 * facing, snow, snow + 0.05)
        colors += (planes(scene.tone((0.95, 0.97, 1.0), distance)) * (0.84 + 0.20 * facing) - colors) * cap
    scene.lay(colors, np.clip(depth * n, 0, 1), row=first)


def _facing(scene: Scene, outline: np.ndarray, depth: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Return the illumination of each pixel, -1 (shadow) to 1 (lit), from the slope of the ridge above it."""
    n = len(outline)
    slope = np.convolve(np.gradient(outline) * n, np.full(11, 1 / 11), mode="same")
    side = 1.0 if scene.light.sun[0] < 0.5 else -1.0
    lit = (-side * np.tanh(2.0 * slope)).astype(np.float32)
    above = np.arange(n, dtype=np.float32)[None, :] + n * (rough * np.minimum(0.3 * depth, 0.045) + 0.2 * side * depth)
    return lit[np.clip(above, 0, n - 1).astype(np.int32)]


def dune(scene: Scene, base: float, height: float, color: Color, *, distance: float) -> None:
    """Draw a dune down to the image's lower edge, with a lit windward side, a shadowed slip face and ripples."""
    n = scene.side
    crest = base - height * (0.5 + 0.6 * swell(scene.rng, n, waves=scene.between(0.7, 1.8)))
    first = scene.row(float(crest.min()))
    y = (np.arange(first, n, dtype=np.float32) / n)[:, None]
    depth = y - crest[None, :]
    ripple = grain(scene.rng, n - first, n, width=50, height=20 + 400 * (1 - distance))
    lean = scene.between(0.3, 1.2) * (1 if scene.light.sun[0] < 0.5 else -1)
    back = np.arange(n, dtype=np.float32)[None, :] - lean * depth * n
    slope = (np.gradient(crest) * n * np.sign(lean)).astype(np.float32)
    facing = slope[np.clip(back, 0, n - 1).astype(np.int32)]
    slip = smoothstep(facing, 0.0, 0.10) * np.exp(-np.maximum(depth, 0) / (0.15 + height))
    shade = 1.04 - 0.36 * slip + 0.035 * ripple - 0.12 * np.clip(depth, 0, 1)
    scene.lay(planes(scene.tone(color, distance)) * shade, np.clip(depth * n, 0, 1), row=first)


def mesa(scene: Scene, x: float, base: float, width: float, height: float, color: Color, *, distance: float) -> None:
    """Draw a mesa: a flat-topped rock with vertical cracks above a slope of rubble."""
    top, bench = base - height, base - 0.4 * height
    skirt = [(x - width, base), (x - 0.62 * width, bench), (x + 0.62 * width, bench), (x + width, base)]
    scene.polygon(skirt, scene.tone(np.multiply(color, 0.85), distance))
    left, right = x - scene.between(0.5, 0.6) * width, x + scene.between(0.5, 0.6) * width
    cliff = [(left, bench), (left + 0.03 * width, top), (right - 0.05 * width, top), (right, bench)]
    scene.polygon(cliff, scene.tone(color, distance))
    crack = scene.tone(np.multiply(color, 0.7), distance)
    for part in scene.rng.uniform(0.1, 0.9, 5):
        middle = left + part * (right - left)
        scene.line([(middle, top + 0.1 * height), (middle, bench)], crack, 0.08 * width)


def boulder(scene: Scene, x: float, y: float, radius: float, color: Color, *, distance: float = 0.0) -> None:
    """Draw a boulder around (x, y), lit on one side."""
    angles = np.sort(scene.rng.uniform(0, 2 * np.pi, 10))
    reach = radius * scene.rng.uniform(0.75, 1.1, 10)
    points = np.stack([x + reach * np.cos(angles), y + 0.7 * reach * np.sin(angles)], axis=1)
    scene.polygon(points, scene.tone(np.multiply(color, 0.62), distance))
    shift = -0.18 * radius if scene.light.sun[0] < 0.5 else 0.18 * radius
    scene.polygon(points * 0.72 + 0.28 * np.array([x + shift, y - 0.35 * radius]), scene.tone(color, distance))


def rock_face(scene: Scene, top: np.ndarray, bottom: float, color: Color, *, distance: float) -> None:
    """Draw a cliff with vertical cracks, from the outline `top` (y per pixel column) down to y = `bottom`."""
    n = scene.side
    first, last = scene.row(float(top.min())), scene.row(bottom)
    if last - first < 2:
        return
    rows = last - first
    cracks = grain(scene.rng, rows, n, width=200, height=30)
    lumps = grain(scene.rng, rows, n, width=70, height=110)
    fine = grain(scene.rng, rows, n, width=300, height=200)
    shade = 0.9 + 0.16 * np.minimum(lumps + 0.5 * cracks, 0.9) + 0.08 * fine
    shade = shade - 0.14 * smoothstep(-cracks - 0.4 * lumps, 0.9, 1.6)
    depth = np.arange(first, last, dtype=np.float32)[:, None] - top[None, :] * n
    scene.lay(planes(scene.tone(color, distance)) * shade, np.clip(depth, 0, 1), row=first)
