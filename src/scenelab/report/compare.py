"""Two runs on the same images: the difference of their accuracies, and how sure it is."""

import math
from dataclasses import dataclass

from scenelab.errors import LabError
from scenelab.report.collect import RunData

NORMAL = 1.959964


@dataclass(frozen=True)
class Difference:
    """Second run minus first, in points of accuracy.

    Attributes:
        only_first, only_second: images that one run alone has right.
        interval: 95 %, for the same images: those that both have right or wrong say nothing of the difference.
    """

    images: int
    only_first: int
    only_second: int
    points: float
    interval: tuple[float, float]


def compare(first: RunData, second: RunData, *, k: int = 1) -> Difference:
    """Pair the runs' first k guesses image by image.

    The difference d = (c - b) / n of paired shares has the variance (b + c - (b - c)² / n) / n² (McNemar 1947; Fleiss
    et al. 2003, section 13.1).

    Raises:
        LabError: a run has no predictions, or they share no images.
    """
    for run in (first, second):
        if not run.guesses:
            raise LabError(f"{run.folder} has no predictions; run: scenelab evaluate {run.folder}")
    shared = [path for path in first.guesses if path in second.guesses]
    if not shared:
        raise LabError(f"{first.folder} and {second.folder} were evaluated on other images; evaluate both on one split")
    if any(first.labels[path] != second.labels[path] for path in shared):
        raise LabError(
            f"{first.folder} and {second.folder} have images with other labels; evaluate both on one data set"
        )
    right = [
        (first.labels[path] in first.guesses[path][:k], second.labels[path] in second.guesses[path][:k])
        for path in shared
    ]
    only_first = sum(one and not two for one, two in right)
    only_second = sum(two and not one for one, two in right)
    count = len(shared)
    points = 100 * (only_second - only_first) / count
    spread = only_first + only_second - (only_first - only_second) ** 2 / count
    away = 100 * NORMAL * math.sqrt(max(spread, 0.0)) / count
    return Difference(count, only_first, only_second, points, (points - away, points + away))
