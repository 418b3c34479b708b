"""Factors as the scores of disentanglement take them: labels, quantities or periodic quantities.

Text, booleans and whole numbers are labels, which have no order. Floats are quantities. A periodic
quantity, such as an angle or a hue, is named with its period: {"hue": 1, "angle": 2 * pi}.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.metrics import mutual_info_score

from sbd_utils import checks

BINS = 20  # the field's usual number
MIN_CODES = 50  # of an estimator; the scores of noise are far from 0 even then
MIN_CODES_PER_LABEL = 5  # of an estimator, in the mean
MIN_CODES_PER_CELL = 5  # in the mean where classes of two factors meet, so that chance is not all
SHUFFLES = 30  # with which about two independent pairs in a thousand warn
MIN_CORRELATION = 0.3  # of two factors, to warn


class CorrelatedFactors(UserWarning):
    """Two factors are dependent, so a latent of the one scores as a latent of the other."""


@dataclass(frozen=True)
class Factor:
    """A factor that varies.

    Attributes:
        kind: "label", "quantity" or "periodic".
        values: Labels numbered from 0, quantities as they are, periodic ones as turns in [0, 1).
        classes: What mutual information takes: classes or bins, numbered from 0.
    """

    name: str
    kind: str
    values: Num[np.ndarray, " N"]
    classes: Int[np.ndarray, " N"]

    @property
    def targets(self) -> Float[np.ndarray, "N targets"]:
        """What a regression predicts: a quantity, sine and cosine, or an indicator per label."""
        if self.kind == "label":
            return (self.values[:, None] == np.arange(self.values.max() + 1)).astype(float)
        if self.kind == "periodic":
            angles = 2 * np.pi * self.values
            return np.column_stack([np.sin(angles), np.cos(angles)])
        return self.values[:, None]


def parse_factors(
    codes: ArrayLike,
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
    estimated: bool = True,
) -> tuple[Float[np.ndarray, "N L"], list[Factor]]:
    """Check codes and factors, and find out what kind each factor is.

    A quantity of more than `bins` values, each of fewer than `bins` codes in the mean, is cut into
    bins of equal width for its classes, around the circle where it is periodic; else each value is
    a class.

    Args:
        codes: [N, latents].
        factors: N values by name; factors that are parsed already are returned as they are.
        periods: Periods of the periodic factors, by name.
        bins: Of a quantity.
        estimated: Whether the score is an estimate, which needs more codes: 50, 2 for each bin,
            and 5 for each label in the mean.

    Returns:
        The codes as float64, and the factors that vary.

    Raises:
        ValueError: For anything else, for labels of fewer than two codes in the mean (floats are
            quantities), a periodic factor within a single bin, or where no factor varies.

    Warns:
        CorrelatedFactors: Where two factors are dependent.
    """
    if isinstance(factors, list):
        return codes, factors
    codes = checks.check_array("codes", codes, ndim=2)
    checks.mapping("factors", factors)
    if estimated and len(codes) < MIN_CODES:
        raise checks.argument_error("codes", f"[at least {MIN_CODES}, latents]", codes)
    checks.check_int("bins", bins, 2, len(codes) // 2 if estimated else 2**63 - 1)
    periods = {} if periods is None else periods
    checks.check_type("periods", periods, Mapping)
    for name, period in periods.items():
        checks.check_one_of("a name in periods", name, list(factors))
        checks.check_positive(f"periods[{name!r}]", period)
    least = MIN_CODES_PER_LABEL if estimated else 2
    parsed = []
    for name, values in factors.items():
        values = checks.labels(f"factors[{name!r}]", values, len(codes))
        if name in periods:
            parsed.append(_periodic(name, values, periods[name], bins))
        elif values.dtype.kind == "f":
            values = values.astype(float)
            classes = _classes(values, bins, values.min(), values.max())
            parsed.append(Factor(name, "quantity", values, classes))
        else:
            parsed.append(_label(name, values, least))
    parsed = [factor for factor in parsed if factor.classes.max() > 0]
    if not parsed:
        raise checks.argument_error("factors", "of one at least that varies", list(factors))
    _warn_of_correlation(parsed)
    return codes, parsed


def _label(name: str, values: np.ndarray, min_codes: int) -> Factor:
    distinct, classes = np.unique(values, return_inverse=True)
    if len(distinct) > max(2, len(values) / min_codes):
        raise ValueError(
            f"factors[{name!r}] must be floats, or labels of {min_codes} codes each "
            f"in the mean, got {len(distinct)} labels of {len(values)} codes"
        )
    return Factor(name, "label", classes, classes)


def _periodic(name: str, values: np.ndarray, period: float, bins: int) -> Factor:
    if values.dtype.kind not in "iuf":
        raise checks.argument_error(f"factors[{name!r}]", "numbers, as it has a period", values)
    values = values.astype(np.result_type(values, np.float32), copy=False)  # not of 16 bits
    turns = np.round(values / period % 1, 6) % 1  # rounded: 0 and a whole period are one value
    classes = _classes(turns, bins, -1e-9, 1 - 1e-9)
    distinct = np.unique(turns)
    arc = 1 - np.diff(distinct, append=distinct[0] + 1).max()  # that holds all, on the circle
    if classes.max() + 1 < len(distinct) and arc < 1 / bins - 1e-9:
        raise ValueError(
            f"factors[{name!r}] must vary by more than one of {bins} bins of its "
            "period, or have none"
        )
    if len(distinct) == 1 and np.ptp(values) > 1.5 * period:  # both ends of one are alike
        raise ValueError(f"periods[{name!r}] must not make all values alike, got {period:g}")
    return Factor(name, "periodic", turns, classes)


def _classes(values: np.ndarray, bins: int, low: float, high: float) -> Int[np.ndarray, " N"]:
    distinct, classes = np.unique(values, return_inverse=True)
    if bins < len(distinct) > len(values) / bins:
        edges = np.linspace(low, high, bins + 1)[1:-1]
        classes = np.unique(np.digitize(values, edges), return_inverse=True)[1]
    return classes


def _warn_of_correlation(factors: list[Factor]) -> None:
    """Warn where two factors share as much as two normal variables of a correlation of 0.3.

    Counts alone make some of that, so it must also be more than in shuffles, by far. With few
    codes only few classes can tell: here as many codes fall in each as ties allow.
    """
    rng = np.random.default_rng(0)
    count = len(factors[0].values)
    few = max(2, min(BINS, int((count / MIN_CODES_PER_CELL) ** 0.5)))
    classes = [
        factor.classes
        if factor.kind == "label"
        else (rankdata(factor.values, "min").astype(int) - 1) * few // count
        for factor in factors
    ]
    orders = [np.arange(count), *(rng.permutation(count) for _ in range(SHUFFLES))]
    for i, one in enumerate(factors):
        for j, other in enumerate(factors[:i]):
            width = classes[i].max() + 1
            rows = classes[j] * width
            counts = (
                np.bincount(rows + classes[i][order], minlength=rows.max() + width)
                for order in orders
            )
            shared, *shuffled = (
                mutual_info_score(None, None, contingency=some.reshape(-1, width))
                for some in counts
            )  # nats
            chance = np.mean(shuffled)
            correlation = np.sqrt(1 - np.exp(-2 * max(0, shared - chance)))
            if correlation > MIN_CORRELATION and shared > chance + 5 * np.std(shuffled):
                warnings.warn(
                    f"{other.name} and {one.name} tell of each other (as a correlation of "
                    f"{correlation:.2f} would): scores of disentanglement assume independence",
                    CorrelatedFactors,
                    stacklevel=4,
                )


def alive(codes: Float[np.ndarray, "N L"]) -> Bool[np.ndarray, " L"]:
    """Which latents are not dead: of a standard deviation above 1/20 of the largest."""
    spread = codes.std(axis=0)
    return (np.ptp(codes, axis=0) > 0) & (spread > spread.max() / 20)
