"""The canvas of a scene: drawing on a square image in unit coordinates, light, horizon and random draws.

x points to the right and y down; both are in [0, 1] inside the image.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from .light import Light

Color = np.ndarray | tuple[float, float, float]
"""Red, green and blue in [0, 1]; values outside are clipped when drawn."""

Pair = tuple[float, float]
Points = Iterable[Pair] | np.ndarray
"""Points in unit coordinates, (k, 2)."""


class Scene:
    """Square RGB image of `side` pixels to draw on, with light, horizon and random generator.

    `horizon` is the y of the horizon in unit coordinates; a `mixed` scene borrows elements of a second kind.
    """

    def __init__(self, side: int, rng: np.random.Generator, light: Light, horizon: float, mixed: bool) -> None:
        self.side, self.rng, self.light, self.horizon, self.mixed = side, rng, light, horizon, mixed
        self.image = Image.new("RGB", (side, side))
        self._pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Points, color: Color) -> None:
        """Draw a filled polygon."""
        self._pen.polygon(self._flat(points), fill=ink(color))

    def polygons(self, corners: np.ndarray, colors: np.ndarray) -> None:
        """Draw k filled polygons of p corners: `corners` (k, p, 2) in unit coordinates, `colors` (k, 3)."""
        flat = (corners * self.side).reshape(len(corners), -1).tolist()
        inks = (np.clip(colors, 0, 1) * 255).astype(np.uint8).tolist()
        for points, (red, green, blue) in zip(flat, inks, strict=True):
            self._pen.polygon(points, fill=(red, green, blue))

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Draw a filled rectangle; draw nothing if it is empty."""
        if right > left and bottom > top:
            self._pen.rectangle(self._flat([(left, top), (right, bottom)]), fill=ink(color))

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        """Draw a filled ellipse with center (x, y)."""
        corners = self._flat([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        self._pen.ellipse(corners, fill=ink(color))

    def line(self, points: Points, color: Color, width: float) -> None:
        """Draw a polyline; `width` is in unit coordinates, at least one pixel."""
        flat, pixels = self._flat(points), max(1, round(width * self.side))
        self._pen.line(flat, fill=ink(color), width=pixels, joint="curve" if len(flat) > 4 else None)

    def _flat(self, points: Points) -> list[float]:
        """Return pixel coordinates as a flat list [x, y, x, y, …], PIL's fastest format."""
        pairs = points.tolist() if isinstance(points, np.ndarray) else points
        return [part * self.side for pair in pairs for part in pair]

    def lay(self, colors: np.ndarray, mask: np.ndarray | None = None, *, row: int = 0, column: int = 0) -> None:
        """Paste float color planes (3, h, w), or one color (3,), with the top left corner at pixel (row, column).

        `mask` (h, w) is the opacity, 0 to 1; it is required if `colors` is one color.
        """
        stencil = None if mask is None else Image.fromarray(_bytes(mask))
        if colors.ndim == 1:
            assert stencil is not None
            self.image.paste(ink(colors), (column, row, column + stencil.width, row + stencil.height), stencil)
        else:
            self.image.paste(picture(colors), (column, row), stencil)

    def glow(self, x: float, y: float, radius: float, color: Color, strength: float) -> None:
        """Blend a soft round light into the image; `strength` is its opacity at the center, 0 to 1."""
        n = self.side
        left, right = max(0, int((x - radius) * n)), min(n, int((x + radius) * n) + 1)
        top, bottom = max(0, int((y - radius) * n)), min(n, int((y + radius) * n) + 1)
        if right <= left or bottom <= top:
            return
        across = (np.arange(left, right, dtype=np.float32) / n - x) / radius
        down = (np.arange(top, bottom, dtype=np.float32) / n - y) / radius
        falloff = np.clip(1 - np.hypot(across[None, :], down[:, None]), 0, 1) ** 2
        self.lay(np.asarray(color, dtype=np.float32), falloff * strength, row=top, column=left)

    def tone(self, color: Color, distance: float = 0.0, *, spread: float = 0.0) -> np.ndarray:
        """Return the color of a surface in the scene's light, seen through haze.

        The result is rim + (color · tint - rim) · exp(-haze · distance), with rim, tint and haze from `Light`.

        Args:
            color: color under white light, (3,).
            distance: distance from the camera, 0 to about 1 for the farthest hills.
            spread: relative standard deviation of random changes in brightness; a third of it in hue.
        """
        base = np.asarray(color, dtype=np.float32)
        if spread:
            base = base * (1 + self.rng.normal(0, spread)) * (1 + self.rng.normal(0, spread / 3, 3))
        share = float(np.exp(-self.light.haze * distance))
        return (self.light.rim + (base * self.light.tint - self.light.rim) * share).astype(np.float32)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """Return a random number from the uniform distribution on [low, high)."""
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """Return a random integer from [low, high)."""
        return int(self.rng.integers(low, high))

    def pick(self, *options: Color) -> np.ndarray:
        """Return one of the colors at random, with small random changes, float32 (3,)."""
        color = np.asarray(options[self.count(0, len(options))], dtype=np.float32)
        return color * np.exp(self.rng.normal(0, 0.08) + self.rng.normal(0, 0.03, 3)).astype(np.float32)

    def row(self, y: float) -> int:
        """Return the pixel row at y in unit coordinates, clipped to the image."""
        return min(self.side - 1, max(0, int(y * self.side)))


def picture(colors: np.ndarray) -> Image.Image:
    """Return float color planes (3, h, w) with values in [0, 1] as an RGB image."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in _bytes(colors)])


def planes(color: np.ndarray) -> np.ndarray:
    """Reshape a color (3,) to (3, 1, 1), so that it broadcasts with arrays (h, w) to color planes (3, h, w)."""
    return color[:, None, None]


def ink(color: Color) -> tuple[int, int, int]:
    """Return a color as 8-bit red, green and blue, for PIL."""
    red, green, blue = (max(0, min(255, int(255 * part + 0.5))) for part in np.asarray(color).tolist())
    return red, green, blue


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)
