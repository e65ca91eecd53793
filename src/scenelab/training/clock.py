"""Measure how far a run is: by its steps, or under a time limit by its seconds."""

from dataclasses import dataclass

from scenelab.runs.config import TrainConfig
from scenelab.training.state import TrainState


@dataclass(frozen=True)
class RunClock:
    """The position of a run between its first step (0) and its end (1).

    Args:
        config: of the run.
        steps_per_epoch: number of batches per epoch.
        val_images: number of images of an evaluation.
    """

    config: TrainConfig
    steps_per_epoch: int
    val_images: int

    @property
    def total_steps(self) -> int:
        """The number of steps of a run without a time limit."""
        return total_steps(self.config, self.steps_per_epoch)

    def progress(self, state: TrainState) -> float:
        """Return the completed share, in [0, 1]: of the steps, or of the minutes minus the last evaluation."""
        if not self.config.minutes:
            return state.step / self.total_steps
        if state.is_complete:
            return 1.0
        reserve = (state.run.evaluating or self._guess_evaluation(state)) + state.run.probing
        return min(1.0, state.run.spent / max(1.0, 60 * self.config.minutes - reserve))

    def expected_steps(self, state: TrainState) -> int:
        """Return the number of steps of the run; under a time limit an estimate until the last step."""
        if not self.config.minutes or not state.step:
            return self.total_steps
        return max(state.step, round(state.step / max(1e-9, self.progress(state))))

    def _guess_evaluation(self, state: TrainState) -> float:
        """Return the seconds that the first evaluation will take.

        A forward pass is a third of a step; evaluation has more pixels and is in float32, up to twice as slow as
        bfloat16.
        """
        if not state.run.seen:
            return 0.0
        pixels = (self.config.eval_size / self.config.schedule.sizes[0][1]) ** 2
        return state.run.spent / state.run.seen / 3 * pixels * (1 + self.config.autocast) * self.val_images


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Return the number of steps in `config.epochs`, at least 1."""
    return max(1, round(config.epochs * steps_per_epoch))
