"""The study of native against custom convolution, on synthetic scenes."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time

import pytest

from scenelab.cli import main
from scenelab.conv.conv2d import Conv2d
from scenelab.data.augment import Augment
from scenelab.errors import Interrupted, LabError
from scenelab.io import read_json
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig, to_plain
from scenelab.runs.run import Run
from scenelab.studies import apart, conv
from scenelab.studies.conv_findings import compare, to_markdown
from scenelab.training.recipes import RECIPES


class Quiet(LogProgress):
    def step(self, moment): ...
    def epoch(self, text): ...


def tiny() -> TrainConfig:
    return TrainConfig(
        recipe="tiny", batch_size=24, stored_size=32, eval_size=32, threads=2, augment=Augment(flip=True),
        schedule=ScheduleConfig(sizes=((0.0, 32),)), optimizer=OptimizerConfig(lr=0.02),
    )  # fmt: skip


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Train in this process, with a small recipe; lists the sides that were trained."""
    names = []

    def train(folder, data, config):
        names.append(config.conv)
        apart.train_here(folder, data, config, display=Quiet())

    monkeypatch.setattr(conv, "train_apart", train)
    monkeypatch.setitem(RECIPES, "tiny", tiny)
    return names


def study(*arguments: object, status: int = 0) -> None:
    assert main.run(["study", "conv", "--recipe", "tiny", *map(str, arguments)]) == status


def test_two_runs_are_compared_in_numbers_words_and_a_figure(trained, scenes, tmp_path, capsys):
    out = tmp_path / "study"
    study("--data", scenes, "--out", out, "--steps", 8, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(out / "study.json")
    assert trained == ["native", "custom"]
    for side in ("native", "custom"):
        values = result["sides"][side]
        assert [step for step, _ in values["loss"]] == list(range(1, 9))
        # 72 images are three steps of 24: two whole epochs and a part of a third
        assert [row["epoch"] for row in values["accuracy"]["val"]] == [1, 2, 3]
        assert values["peak_memory_bytes"] > 0
        assert load_checkpoint(out / side / "model_best.pth.tar")["model_arch"] == "simplenet"
    # same weights, same batches: nothing but rounding lies between the two
    assert result["loss_difference"]["first"] < 1e-5
    assert result["loss_difference"]["largest"] < 1e-2
    assert len(result["loss_difference"]["curve"]) == 8
    assert result["config"]["epochs"] == pytest.approx(8 / 3)
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "study.md").read_text()
    assert "| training images/s |" in text
    assert "same sums added up in another order" in text


def test_custom_is_trained_with_our_convolution(trained, scenes, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise NotImplementedError("our convolution")

    monkeypatch.setattr(Conv2d, "forward", refuse)
    with pytest.raises(NotImplementedError, match="our convolution"):
        study("--data", scenes, "--out", tmp_path, "--steps", 1)
    assert trained == ["native", "custom"]


def test_what_is_finished_is_kept_and_what_was_broken_off_goes_on(trained, scenes, tmp_path, capsys):
    study("--data", scenes, "--out", tmp_path / "whole", "--steps", 7)
    out = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole" / "native", out / "native")

    class StopAt(Quiet):
        def step(self, moment):
            if moment.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    config = dataclasses.replace(conv.settle(tiny(), images=72, steps=7), conv="custom")
    with pytest.raises(Interrupted, match="stopped at step 4 of 7"):
        apart.train_here(out / "custom", scenes, config, display=StopAt())
    trained.clear()
    study("--data", scenes, "--out", out, "--steps", 7)
    assert trained == ["custom"]
    for side in ("native", "custom"):
        whole, broken = (Run(tmp_path / name / side).metrics.read_bytes() for name in ("whole", "broken"))
        assert whole == broken
    trained.clear()
    study("--data", scenes, "--out", out, "--steps", 7)
    assert trained == []
    assert f"written: {out}/study.json" in capsys.readouterr().out


def test_another_study_is_not_mixed_in(trained, scenes, tmp_path, capsys):
    study("--data", scenes, "--out", tmp_path, "--steps", 1)
    shutil.rmtree(tmp_path / "custom")
    trained.clear()
    study("--data", scenes, "--out", tmp_path, "--steps", 1, "--seed", 5, "--lr", 0.5, status=1)
    assert trained == []
    assert f"{tmp_path / 'native'} was begun with another seed, optimizer;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 0], "--steps is 0; expected 1 or more"),
        (["--recipe", "nope"], "there is no recipe 'nope'"),
        (["--data", "nowhere"], "data folder nowhere does not exist"),
    ],
)
def test_errors_are_one_line(arguments, message, trained, scenes, tmp_path, capsys):
    study("--data", scenes, "--out", tmp_path / "new", *arguments, status=1)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def side(*, loss: list[float], top1: float) -> dict:
    row = {"epoch": 1, "loss": 1.0, "top1": top1, "top5": 90.0}
    return {
        "peak_memory_bytes": 2**30, "images_per_second": 200.0, "accuracy": {"train": [row], "val": [row]},
        "loss": [[step + 1, value] for step, value in enumerate(loss)],
        "accounting": {"steps": 3, "threads": 2, "device": "cpu"},
    }  # fmt: skip


def wording(native: dict, custom: dict) -> str:
    config = to_plain(dataclasses.replace(tiny(), epochs=1))
    place = {"processor": "a processor", "versions": {"torch": "2"}, "command": "scenelab study conv"}
    data = {"folder": "data", "train_images": 72, "val_images": 1000}
    findings = compare({"native": native, "custom": custom}, val_images=1000)
    return to_markdown({"what": "", "data": data, "config": config, "environment": place, **findings})


def test_the_largest_difference_is_found_and_said():
    same = wording(side(loss=[4.0, 3.0, 2.0], top1=50), side(loss=[4.0, 3.25, 1.875], top1=52))
    assert "0.25 at most (step 2)" in same
    assert "| largest difference of the loss curves | | | 0.25 (step 2) |" in same
    assert "lies inside the 95 % interval of the native one, 46.91 to 53.09 %" in same
    assert "in another order" in same


def test_a_difference_that_rounding_does_not_explain_is_called_so():
    other = wording(side(loss=[4.0, 3.0, 2.0], top1=50), side(loss=[4.1, 3.0, 2.0], top1=40))
    assert "more than rounding explains" in other
    assert "lies outside the 95 % interval" in other
    assert "| -10.00 |" in other


def test_ctrl_c_stops_the_process_of_a_side_with_a_checkpoint(scenes, tmp_path):
    """The child has a session of its own: all that it notices is that its standard input ends."""
    config = conv.settle(dataclasses.replace(tiny(), conv="custom", checkpoint_seconds=0), images=72, steps=9000)
    run = Run(tmp_path / "custom")

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not run.checkpoint.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted, match="^stopped at step [0-9]+ of 9000; the same command goes on from there$"):
        apart.train_apart(run.folder, scenes, config)
    values = load_checkpoint(run.checkpoint)
    assert 0 < values["step"] < 9000
    assert run.metrics.stat().st_size == values["metrics_bytes"]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("""print('{"kind": "LabError", "message": "no such device"}')""", LabError, "^no such device$"),
        ("""print('{"kind": "Interrupted", "message": "at step 4"}')""", Interrupted, "^at step 4; the same"),
        ("raise SystemExit(3)", LabError, "^training in .*native failed: the process ended with 3$"),
    ],
)
def test_how_the_process_of_a_side_ended_is_passed_on(code, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "CODE", code)
    with pytest.raises(error, match=message):
        apart.train_apart(tmp_path / "native", tmp_path, tiny())


def test_the_process_of_a_side_says_how_it_ended(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(apart, "_stop_with_parent", lambda: None)
    for device, kind in (("cpu", "finished"), ("cuda:99", "LabError")):
        config = conv.settle(dataclasses.replace(tiny(), device=device), images=72, steps=1)
        apart.worker([str(tmp_path / kind), str(scenes), json.dumps(to_plain(config))])
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        assert report["kind"] == kind
        assert ("cuda:99" in report["message"]) == (kind == "LabError")
        assert ("epoch 1" in captured.err) == (kind == "finished")
