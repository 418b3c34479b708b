"""What the measures know of a factor: whether it is a label, a quantity, or goes around.

Text, booleans and whole numbers are labels, which have no order. Floats are quantities. A quantity
that goes around, as an angle or a hue does, is named with its period: {"hue": 1, "angle": 2 * pi}.
A constant factor is left out. What a score ignores of the latents: measures/disentanglement.py.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import mutual_info_score

from sbd_utils import checks

BINS = 20  # the field's usual number
LEAST = 50  # codes that an estimator needs; the scores of noise are far from 0 even then
PER_LABEL = 5  # codes that it needs of each label, in the mean
CELL = 5  # codes in the mean where the classes of two factors meet, so that chance is not all
SHUFFLES = 30  # with which about two independent pairs in a thousand warn


class CorrelatedFactors(UserWarning):
    """Two factors tell of each other, so a latent of the one scores as a latent of the other."""


@dataclass(frozen=True)
class Factor:
    """One factor that varies.

    kind: "label", "quantity" or "periodic".
    values: labels numbered from 0, quantities as they are, periodic ones as turns in [0, 1); [N].
    classes: numbered from 0, [N]; what mutual information takes.
    """

    name: str
    kind: str
    values: np.ndarray
    classes: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """What a regression takes: a quantity [N, 1], sine and cosine [N, 2], or 0/1 per label."""
        if self.kind == "label":
            return (self.values[:, None] == np.arange(self.values.max() + 1)).astype(float)
        if self.kind == "periodic":
            angles = 2 * np.pi * self.values
            return np.column_stack([np.sin(angles), np.cos(angles)])
        return self.values[:, None]


def describe(
    codes: np.ndarray,
    factors: Mapping[str, np.ndarray],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
    estimated: bool = True,
) -> tuple[np.ndarray, list[Factor]]:
    """Codes [N, latents] as float64, and those of the factors (name to [N]) that vary.

    A quantity of more than `bins` values, each of fewer than `bins` codes in the mean, has bins of
    one width for classes, around the circle where it is periodic; else each value is a class.
    estimated: refuse what is too little for an estimator: N below 50, below 2 for each bin, or
    below 5 for each label.
    Raises ValueError also for labels of fewer than two codes in the mean, which are quantities, for
    a periodic factor within a single bin, or where no factor varies; warns of CorrelatedFactors.
    """
    (codes,) = checks.arrays(codes=(codes, "N latents"))
    checks.mapping("factors", factors)
    checks.check_one_of("estimated", estimated, (True, False))
    if estimated and len(codes) < LEAST:
        raise checks.argument_error("codes", f"[at least {LEAST}, latents]", codes)
    checks.check_int("bins", bins, 2, len(codes) // 2 if estimated else 2**63 - 1)
    periods = {} if periods is None else periods
    checks.check_type("periods", periods, Mapping)
    for name, period in periods.items():
        checks.check_one_of("a name in periods", name, list(factors))
        checks.check_positive(f"periods[{name!r}]", period)
    found = [
        _factor(
            name,
            checks.labels(f"factors[{name!r}]", values, len(codes)),
            periods.get(name),
            bins,
            estimated,
        )
        for name, values in factors.items()
    ]
    found = [factor for factor in found if factor.classes.max() > 0]
    if not found:
        raise checks.argument_error("factors", "of one at least that varies", list(factors))
    _warn_of_correlation(found)
    return codes.astype(float), found


def _factor(
    name: str, values: np.ndarray, period: float | None, bins: int, estimated: bool
) -> Factor:
    if period is not None:
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
    if values.dtype.kind == "f":
        values = values.astype(float)
        return Factor(name, "quantity", values, _classes(values, bins, values.min(), values.max()))
    distinct, labels = np.unique(values, return_inverse=True)
    least = PER_LABEL if estimated else 2
    if len(distinct) > max(2, len(labels) / least):
        raise ValueError(
            f"factors[{name!r}] must be floats, or labels of {least} codes each "
            f"in the mean, got {len(distinct)} labels of {len(labels)} codes"
        )
    return Factor(name, "label", labels, labels)


def _classes(values: np.ndarray, bins: int, low: float, high: float) -> np.ndarray:
    """The classes of a quantity, numbered from 0."""
    distinct, classes = np.unique(values, return_inverse=True)
    if bins < len(distinct) > len(values) / bins:
        edges = np.linspace(low, high, bins + 1)[1:-1]
        classes = np.unique(np.digitize(values, edges), return_inverse=True)[1]
    return classes


def _warn_of_correlation(factors: list[Factor]) -> None:
    """Warn where two factors share as much as two normal variables of a correlation of 0.3 do.

    Counts alone make some of that, so it must also be more than in shuffles, by far. Of few codes
    only few classes can tell that: here as many codes fall in each as ties allow.
    """
    rng = np.random.default_rng(0)
    count = len(factors[0].values)
    few = max(2, min(BINS, int((count / CELL) ** 0.5)))
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
            if correlation > 0.3 and shared > chance + 5 * np.std(shuffled):
                warnings.warn(
                    f"{other.name} and {one.name} tell of each other (as a correlation of "
                    f"{correlation:.2f} would): scores of disentanglement assume independence",
                    CorrelatedFactors,
                    stacklevel=4,
                )


def alive(codes: np.ndarray) -> np.ndarray:
    """Which latents are not dead: of a standard deviation above 1/20 of the largest, [latents]."""
    (codes,) = checks.arrays(codes=(codes, "N latents"))
    spread = codes.std(axis=0)
    return (np.ptp(codes, axis=0) > 0) & (spread > spread.max() / 20)
