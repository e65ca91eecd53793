"""Interleave measurements of several subjects and compare them round by round."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

Measurements = dict[str, float]
Rounds = dict[str, dict[str, list[float]]]
"""Values by quantity and subject, one per round."""


def interleave(names: Iterable[str], measure: Callable[[str], Measurements], rounds: int) -> Rounds:
    """Measure each subject in `names` once per round; return the values by quantity and subject, one per round.

    The order is A B C, C B A, A B C, …, so that slow phases of the machine affect all subjects equally.
    """
    names, values = list(names), {}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            for quantity, value in measure(name).items():
                values.setdefault(quantity, {key: [] for key in names})[name].append(value)
    return values


def seconds_of(work: Callable[[], object]) -> Measurements:
    """Return the duration of one call of `work` in `seconds`."""
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


def ratio(values: dict[str, list[float]], ours: str, baseline: str) -> dict[str, Any]:
    """Return median, minimum, maximum and number `n` of the per-round ratios `values[ours] / values[baseline]`."""
    ratios = [value / other for value, other in zip(values[ours], values[baseline], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "n": len(ratios)}
