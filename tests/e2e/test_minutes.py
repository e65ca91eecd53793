"""Runs that are given minutes instead of epochs, and what is planned for them."""

import shutil
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from runs_compared import QUIET, StopAfter, read_rows, read_weights, tiny
from scenelab.cli import main
from scenelab.cli.train import require_unplanned
from scenelab.errors import Interrupted, LabError
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import AdversarialConfig, ScheduleConfig, TrainConfig
from scenelab.runs.run import Run
from scenelab.training import budget as planning
from scenelab.training.budget import RUNGS, measure_speeds, plan, scaled
from scenelab.training.clock import RunClock
from scenelab.training.memory import Need
from scenelab.training.recipes import laptop
from scenelab.training.session import resume_run, start_run
from scenelab.training.state import TrainState
from scenelab.training.statistics import RunStatistics

SECONDS = 6.0


tiny = partial(
    tiny,
    epochs=50,
    minutes=SECONDS / 60,
    evaluate_every=40,
    batch_size=24,
    schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))),
)


@pytest.fixture
def at_speed(monkeypatch):
    """Set what the plan measures: images per second, a number or a function of the config and the side."""

    def set_speed(speed):
        measure = speed if callable(speed) else lambda config, side: speed
        monkeypatch.setattr(
            planning, "measure_speeds", lambda subjects, *options: [measure(*subject) for subject in subjects]
        )

    return set_speed


def plan_for(images: int, **changes) -> TrainConfig:
    return plan(replace(laptop(), **changes), images=images, categories=("a", "b"))


def test_a_run_ends_on_time_with_its_whole_schedule_behind_it(scenes, tmp_path):
    start_run(tmp_path / "packing-first", scenes, tiny(epochs=1, minutes=0), display=QUIET)
    accounting = start_run(tmp_path / "run", scenes, tiny(), display=QUIET)
    assert accounting.minutes * 60 == pytest.approx(SECONDS, rel=0.1)
    rows = read_rows(tmp_path / "run")
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert rates[0] == 0.01
    assert rates[-1] < 0.0005
    assert all(first >= second for first, second in pairwise(rates))
    assert rows[-1]["split"] == "val"
    assert accounting.images_seen == 24 * accounting.steps  # 72 images: no short batch


def test_a_run_that_was_stopped_has_only_the_rest_of_its_minutes(scenes, tmp_path):
    with pytest.raises(Interrupted, match="stopped at step 6 of"):
        start_run(tmp_path / "run", scenes, tiny(), display=StopAfter(6))
    spent = load_checkpoint(Run(tmp_path / "run").checkpoint)["meters"]["spent"]
    assert 0 < spent < SECONDS
    accounting = resume_run(tmp_path / "run", display=QUIET)
    assert accounting.minutes * 60 == pytest.approx(SECONDS, rel=0.1)
    assert accounting.steps > 6
    assert resume_run(tmp_path / "run", display=QUIET).steps == accounting.steps


def test_evaluations_come_at_their_epochs_and_at_the_end(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(minutes=0, epochs=5, evaluate_every=2), display=QUIET)
    epochs = {split: [row["epoch"] for row in read_rows(tmp_path / "run", split)] for split in ("train", "val")}
    assert epochs == {"train": [1, 2, 3, 4, 5], "val": [2, 4, 5]}


@pytest.fixture
def data(scenes, tmp_path) -> Path:
    """A copy of the scenes without packed images."""
    return shutil.copytree(scenes, tmp_path / "data", ignore=shutil.ignore_patterns("packed"))


def test_with_a_holdout_val_is_never_opened(data, tmp_path):
    (data / "val.txt").unlink()
    shutil.rmtree(data / "images" / "val")
    accounting = start_run(tmp_path / "run", data, tiny(minutes=0, epochs=1, holdout=0.5), display=QUIET)
    assert {row["split"] for row in read_rows(tmp_path / "run") if "split" in row} == {"train", "holdout"}
    assert accounting.images_seen == 36


def test_the_labels_of_val_have_no_influence_on_the_weights(scenes, data, tmp_path):
    """Only the report knows them: with other labels on val the same weights come out."""
    lines = [line.split(" ") for line in (data / "val.txt").read_text().splitlines()]
    (data / "val.txt").write_text("".join(f"{path} {(int(label) + 1) % 12}\n" for path, label in lines))
    weights = []
    for name, folder in (("right", scenes), ("wrong", data)):
        start_run(tmp_path / name, folder, tiny(minutes=0, epochs=2), display=QUIET)
        weights.append(read_weights(Run(tmp_path / name).best))
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(("speed", "minutes", "sizes"), [(100, 1, (48, 64)), (1e6, 20, (96, 128)), (560, 20, (64, 96))])
def test_the_largest_images_that_leave_enough_epochs_are_planned(at_speed, speed, minutes, sizes):
    at_speed(lambda config, side: speed * (64 / side) ** 2)
    planned = plan_for(30_000, minutes=minutes)
    assert tuple(side for _, side in planned.schedule.sizes) == sizes
    assert sizes[1] <= planned.eval_size <= planned.stored_size <= 128
    share = planning.SMALL_SHARE
    rate = sum(part * speed * (64 / side) ** 2 for part, side in zip((share, 1 - share), sizes, strict=True))
    assert planned.epochs == pytest.approx(60 * minutes * rate / 30_000, abs=0.01)
    least = {(small, large): count for small, large, count in RUNGS}[sizes]
    assert planned.epochs * 30_000 >= least
    assert not planned.plan


def test_images_too_large_for_memory_are_not_planned(at_speed, monkeypatch):
    at_speed(50_000)
    sides = []

    def need(config, *, images, **about):
        sides.append(config.schedule.sizes[-1][1])
        return Need(needed=sides[-1], free=80, batch=images, fits=images)

    monkeypatch.setattr(planning, "memory_need", need)
    assert plan_for(30_000).schedule.sizes == ((0.0, 48), (planning.SMALL_SHARE, 80))
    assert sides == [80, 96]


@pytest.mark.parametrize(
    ("flag", "fix"),
    [
        (
            "--epochs=5",
            "epochs is 5.0, but the plan of this recipe chooses it; add --no-plan --minutes 0, or leave it out",
        ),
        ("--eval-size=96", "eval_size is 96, but the plan of this recipe chooses it; add --no-plan, or leave it out"),
        ("--ema=0.9", "ema is 0.9"),
        ("--autocast", "autocast is True"),
    ],
)
def test_a_value_that_the_plan_would_replace_is_refused(scenes, tmp_path, capsys, flag, fix):
    command = ["train", "laptop", "--data", str(scenes), "--out", str(tmp_path / "run"), flag]
    assert main.run(command) == 1
    assert fix in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{}, {"ema": 0.0}, {"epochs": 5.0, "plan": False}, {"batch_size": 9}])
def test_other_values_are_not_refused(changes):
    require_unplanned(replace(laptop(), **changes), laptop())


def at(config: TrainConfig, *, spent: float, seen: int) -> float:
    state = TrainState(model=None, optimizers=[], average=None, step=1, run=RunStatistics(spent=spent, seen=seen))
    return RunClock(config, steps_per_epoch=10, val_images=10_000).progress(state)


def test_the_time_kept_for_the_last_evaluation_has_no_attack_and_leaves_half_of_the_run():
    config = replace(laptop(), minutes=2, plan=False)
    attack = AdversarialConfig(method="pgd", epsilon=0.01, steps=7)
    attacked = replace(config, adversarial=attack)
    reserve = 120 - 1 / at(config, spent=1, seen=1000)
    assert 1 < reserve < 60
    longer = attack.relative_flops
    assert 120 - longer / at(attacked, spent=longer, seen=1000) == pytest.approx(reserve)
    assert at(config, spent=6, seen=1) == pytest.approx(0.1)  # a slow first step


def test_speed_is_measured_in_real_steps(monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.2)
    config = replace(laptop(), model="residual-small", batch_size=16, threads=2)
    small, large = measure_speeds([(config, 16), (config, 96)], ("a", "b"))
    assert small > large > 1


def test_a_program_that_is_busy_for_a_while_changes_no_measurement(monkeypatch):
    """The clock runs ten times as fast in the first second: alone in its turn, the first subject would lose."""
    clock = 0.0

    def training_step(config, side, categories):
        def step(number):
            nonlocal clock
            duration = 0.1 if config.autocast else 0.2
            clock += 10 * duration if clock < 1 else duration

        return step

    monkeypatch.setattr(planning, "_training_step", training_step)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: clock)
    config = replace(laptop(), batch_size=10)
    plain, half = (replace(config, autocast=autocast) for autocast in (False, True))
    attacked = replace(plain, adversarial=AdversarialConfig(method="fast", epsilon=0.01))
    subjects = [(half, 64), (plain, 64), (attacked, 64)]
    assert measure_speeds(subjects, ("a", "b")) == pytest.approx([100, 50, 30])  # the attack costs 2/3 of a step


@pytest.mark.parametrize(("gain", "autocast"), [(2.0, True), (1.05, False), (0.2, False)])
def test_bfloat16_is_taken_where_it_is_faster(at_speed, gain, autocast):
    at_speed(lambda config, side: 100.0 * (gain if config.autocast else 1))
    planned = plan_for(1000)
    assert planned.autocast == autocast
    assert planned.epochs == pytest.approx(20 * 60 * 100 * (gain if autocast else 1) / 1000)


def test_the_average_looks_back_on_a_share_of_the_run(at_speed):
    at_speed(100.0)
    assert 1 / (1 - plan_for(1000, batch_size=100).ema) == pytest.approx(planning.AVERAGED * 1200, rel=1e-2)
    assert plan_for(1000, ema=0.0).ema == 0
    free = AdversarialConfig(method="free", epsilon=0.01, steps=4)  # an update per replay
    assert 1 / (1 - plan_for(1000, batch_size=100, adversarial=free).ema) == pytest.approx(
        4 * planning.AVERAGED * 1200, rel=0.02
    )


def test_sides_are_multiples_and_no_larger_than_the_images():
    assert [scaled(side, 1.4) for side in (64, 80, 96, 128)] == [96, 112, 128, 128]


@pytest.mark.parametrize(("large", "evaluated"), [(64, 80), (80, 96), (96, 112), (112, 128), (128, 128)])
def test_evaluation_fits_four_halvings(monkeypatch, at_speed, large, evaluated):
    monkeypatch.setattr(planning, "RUNGS", ((48, large, 0.0),))
    at_speed(100.0)
    assert plan_for(1000).eval_size == evaluated <= plan_for(1000).stored_size


def test_a_plan_needs_minutes():
    with pytest.raises(LabError, match="^plan: got True; expected false without minutes"):
        replace(laptop(), minutes=0)
