"""Compare two runs on the same images."""

from dataclasses import dataclass

from scenelab.errors import LabError
from scenelab.evaluation.intervals import Interval, paired_difference
from scenelab.report.collect import RunData


@dataclass(frozen=True)
class Difference:
    """Second run minus first, in percentage points of accuracy.

    Attributes:
        images: images that both runs have predictions of.
        only_first, only_second: images that only this run has right.
        interval: 95 %, paired by image.
    """

    images: int
    only_first: int
    only_second: int
    points: float
    interval: Interval


def compare(first: RunData, second: RunData, *, k: int = 1) -> Difference:
    """Compare the top-k accuracy of two runs, image by image.

    Raises:
        LabError: a run has no predictions, or the runs share no images or disagree on a label.
    """
    for run in (first, second):
        if not run.guesses:
            raise LabError(f"{run.folder} has no predictions; run: scenelab evaluate {run.folder}")
    shared = [path for path in first.guesses if path in second.guesses]
    if not shared:
        raise LabError(f"{first.folder} and {second.folder} share no evaluated images; evaluate both on one split")
    if any(first.labels[path] != second.labels[path] for path in shared):
        raise LabError(f"{first.folder} and {second.folder} have different labels; evaluate both on one data set")
    hits = [[run.labels[path] in run.guesses[path][:k] for path in shared] for run in (first, second)]
    only_first = sum(one and not two for one, two in zip(*hits, strict=True))
    only_second = sum(two and not one for one, two in zip(*hits, strict=True))
    points, interval = paired_difference(only_first, only_second, len(shared))
    return Difference(len(shared), only_first, only_second, points, interval)
