"""A square drawing surface in unit coordinates: x to the right, y down, both 0 to 1 inside the image."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

Colour = np.ndarray | tuple[float, float, float]
"""Red, green, blue, each 0 to 1; values outside are clipped when drawn."""


class Canvas:
    """Polygons, lines, ellipses and whole arrays on one RGB image of `side` x `side` pixels."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.image = Image.new("RGB", (side, side))
        self._pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Iterable[tuple[float, float]] | np.ndarray, colour: Colour) -> None:
        """Fill the polygon with corners `points`, (k, 2) in unit coordinates."""
        self._pen.polygon(self._flat(points), fill=ink(colour))

    def polygons(self, corners: np.ndarray, colours: np.ndarray) -> None:
        """Fill many polygons in one go: `corners` (k, p, 2) in unit coordinates, `colours` (k, 3)."""
        flat = (corners * self.side).reshape(len(corners), -1).tolist()
        inks = (np.clip(colours, 0, 1) * 255).astype(np.uint8).tolist()
        for points, (red, green, blue) in zip(flat, inks, strict=True):
            self._pen.polygon(points, fill=(red, green, blue))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle; one that is empty or inside out is left undrawn."""
        if right > left and bottom > top:
            self._pen.rectangle(
                [left * self.side, top * self.side, right * self.side, bottom * self.side], fill=ink(colour)
            )

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill the ellipse around (x, y)."""
        corners = [
            (x - radius_x) * self.side,
            (y - radius_y) * self.side,
            (x + radius_x) * self.side,
            (y + radius_y) * self.side,
        ]
        self._pen.ellipse(corners, fill=ink(colour))

    def line(self, points: Iterable[tuple[float, float]] | np.ndarray, colour: Colour, width: float) -> None:
        """Draw a polyline; `width` is in units of the image's side and never thinner than a pixel."""
        flat = self._flat(points)
        self._pen.line(
            flat, fill=ink(colour), width=max(1, round(width * self.side)), joint="curve" if len(flat) > 4 else None
        )

    def _flat(self, points: Iterable[tuple[float, float]] | np.ndarray) -> list[float]:
        """Corners as the flat list of pixel coordinates that PIL draws fastest."""
        pairs = points.tolist() if isinstance(points, np.ndarray) else points
        return [part * self.side for pair in pairs for part in pair]

    def lay(self, colours: np.ndarray, mask: np.ndarray | None = None, *, row: int = 0, column: int = 0) -> None:
        """Put an array on the image.

        Args:
            colours: float planes (3, h, w), or (3,) for a single colour (which then needs a mask).
            mask: float (h, w), 0 leaves the image as it is, 1 covers it.
            row: pixel row of the array's top left corner.
            column: pixel column of the same corner.
        """
        stencil = None if mask is None else Image.fromarray(_bytes(mask))
        if colours.ndim == 1:
            assert stencil is not None
            self.image.paste(ink(colours), (column, row, column + stencil.width, row + stencil.height), stencil)
            return
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


def picture(colours: np.ndarray) -> Image.Image:
    """Float planes (3, h, w), 0 to 1, as an RGB image."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in _bytes(colours)])


def planes(colour: np.ndarray) -> np.ndarray:
    """A colour (3,) shaped to be multiplied with arrays (h, w), which gives planes (3, h, w)."""
    return colour[:, None, None]


def ink(colour: Colour) -> tuple[int, int, int]:
    """A colour as the 8-bit triple that PIL draws with."""
    red, green, blue = colour.tolist() if isinstance(colour, np.ndarray) else colour
    return _byte(red), _byte(green), _byte(blue)


def _byte(part: float) -> int:
    return 0 if part <= 0 else 255 if part >= 1 else int(255 * part + 0.5)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)
