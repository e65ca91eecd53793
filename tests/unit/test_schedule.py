import math

import pytest

from scenelab.runs.config import ScheduleConfig
from scenelab.training.schedule import learning_rate_factor, side_at


def test_cosine_by_hand():
    factors = [learning_rate_factor(step, total=8, warmup=0) for step in (0, 2, 4, 6, 8)]
    half = math.sqrt(0.5)
    assert factors == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0])


def test_warmup_is_linear_and_ends_at_the_peak():
    assert [learning_rate_factor(step, total=20, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_final_share_is_reached():
    assert learning_rate_factor(10, total=10, warmup=0, final=0.1) == pytest.approx(0.1)


def test_a_step_behind_the_end_stays_at_the_end():
    assert learning_rate_factor(50, total=10, warmup=0) == 0


def test_sides_change_at_their_share_of_the_run():
    schedule = ScheduleConfig(sizes=((0.0, 48), (0.6, 64)))
    assert [side_at(step, total=10, schedule=schedule) for step in (0, 5, 6, 9)] == [48, 48, 64, 64]
