"""Progress of a run, measured in steps, or in seconds if the run has a time limit."""

from dataclasses import dataclass

from scenelab.runs.config import TrainConfig
from scenelab.training.state import TrainState


@dataclass(frozen=True)
class RunClock:
    """Progress of a run, from 0 at the first step to 1 at the end.

    Args:
        config: config of the run.
        steps_per_epoch: number of batches per epoch.
        val_images: number of images evaluated after an epoch.
    """

    config: TrainConfig
    steps_per_epoch: int
    val_images: int

    @property
    def total_steps(self) -> int:
        """The number of steps of a run without a time limit."""
        return total_steps(self.config, self.steps_per_epoch)

    def progress(self, state: TrainState) -> float:
        """Return the completed fraction of the run's steps or, with a time limit, of its time, in [0, 1].

        The time limit is reduced by the expected seconds of the last evaluation and overfitting check.
        """
        if not self.config.minutes:
            return state.step / self.total_steps
        if state.is_complete:
            return 1.0
        limit = 60 * self.config.minutes
        reserve = (state.run.evaluating or min(limit / 2, self._guess_evaluation(state))) + state.run.probing
        return min(1.0, state.run.spent / max(1.0, limit - reserve))

    def expected_steps(self, state: TrainState) -> int:
        """Return the number of steps in the complete run; with a time limit, an estimate until the last step."""
        if not self.config.minutes or not state.step:
            return self.total_steps
        return max(state.step, round(state.step / max(1e-9, self.progress(state))))

    def _guess_evaluation(self, state: TrainState) -> float:
        """Return an estimate of the seconds that the first evaluation takes.

        A forward pass takes a third of a training step without an attack. Evaluation uses more pixels per image, and
        float32, which takes up to twice as long as bfloat16.
        """
        if not state.run.seen:
            return 0.0
        pixels = (self.config.eval_size / self.config.schedule.sizes[0][1]) ** 2
        forward = state.run.spent / state.run.seen / self.config.relative_flops / 3
        return forward * pixels * (1 + self.config.autocast) * self.val_images


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Return the number of training steps in `config.epochs` epochs, at least 1."""
    return max(1, round(config.epochs * steps_per_epoch))
