"""A process that dies as any one of its file-system calls begins leaves the old file or the new one, whole."""

import random
import shutil
from pathlib import Path

import pytest
import torch

from faults.acts import checkpoint
from faults.cases import COMMAND, assert_few_leftovers, assert_run_whole, assert_same_training, training
from faults.tally import FULL, SEED, rounds
from faults.tracing import Call, faults_of_order, kill_at, read_trace, watch
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


def boundaries(server, *arguments: str, call: str, below: Path) -> list[Call]:
    """The calls that change something in the folder, in an undisturbed run."""
    ended = server.run(*arguments, call=call, trace=watch())
    assert ended.status == 0, ended.err
    return [each for each in read_trace(ended.trace) if each.touches(below)]


@pytest.mark.parametrize("act", ["save", "write_value"])
def test_every_boundary(server, tmp_path, tally, act):
    """Of the writing of a checkpoint and of a JSON file: each call in turn is the last."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    write_old(path, act)
    seen = set()
    for call in boundaries(server, str(path), call=f"faults.acts:{act}", below=folder):
        write_old(path, act)
        ended = server.run(str(path), call=f"faults.acts:{act}", trace=kill_at(call))
        with tally.fault(f"kill at a call of {act}"):
            assert ended.killed, f"{call}: {ended}"
            seen.add(version(path, act))
            assert_few_leftovers(folder)
    assert seen == {"old", "new"}
    write_old(path, act)
    assert [each.name for each in folder.iterdir()] == ["file"], "what the dead left is in nobody's way"


def test_train(server, scenes, clean, tmp_path, tally):
    """A whole training run killed as calls below its folder begin, then resumed."""
    command = ["train", "tiny", "--data", str(scenes), "--out"]
    calls = boundaries(server, *command, str(tmp_path / "watched"), call=COMMAND, below=tmp_path / "watched")
    assert len(calls) > 200
    for number, call in enumerate(random.Random(SEED).sample(calls, rounds(4, 60))):
        run = tmp_path / f"run{number}"
        ended = server.run(*command, str(run), call=COMMAND, trace=kill_at(call))
        if ended.status == 0:
            continue  # a thread of TensorBoard's made the call in the watched run
        with tally.fault("kill at a call of train"):
            assert ended.killed, ended.err
            assert_run_whole(run, clean)
            again = ["resume", str(run)] if (run / "config.json").exists() else [*command, str(run)]
            ended = server.run(*again, call=COMMAND)
            assert ended.status == 0, ended.err
            assert_same_training(run, clean)
        shutil.rmtree(run)


def test_order_of_train(server, scenes, tmp_path, tally):
    """Power cuts: a name is given only to what is on disk, and is brought there itself (fsync, rename, fsync of the
    folder; Pillai et al., All File Systems Are Not Created Equal, OSDI 2014).
    """
    ended = server.run(*training(scenes).command(tmp_path), call=COMMAND, trace=watch())
    assert ended.status == 0, ended.err
    calls = read_trace(ended.trace)
    assert sum(call.name.startswith("rename") for call in calls) > 10
    with tally.fault("power cut in train, by the order of its calls"):
        assert faults_of_order(calls, tmp_path) == []
