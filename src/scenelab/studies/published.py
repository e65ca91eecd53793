"""Published training curves of the handout's program, and comparison of a run's loss with them."""

import json
import math
from importlib.resources import files
from typing import Any

from scenelab.evaluation.study_results import Curve, Distance

AVERAGED = 5  # points of a published curve, ten steps apart, in a running mean
PLATEAU = 0.05  # nats below the loss of guessing at which the plateau ends


def published() -> dict[str, Any]:
    """Return the published curves by team: setting, training loss by step, and val top-1 by epoch."""
    return json.loads((files("scenelab.studies") / "published.json").read_text(encoding="utf-8"))


def smooth(curve: Curve) -> Curve:
    """Return the running mean over five points ten steps apart, at the step in the middle."""
    points = [point for point in curve if point[0] % 10 == 0]
    groups = [points[start : start + AVERAGED] for start in range(len(points) - AVERAGED + 1)]
    return [(group[AVERAGED // 2][0], sum(value for _, value in group) / AVERAGED) for group in groups]


def plateau_end(curve: Curve, guessing: float = math.log(100)) -> int | None:
    """Return the first step at which the smoothed loss is 0.05 nats below `guessing`, or None."""
    return next((step for step, value in smooth(curve) if value < guessing - PLATEAU), None)


def largest_distance(curve: Curve, others: list[Curve]) -> Distance | None:
    """Return the largest distance of the smoothed loss from the range of the `others`, at their common steps."""
    smoothed = [dict(smooth(other)) for other in others]
    largest = None
    for step, value in smooth(curve):
        if smoothed and all(step in other for other in smoothed):
            low, high = (bound(other[step] for other in smoothed) for bound in (min, max))
            outside = value - min(max(value, low), high)
            if largest is None or abs(outside) > abs(largest.outside):
                largest = Distance(step=step, loss=value, low=low, high=high, outside=outside)
    return largest
