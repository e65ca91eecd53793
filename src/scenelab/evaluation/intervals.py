"""95 % confidence intervals of means, proportions, sums of Bernoulli variables and paired differences."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, mean, stdev
from typing import Any

from mpmath import betainc, findroot

from scenelab.schema import Number

LEVEL = 0.95
QUANTILE = 0.5 + LEVEL / 2
NORMAL = NormalDist().inv_cdf(QUANTILE)
Interval = tuple[Number, Number]


@cache
def t_quantile(degrees_of_freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, for two-sided 95 % intervals.

    The probability of |t| > x is the regularized incomplete beta function I(ν / (ν + x²); ν / 2, 1 / 2) for ν degrees
    of freedom (Abramowitz & Stegun 1964, 26.7.1).
    """

    def excess(x: Any) -> Any:
        share = degrees_of_freedom / (degrees_of_freedom + x * x)
        return betainc(degrees_of_freedom / 2, 0.5, 0, share, regularized=True) - (1 - LEVEL)

    return float(findroot(excess, NORMAL))


def mean_error(values: Sequence[float]) -> float | None:
    """Return the half-width of the mean's 95 % Student's t interval; None for fewer than two values."""
    if len(values) < 2:
        return None
    return t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the mean's 95 % Student's t interval; None for fewer than two values."""
    error = mean_error(values)
    return None if error is None else (mean(values) - error, mean(values) + error)


def wilson(correct: int, count: int) -> Interval:
    """Return the 95 % interval of `correct` / `count` in percent (Wilson 1927); (0, 100) if `count` is 0."""
    if count == 0:
        return 0.0, 100.0
    square = NORMAL**2
    center = (correct + square / 2) / (count + square)
    error = NORMAL / (count + square) * math.sqrt(correct * (count - correct) / count + square / 4)
    low, high = 100 * (center - error), 100 * (center + error)
    return low if correct else 0.0, high if correct < count else 100.0  # exact despite rounding


def bernoulli_error(shares: Sequence[float]) -> float:
    """Return the normal 95 % half-width for a sum of independent Bernoulli variables with means `shares`."""
    return NORMAL * math.sqrt(sum(share * (1 - share) for share in shares))


def paired_difference(only_first: int, only_second: int, count: int) -> tuple[float, Interval]:
    """Return the accuracy difference of two runs, second minus first, and its 95 % interval, in percentage points.

    Of the n = `count` images, b = `only_first` are correct only in the first run, c = `only_second` only in the second.
    The variance of (c - b) / n is (b + c - (b - c)² / n) / n² (McNemar 1947; Fleiss et al. 2003, section 13.1).
    """
    points = 100 * (only_second - only_first) / count
    variance = only_first + only_second - (only_first - only_second) ** 2 / count
    error = 100 * NORMAL * math.sqrt(max(variance, 0.0)) / count
    return points, (points - error, points + error)
