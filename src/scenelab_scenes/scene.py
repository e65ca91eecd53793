"""What every painter and every element shares: the canvas, the dice, the light and the horizon."""

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Colour
from .light import Light


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image being painted."""

    canvas: Canvas
    rng: np.random.Generator
    light: Light
    horizon: float  # height of the eye line, unit coordinate
    mixed: bool  # borrows elements of a second kind

    def tone(self, colour: Colour, distance: float = 0.0, *, spread: float = 0.0) -> np.ndarray:
        """A surface's colour as seen, float32 (3,): jittered, lit, then veiled by haze.

        c' = rim + (c * tint - rim) * exp(-haze * distance)

        Args:
            colour: (3,) under white light.
            distance: 0 at the camera, about 1 at the farthest hills.
            spread: relative standard deviation of a random change in brightness and hue.
        """
        base = np.asarray(colour, dtype=np.float32)
        if spread:
            base = base * (1 + self.rng.normal(0, spread)) * (1 + self.rng.normal(0, spread / 3, 3))
        kept = float(np.exp(-self.light.haze * distance))
        return (self.light.rim + (base * self.light.tint - self.light.rim) * kept).astype(np.float32)

    def chance(self, probability: float) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A uniform draw."""
        return float(self.rng.uniform(low, high))

    def pick(self, *options: Colour) -> np.ndarray:
        """One of several colours, jittered, float32 (3,)."""
        colour = np.asarray(options[int(self.rng.integers(len(options)))], dtype=np.float32)
        return colour * np.exp(self.rng.normal(0, 0.08) + self.rng.normal(0, 0.03, 3)).astype(np.float32)

    def row(self, y: float) -> int:
        """The pixel row at unit height `y`, inside the image."""
        return min(self.canvas.side - 1, max(0, int(y * self.canvas.side)))
