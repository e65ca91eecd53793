"""Runs that are stopped, and whether two runs are the same."""

import signal

import torch

from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint


class StopAfter(LogProgress):
    """Presses Ctrl-C when a step is reached."""

    def __init__(self, step):
        super().__init__(every_steps=10**9)
        self.stop_at = step

    def step(self, moment):
        if moment.step == self.stop_at:
            signal.raise_signal(signal.SIGINT)


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("model_best.pth.tar", "checkpoint.pth.tar"):
        first, second = load_checkpoint(one / name), load_checkpoint(other / name)
        assert first["state_dict"].keys() == second["state_dict"].keys()
        for key, value in first["state_dict"].items():
            assert torch.equal(value, second["state_dict"][key]), key
        assert first["best_acc1"] == second["best_acc1"]
