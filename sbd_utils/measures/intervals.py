"""Intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that it lies in, and over how many runs; one run has no width."""

    value: float
    low: float
    high: float
    count: int = 1


def exactly(value: float) -> Estimate:
    """What was counted, or comes out the same every time."""
    return Estimate(float(value), float(value), float(value))


def mean(values: Sequence[float]) -> Estimate:
    """The mean over runs and its 95% interval, by the bootstrap (BCa, 10,000 draws, seed 0).

    The bootstrap stays within the values' range, so that it suits shares and other bounded, skewed
    scores. Where all values are the same, up to rounding, so are the ends. ValueError for fewer
    than two values, or for one that is not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values must be two or more finite numbers, got {values}")
    if np.allclose(values, values[0], rtol=1e-9, atol=0):  # of rounding it would make NaN
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high), len(values))
