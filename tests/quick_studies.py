"""Training of studies in this process, with a small recipe and without output."""

import dataclasses
from types import ModuleType

from scenelab.data.augment_config import Augment
from scenelab.errors import Diverged
from scenelab.progress import LogProgress
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig, to_plain
from scenelab.studies import runs
from scenelab.training.recipes import RECIPES


class Quiet(LogProgress):
    def step(self, moment): ...
    def epoch(self, text): ...


def tiny(**values) -> TrainConfig:
    small = {"batch_size": 24, "stored_size": 32, "eval_size": 32, "threads": 2, "log_every": 1}
    parts = {"augment": Augment(flip=True), "optimizer": OptimizerConfig(lr=0.02)}
    return TrainConfig(**{**small, **parts, "schedule": ScheduleConfig(sizes=((0.0, 32),)), **values})


def train_here(monkeypatch, module: ModuleType) -> list[str]:
    """Let a module train in this process, and return the list that the trained runs are added to; `plain` diverges."""
    names = []

    def train_run(folder, data, config):
        names.append(f"{folder.parent.name}/{folder.name}")
        if config.model == "plain":
            raise Diverged("training diverged at step 1: the loss is nan; try less")
        runs.worker(str(folder), str(data), to_plain(config), display=Quiet())

    monkeypatch.setattr(module, "train_run", train_run)
    return names


def plan_here(monkeypatch) -> list[str]:
    """Replace the recipe `laptop` by a small one with a plan of one epoch, and train in this process."""

    def plan(config, *, images, categories):
        sizes = ScheduleConfig(sizes=((0.0, 16), (0.5, 32)))
        return dataclasses.replace(config, plan=False, minutes=0.0, epochs=1, schedule=sizes)

    values = {"recipe": "laptop", "batch_size": 16, "minutes": 0.01, "plan": True, "label_smoothing": 0.1, "ema": 0.9}
    optimizer = OptimizerConfig(name="muon", lr=0.02, momentum=0.95)
    monkeypatch.setitem(RECIPES, "laptop", lambda: tiny(optimizer=optimizer, **values))
    monkeypatch.setattr(runs, "plan", plan)
    monkeypatch.setattr(runs, "HOLDOUT", 0.34)
    return train_here(monkeypatch, runs)
