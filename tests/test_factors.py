"""Sets of factors against counts made by hand, laws of sets and the chi-square test."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sbd_utils.data.factors import Continuous, Discrete, Product
from sbd_utils.data.rules import Dependent, Rule, Where

X, Y = Continuous("x", 0, 1), Continuous("y", 0, 1)
SQUARE, SHAPE = X * Y, Discrete("shape", (0, 1, 4))
CORNER = Continuous("x", 0.5, 1) * Continuous("y", 0.5, 1)


def add_below(x, y):
    return x + y < 1


def half(x):
    return x / 2


BELOW, HALF = Rule("x + y < 1", ("x", "y"), add_below), Rule("h = x / 2", ("x",), half)
TRIANGLE = Where(SQUARE, BELOW)
HUED = Dependent(SQUARE, Continuous("h", 0, 1, periodic=True), HALF)
SETS = [
    X,
    SHAPE,
    SQUARE,
    SQUARE * SHAPE,
    SQUARE - CORNER,
    SQUARE - X,
    TRIANGLE,
    TRIANGLE * SHAPE,
    HUED,
    HUED - CORNER,
    TRIANGLE - CORNER,
    SHAPE - Discrete("shape", (1,)),
    HUED * SHAPE,
]


def draw(factors, count=1000, seed=0):
    return factors.sample(count, torch.Generator().manual_seed(seed))


def points(*rows):
    return dict(zip(("x", "y"), torch.tensor(rows).T, strict=True))


@pytest.mark.parametrize("factors", [one for one in SETS if one != SQUARE - X], ids=repr)
def test_draws_are_inside_of_the_told_kind_and_repeat_on_reseeding(factors):
    first, again, other = draw(factors), draw(factors), draw(factors, seed=1)
    assert tuple(first) == factors.names == tuple(one.name for one in factors.factors)
    for factor in factors.factors:
        column = first[factor.name]
        whole = isinstance(factor, Discrete) and all(isinstance(v, int) for v in factor.values)
        assert column.shape == (1000,)
        assert column.dtype == (torch.int64 if whole else torch.float32)
        assert torch.equal(column, again[factor.name])
        assert not torch.equal(column, other[factor.name])
    assert factors.contains(first).all()


@pytest.mark.parametrize("factors", SETS, ids=repr)
def test_a_set_is_a_value_in_every_process(factors):
    copy = pickle.loads(pickle.dumps(factors))
    assert copy == factors and hash(copy) == hash(factors) and repr(copy) == repr(factors)


@pytest.mark.usefixtures("unenforced_annotations")
def test_equal_sets_have_equal_reprs():
    assert repr(Continuous("x", 0, 1)) == repr(Continuous("x", np.float64(0), np.float32(1.0)))
    assert repr(Discrete("a", (1, 2.0))) == repr(Discrete("a", (np.int64(1), 2)))
    assert Discrete("a", (1, 2.5)).values == (1.0, 2.5)
    assert repr(Continuous("x", -0.0, 1)) == repr(X)
    assert X * (Y * SHAPE) == (X * Y) * SHAPE == Product((X, Y, SHAPE))


def test_contains_by_hand():
    given = points([0.5, 0.5], [0.2, 0.9], [1, 1], [1.01, 0.5], [0, 0], [0.4, 0.6])
    for factors, wanted in (
        (SQUARE, "111011"),
        (CORNER, "101000"),
        (SQUARE - CORNER, "010011"),
        (TRIANGLE, "000010"),
        (SQUARE - (SQUARE - CORNER), "101000"),
    ):
        assert factors.contains(given).tolist() == [mark == "1" for mark in wanted], factors
    assert SHAPE.contains({"shape": torch.tensor([0, 1, 2, 4])}).tolist() == [1, 1, 0, 1]
    third = Continuous("x", 0.1, 0.9)
    assert third.contains({"x": torch.tensor([0.1, 0.9, 0.1 - 1e-7, 0.9 + 1e-7])}).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert third.contains({"x": torch.tensor([0.1, 0.9], dtype=torch.float64)}).all()
    ring = Dependent(
        X, Continuous("h", 0, 1, periodic=True), Rule("h = 0", ("x",), torch.zeros_like)
    )
    edge = {"x": torch.full((3,), 0.5), "h": torch.tensor([0, 1, 0.5])}
    assert ring.contains(edge).tolist() == [True, True, False]
    steep = Dependent(X, Continuous("h", 0, 1, periodic=True), Rule("3 x", ("x",), lambda x: 3 * x))
    far = {"x": torch.tensor([0.9, 0.9, 0.1]), "h": torch.tensor([0.5, 0.7, 0.3])}
    assert steep.contains(far).tolist() == [False, True, True]
    found = draw(steep)
    assert found["x"].max() > 0.99 and steep.contains(found).all()
    assert steep.factor.contains(found).all()
    assert not X.contains({"x": torch.tensor([-1e-3])}).any()


def test_laws_of_sets():
    a, b = Continuous("x", 0.1, 0.7) * Y, X * Continuous("y", 0.3, 0.8)
    given = draw(SQUARE, 4000)

    def same(one, other):
        return torch.equal(one.contains(given), other.contains(given))

    assert same(SQUARE - (SQUARE - a), a) and same(a - b - b, a - b)
    assert same(a - (SQUARE - b), b - (SQUARE - a))  # both are the intersection
    assert not same(a, b)


def cells(found, side=8):
    """How many draws fall into each of side x side cells."""
    x, y = ((found[name] * side).long().clamp(max=side - 1) for name in ("x", "y"))
    return torch.bincount(x * side + y, minlength=side * side).view(side, side).numpy()


@pytest.mark.parametrize(
    "factors, filled",
    [
        (SQUARE, lambda i, j: True),
        (SQUARE - CORNER, lambda i, j: i < 4 or j < 4),
        (SQUARE - (SQUARE - CORNER), lambda i, j: i > 3 and j > 3),
        (HUED, lambda i, j: True),
    ],
)
def test_draws_are_uniform(factors, filled):
    found, mask = cells(draw(factors, 20_000)), np.fromfunction(np.vectorize(filled), (8, 8))
    assert not found[~mask].any()
    assert chisquare(found[mask]).pvalue > 0.01


def test_a_restricted_part_is_uniform_and_so_are_choices():
    found = cells(draw(TRIANGLE, 20_000))
    area = np.fromfunction(lambda i, j: np.select([i + j < 7, i + j == 7], [1.0, 0.5]), (8, 8))
    assert not found[area == 0].any()
    expected = 20_000 * area[area > 0] / area.sum()
    assert chisquare(found[area > 0], expected).pvalue > 0.01
    assert chisquare(np.bincount(draw(SHAPE, 20_000)["shape"])[[0, 1, 4]]).pvalue > 0.01
    rounded = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float32)  # not the 0.1 of float64
    assert Discrete("a", (0.1, 0.2)).contains({"a": rounded}).tolist() == [True, True, False]


def test_a_dependent_factor_follows_its_rule():
    found = draw(HUED * SHAPE)
    assert torch.equal(found["h"], found["x"] / 2)
    assert (HUED * SHAPE).names == ("x", "y", "h", "shape")
    assert HUED.contains({**found, "h": found["h"] + 0.8e-5}).all()
    assert not HUED.contains({**found, "h": found["h"] + 1.2e-5}).any()


def test_a_rule_may_round_out_of_its_range_and_spoils_no_other_column():
    tenth = Rule("h = x + 0.1", ("x",), lambda x: x + 0.1)  # up to 1.0000001 in float32
    rounded = draw(Dependent(Continuous("x", 0.5, 0.9), Continuous("h", 0.6, 1 - 4e-8), tenth))
    assert rounded["h"].max() <= 1
    in_place = Where(X, Rule("x < 1/2", ("x",), lambda x: x.mul_(2) < 1))
    assert 0.4 < draw(in_place)["x"].max() < 0.5
    same = Dependent(X, Continuous("h", 0, 1), Rule("h = x", ("x",), lambda x: x))
    found = draw(same)
    found["h"] += 1
    assert found["x"].max() < 1


@pytest.mark.parametrize(
    "factors",
    [
        SQUARE - SQUARE,
        SQUARE - X,
        SHAPE - SHAPE,
        TRIANGLE - TRIANGLE,
        Where(X, Rule("x > 2", ("x",), lambda x: x > 2)),
        (X - X) * SHAPE,
        X - Continuous("x", 0, 0.499999) - Continuous("x", 0.5, 1),
    ],
)
def test_empty_and_nearly_empty_sets_are_refused(factors):
    with pytest.raises(ValueError, match="^a set must not be empty, got . of 1"):
        draw(factors)


def test_a_small_part_is_found():
    sliver = X - Continuous("x", 0.001, 1)
    assert draw(sliver, 50)["x"].max() < 0.001
    assert len(draw(X - Continuous("x", 9e-5, 1), 100)["x"]) == 100
    with pytest.raises(ValueError, match="got .. of 1048576 draws"):  # of 2**20, below 2**6
        draw(X - Continuous("x", 4.5e-5, 1), 100)


H = Continuous("h", 0, 1, periodic=True)
LOG = Rule("log", ("x",), lambda x: (-x).log())


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Continuous("x", 1, 1), "high must be above low = 1 in float32, got 1"),
        (lambda: Continuous("t", 1.7e9, 1.7e9 + 60), "high must be above low = 1.7e+09 in"),
        (lambda: Continuous("x", 0, 1e39), "high must be above low = 0 in float32"),
        (lambda: Continuous("x", -3e38, 3e38), "high must be above low = -3e+38 in float32"),
        (lambda: Discrete("a", (1, 1.0)), "values must be different numbers"),
        (lambda: Discrete("a", (0.1, 0.1 + 1e-10)), "values must be different numbers"),
        (lambda: Discrete("a", ()), "values must be a tuple of numbers"),
        (lambda: X * X, "parts must be sets of different factors, got ('x', 'x')"),
        (lambda: X - SQUARE, "hole must be a set of factors among x, got ('x', 'y')"),
        (lambda: H - Continuous("h", 0.9, 1.1), "hole must be within the range of the periodic h"),
        (lambda: H - Discrete("h", (0, 1.5)), "hole must be within the range of the periodic h"),
        (lambda: Where(X, BELOW), "rule must be one of factors among x, got Rule("),
        (lambda: Dependent(SQUARE, X, HALF), "factor must be a new one, got 'x'"),
        (
            lambda: draw(Dependent(X, Continuous("h", 0, 0.1), HALF)),
            "the rule 'h = x / 2' must be in Continuous(name='h', low=0.0, high=0.1, periodic=",
        ),
        (lambda: draw(Dependent(X, Continuous("h", 0, 1), LOG)), "the rule 'log' must be in"),
    ],
)
def test_impossible_sets_are_refused(make, says):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(says)
