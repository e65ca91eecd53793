"""The sky: color gradient, sun or moon, clouds and stars."""

import numpy as np
from PIL import Image

from .scene import Scene, picture, planes
from .texture import grain, smoothstep


def sky(scene: Scene, bottom: float | None = None) -> None:
    """Draw the sky from the top to slightly below y = `bottom` (the horizon by default)."""
    bottom = scene.horizon if bottom is None else bottom
    half = scene.side // 2
    rows = max(4, min(half, int(half * bottom) + 6))
    light = scene.light
    height = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    colors = np.repeat(planes(light.zenith) + planes(light.rim - light.zenith) * (height**1.3), half, axis=2)
    _sun(scene, colors)
    _clouds(scene, colors)
    if light.hour == "night":
        _stars(scene, colors)
    scene.image.paste(picture(colors).resize((scene.side, rows * 2), Image.Resampling.BILINEAR), (0, 0))


def _sun(scene: Scene, colors: np.ndarray) -> None:
    if scene.light.hour == "overcast":
        return
    _, rows, columns = colors.shape
    x, y = scene.light.sun[0] * columns, scene.light.sun[1] * rows
    distance = np.hypot(np.arange(columns)[None, :] - x, np.arange(rows)[:, None] - y).astype(np.float32) / columns
    moon = scene.light.hour == "night"
    bright = np.array((0.92, 0.93, 0.88) if moon else (1.0, 0.95, 0.80), dtype=np.float32)
    halo = np.exp(-distance / (0.08 if moon else 0.22)) * (0.35 if moon else 0.55)
    colors += (planes(bright) - colors) * halo
    if scene.chance(0.5):
        disc = smoothstep(-distance, -scene.between(0.03, 0.05), -0.025)
        colors += (planes(bright) - colors) * disc


def _clouds(scene: Scene, colors: np.ndarray) -> None:
    _, rows, columns = colors.shape
    broad = scene.between(25, 110)
    body = grain(scene.rng, rows, columns, width=broad, height=broad * scene.between(0.8, 3.0))
    edge = 1.3 - 2.2 * scene.light.cover
    mask = smoothstep(body, edge, edge + scene.between(0.5, 1.5)) * scene.between(0.6, 0.95)
    lit = {"day": 1.0, "overcast": 0.9, "dawn": 0.98, "dusk": 0.85, "night": 0.33}[scene.light.hour]
    white = np.minimum(scene.light.tint * 1.1, 1) * 0.5 + 0.5
    under = grain(scene.rng, rows, columns, width=broad * 2, height=broad * 2)
    shade = lit * np.clip(0.9 + 0.10 * under - 0.12 * scene.light.cover * np.maximum(body, 0), 0.4, 1.1)
    colors += (planes(white.astype(np.float32)) * shade - colors) * mask


def _stars(scene: Scene, colors: np.ndarray) -> None:
    count, (_, rows, columns) = scene.count(10, 60), colors.shape
    y, x = scene.rng.integers(0, rows, count), scene.rng.integers(0, columns, count)
    colors[:, y, x] += scene.rng.uniform(0.2, 0.8, count).astype(np.float32)
