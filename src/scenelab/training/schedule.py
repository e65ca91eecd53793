"""Learning rate and resolution as functions of the step, so that resuming needs no scheduler state."""

import math

from scenelab.runs.config import ScheduleConfig


def learning_rate_factor(step: float, *, total: int, warmup: int, final: float = 0.0) -> float:
    """Return the share of the peak learning rate at a step, counted from 0 and possibly fractional.

    Linear warm-up (step + 1) / warmup, then final + (1 - final) · (1 + cos(π·t)) / 2, where t rises from 0 to 1
    over the remaining steps (Loshchilov & Hutter 2017, equation 5, without restarts).
    """
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def side_at(step: float, *, total: int, schedule: ScheduleConfig) -> int:
    """Return the resolution of the training images at a step, in pixels."""
    share = step / max(1, total)
    return [side for start, side in schedule.sizes if start <= share][-1]
