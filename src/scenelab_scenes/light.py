"""Time of day and weather: colors of sky, light and haze."""

from dataclasses import dataclass, replace

import numpy as np

from .difficulty import NUISANCE


@dataclass(frozen=True)
class Light:
    """Light of a scene; colors are RGB arrays, float32 (3,), with values in [0, 1]."""

    hour: str  # day, overcast, dawn, dusk or night
    zenith: np.ndarray  # sky overhead
    rim: np.ndarray  # sky at the horizon, and haze
    tint: np.ndarray  # factor of all lit surfaces
    haze: float  # 0 is clear; at 1, an object at distance 1 keeps 1/e of its color
    sun: tuple[float, float]  # (x, y): x in unit coordinates, y as a fraction of the sky from its top
    cover: float  # cloud cover, 0 to 1

    @property
    def dark(self) -> bool:
        """Whether it is dusk or night, when lamps and windows are lit."""
        return self.hour in ("dusk", "night")


# hour: (probability, zenith, rim, tint); the colors are estimated from photographs
_HOURS = {
    "day": (0.42, (0.24, 0.46, 0.80), (0.72, 0.84, 0.94), (1.00, 0.98, 0.94)),
    "overcast": (0.22, (0.58, 0.62, 0.68), (0.80, 0.82, 0.84), (0.80, 0.83, 0.87)),
    "dawn": (0.10, (0.45, 0.52, 0.72), (0.97, 0.80, 0.70), (0.92, 0.80, 0.76)),
    "dusk": (0.14, (0.24, 0.25, 0.46), (0.97, 0.58, 0.32), (0.80, 0.58, 0.48)),
    "night": (0.12, (0.06, 0.08, 0.20), (0.22, 0.26, 0.40), (0.42, 0.48, 0.66)),
}


def draw_light(rng: np.random.Generator) -> Light:
    """Return a random light: a time of day with jittered colors, haze, sun position and cloud cover."""
    hours = list(_HOURS)
    hour = hours[int(rng.choice(len(hours), p=[_HOURS[name][0] for name in hours]))]
    _, zenith, rim, tint = (np.asarray(part, dtype=np.float32) for part in _HOURS[hour])
    misty = rng.random() < 0.15
    zenith, rim, tint = zenith * _jitter(rng, 0.12), rim * _jitter(rng, 0.08), tint * _jitter(rng, 0.10)
    haze = float(rng.uniform(0.1, 0.7) + 1.0 * misty) * NUISANCE
    x, heights = float(rng.uniform(0, 1)), (0.15, 0.5) if hour in ("day", "night") else (0.7, 1.0)
    sun = x, float(rng.uniform(*heights))
    cover = float(rng.uniform(0.7, 1.0) if hour == "overcast" else rng.uniform(0.0, 0.75))
    return Light(hour, zenith, rim, tint, haze, sun, cover)


def indoors(light: Light, rng: np.random.Generator) -> Light:
    """Return the light inside a room: lamplight at night, a mixture at dusk and sometimes by day, else daylight."""
    lamps = np.array((0.88, 0.76, 0.58), dtype=np.float32) * _jitter(rng, 0.10)
    if light.hour == "night":
        return replace(light, tint=lamps * 0.85)
    if light.hour == "dusk" or rng.random() < 0.3:
        return replace(light, tint=(lamps + light.tint) / 2)
    return light


def _jitter(rng: np.random.Generator, spread: float) -> np.ndarray:
    return np.exp(rng.normal(0, spread) + rng.normal(0, spread / 4, 3)).astype(np.float32)
