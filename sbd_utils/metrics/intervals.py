"""Intervals over seeds."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sbd_utils import checks

FEW = 5


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that it lies in, and over how many runs; one run has no width.

    Raises ValueError for numbers that are not finite, an interval without the value, or a width of
    one run.
    """

    value: float
    low: float
    high: float
    count: int = 1

    def __post_init__(self):
        for name in ("value", "low", "high"):
            checks.check_float(name, getattr(self, name))
        alone = checks.check_int("count", self.count) == 1
        if not self.low <= self.value <= self.high or (alone and self.low < self.high):
            raise ValueError(f"value must be from low to high, and one run's alone, got {self}")


def exactly(value: float) -> Estimate:
    """What was counted, or comes out the same every time."""
    value = checks.check_float("value", value)
    return Estimate(value, value, value)


def mean(values: Iterable[float]) -> Estimate:
    """The mean over runs and its 95% interval, by the bootstrap (BCa, 10,000 draws, seed 0).

    The bootstrap stays within the values' range, so that it suits shares and other bounded, skewed
    scores. Of FEW values or fewer it is the range itself, since the bootstrap is too narrow there:
    of five normal values about 0, it has 0 below its lower end in 9% of cases, and the range in 3%.
    Of ten it still is in 4%, so that such an interval holds the true mean in about 91% of cases.
    Where all values are the same, up to rounding, so are the ends. ValueError for fewer than two.
    """
    (values,) = checks.arrays(values=(values, "N"))
    if len(values) < 2:
        raise checks.argument_error("values", "two or more", values)
    values = values.astype(float)
    if np.allclose(values, values[0], rtol=1e-9, atol=0):  # of rounding it would make NaN
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    if len(values) <= FEW:
        return Estimate(float(values.mean()), float(values.min()), float(values.max()), len(values))
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return Estimate(float(values.mean()), float(interval.low), float(interval.high), len(values))
