"""Compare the accuracy of two runs on the same images."""

from dataclasses import dataclass
from itertools import pairwise

from scenelab.errors import LabError
from scenelab.evaluation.intervals import Interval, paired_difference
from scenelab.report.collect import RunData
from scenelab.report.sections import Section


@dataclass(frozen=True)
class Difference:
    """Difference in accuracy between two runs, paired by image.

    Attributes:
        images: number of images with predictions of both runs.
        only_first: number of images that only the first run classifies correctly.
        only_second: number of images that only the second run classifies correctly.
        points: accuracy of the second run minus accuracy of the first run, in percentage points.
        interval: 95 % confidence interval of `points`.
    """

    images: int
    only_first: int
    only_second: int
    points: float
    interval: Interval


def compare(first: RunData, second: RunData, *, k: int = 1) -> Difference:
    """Compare the top-k accuracy of two runs on their common images.

    Raises:
        LabError: a run has no predictions, the runs have no common images, or their labels differ.
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
    return Difference(len(shared), only_first, only_second, *paired_difference(only_first, only_second, len(shared)))


def compare_neighbors(section: Section, runs: list[RunData]) -> None:
    """Add a table to `section` that compares each run's top-1 and top-5 accuracy with the previous run's."""
    rows = []
    for first, second in pairwise(runs):
        try:
            differences = {f"top-{k}": compare(first, second, k=k) for k in (1, 5)}
        except LabError as error:
            section.text(f"**{first.name} and {second.name} cannot be compared:** {error}.")
            continue
        for measure, result in differences.items():
            low, high = result.interval
            counts = [str(count) for count in (result.images, result.only_second, result.only_first)]
            verdict = "different" if low > 0 or high < 0 else "no significant difference"
            points = f"{result.points:+.2f} ({low:+.2f} to {high:+.2f})"
            rows.append([f"{second.name} − {first.name}", measure, points, *counts, verdict])
    if rows:
        head = "runs|measure|points (95 %)|images|only the first correct|only the second correct|verdict".split("|")
        section.table(head, rows, "Differences on the same images, paired by image (mirror-averaged predictions).")
