"""Learning rate and resolution as pure functions of the step, so resuming needs no scheduler state."""

import math

from scenelab.runs.config import ScheduleConfig


def learning_rate_factor(step: float, *, total: int, warmup: int, schedule: ScheduleConfig) -> float:
    """Return the learning rate at a step as a fraction of the peak learning rate.

    Linear warm-up (step + 1) / warmup, then cosine decay final + (1 - final) · (1 + cos(π·t)) / 2, where t rises from 0
    to 1 over the remaining steps (Loshchilov & Hutter 2017, equation 5, without restarts), or linear decay
    final + (1 - final) · (1 - t).
    `step` counts from 0 and may be fractional; `total` and `warmup` are numbers of steps.
    """
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    share = 1 - progress if schedule.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return schedule.final + (1 - schedule.final) * share


def side_at(step: float, *, total: int, schedule: ScheduleConfig) -> int:
    """Return the side of the training images in pixels at a step (counted from 0) of a run of `total` steps."""
    share = step / max(1, total)
    return [side for start, side in schedule.sizes if start <= share][-1]
