"""Noise textures: random windows of one tileable sheet of fractal noise, computed once per process."""

from functools import cache

import numpy as np
from PIL import Image

SHEET = 512  # side of the sheet; a power of two, so that wrapping around is a bit mask
LENS = 0.35  # camera height times focal length, in units of the image side


@cache
def sheet() -> np.ndarray:
    """Return the sheet: read-only fractal noise, float32 (512, 512), with mean 0 and standard deviation 1."""
    white = np.random.Generator(np.random.PCG64(0)).standard_normal((SHEET, SHEET))
    frequency = np.hypot(np.fft.fftfreq(SHEET)[:, None], np.fft.rfftfreq(SHEET)[None, :]) * SHEET
    noise = np.fft.irfft2(np.fft.rfft2(white) / np.maximum(frequency, 3.0) ** 1.15, s=(SHEET, SHEET))
    noise = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    noise.setflags(write=False)
    return noise


@cache
def _sheet_image() -> Image.Image:
    return Image.fromarray(sheet())


def grain(rng: np.random.Generator, rows: int, columns: int, *, width: float, height: float) -> np.ndarray:
    """Return a random window of the sheet, resized to float32 (rows, columns), with standard deviation about 1.

    The window has `width` × `height` cells. Small windows give large soft shapes, large windows give fine grain, and
    unequal sides give streaks.
    """
    left, top = rng.uniform(0, SHEET - width), rng.uniform(0, SHEET - height)
    if width >= columns and height >= rows:  # cells are smaller than pixels: no interpolation needed
        across = (left + np.arange(columns) * (width / columns)).astype(np.intp)
        down = (top + np.arange(rows) * (height / rows)).astype(np.intp)
        window = sheet().take(down, axis=0).take(across, axis=1)
    else:
        box = (left, top, left + width, top + height)
        window = np.asarray(_sheet_image().resize((columns, rows), Image.Resampling.BILINEAR, box=box))
    sample = window[::4, ::4]
    return (window - sample.mean()) * (1 / (float(sample.std()) + 1e-6))


@cache
def _static() -> np.ndarray:
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal(2**20, dtype=np.float32)
    noise.setflags(write=False)
    return noise


def static(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return white noise of mean 0 and standard deviation 1, float32; small shapes are cut from a fixed array."""
    count = int(np.prod(shape))
    if count > _static().size // 2:
        return rng.standard_normal(shape, dtype=np.float32)
    start = int(rng.integers(_static().size - count))
    return _static()[start : start + count].reshape(shape)


def profile(rng: np.random.Generator, count: int, *, width: float) -> np.ndarray:
    """Return a fractal curve, float32 (count,), with standard deviation about 1; a larger `width` is rougher."""
    line = sheet()[int(rng.integers(SHEET))]
    places = rng.uniform(0, SHEET) + np.linspace(0, width, count)
    return np.interp(places, np.arange(SHEET * 2), np.tile(line, 2)).astype(np.float32)


def swell(rng: np.random.Generator, count: int, *, waves: float) -> np.ndarray:
    """Return a smooth curve, float32 (count,), about -1 to 1: a sum of four sines with about `waves` crests."""
    x, curve = np.linspace(0, 2 * np.pi, count), np.zeros(count)
    for rate in (0.45, 0.8, 1.3, 2.1):
        curve += np.sin(waves * rate * x + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.5, 1.0) / (0.6 + rate)
    return curve.astype(np.float32)


def plane(rng: np.random.Generator, rows: int, columns: int, *, across: float, along: float) -> np.ndarray:
    """Return noise on flat ground in perspective, float32 (rows, columns); it fades towards the horizon in row 0.

    A pixel at t below the horizon and x from the middle (in units of the image side) shows the ground at depth
    LENS / t, with LENS = camera height · focal length, and lateral offset x · depth. `across` and `along` are the cells
    of the sheet per unit of offset and of depth; unequal values give waves or furrows.
    """
    below = (np.arange(rows, dtype=np.float32) + 1) / columns
    depth = LENS / below
    aside = (np.arange(columns, dtype=np.float32) / columns - 0.5) * across
    turns = (depth * along + rng.uniform(0, SHEET)).astype(np.int32) & (SHEET - 1)
    cells = (depth[:, None] * aside[None, :] + rng.uniform(8, 9) * SHEET * 64).astype(np.int32) & (SHEET - 1)
    return sheet().ravel().take(turns[:, None] * SHEET + cells) * np.minimum(1, below * 6)[:, None]


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, and 3t² - 2t³ between, with t rising from 0 to 1 (smoothstep)."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
