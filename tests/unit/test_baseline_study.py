"""The study of the handout's program: signal by layer, end of the plateau, and distance from published curves."""

import itertools
import math

import pytest
import torch
from torch import nn

from scenelab.studies.published import largest_distance, plateau_end, published, smooth
from scenelab.studies.signal import measure_signal


def line(*values: float) -> list[tuple[int, float]]:
    return [(10 * index, value) for index, value in enumerate(values)]


def test_signal_and_gradient_are_those_computed_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0]])[:, :, None, None])
        model[0].bias.fill_(7.0)  # the same for all images: no signal
        model[2].weight.copy_(torch.eye(2))
    images = torch.tensor([[0.0, 0, 0], [1, 1, 1]])[:, :, None, None]
    first, last = measure_signal(model, images, torch.tensor([0, 1]))
    assert (first.layer, last.layer) == ("0", "2")
    assert first.signal == pytest.approx(math.sqrt((0.25 + 1) / 2))
    assert last.signal == pytest.approx(first.signal)
    outputs = torch.tensor([[7.0, 7], [8, 9]])
    slopes = (outputs.softmax(1) - torch.eye(2)) / 2
    assert last.gradient == pytest.approx(
        float((slopes.T @ outputs).square().mean().sqrt() / torch.eye(2).square().mean().sqrt()), rel=1e-5
    )


def test_signal_of_a_convolution_and_relu_with_default_weights_falls_as_theory_says():
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(256, 256, 1, bias=False), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 2))
    rows = measure_signal(model, torch.rand(64, 256, 1, 1) * 2 - 1, torch.arange(64) % 2)
    # Without biases the whole output is at most √(1/6) = 0.41 of the layer before, and its varying part less.
    assert all(later.signal < 0.42 * earlier.signal for earlier, later in itertools.pairwise(rows[:4]))


def test_the_plateau_ends_where_the_mean_of_five_points_is_low_enough():
    guessing = math.log(100)
    assert plateau_end(line(*[guessing] * 9)) is None
    # One low point of five lowers the mean by 0.04: not enough; two of five by 0.08.
    assert plateau_end(line(*[guessing] * 5, guessing - 0.2, *[guessing] * 4)) is None
    assert plateau_end(line(*[guessing] * 5, guessing - 0.2, guessing - 0.2, *[guessing] * 4)) == 40


def test_smoothing_uses_every_tenth_step_only():
    dense = [(step, float(step if step % 10 == 0 else 1e6)) for step in range(61)]
    assert smooth(dense) == [(20, 20.0), (30, 30.0), (40, 40.0)]


def test_largest_distance_is_that_from_the_nearest_published_curve():
    low, high = line(*[1.0] * 7), line(*[2.0] * 7)
    assert largest_distance(line(*[1.5] * 7), [low, high]).outside == 0
    rising = line(0, 0, 0, 0, 0, 0, 30)  # smoothed: 0, 0, 6
    result = largest_distance(rising, [low, high])
    assert (result.step, result.outside, result.low, result.high) == (40, pytest.approx(4.0), 1.0, 2.0)
    assert largest_distance(rising, []) is None


def test_published_curves_begin_at_the_loss_of_guessing_and_leave_it():
    teams = published()
    assert list(teams) == ["team-1", "team-2", "team-3", "team-4"]
    for values in teams.values():
        assert values["loss"][0][0] == 0
        assert values["loss"][0][1] == pytest.approx(math.log(100), abs=0.01)
    ends = {team: plateau_end([tuple(point) for point in values["loss"]]) for team, values in teams.items()}
    assert ends == {"team-1": 240, "team-2": 810, "team-3": 810, "team-4": 810}
