"""The studies of convolution and of adversarial training, on synthetic scenes."""

import dataclasses
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from quick_studies import Quiet, plan_here, tiny, train_here
from scenelab.cli import main
from scenelab.errors import Interrupted, LabError
from scenelab.evaluation.robustness_results import Effort
from scenelab.evaluation.study_results import ConvRun, ConvStudy, EpochMetrics, ValImages
from scenelab.io import read_json, write_json
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import to_plain
from scenelab.runs.provenance import TrainingResult, environment
from scenelab.runs.run import Run
from scenelab.studies import baseline, conv, runs
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.recipes import RECIPES, get

KEPT_RUN = Path(__file__).parents[1] / "data" / "run-0.1"


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Train in this process, with a small recipe; lists the runs."""
    monkeypatch.setitem(RECIPES, "tiny", lambda: tiny(recipe="tiny"))
    return train_here(monkeypatch, conv)


def study(*arguments: object, status: int = 0) -> None:
    assert main.run(["study", "conv", "--recipe", "tiny", *map(str, arguments)]) == status


def test_two_runs_are_compared_in_numbers_words_and_a_figure(trained, scenes, tmp_path, capsys):
    out = tmp_path / "study"
    study("--data", scenes, "--out", out, "--steps", 8, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(out / "study.json")
    assert trained == ["study/native", "study/custom"]
    for side in ("native", "custom"):
        values = result["sides"][side]
        assert [step for step, _ in values["loss"]] == list(range(1, 9))
        # 72 images are three steps of 24: two whole epochs and a part of a third
        assert [row["epoch"] for row in values["accuracy"]["val"]] == [1, 2, 3]
        assert values["peak_memory_bytes"] > 0
        assert load_checkpoint(out / side / "model_best.pth.tar")["model_arch"] == "simplenet"
        assert Run(out / side).read_config().train.conv == side
    # same weights, same batches: nothing but rounding lies between the two
    assert result["loss_difference"]["first"] < 1e-5
    assert result["loss_difference"]["largest"] < 1e-2
    assert len(result["loss_difference"]["curve"]) == 8
    assert result["config"]["epochs"] == pytest.approx(8 / 3)
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "study.md").read_text()
    assert "| training images/s |" in text
    assert "the same sums in a different order" in text


def test_finished_runs_are_kept_and_stopped_ones_resume(trained, scenes, tmp_path, capsys):
    study("--data", scenes, "--out", tmp_path / "whole", "--steps", 7)
    out = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole" / "native", out / "native")

    class StopAt(Quiet):
        def step(self, moment):
            if moment.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    config = dataclasses.replace(conv.complete(tiny(recipe="tiny"), images=72, steps=7), conv="custom")
    with pytest.raises(Interrupted, match="stopped at step 4 of 7"):
        runs.worker(str(out / "custom"), str(scenes), to_plain(config), display=StopAt())
    trained.clear()
    study("--data", scenes, "--out", out, "--steps", 7)
    study("--data", scenes, "--out", out, "--steps", 7)
    assert trained == ["broken/custom"]
    for side in ("native", "custom"):
        whole, broken = (Run(tmp_path / name / side).metrics.read_bytes() for name in ("whole", "broken"))
        assert whole == broken
    assert f"written: {out}/study.json" in capsys.readouterr().out
    study("--data", scenes, "--out", out, "--steps", 7, "--seed", 5, "--lr", 0.5, status=1)
    assert trained == ["broken/custom"]
    assert f"{out / 'native'} was begun with another seed, optimizer;" in capsys.readouterr().err


def test_both_sides_take_equally_many_steps_also_with_a_timed_recipe():
    config = conv.complete(get("laptop"), images=72, steps=7)
    assert (config.minutes, config.plan, config.epochs) == (0, False, 7)


def test_a_study_needs_a_step():
    with pytest.raises(LabError, match="--steps is 0; expected 1 or more"):
        conv.complete(tiny(), images=72, steps=0)


def side(*, loss: list[float], top1: float) -> ConvRun:
    row = EpochMetrics(epoch=1, step=3, loss=1.0, top1=top1, top5=90.0)
    return ConvRun(
        peak_memory_bytes=2**30,
        images_per_second=200.0,
        accuracy={"train": [row], "val": [row]},
        loss=[(step + 1, value) for step, value in enumerate(loss)],
        accounting=TrainingResult.read(KEPT_RUN / "results" / "training.json"),
    )


INSIDE = "lies inside the 95 % interval of the native one, 46.91 to 53.09 %"
LARGEST = "| largest difference of the loss curves | | | 0.25 (step 2) |"


@pytest.mark.parametrize(
    ("loss", "top1", "phrases"),
    [
        ([4.0, 3.25, 1.875], 52, ["at most 0.25 (step 2)", LARGEST, INSIDE, "in a different order"]),
        ([4.1, 3.0, 2.0], 40, ["more than rounding explains", "lies outside the 95 % interval", "| -10.00 |"]),
    ],
)
def test_the_differences_are_found_and_named(loss, top1, phrases, tmp_path):
    sides = {"native": side(loss=[4.0, 3.0, 2.0], top1=50), "custom": side(loss=loss, top1=top1)}
    study = ConvStudy(
        what="",
        data=ValImages(folder="data", train_images=72, val_images=1000),
        config=tiny(epochs=1),
        environment=environment(),
        **dict(conv.compare(sides, val_images=1000)),
    )
    text = runs.write_study(tmp_path, "study", study, lambda study, path: None)
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_ctrl_c_stops_the_process_of_a_run_with_a_checkpoint(scenes, tmp_path):
    """The process has its own session: all that it notices is that its standard input ends."""
    config = conv.complete(tiny(conv="custom", checkpoint_seconds=0), images=72, steps=9000)
    run = Run(tmp_path / "custom")

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not run.checkpoint.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted, match="^stopped at step [0-9]+ of 9000; repeat the command to resume$"):
        runs.train_run(run.folder, scenes, config)
    values = load_checkpoint(run.checkpoint)
    assert 0 < values["step"] < 9000
    assert run.metrics.stat().st_size == values["metrics_bytes"]


@pytest.mark.slow
def test_four_ways_of_training_are_compared(scenes, tmp_path, capsys, monkeypatch):
    few = Effort(steps=3, targeted_steps=2, classes=2, queries=20)
    monkeypatch.setattr("scenelab.studies.adversarial.Effort", lambda: few)
    trained, out = plan_here(monkeypatch), tmp_path / "study"
    command = ["study", "adversarial", "--data", str(scenes), "--out", str(out), "--epsilons", "4/255", "--images", "3"]
    assert main.run([*command, "--json"]) == 0
    study = json.loads(capsys.readouterr().out)
    names = ["normal", "fast", "free", "pgd"]
    assert [row["name"] for row in study["variants"]] == names
    assert trained == [f"study/{name}" for name in names]
    for row in study["variants"]:
        assert row["clean"]["accuracy"] >= row["worst"][-1]["accuracy"]
    text = (out / "adversarial.md").read_text()
    assert "| training | what | minutes | epochs | clean top-1 % | ε = 4/255 |" in text
    assert "are trained against L∞ perturbations of 4/255" in text
    assert (out / "adversarial.png").exists()
    assert main.run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variants"] == study["variants"]
    assert len(trained) == 4
    assert main.run([*command, "--epsilon", "8/255"]) == 1
    assert "was begun with another adversarial" in capsys.readouterr().err
    assert read_json(out / "adversarial.json")["variants"] == study["variants"]  # not written anew
    holdout = read_json(out / "normal" / "results" / "holdout.json")
    write_json(out / "normal" / "results" / "holdout.json", {**holdout, "digest": "0" * 64})
    assert main.run(command) == 1
    assert "was judged on other images than those of" in capsys.readouterr().err


def test_the_handouts_program_is_followed_and_drawn_over_published_curves(monkeypatch, scenes, tmp_path):
    trained, out = train_here(monkeypatch, baseline), tmp_path / "study"
    monkeypatch.setattr(baseline, "CLASSES", 12)
    command = ["study", "baseline", "--data", str(scenes), "--out", str(out), "--steps", "2", "--threads", "2"]
    assert main.run([*command, "--runs", "warmup"]) == 0
    assert main.run([*command, "--json"]) == 0
    assert trained == ["study/warmup", "study/no-warmup", "study/deep"]  # the finished run is not repeated
    result = read_json(out / "baseline.json")
    warmup, plain, deep = result["runs"]
    assert [step for step, _ in warmup["loss"]] == [0, 1]
    assert list(warmup["published"]) == ["team-2", "team-3", "team-4"]
    assert (plain["network"], deep["network"]) == ("simplenet-small", "simplenet")
    assert deep["published"] == {}
    rates = [row["learning_rate"] for row in read_metrics(Run(out / "warmup")) if "learning_rate" in row]
    assert rates == pytest.approx([0.1 / 1955, 0.2 / 1955])
    assert [len(layers) for layers in result["signals"].values()] == [8, 9]
    assert (out / "baseline.png").read_bytes().startswith(b"\x89PNG")
    assert "| warmup | simplenet-small | 1955 steps | after 1 | 810 |" in (out / "baseline.md").read_text()
