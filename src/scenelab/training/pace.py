"""Comparison of a run's speed with its plan, and a new plan for the rest of the run if they differ."""

import dataclasses
import math
import time
from dataclasses import dataclass, field

from scenelab.data.loader import TrainLoader
from scenelab.io import write_json
from scenelab.runs.config import TrainConfig, from_plain, to_plain
from scenelab.runs.run import Run
from scenelab.training import budget
from scenelab.training.budget import plan
from scenelab.training.distributed import World
from scenelab.training.state import TrainState, ema_with_warmup

TOLERANCE = 0.15  # relative difference from the expected speed above which a run is planned again
FIRST_CHECK = 0.02  # fraction of the run's time, after the warm-up, until the first check; then after each epoch
WINDOW = 0.01  # fraction of the run's time that steps between two checks take at least; epochs may be shorter
PLANNING = 0.05  # fraction of the run's time that measurements for new plans may take
WARMUP = 3  # first steps of a process, which are slower and do not count
SUBJECTS = 4  # measurements of a plan: two precisions, two sizes
PLANNED = ("autocast", "epochs", "ema", "eval_size", "schedule", "speeds")
"""Names of the config values that a new plan changes."""


@dataclass
class Pace:
    """Measured and planned duration of the steps since the last check.

    Attributes:
        planned: seconds by the plan.
        measured: seconds that the steps took.
        usual: speed relative to the plan that is expected. It is 1 unless a new plan changed nothing, so that a machine
            that stays slow is not measured again after each epoch.
        steps: number of steps of this process.
        first_check: completed fraction of the run at which the speed is first checked; infinite if it was.
        planning: seconds that new plans took, and those that the next one takes.
    """

    planned: float = 0.0
    measured: float = 0.0
    usual: float = 1.0
    steps: int = 0
    first_check: float = math.inf
    planning: tuple[float, float] = field(default_factory=lambda: (0.0, SUBJECTS * budget.SECONDS))

    def add(self, config: TrainConfig, images: int, side: int, seconds: float) -> None:
        """Add a step on `images` images of `side`×`side` pixels."""
        self.steps += 1
        if self.steps > WARMUP and (speed := dict(config.speeds).get(side)):
            self.planned += images / speed
            self.measured += seconds

    def is_first_check(self, share: float) -> bool:
        """Return True once per process, with `FIRST_CHECK` of the run behind its warm-up steps.

        `share` is the completed fraction of the run; call this after each step.
        """
        if self.steps == WARMUP:
            self.first_check = share + FIRST_CHECK
        is_first = share >= self.first_check
        if is_first:
            self.first_check = math.inf
        return is_first

    def check(self, minutes: float) -> float | None:
        """Return the speed relative to the plan if it is not the usual one, and start new sums.

        Returns None, and goes on with the sums, while they are short or new plans have taken too much of the `minutes`.
        """
        if self.measured < WINDOW * 60 * minutes or sum(self.planning) > PLANNING * 60 * minutes:
            return None
        speed = self.planned / self.measured if self.measured else self.usual
        self.planned = self.measured = 0.0
        return speed if abs(speed / self.usual - 1) > TOLERANCE else None


def follow_plan(
    pace: Pace, config: TrainConfig, run: Run, state: TrainState, loader: TrainLoader, world: World
) -> tuple[TrainConfig, str]:
    """Check the speed; if it is not the expected one, measure the machine and plan the rest of the run again.

    The new plan is saved in the run's config, unless it has the same precision and resolutions: learning rate and
    resolution depend on elapsed time, so a run ends in time at any speed.

    Returns:
        The config to continue with, and a text about the new plan; empty if the speed is as expected.
    """
    speed = world.broadcast_object(pace.check(config.minutes) if config.speeds else None)
    if speed is None:
        return config, ""
    began = time.monotonic()
    images, seen = len(loader.dataset) // world.size, state.run.seen // world.size
    categories, seconds = loader.dataset.categories, state.run.spent
    planned = plan(config, images=images, categories=categories, seen=seen, seconds=seconds, world=world)
    planned = from_plain(world.broadcast_object(to_plain(planned)))
    seconds = time.monotonic() - began
    pace.planning = (pace.planning[0] + seconds, seconds)
    before, after = describe(config), describe(planned)
    pace.usual = speed if before == after else 1.0
    text = f"step {state.step}: {speed:.2f} times the planned speed; "
    if before == after:
        return config, f"{text}the plan stays, {before}"
    if state.average is not None:
        state.average.multi_avg_fn = ema_with_warmup(planned.ema)
    if world.is_primary:
        stored = run.read_config()
        write_json(run.config, to_plain(dataclasses.replace(stored, train=_adopt(stored.train, planned))))
    return _adopt(config, planned), f"{text}{before} → {after}"


def _adopt(config: TrainConfig, planned: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, **{name: getattr(planned, name) for name in PLANNED})


def describe(config: TrainConfig) -> str:
    """Return resolutions and precision as text, for example "64, then 80 pixels, bfloat16"."""
    sides = ", then ".join(str(side) for _, side in config.schedule.sizes)
    return f"{sides} pixels, {'bfloat16' if config.autocast else 'float32'}"
