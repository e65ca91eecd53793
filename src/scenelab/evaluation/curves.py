"""Curves in the figures of studies and reports: thinned curves, and accuracy against ε."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes


def thin(points: list[list[float]], max_points: int) -> np.ndarray:
    """Return a 2×m array of x and y: means of m ≤ `max_points` groups of consecutive points."""
    parts = np.array_split(np.asarray(points, dtype=float), min(len(points), max_points))
    return np.array([part.mean(axis=0) for part in parts]).T


def plot_worst_case(axis: Axes, clean: dict[str, Any], attacked: list[dict[str, Any]], **style: Any) -> list[float]:
    """Plot worst-case accuracy against ε on `axis`, with 95 % intervals; return each ε in units of 1/255, first 0.

    `clean` and the items of `attacked` have the keys `accuracy` and `interval`, in percent.
    """
    points = [{"epsilon": 0.0, **clean}, *attacked]
    levels = [255 * point["epsilon"] for point in points]
    heights = np.array([point["accuracy"] for point in points])
    low, high = np.array([point["interval"] for point in points]).T
    errors = np.maximum(0, [heights - low, high - heights])
    axis.errorbar(levels, heights, yerr=errors, capsize=3, elinewidth=0.8, **style)
    return levels
