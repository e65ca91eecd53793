"""SIGKILL at random moments of the real commands: what is there afterwards is whole, and they go on."""

import json
import random

import numpy as np
import pytest
import torch

from faults.forking import KILLED
from faults.tally import FULL, SEED, rounds
from runs_compared import assert_same_run
from scenelab.runs import Run, load_checkpoint

COMMAND = "faults.acts:command"


@pytest.fixture
def moments(request):
    print(f"moments of seed {SEED}")
    return random.Random(f"{request.node.name} {SEED}")


def assert_run_whole(run, clean):
    """Everything that has its name is whole, and what the checkpoint vouches for is what an undisturbed run has."""
    run = Run(run)
    for path in (run.config, run.environment, run.results / "training.json"):
        assert not path.exists() or json.loads(path.read_bytes())
    if run.best.exists():
        assert load_checkpoint(run.best)["state_dict"]
    if run.checkpoint.exists():
        kept = load_checkpoint(run.checkpoint)["metrics_bytes"]
        told, expected = run.metrics.read_bytes(), Run(clean).metrics.read_bytes()
        assert kept <= len(told)
        assert told[:kept] == expected[:kept]
    assert_few_leftovers(run.folder)


def assert_few_leftovers(folder):
    """A kill leaves at most one part of a file, which the next writer of that file removes."""
    leftovers = [path.name.rsplit(".", 2)[0] for path in folder.rglob("*.part")]
    assert len(leftovers) == len(set(leftovers)), leftovers


def assert_same_training(run, clean):
    assert_same_run(run, clean)
    ours, expected = (load_checkpoint(Run(each).checkpoint) for each in (run, clean))
    assert ours["step"] == expected["step"]
    for key, value in expected["average"].items():
        assert torch.equal(ours["average"][key], value), key
    assert json.loads((run / "results" / "training.json").read_text())["steps"] == expected["step"]
    for line in (run / "timings.jsonl").read_text().splitlines():
        json.loads(line)
    assert list(run.glob(".*")) == []


def test_train(server, scenes, clean, tmp_path, moments, tally):
    """Killed again and again, a run ends with the same metrics and weights, bit for bit."""
    wanted, tried, number = rounds(6, 200), 0, 0
    first = ["train", "tiny", "--data", str(scenes)]
    begun = server.run(*first, "--out", str(tmp_path / "timed"), call=COMMAND)
    while tried < wanted:
        run = tmp_path / f"run{number}"
        number += 1
        for _ in range(moments.randint(2, 7)):
            arguments = ["resume", str(run)] if (run / "config.json").exists() else [*first, "--out", str(run)]
            ended = server.run(*arguments, call=COMMAND, kill_after=moments.uniform(0, begun.seconds))
            if not ended.killed:
                assert ended.status == 0, ended.err
                break
            tried += 1
            with tally.fault("SIGKILL of train"):
                assert_run_whole(run, clean)
        arguments = ["resume", str(run)] if (run / "config.json").exists() else [*first, "--out", str(run)]
        ended = server.run(*arguments, call=COMMAND)
        assert ended.status == 0, ended.err
        assert_same_training(run, clean)
