"""Learning rate and picture size as functions of the position in the run, so that a resumed run needs no scheduler
state.
"""

import math

from scenelab.runs.config import ScheduleConfig


def learning_rate_factor(step: float, *, total: int, warmup: int, final: float = 0.0) -> float:
    """Share of the peak learning rate for the step with this number, counted from 0; a part of a step is allowed.

    Linear warm-up (step + 1) / warmup, then final + (1 - final) · (1 + cos(π·t)) / 2 with t running from 0 to 1
    over the remaining steps (Loshchilov & Hutter 2017, equation 5, without restarts).
    """
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def side_at(step: float, *, total: int, schedule: ScheduleConfig) -> int:
    """Side of the training pictures in pixels at this step."""
    share = step / max(1, total)
    return [side for start, side in schedule.sizes if start <= share][-1]
