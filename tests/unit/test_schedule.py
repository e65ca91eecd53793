import math

import pytest

from scenelab.runs.config import ScheduleConfig
from scenelab.training.schedule import learning_rate_factor, side_at


def factors_at(*steps: float, total: int, warmup: int = 0, **schedule) -> list[float]:
    config = ScheduleConfig(**schedule)
    return [learning_rate_factor(step, total=total, warmup=warmup, schedule=config) for step in steps]


def test_warmup_is_linear_and_a_cosine_or_a_line_falls_to_the_final_share():
    factors = factors_at(0, 2, 4, 6, 8, 50, total=8)
    half = math.sqrt(0.5)
    assert factors == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0])  # behind the end too
    assert factors_at(*range(5), total=20, warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors_at(10, total=10, final=0.1) == pytest.approx([0.1])
    lines = factors_at(0, 1, 2, 6, 10, 50, total=10, warmup=2, final=0.2, decay="linear")
    assert lines == pytest.approx([0.5, 1, 1, 0.6, 0.2, 0.2])


def test_sides_change_at_their_share_of_the_run():
    schedule = ScheduleConfig(sizes=((0.0, 48), (0.6, 64)))
    assert [side_at(step, total=10, schedule=schedule) for step in (0, 5, 6, 9)] == [48, 48, 64, 64]
