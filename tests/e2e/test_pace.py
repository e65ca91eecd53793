"""Runs whose speed is not the one that was planned."""

import itertools
import json
import time
from functools import partial

import pytest

from runs_compared import QUIET, StopAfter, tiny
from scenelab.errors import Interrupted
from scenelab.runs.config import ScheduleConfig
from scenelab.runs.run import Run
from scenelab.training import budget
from scenelab.training.pace import WARMUP, Pace
from scenelab.training.session import resume_run, start_run

SECONDS = 6.0
SLOW, FAST = 1.0, 1e6  # images per second, far below and above any machine's

timed = partial(
    tiny,
    epochs=50,
    minutes=SECONDS / 60,
    evaluate_every=1000,
    batch_size=24,
    ema=0.9,
    schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))),
)


@pytest.fixture
def measured(monkeypatch) -> list[tuple[bool, int]]:
    """Let bfloat16 be measured as twice as fast as float32; return the precision and side of each measurement."""
    measurements = []

    def measure_speeds(subjects, categories, seconds=None):
        measurements.extend((config.autocast, side) for config, side in subjects)
        return [200.0 if config.autocast else 100.0 for config, _ in subjects]

    monkeypatch.setattr(budget, "measure_speeds", measure_speeds)
    monkeypatch.setattr(budget, "SECONDS", 0.01)
    monkeypatch.setattr(budget, "RUNGS", ((16, 16, 0), (16, 32, 100_000)))
    return measurements


def new_plans(folder) -> list[str]:
    rows = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    return [row["plan"] for row in rows if "plan" in row]


@pytest.mark.parametrize("planned", [SLOW, FAST])
def test_a_run_that_was_planned_under_load_changes_its_precision_and_ends_in_time(scenes, tmp_path, measured, planned):
    config = timed(speeds=((16, planned), (32, planned)))
    accounting = start_run(tmp_path / "run", scenes, config, display=QUIET)
    stored = Run(tmp_path / "run").read_config().train
    assert stored.autocast
    assert stored.schedule.sizes == ((0.0, 16), (0.6, 16))
    assert stored.speeds == ((16, 200.0), (16, 200.0))
    assert stored.stored_size == config.stored_size  # the images are not decoded again
    assert "16, then 32 pixels, float32 → 16, then 16 pixels, bfloat16" in new_plans(tmp_path / "run")[0]
    assert accounting.minutes * 60 == pytest.approx(SECONDS, rel=0.2)  # the last evaluation takes as long as it takes


def test_a_run_resumes_with_its_last_plan(scenes, tmp_path, measured):
    with pytest.raises(Interrupted):
        start_run(tmp_path / "run", scenes, timed(speeds=((16, SLOW), (32, SLOW))), display=StopAfter(9))
    assert "float32 → " in new_plans(tmp_path / "run")[0]
    resume_run(tmp_path / "run", display=QUIET)
    assert Run(tmp_path / "run").read_config().train.autocast


def test_a_machine_that_stays_slow_is_not_measured_after_each_epoch(scenes, tmp_path, monkeypatch):
    plans = []

    def same_plan(config, **position):
        plans.append(position)
        return config

    monkeypatch.setattr("scenelab.training.pace.plan", same_plan)
    monkeypatch.setattr(budget, "SECONDS", 0.01)
    add = Pace.add
    monkeypatch.setattr(
        Pace, "add", lambda pace, config, images, side, _: add(pace, config, images, side, images / SLOW)
    )
    accounting = start_run(tmp_path / "run", scenes, timed(speeds=((16, FAST), (32, FAST))), display=QUIET)
    assert accounting.epochs > 5
    assert len(plans) == 1
    assert "the plan stays, 16, then 32 pixels, float32" in new_plans(tmp_path / "run")[0]


def test_a_run_without_a_plan_is_never_measured(scenes, tmp_path, measured):
    start_run(tmp_path / "run", scenes, timed(), display=QUIET)
    assert not measured


@pytest.mark.parametrize(("seconds", "reported"), [(1.0, None), (1.1, None), (0.9, None), (1.3, 1 / 1.3), (0.5, 2.0)])
def test_a_speed_within_fifteen_percent_is_the_planned_one(seconds, reported):
    pace = Pace(steps=WARMUP)
    pace.add(timed(speeds=((16, 100.0),)), images=100, side=16, seconds=seconds)
    assert pace.check(10) is None  # too short for a run of ten minutes
    assert pace.check(0.5) is None  # for which a new plan takes too long
    pace.planning = (0.0, 0.0)
    assert pace.check(0.5) == (reported and pytest.approx(reported))
    assert pace.check(0.5) is None


def test_the_first_check_comes_once_with_two_percent_of_the_run_behind_the_warm_up():
    pace, config, checks = Pace(), timed(speeds=((16, 100.0),)), {}
    for step in range(1, 50):
        pace.add(config, images=100, side=16, seconds=2.0)
        if pace.is_first_check(2 * step / 600):
            checks[step] = pace.check(10)
    assert checks == {WARMUP + 6: 0.5}


def test_new_plans_of_a_run_with_short_epochs_take_a_twentieth_of_its_time(scenes, tmp_path, monkeypatch):
    speeds = itertools.cycle([0.5, 2.0])
    plans = []

    def slow_plan(config, **position):
        plans.append(position)
        time.sleep(0.2)
        return config

    monkeypatch.setattr("scenelab.training.pace.plan", slow_plan)
    monkeypatch.setattr(budget, "SECONDS", 0.01)
    monkeypatch.setattr(Pace, "check", lambda pace, minutes, check=Pace.check: check(pace, minutes) and next(speeds))
    accounting = start_run(tmp_path / "run", scenes, timed(speeds=((16, FAST), (32, FAST))), display=QUIET)
    assert 1 <= len(plans) <= 2
    assert accounting.seconds_in_steps > 0.5 * SECONDS


def test_bfloat16_that_is_much_slower_with_a_few_images_is_not_measured_further(monkeypatch):
    measured = []

    def measure_speeds(subjects, categories, seconds=None):
        measured.append([config.batch_size for config, _ in subjects])
        return [100.0, 20.0]

    monkeypatch.setattr(budget, "measure_speeds", measure_speeds)
    assert not budget.prefers_bfloat16(timed(), ("a", "b"))
    assert measured == [[budget.FEW_IMAGES] * 2]


def test_a_plan_for_the_rest_counts_what_was_seen_and_keeps_the_stored_images(measured):
    config = timed(minutes=10, stored_size=32)
    plan = partial(budget.plan, config, images=1000, categories=("a", "b"))
    assert plan().epochs == 120
    assert plan().schedule.sizes[-1][1] == 32
    rest = plan(seen=200_000, seconds=300)
    assert rest.epochs == 260
    assert rest.schedule.sizes[-1][1] == 16  # 32 pixels need images of 48
    assert rest.stored_size == 32
