"""Intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import pandas as pd
from scipy import stats

FEW = 5  # values, for which the bootstrap is too narrow


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that it lies in, and over how many runs.

    Raises:
        ValueError: For an interval without the value, a width of one run, NaN or infinity.
    """

    value: float
    low: float
    high: float
    count: int = 1

    def __post_init__(self):
        finite = np.isfinite([self.value, self.low, self.high]).all()
        wide = self.count == 1 and self.low < self.high
        if not (finite and self.low <= self.value <= self.high) or wide or self.count < 1:
            raise ValueError(f"value must be from low to high, and one run's alone, got {self}")


def exactly(value: SupportsFloat) -> Estimate:
    """An estimate without a width: of a count, or of what comes out the same every time."""
    value = float(value)
    return Estimate(value, value, value)


def mean(values: Sequence[float] | np.ndarray | pd.Series) -> Estimate:
    """The mean over runs and its 95% interval, by the bootstrap (BCa, 10,000 draws, seed 0).

    The bootstrap stays within the values' range, so that it suits shares and other bounded, skewed
    scores. Of FEW values or fewer it is the range itself, since the bootstrap is too narrow there:
    of five normal values about 0, it has 0 below its lower end in 9% of cases, and the range in 3%.
    Of ten it still is in 4%, so that such an interval holds the true mean in about 91% of cases.
    Where all values are the same, up to rounding, so are the ends.

    Raises:
        ValueError: For fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"values must be two or more, got {values.tolist()}")
    low, high = float(values.min()), float(values.max())
    if np.allclose(values, values[0], rtol=1e-9, atol=0):  # of rounding it would make NaN
        return Estimate(float(values[0]), float(values[0]), float(values[0]), len(values))
    if len(values) > FEW:
        interval = stats.bootstrap(
            (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Estimate(float(values.mean()), low, high, len(values))
