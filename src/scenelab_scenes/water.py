"""Water: the sea, reflections, beaches and waterfalls."""

import numpy as np
from PIL import Image

from .scene import Color, Scene, planes
from .texture import grain, plane, smoothstep


def sea(scene: Scene, color: Color, *, top: float | None = None, swell: float = 0.1) -> None:
    """Draw water with waves, and sometimes sun glitter, from y = `top` (the horizon by default) to the lower edge."""
    top = scene.horizon if top is None else top
    n, start = scene.side, scene.row(top)
    rows = n - start
    t = np.linspace(0, 1, rows, dtype=np.float32)[None, :, None] ** 0.5
    deep = np.asarray(color, dtype=np.float32) * scene.light.tint
    waves = plane(scene.rng, rows, n, across=70, along=520) + 0.6 * plane(scene.rng, rows, n, across=25, along=180)
    colors = planes(scene.light.rim * 0.45 + deep * 0.5) * (1 - t) + planes(deep) * t
    colors = colors * (1 + swell * waves)
    if scene.light.hour != "overcast" and scene.chance(0.7):
        aside = np.arange(n, dtype=np.float32) / n - scene.light.sun[0]
        lane = np.exp(-((aside / scene.between(0.06, 0.2)) ** 2))
        glitter = smoothstep(waves, -0.2, 1.2) * lane[None, :] * scene.between(0.4, 0.8)
        colors += (planes(np.maximum(scene.light.rim, 0.45)) - colors) * glitter
    scene.lay(colors, row=start)


def mirror(scene: Scene, line: float, depth: float, *, strength: float) -> None:
    """Draw the reflection of the image above the waterline y = `line`, distorted by ripples.

    `depth` is the height of the reflection in unit coordinates, `strength` its opacity at the waterline, 0 to 1.
    """
    n, start = scene.side, scene.row(line)
    rows = min(n - start, start, int(depth * n))
    if rows < 4:
        return
    above = scene.image.crop((0, start - rows, n, start)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    picture = np.asarray(above)
    ripple = grain(scene.rng, rows, n, width=40, height=300)
    growing = np.linspace(0.3, 1, rows, dtype=np.float32)[:, None]
    columns = np.clip(np.arange(n)[None, :] + 0.012 * n * ripple * growing, 0, n - 1).astype(np.int32)
    index = np.arange(rows, dtype=np.int32)[:, None] * n + columns
    picture = picture.reshape(-1, 3).T.take(index, axis=1) * np.float32(0.85 / 255)
    fade = np.linspace(1, 0.2, rows, dtype=np.float32)[:, None]
    scene.lay(picture, np.clip(strength * fade * (1 + 0.3 * ripple), 0, 1), row=start)


def shore(scene: Scene, edge: np.ndarray, sand: Color) -> None:
    """Draw a beach with wet sand, foam and up to two breakers.

    `edge` is the waterline: y in unit coordinates per pixel column, (side,).
    """
    n = scene.side
    first = scene.row(float(edge.min()) - 0.12)
    depth = (np.arange(first, n, dtype=np.float32) / n)[:, None] - edge[None, :]
    rough = grain(scene.rng, n - first, n, width=120, height=300)
    fine = plane(scene.rng, n - first, n, across=500, along=500)
    wet = smoothstep(depth + 0.01 * rough, 0.02, scene.between(0.06, 0.18))
    shade = (0.72 + 0.28 * wet) * (1 + 0.05 * fine + 0.03 * rough)
    scene.lay(planes(scene.tone(sand)) * shade, smoothstep(depth + 0.006 * rough, 0, 0.012), row=first)
    foam = np.exp(-(((depth + 0.012 * rough) / 0.012) ** 2))
    for out in scene.rng.uniform(0.03, 0.11, scene.count(0, 3)):
        broken = smoothstep(rough, -0.6, 0.8)
        foam = np.maximum(foam, broken * np.exp(-(((depth + out + 0.015 * rough) / (0.10 * out + 0.003)) ** 2)))
    scene.lay(scene.tone((0.95, 0.97, 0.98)), 0.9 * foam, row=first)


def fall(scene: Scene, left: float, right: float, top: float, bottom: float, *, flare: float, distance: float) -> None:
    """Draw a waterfall that widens from y = `top` to `bottom` by `flare` on each side, with mist at its foot."""
    n = scene.side
    first, last = scene.row(top), scene.row(bottom)
    start, end = (min(n, max(0, int(edge * n))) for edge in (left - flare - 0.05, right + flare + 0.05))
    rows, columns = last - first, end - start
    if rows < 4 or columns < 4:
        return
    streaks = grain(scene.rng, rows, columns, width=1.6 * columns * 256 / n, height=18)
    wide = grain(scene.rng, rows, columns, width=0.4 * columns * 256 / n, height=30)
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    x = np.arange(start, end, dtype=np.float32)[None, :] / n
    inside = np.minimum(x - (left - flare * t), (right + flare * t) - x) + 0.012 * streaks
    mask = smoothstep(inside, 0, 0.02) * np.clip(0.92 + 0.25 * wide, 0.45, 1)
    shade = np.clip(0.86 + 0.13 * streaks - 0.05 * wide, 0.45, 1.05)
    scene.lay(planes(scene.tone((0.93, 0.96, 1.0), distance)) * shade, mask, row=first, column=start)
    mist = scene.tone((0.92, 0.95, 0.98), distance)
    scene.glow((left + right) / 2, bottom, 0.6 * (right - left) + flare + 0.12, mist, scene.between(0.4, 0.8))
