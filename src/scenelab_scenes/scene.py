"""A scene being painted: a square canvas in unit coordinates, and the light, the horizon and the random draws.

x runs to the right and y down, both 0 to 1 inside the image.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from .light import Light

Colour = np.ndarray | tuple[float, float, float]
"""Red, green, blue, each 0 to 1; values outside are clipped when drawn."""

Pair = tuple[float, float]
Points = Iterable[Pair] | np.ndarray
"""Corners in unit coordinates, (k, 2)."""


class Scene:
    """An RGB image of `side` × `side` pixels, and what all painters share.

    `horizon` is the height of the eye line, unit coordinate; a `mixed` scene borrows elements of a second kind.
    """

    def __init__(self, side: int, rng: np.random.Generator, light: Light, horizon: float, mixed: bool) -> None:
        self.side, self.rng, self.light, self.horizon, self.mixed = side, rng, light, horizon, mixed
        self.image = Image.new("RGB", (side, side))
        self._pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        self._pen.polygon(self._flat(points), fill=ink(colour))

    def polygons(self, corners: np.ndarray, colours: np.ndarray) -> None:
        """Fill many polygons: `corners` (k, p, 2) in unit coordinates, `colours` (k, 3)."""
        flat = (corners * self.side).reshape(len(corners), -1).tolist()
        inks = (np.clip(colours, 0, 1) * 255).astype(np.uint8).tolist()
        for points, (red, green, blue) in zip(flat, inks, strict=True):
            self._pen.polygon(points, fill=(red, green, blue))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle; an empty one is not drawn."""
        if right > left and bottom > top:
            self._pen.rectangle(self._flat([(left, top), (right, bottom)]), fill=ink(colour))

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill the ellipse around (x, y)."""
        corners = self._flat([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        self._pen.ellipse(corners, fill=ink(colour))

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a polyline; `width` is in units of the image's side, at least one pixel."""
        flat, pixels = self._flat(points), max(1, round(width * self.side))
        self._pen.line(flat, fill=ink(colour), width=pixels, joint="curve" if len(flat) > 4 else None)

    def _flat(self, points: Points) -> list[float]:
        """Return the flat list of pixel coordinates that PIL draws fastest."""
        pairs = points.tolist() if isinstance(points, np.ndarray) else points
        return [part * self.side for pair in pairs for part in pair]

    def lay(self, colours: np.ndarray, mask: np.ndarray | None = None, *, row: int = 0, column: int = 0) -> None:
        """Put float planes (3, h, w), or one colour (3,), on the image with its top left corner at (row, column).

        Where the mask (h, w) is 0 the image stays as it is, where it is 1 it is covered; one colour needs a mask.
        """
        stencil = None if mask is None else Image.fromarray(_bytes(mask))
        if colours.ndim == 1:
            assert stencil is not None
            self.image.paste(ink(colours), (column, row, column + stencil.width, row + stencil.height), stencil)
        else:
            self.image.paste(picture(colours), (column, row), stencil)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Blend a soft round light of `strength` 0 to 1 at its centre into the image."""
        n = self.side
        left, right = max(0, int((x - radius) * n)), min(n, int((x + radius) * n) + 1)
        top, bottom = max(0, int((y - radius) * n)), min(n, int((y + radius) * n) + 1)
        if right <= left or bottom <= top:
            return
        across = (np.arange(left, right, dtype=np.float32) / n - x) / radius
        down = (np.arange(top, bottom, dtype=np.float32) / n - y) / radius
        falloff = np.clip(1 - np.hypot(across[None, :], down[:, None]), 0, 1) ** 2
        self.lay(np.asarray(colour, dtype=np.float32), falloff * strength, row=top, column=left)

    def tone(self, colour: Colour, distance: float = 0.0, *, spread: float = 0.0) -> np.ndarray:
        """Return a surface's colour as seen, float32 (3,): c' = rim + (c * tint - rim) * exp(-haze * distance).

        Args:
            colour: (3,) under white light.
            distance: 0 at the camera, about 1 at the farthest hills.
            spread: relative standard deviation of a random change in brightness and hue.
        """
        base = np.asarray(colour, dtype=np.float32)
        if spread:
            base = base * (1 + self.rng.normal(0, spread)) * (1 + self.rng.normal(0, spread / 3, 3))
        share = float(np.exp(-self.light.haze * distance))
        return (self.light.rim + (base * self.light.tint - self.light.rim) * share).astype(np.float32)

    def chance(self, probability: float) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """Draw a number uniformly."""
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """Draw an integer from [low, high)."""
        return int(self.rng.integers(low, high))

    def pick(self, *options: Colour) -> np.ndarray:
        """Return one of several colours, jittered, float32 (3,)."""
        colour = np.asarray(options[self.count(0, len(options))], dtype=np.float32)
        return colour * np.exp(self.rng.normal(0, 0.08) + self.rng.normal(0, 0.03, 3)).astype(np.float32)

    def row(self, y: float) -> int:
        """Return the pixel row at unit height `y`, inside the image."""
        return min(self.side - 1, max(0, int(y * self.side)))


def picture(colours: np.ndarray) -> Image.Image:
    """Return float planes (3, h, w), 0 to 1, as an RGB image."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in _bytes(colours)])


def planes(colour: np.ndarray) -> np.ndarray:
    """Shape a colour (3,) to be multiplied with arrays (h, w), which gives planes (3, h, w)."""
    return colour[:, None, None]


def ink(colour: Colour) -> tuple[int, int, int]:
    """Return a colour as the 8-bit triple that PIL draws with."""
    red, green, blue = (max(0, min(255, int(255 * part + 0.5))) for part in np.asarray(colour).tolist())
    return red, green, blue


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)
