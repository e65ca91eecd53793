import math

import pytest

from scenelab.runs.config import ScheduleConfig
from scenelab.training.schedule import learning_rate_factor, side_at


def test_warmup_is_linear_and_a_cosine_falls_to_the_final_share():
    factors = [learning_rate_factor(step, total=8, warmup=0) for step in (0, 2, 4, 6, 8, 50)]
    half = math.sqrt(0.5)
    assert factors == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0])  # behind the end too
    assert [learning_rate_factor(step, total=20, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert learning_rate_factor(10, total=10, warmup=0, final=0.1) == pytest.approx(0.1)


def test_sides_change_at_their_share_of_the_run():
    schedule = ScheduleConfig(sizes=((0.0, 48), (0.6, 64)))
    assert [side_at(step, total=10, schedule=schedule) for step in (0, 5, 6, 9)] == [48, 48, 64, 64]
