"""Runs that are given minutes instead of epochs, and what is planned for them."""

import dataclasses
import json
import os
import shutil
import signal
import time
from itertools import pairwise

import pytest

from scenelab.data.augment import Augment
from scenelab.errors import Interrupted, LabError
from scenelab.io import read_json
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training import budget as planning
from scenelab.training.budget import RUNGS, images_per_second, plan, scaled
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.recipes import laptop
from scenelab.training.session import resume_run, start_run

QUIET = LogProgress(every_steps=10**9)
SECONDS = 6.0


def tiny(**changes) -> TrainConfig:
    base = TrainConfig(
        model="simplenet-small", epochs=50, minutes=SECONDS / 60, evaluate_every=40, batch_size=24, stored_size=32,
        eval_size=32, threads=2, log_every=1, schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))),
        augment=Augment(flip=True), optimizer=OptimizerConfig(lr=0.01),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def test_a_run_ends_on_time_with_its_whole_schedule_behind_it(scenes, tmp_path):
    start_run(tmp_path / "packing-first", scenes, tiny(epochs=1, minutes=0), display=QUIET)
    began = time.monotonic()
    accounting = start_run(tmp_path / "run", scenes, tiny(), display=QUIET)
    taken = time.monotonic() - began
    assert accounting["minutes"] * 60 == pytest.approx(SECONDS, rel=0.1)
    assert taken < SECONDS + 3
    rows = read_metrics(Run(tmp_path / "run"))
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert rates[0] == 0.01
    assert rates[-1] < 0.0005
    assert all(first >= second for first, second in pairwise(rates))
    assert rows[-1]["split"] == "val"
    assert accounting["images_seen"] == 24 * accounting["steps"]  # 72 images: no short batch


def test_a_run_that_was_stopped_has_only_the_rest_of_its_minutes(scenes, tmp_path):
    class StopAt(LogProgress):
        def step(self, moment):
            if moment.step == 6:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped at step 6 of"):
        start_run(tmp_path / "run", scenes, tiny(), display=StopAt())
    spent = load_checkpoint(Run(tmp_path / "run").checkpoint)["meters"]["spent"]
    assert 0 < spent < SECONDS
    accounting = resume_run(tmp_path / "run", display=QUIET)
    assert accounting["minutes"] * 60 == pytest.approx(SECONDS, rel=0.1)
    assert accounting["steps"] > 6
    again = resume_run(tmp_path / "run", display=QUIET)
    assert again["steps"] == accounting["steps"]


def test_evaluations_come_every_so_many_epochs_and_at_the_end(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(minutes=0, epochs=5, evaluate_every=2), display=QUIET)
    rows = [json.loads(line) for line in Run(tmp_path / "run").metrics.read_text().splitlines()]
    evaluated = {row["split"]: [] for row in rows if "split" in row}
    for row in rows:
        if "split" in row:
            evaluated[row["split"]].append(row["epoch"])
    assert evaluated == {"train": [1, 2, 3, 4, 5], "val": [2, 4, 5]}


def test_with_a_holdout_val_is_never_opened(scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("dataset"))
    (data / "val.txt").unlink()
    shutil.rmtree(data / "images" / "val")
    start_run(tmp_path / "run", data, tiny(minutes=0, epochs=1, holdout=0.5), display=QUIET)
    rows = read_metrics(Run(tmp_path / "run"))
    assert {row["split"] for row in rows if "split" in row} == {"train", "holdout"}
    assert read_json(Run(tmp_path / "run").results / "training.json")["images_seen"] == 36


def test_vals_labels_have_no_influence_on_the_weights(scenes, tmp_path):
    """Only the report knows them: with other labels on val the same weights come out."""
    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("dataset"))
    lines = [line.split(" ") for line in (data / "val.txt").read_text().splitlines()]
    (data / "val.txt").write_text("".join(f"{path} {(int(label) + 1) % 12}\n" for path, label in lines))
    weights = []
    for name, folder in (("right", scenes), ("wrong", data)):
        start_run(tmp_path / name, folder, tiny(minutes=0, epochs=2), display=QUIET)
        weights.append(load_checkpoint(Run(tmp_path / name).best)["state_dict"])
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("speed", "minutes", "sizes"), [(100, 1, (48, 64)), (1e6, 20, (112, 128)), (560, 20, (80, 96))]
)
def test_the_largest_pictures_that_leave_enough_epochs_are_planned(monkeypatch, speed, minutes, sizes):
    monkeypatch.setattr(planning, "images_per_second", lambda config, side, categories: speed * (64 / side) ** 2)
    made = plan(dataclasses.replace(laptop(), minutes=minutes), images=30_000, categories=("a", "b"))
    assert tuple(side for _, side in made.schedule.sizes) == sizes
    assert sizes[1] <= made.eval_size <= made.stored_size <= 128
    share = planning.SMALL_SHARE
    rate = sum(part * speed * (64 / side) ** 2 for part, side in zip((share, 1 - share), sizes, strict=True))
    assert made.epochs == pytest.approx(60 * minutes * rate / 30_000, abs=0.01)
    least = {(small, large): count for small, large, count in RUNGS}[sizes]
    assert made.epochs * 30_000 >= least
    assert not made.plan


def test_speed_is_measured_in_real_steps(monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.2)
    config = dataclasses.replace(laptop(), model="residual-small", batch_size=16, threads=2)
    assert images_per_second(config, 16, ("a", "b")) > images_per_second(config, 96, ("a", "b")) > 1


@pytest.mark.parametrize(("gain", "chosen"), [(2.0, True), (1.05, False), (0.2, False)])
def test_bfloat16_is_taken_where_it_is_faster(monkeypatch, gain, chosen):
    def speed(config, side, categories):
        return 100.0 * (gain if config.autocast else 1)

    monkeypatch.setattr(planning, "images_per_second", speed)
    made = plan(laptop(), images=1000, categories=("a", "b"))
    assert made.autocast == chosen
    assert made.epochs == pytest.approx(20 * 60 * 100 * (gain if chosen else 1) / 1000)


def test_the_average_looks_back_on_a_share_of_the_run(monkeypatch):
    monkeypatch.setattr(planning, "images_per_second", lambda config, side, categories: 100.0)
    made = plan(dataclasses.replace(laptop(), batch_size=100), images=1000, categories=("a", "b"))
    assert 1 / (1 - made.ema) == pytest.approx(planning.AVERAGED * 1200, rel=1e-2)
    assert plan(dataclasses.replace(laptop(), ema=0.0), images=1000, categories=("a", "b")).ema == 0


def test_sides_are_multiples_and_no_larger_than_the_pictures():
    assert [scaled(side, 1.4) for side in (64, 80, 96, 128)] == [96, 112, 128, 128]


@pytest.mark.parametrize(("large", "evaluated"), [(64, 80), (80, 96), (96, 112), (112, 128), (128, 128)])
def test_evaluation_fits_four_halvings(monkeypatch, large, evaluated):
    monkeypatch.setattr(planning, "RUNGS", ((48, large, 0.0),))
    monkeypatch.setattr(planning, "images_per_second", lambda config, side, categories: 100.0)
    made = plan(laptop(), images=1000, categories=("a", "b"))
    assert made.eval_size == evaluated
    assert made.eval_size <= made.stored_size


def test_a_plan_needs_minutes():
    with pytest.raises(LabError, match="^plan: got True; expected false without minutes"):
        dataclasses.replace(laptop(), minutes=0)
