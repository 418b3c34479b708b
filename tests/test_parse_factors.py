"""What the measures take a factor for, what they refuse, and when they warn."""

import re
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from sbd_utils.metrics.disentanglement import report
from sbd_utils.metrics.factors import CorrelatedFactors, alive, parse_factors
from sbd_utils.metrics.information import mig
from sbd_utils.metrics.prediction import sap

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(1000, 2))
X, Y = RNG.uniform(size=(2, 1000))
LABEL = RNG.choice(["disc", "heart", "square"], 1000)


def only(values, period=None, bins=20):
    _, (factor,) = parse_factors(
        CODES, {"a": values}, None if period is None else {"a": period}, bins
    )
    return factor


@pytest.mark.parametrize("values", [LABEL, list(LABEL), LABEL == "heart", (X * 3).astype(int)])
def test_texts_whole_numbers_and_booleans_are_labels(values):
    factor = only(values)
    assert factor.kind == "label"
    assert_array_equal(factor.classes, np.unique(values, return_inverse=True)[1])
    assert_array_equal(factor.targets.argmax(axis=1), factor.classes)
    assert (factor.targets.sum(axis=1) == 1).all()


def test_floats_are_quantities_with_bins_of_one_width_where_there_are_many():
    factor = only(7 * X - 3)
    assert factor.kind == "quantity"
    assert_array_equal(factor.targets[:, 0], 7 * X - 3)
    edges = np.linspace(X.min(), X.max(), 21)[1:-1]
    assert_array_equal(factor.classes, np.digitize(X, edges))
    few = only(np.round(X, 1))
    assert few.kind == "quantity" and few.classes.max() == 10


def test_periodic_quantities_go_around():
    """The seam is no edge, a whole period is 0, and degrees are as good as radians."""
    turns = np.round(X, 2)
    factor = only(360 * turns + 720, 360)
    assert factor.kind == "periodic"
    assert_allclose(factor.values, turns % 1, atol=1e-6)
    assert_allclose(factor.targets[:, 0], np.sin(2 * np.pi * turns), atol=1e-5)
    assert_allclose(factor.targets[:, 1], np.cos(2 * np.pi * turns), atol=1e-5)
    assert_array_equal(factor.classes, np.round(100 * turns) % 100 // 5)  # on an edge: the next
    two_pi = np.float32(2 * np.pi) * (np.arange(1000) % 2)  # rounded, it is no multiple of 2 pi
    with pytest.raises(ValueError, match="^factors must be of one at least that varies"):
        only(two_pi, 2 * np.pi)
    assert only(np.arange(1000) % 4 * 90, 360).classes.max() == 3  # whole numbers may go around


def test_a_period_that_is_far_too_long_is_refused():
    with pytest.raises(ValueError, match=r"^factors\['a'\] must vary by more than one of 20 bins"):
        only(1 + 14 * X, 360)
    assert only(1 + 19 * X, 360).classes.max() == 1
    with pytest.raises(ValueError, match=r"^factors\['a'\] must vary by more than one of 20 bins"):
        only(6 * X - 3, 360)  # also over the seam


@pytest.mark.parametrize("value", [0.0, 0.4, 0.9])  # 1 - (1.9 - 0.9) is not 0
def test_a_constant_that_goes_around_is_left_out(value):
    _, (one,) = parse_factors(CODES, {"x": X, "a": 0 * X + value}, {"a": 1.0})
    assert one.name == "x"


def test_a_few_values_close_to_each_other_are_classes():
    assert only(10.0 * (np.arange(1000) % 2) - 5, 360).classes.max() == 1


def test_a_period_of_which_all_values_are_multiples_is_refused():
    for values in (np.arange(1000) % 40, np.arange(1000) % 3.0):
        with pytest.raises(ValueError, match=r"^periods\['a'\] must not make all values alike"):
            only(values, 1)


@pytest.mark.parametrize(
    "count, distinct, classes", [(100, 20, 20), (100, 21, 15), (1000, 50, 50), (1000, 51, 20)]
)
def test_more_values_than_bins_of_fewer_codes_than_bins_each_are_cut(count, distinct, classes):
    values = (np.arange(count) % distinct / distinct) ** 2
    _, (factor,) = parse_factors(np.ones((count, 1)), {"a": values})
    assert factor.classes.max() + 1 == classes


def test_a_periodic_factor_differs_from_a_millionth_and_must_reach_two_bins():
    seam, wide = np.arange(1000) % 2, np.linspace(0, 0.05, 1000)
    assert only(seam * (1 - 6e-7), 1.0).classes.max() == 1
    with pytest.raises(ValueError, match="^factors must be of one at least that varies"):
        only(seam * (1 - 4e-7), 1.0)
    for start in np.arange(20) / 20:  # rounded, some of these arcs are below 0.05
        assert only(start + wide, 1.0).classes.max() == 1
    with pytest.raises(ValueError, match="must vary by more than one of 20 bins"):
        only(wide - 1e-6 * (wide > 0.04), 1.0)


def test_two_labels_are_few_enough_for_any_codes():
    parse_factors(CODES[:3], {"a": [0, 0, 1]}, estimated=False)
    with pytest.raises(ValueError, match="must be floats, or labels of 2 codes each"):
        parse_factors(CODES[:3], {"a": [0, 1, 2]}, estimated=False)


def test_half_precision_is_enough_for_a_factor_that_goes_around():
    assert_allclose(only(X.astype(np.float16), 1.0).values, X, atol=1e-3)


def test_names_may_come_from_an_array():
    (name,) = np.array(["hue"])
    for period in (name, "hue"):
        assert parse_factors(CODES, {name: X}, {period: 1.0})[1][0].kind == "periodic"


def test_what_does_not_vary_is_left_out():
    codes, found = parse_factors(CODES.astype(np.float32), {"a": X, "size": np.full(1000, 8)})
    assert [factor.name for factor in found] == ["a"] and codes.dtype == np.float64


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize("measure", [parse_factors, report])
@pytest.mark.parametrize(
    "codes, factors, periods, says",
    [
        (CODES[:, 0], {"x": X}, None, "codes must be numbers of 2 dimensions, got"),
        (CODES * np.nan, {"x": X}, None, "codes must be finite"),
        (CODES[:49], {"x": X[:49]}, None, "codes must be [at least 50, latents], got ndarray"),
        (CODES, {"x": X[1:]}, None, "factors['x'] must be 1000 texts or numbers"),
        (CODES, {"x": X * np.inf}, None, "factors['x'] must be finite"),
        (CODES, X, None, "factors must be a mapping, not empty"),
        (CODES, {}, None, "factors must be a mapping, not empty"),
        (CODES, {"x": np.ones(1000)}, None, "factors must be of one at least that varies, got"),
        (CODES, {"x": X}, 1.0, "periods must be a Mapping, got 1.0"),
        (CODES, {"x": X}, {"y": 1.0}, "a name in periods must be one of x, got 'y'"),
        (CODES, {"x": X}, {"x": 0.0}, "periods['x'] must be a number above 0, got 0.0"),
        (CODES, {"x": X}, {"x": "1"}, "periods['x'] must be a number, got '1'"),
        (CODES, {"x": LABEL}, {"x": 1}, "factors['x'] must be numbers, as it has a period"),
        (
            CODES,
            {"n": (300 * X).astype(int)},
            None,
            "factors['n'] must be floats, or labels of 5 codes",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_in_these_words(measure, codes, factors, periods, says):
    with pytest.raises(ValueError) as caught:
        measure(codes, factors, periods)
    assert str(caught.value).startswith(says)


def test_more_bins_than_half_the_codes_are_refused():
    with pytest.raises(ValueError, match="^bins must be a whole number from 2 to 30, got 31"):
        parse_factors(CODES[:60], {"x": X[:60]}, bins=31)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_and_factors_may_be_tensors_of_any_kind(dtype):
    codes, x = (torch.tensor(some).to(dtype).requires_grad_() for some in (CODES, X))
    found, (factor,) = parse_factors(codes, {"x": x})
    assert found.dtype == np.float64 and found.tolist() == codes.tolist()
    assert factor.kind == "quantity" and factor.values.tolist() == x.tolist()


@pytest.mark.parametrize("measure", [report, mig, sap])
def test_a_gap_needs_two_latents(measure):
    with pytest.raises(ValueError, match=r"^codes must be \[N, at least 2\], got"):
        measure(CODES[:, :1], {"x": X})


@pytest.mark.parametrize("measure", [report, mig])
def test_correlated_factors_are_told_of_once(measure):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measure(CODES, {"x": X, "z": Y, "y": X + 0.5 * Y})
    told = {str(item.message)[:29] for item in caught}
    assert told == {"x and y tell of each other (a", "z and y tell of each other (a"}
    assert len(caught) == 2 and {item.category for item in caught} == {CorrelatedFactors}


@pytest.mark.parametrize(
    "other, period",
    [
        (X**2, None),
        ((3 * X).astype(int), None),
        ((2 * X + 0.1) % 1, 1.0),
        (abs(X - 0.5), None),
        (0.4 * X + 0.6 * Y, None),
    ],
    ids=["bent", "label", "hue", "folded", "linear"],
)
def test_dependence_of_any_form_is_seen(other, period):
    with pytest.warns(CorrelatedFactors, match="^x and other tell of each other"):
        parse_factors(CODES, {"x": X, "other": other}, {"other": period} if period else None)


def test_a_warning_says_how_strong_the_dependence_is():
    """What counts of 20 × 20 classes share by chance is taken off."""
    x, y = np.random.default_rng(0).normal(size=(2, 1000))
    with pytest.warns(CorrelatedFactors) as caught:
        parse_factors(x[:, None], {"x": norm.cdf(x), "y": norm.cdf(0.6 * x + 0.8 * y)})
    (told,) = re.findall(r"correlation of (0\.\d\d) would", str(caught[0].message))
    assert float(told) == pytest.approx(0.6, abs=0.04)


@pytest.mark.parametrize("count, seeds", [(50, 10), (200, 10), (1000, 10), (10000, 3)])
def test_chance_is_no_dependence(count, seeds):
    """Warnings are errors here. A correlation of 0.15 is still let by."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, y, z = rng.normal(size=(3, count))
        parse_factors(
            x[:, None],
            {
                "x": x,
                "y": y,
                "z": 0.15 * x + z,
                "n": rng.integers(5, size=count),
                "grid": rng.integers(32, size=count) / 31,
            },
        )


@pytest.mark.parametrize("count", [50, 100])
def test_few_codes_tell_a_strong_dependence(count):
    seen = 0
    for seed in range(20):
        x, y = np.random.default_rng(seed).normal(size=(2, count))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parse_factors(x[:, None], {"x": x, "y": 0.9 * x + 0.19**0.5 * y})
        seen += len(caught)
    assert seen == 20


def normal(count, correlation, seed=0):
    x, y = np.random.default_rng(seed).normal(size=(2, count))
    return {"x": x, "y": correlation * x + (1 - correlation**2) ** 0.5 * y}


def saw(count, teeth):
    x = (np.arange(count) + 0.5) / count
    return {"x": x, "y": teeth * x % 1}


@pytest.mark.parametrize(
    "factors, warned",
    [
        (normal(10_000, 0.25), 0),
        (normal(10_000, 0.35), 1),  # a correlation of 0.3
        (normal(100, 0.6, seed=32), 0),
        (normal(100, 0.6, seed=27), 1),  # five spreads of 30 shuffles
        (saw(4800, 20), 0),
        (saw(4800, 10), 1),  # in 20 classes
        (saw(500, 10), 0),
        (saw(500, 5), 1),  # in 10, so five codes in each of 100 cells
        (saw(10, 1), 1),  # in 2, though 2.5 codes in each
    ],
)
def test_how_much_is_a_dependence(factors, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parse_factors(np.ones((len(factors["x"]), 1)), factors, estimated=False)
    assert len(caught) == warned


def test_a_full_grid_is_independent():
    x, y, c = (part.ravel() for part in np.meshgrid(range(35), range(35), range(3)))
    parse_factors(np.ones((3675, 1)), {"x": x / 34, "y": y / 34, "c": c}, {"x": 2.0})


def test_latents_are_alive_above_a_twentieth_of_the_widest():
    spread = np.tile([[1.0], [-1]], (5, 1)) * [20, 1.1, 0.9, 0] + [0, 3, 0, 0.1]
    assert_array_equal(alive(spread), [True, True, False, False])
    assert not alive(np.full((35, 2), 0.1)).any()  # the mean of 35 times 0.1 need not be 0.1
