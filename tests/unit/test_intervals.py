"""Confidence intervals against printed tables, by hand and by their coverage."""

import math

import pytest
import torch
from scipy import stats

from scenelab.evaluation.intervals import (
    bernoulli_error,
    mean_error,
    mean_interval,
    paired_difference,
    t_quantile,
    wilson,
)
from scenelab.evaluation.localization import MIN_RATIO_TERMS, ratio

NORMAL = 1.959964


def test_means_by_hand_and_t_as_printed():
    """The values 1, 2, 3 have the mean 2 and the standard deviation 1."""
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 10: 2.228, 99: 1.984}
    assert {degrees: t_quantile(degrees) for degrees in printed} == pytest.approx(printed, abs=0.0006)
    error = 4.302653 / math.sqrt(3)
    assert mean_error([1.0, 2.0, 3.0]) == pytest.approx(error)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - error, 2 + error))
    assert mean_interval([1.0]) is mean_error([1.0]) is None


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (0, 0, 0.0, 100.0),
        (10, 20, 29.93, 70.07),
        (0, 10, 0.0, 27.75),
        (10, 10, 72.25, 100.0),
        (81, 263, 25.53, 36.62),  # Newcombe 1998, table I, method 3
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilsons_interval_is_as_printed(correct, count, low, high):
    assert wilson(correct, count) == pytest.approx((low, high), abs=0.006)


def test_intervals_are_those_of_scipy():
    for degrees in (*range(1, 60), 1000, 10**6):
        assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-10)  # SciPy 1.15: 2e-11 off
    for correct in range(50):
        low, high = stats.binomtest(correct, 49).proportion_ci(0.95, method="wilson")
        assert wilson(correct, 49) == pytest.approx((100 * low, 100 * high), rel=1e-12, abs=1e-12)


def test_wilsons_interval_contains_the_share_and_stays_in_range():
    for count in (*range(1, 30), 300):
        for correct in range(count + 1):
            low, high = wilson(correct, count)
            assert 0 <= low <= 100 * correct / count <= high <= 100


def test_the_error_of_a_sum_of_bernoulli_variables_by_hand():
    assert bernoulli_error([0.75, 0.5, 1.0]) == pytest.approx(NORMAL * math.sqrt(0.75 * 0.25 + 0.25))


def test_the_paired_difference_by_hand():
    """Of 8 images 1 is right only in the first run and 3 only in the second."""
    points, interval = paired_difference(1, 3, 8)
    error = 100 * NORMAL * math.sqrt(3.5) / 8
    assert points == 25
    assert interval == pytest.approx((25 - error, 25 + error))


def test_a_constant_ratio_has_an_interval_of_no_width_and_few_terms_have_none():
    denominators = torch.arange(1.0, 1 + MIN_RATIO_TERMS, dtype=torch.float64)
    value, interval = ratio(2 * denominators, denominators)
    assert (value, interval) == (2, pytest.approx((2, 2)))
    assert ratio(2 * denominators[1:], denominators[1:]) == (2, None)


@pytest.mark.parametrize("count", [MIN_RATIO_TERMS, 30])
def test_the_interval_of_a_ratio_covers_it_about_as_often_as_it_claims(count):
    """Draw 400 samples with skewed denominators and correlated numerators; the true ratio is 1."""
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        denominators = torch.rand(count, generator=generator, dtype=torch.float64) ** 3 + 0.01
        numerators = denominators * (0.5 + torch.rand(count, generator=generator, dtype=torch.float64))
        interval = ratio(numerators, denominators)[1]
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert 0.86 * 400 <= covered <= 0.98 * 400
