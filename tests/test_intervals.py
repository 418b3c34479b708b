"""The interval of a mean against BCa by hand, scipy, and cases that are known beforehand."""

import math

import numpy as np
import pytest
from scipy import stats

from sbd_utils.metrics.intervals import Estimate, exactly, mean

SHARES = [0.0, 0.0, 0.2, 0.0, 0.25, 0.0, 0.6, 0.0, 0.2, 0.0]  # bounded and skewed, as mixing is


def test_an_exact_number_is_one_run_of_no_width():
    assert exactly(np.int64(3675)) == Estimate(3675.0, 3675.0, 3675.0, 1)
    assert type(exactly(np.float32(1)).value) is float


@pytest.mark.parametrize("value", [0, 1, 0.1, -2.5, 1e-12])
def test_equal_values_are_their_own_interval(value):
    assert mean([value] * 10) == Estimate(value, value, value, 10)


def test_values_that_differ_by_rounding_are_equal():
    values = [0.4 - 1.0, 0.3 - 0.9] * 5
    assert len(set(values)) == 2
    assert mean(values) == Estimate(values[0], values[0], values[0], 10)
    assert mean([1, 1 + 0.8e-9]).high == 1 < mean([1, 1 + 1.2e-9]).high


def test_the_mean_of_a_few():
    assert mean([0, 1]) == Estimate(0.5, 0.0, 1.0, 2)
    assert mean([1, 2, 3]) == Estimate(2.0, 1.0, 3.0, 3)
    assert mean([5, 1, 2, 3, 4]) == Estimate(3.0, 1.0, 5.0, 5)
    assert mean([5, 1, 2, 3, 4, 6]).low > 1


@pytest.mark.parametrize("count, bootstrap, least", [(5, 0.09, 1 / 32), (10, 0.045, 1 / 1024)])
def test_few_values_lie_above_their_true_mean_as_often_as_is_said(count, bootstrap, least):
    draws = np.random.default_rng(0).standard_normal((1000, count))
    interval = stats.bootstrap(
        (draws,), np.mean, axis=1, n_resamples=999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (interval.low > 0).mean() == pytest.approx(bootstrap, abs=0.02)
    assert (draws.min(axis=1) > 0).mean() == pytest.approx(least, abs=0.01)


@pytest.mark.parametrize(
    "values",
    [
        SHARES,
        [1 - share for share in SHARES],
        [0.99, 0.98, 0.995, 0.991, 0.97, 0.985],
        [0] * 9 + [1],
        [-3.0, -2.5, -4.0, -3.2, -2.9, -3.6, -3.3, -2.2, -3.9, -3.1],
    ],
)
def test_bca_by_hand(values):
    """Efron 1987: percentiles, moved for bias and for how the spread changes with the mean."""
    values = np.array(values, dtype=float)
    rng, count = np.random.default_rng(1), len(values)
    means = values[rng.integers(0, count, (200_000, count))].mean(axis=1)
    off = means - values.mean()
    bias = stats.norm.ppf((off < -1e-12).mean() + (abs(off) < 1e-12).mean() / 2)
    off = values - values.mean()  # as the means that leave one out are, up to a factor
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    found = mean(values)
    width = expected[1] - expected[0]
    assert found.value == pytest.approx(values.mean()) and found.count == count
    assert (found.low, found.high) == pytest.approx(expected, abs=0.05 * width)
    assert values.min() <= found.low <= found.value <= found.high <= values.max()


def test_an_interval_of_a_skewed_score_leans_to_the_side_of_its_tail():
    found = mean(SHARES)
    assert found.high - found.value > 1.3 * (found.value - found.low)
    percentile = stats.bootstrap(
        (SHARES,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.low > percentile.low and found.high > percentile.high


def test_it_is_scipys_and_the_same_every_time():
    expected = stats.bootstrap(
        (np.array(SHARES),),
        lambda x, axis: x.mean(axis=axis),
        batch=100,
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    low, high = expected.confidence_interval
    found = mean(SHARES)
    assert (found.low, found.high) == pytest.approx((low, high)) and found == mean(SHARES)
    assert mean(tuple(SHARES)) == mean(np.array(SHARES)) == found


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_what_has_no_interval_is_refused(values):
    with pytest.raises(ValueError, match="^values? must be"):
        mean(values)


@pytest.mark.parametrize(
    "numbers",
    [
        (1, 2, 3, 10),
        (1, 0, 0.5, 10),
        (1, 2, 0, 10),
        (1, 0, 2),
        (1, 1, 1, 0),
        (math.nan, 1, 1),
        (1, -math.inf, 1, 9),
    ],
)
def test_an_estimate_lies_in_its_interval(numbers):
    with pytest.raises(ValueError, match="^value must be from low to high"):
        Estimate(*numbers)
