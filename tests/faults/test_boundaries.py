"""A process that dies as any one of its file-system calls begins leaves the old file or the new one, whole."""

import random
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from faults.acts import checkpoint
from faults.cases import assert_few_leftovers, assert_run_whole, training
from faults.tally import FULL, SEED, rounds
from faults.tracing import faults_of_order, kill_at, read_trace, watch
from scenelab.io import read_json, write_json
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(3600 if FULL else 300)]


def write_old(path: Path, act: str) -> None:
    if act == "save":
        save_checkpoint(path, checkpoint("old"))
    else:
        write_json(path, {"value": ["old"]})


def version(path: Path, act: str) -> str:
    """Which version the file is; it must be one of the two to the last byte."""
    if act == "save":
        values = load_checkpoint(path)
        name = "new" if values["step"] else "old"
        for key, value in checkpoint(name)["state_dict"].items():
            assert torch.equal(values["state_dict"][key], value)
        return name
    value = read_json(path)["value"]
    assert value in (["old"], ["new"] * 3000)
    return value[0]


@pytest.mark.parametrize("act", ["save", "write_value"])
def test_every_boundary(server, tmp_path, tally, act):
    """Of the writing of a checkpoint and of a JSON file: each call in turn is the last."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    write_old(path, act)
    seen, run = set(), partial(server.run, str(path), call=f"faults.acts:{act}")
    undisturbed = run(trace=watch())
    assert undisturbed.status == 0, undisturbed.err
    for call in [each for each in read_trace(undisturbed.trace) if each.touches(folder)]:
        write_old(path, act)
        ended = run(trace=kill_at(call))
        with tally.fault(f"kill at a call of {act}"):
            assert ended.killed, f"{call}: {ended}"
            seen.add(version(path, act))
            assert_few_leftovers(folder)
    assert seen == {"old", "new"}
    write_old(path, act)
    assert [each.name for each in folder.iterdir()] == ["file"], "what the dead left is in nobody's way"


def test_train(server, scenes, clean, tmp_path, tally):
    """A whole training run killed as calls below its folder begin, then resumed."""
    case, expected = training(scenes), tmp_path / "expected"
    trace = case.run_undisturbed(server, expected, trace=watch()).trace
    calls = [call for call in read_trace(trace) if call.touches(expected / "run")]
    assert len(calls) > 200
    for number, call in enumerate(random.Random(SEED).sample(calls, rounds(4, 60))):
        work = tmp_path / f"work{number}"
        case.prepare(work)
        ended = case.run(server, work, trace=kill_at(call))
        if ended.status == 0:
            continue  # a thread of TensorBoard's made the call in the watched run
        with tally.fault("kill at a call of train"):
            assert ended.killed, ended.err
            assert_run_whole(work / "run", clean)
            case.go_on(server, work, expected)
        shutil.rmtree(work)


def test_order_of_train(server, scenes, tmp_path, tally):
    """Power cuts: a name is given only to what is on disk, and is brought there itself (fsync, rename, fsync of the
    folder; Pillai et al., All File Systems Are Not Created Equal, OSDI 2014).
    """
    calls = read_trace(training(scenes).run_undisturbed(server, tmp_path, trace=watch()).trace)
    assert sum(call.name.startswith("rename") for call in calls) > 10
    with tally.fault("power cut in train, by the order of its calls"):
        assert faults_of_order(calls, tmp_path) == []
