"""Curves in the figures of studies and reports: long curves averaged to fewer points, and accuracy against ε."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from scenelab.evaluation.results import Share


def thin(points: Sequence[Sequence[float]], max_points: int) -> np.ndarray:
    """Average groups of consecutive points (x, y); return a 2×m array of x and y, with m ≤ `max_points`."""
    parts = np.array_split(np.asarray(points, dtype=float), min(len(points), max_points))
    return np.array([part.mean(axis=0) for part in parts]).T


def plot_worst_case(axis: Axes, clean: Share, attacked: Sequence[tuple[float, Share]], **style: Any) -> list[float]:
    """Plot accuracy against ε on `axis`, with 95 % intervals; return all ε in units of 1/255, including 0.

    `clean` is the accuracy at ε = 0, `attacked` has pairs of ε, for pixel values in [0, 1], and accuracy under attack.
    """
    points = [(0.0, clean), *attacked]
    levels = [255 * epsilon for epsilon, _ in points]
    heights = np.array([share.accuracy for _, share in points])
    low, high = np.array([share.interval for _, share in points]).T
    errors = np.maximum(0, [heights - low, high - heights])
    axis.errorbar(levels, heights, yerr=errors, capsize=3, elinewidth=0.8, **style)
    return levels
