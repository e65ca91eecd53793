"""Small runs, runs that are stopped, and whether two runs are the same."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import torch

from scenelab.data.augment_config import Augment
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig

QUIET = LogProgress(every_steps=10**9)
SIZES = ScheduleConfig(sizes=((0.0, 32),))
TINY = TrainConfig(model="simplenet-small", epochs=2, batch_size=16, stored_size=32, eval_size=32, threads=2)


def tiny(**changes) -> TrainConfig:
    """A config for images of 32 pixels, with changes."""
    base = {"log_every": 1, "schedule": SIZES, "augment": Augment(flip=True), "optimizer": OptimizerConfig(lr=0.01)}
    return dataclasses.replace(TINY, **(base | changes))


class StopAfter(LogProgress):
    """Presses Ctrl-C when a step is reached."""

    def __init__(self, step):
        super().__init__(every_steps=10**9)
        self.stop_at = step

    def step(self, moment):
        if moment.step == self.stop_at:
            signal.raise_signal(signal.SIGINT)


def read_rows(run: Path, split: str | None = None) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, or those of one split."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if split in (None, row.get("split"))]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)["state_dict"]


def same(one, other) -> bool:
    """Equal in value, kind, order, and for tensors in layout."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("model_best.pth.tar", "checkpoint.pth.tar"):
        first, second = load_checkpoint(one / name), load_checkpoint(other / name)
        assert same(first["state_dict"], second["state_dict"])
        assert first["best_acc1"] == second["best_acc1"]
