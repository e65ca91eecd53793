"""Training of studies in this process, with a small recipe and without output."""

from pathlib import Path

from scenelab.data.augment import Augment
from scenelab.progress import LogProgress
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig, to_plain
from scenelab.studies import runs


class Quiet(LogProgress):
    def step(self, moment): ...
    def epoch(self, text): ...


def tiny(**values) -> TrainConfig:
    defaults = {
        "batch_size": 24,
        "stored_size": 32,
        "eval_size": 32,
        "threads": 2,
        "log_every": 1,
        "augment": Augment(flip=True),
        "schedule": ScheduleConfig(sizes=((0.0, 32),)),
        "optimizer": OptimizerConfig(lr=0.02),
    }
    return TrainConfig(**{**defaults, **values})


def train(folder: Path, data: Path, config: TrainConfig, display: LogProgress | None = None) -> None:
    runs.worker(str(folder), str(data), to_plain(config), display=display or Quiet())
