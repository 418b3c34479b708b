"""Scores that count information, on codes whose score is known beforehand."""

import numpy as np
import pytest

from sbd_utils.metrics import information
from sbd_utils.metrics.geometry import affine_fit
from sbd_utils.metrics.information import active_units, infomec, kl_per_latent, mig, modularity

TURN = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])
X, Y, COLOR = (part.ravel() for part in np.meshgrid(range(35), range(35), range(3), indexing="ij"))
FACTORS = {"x": X / 34, "y": Y / 34, "color": np.array(["red", "green", "blue"])[COLOR]}
IDENTITY = np.column_stack([X, Y, COLOR]).astype(float)
GRID = np.stack(np.meshgrid(range(35), range(35)), axis=-1).reshape(-1, 2)
PLACES = {"x": GRID[:, 0] / 34, "y": GRID[:, 1] / 34}


def test_mig_is_capped_by_its_bins_and_ignores_what_does_not_vary():
    """20 bins tell 35 positions apart up to ln 20 / ln 35 = 0.843, and 3 colors up to 1."""
    for name, low, cap in (("x", 0.82, 0.843), ("y", 0.82, 0.843), ("color", 1 - 1e-9, 1 + 1e-9)):
        assert low < mig(IDENTITY, {name: FACTORS[name]}) < cap
    whole = mig(IDENTITY, FACTORS)
    assert whole == pytest.approx(np.mean([mig(IDENTITY, {k: v}) for k, v in FACTORS.items()]))
    assert whole == mig(IDENTITY, FACTORS | {"size": np.full(3675, 16)})


@pytest.mark.parametrize(
    "codes", [np.ones((3675, 3)), np.hstack([IDENTITY, IDENTITY])], ids=["constant", "duplicated"]
)
def test_mig_is_zero_where_no_latent_is_ahead(codes):
    assert mig(codes, FACTORS) == pytest.approx(0, abs=1e-9)


def test_mig_falls_when_two_latents_are_turned_and_r2_does_not():
    assert mig(GRID, PLACES) == pytest.approx(0.8329, abs=5e-5)
    assert mig(GRID @ TURN.T, PLACES) == pytest.approx(0, abs=5e-4)
    assert affine_fit(GRID, GRID @ TURN.T).r2 == pytest.approx(1)


def test_continuous_factors_are_cut_into_bins_and_others_are_not():
    """As classes of one value each, they would leave a perfect code a score near 0."""
    rng = np.random.default_rng(0)
    codes = rng.uniform(size=(4000, 3))
    factors = dict(zip("xyz", codes.T, strict=True))
    assert mig(codes, factors) > 0.95
    assert mig(codes.astype(np.float32), {"x": 7 * factors["x"] - 3}) > 0.95
    assert mig(codes[:, :2] @ TURN.T, {"x": factors["x"], "y": factors["y"]}) < 0.1
    rounded = np.round(factors["x"], 1)  # 11 values, which are classes
    assert mig(codes, {"x": rounded}) == mig(codes, {"x": rounded.astype(str)})
    uneven = np.repeat([0, 1, 2], [2000, 1000, 1000])  # the entropy is that of what was sampled
    assert mig(np.column_stack([uneven, 0 * uneven]), {"label": uneven}) == pytest.approx(1)
    grid = mig(IDENTITY, {"x": X / 34})  # 35 values of 105 codes each, too
    assert grid == mig(IDENTITY, {"x": X})


def test_modularity_of_two_factors_in_each_latent_and_of_a_dead_latent():
    """Five latents of two factors each, of ten: 1 - 1/9; two good latents and a dead one: 2/3."""
    digits = np.random.default_rng(0).integers(3, size=(20000, 10))
    pairs = 3 * digits[:, :5] + digits[:, 5:]  # nine values, so nine bins keep all of it
    factors = {f"f{i}": digits[:, i] for i in range(10)}
    assert modularity(pairs, factors, bins=9) == pytest.approx(1 - 1 / 9, abs=1e-3)
    assert modularity(digits, factors, bins=9) == pytest.approx(1, abs=1e-3)
    four, two = digits[:, 0] + (digits[:, 1] > 1), digits[:, 2] > 0  # of unequal information
    shares = [
        -sum(p * np.log(p) for p in np.unique_counts(part).counts / 20000) for part in (four, two)
    ]
    unequal = modularity((2 * four + two)[:, None], {"four": four, "two": two}, bins=8)
    assert unequal == pytest.approx(1 - (shares[1] / shares[0]) ** 2, abs=1e-3)
    dead = np.column_stack([GRID, np.full(len(GRID), 0.1)])
    assert modularity(dead, PLACES) == pytest.approx(2 / 3)
    assert modularity(0 * dead, PLACES) == 0
    x, y, z = (axis.ravel() for axis in np.mgrid[:3, :4, :5])  # z tells of neither
    assert modularity(np.column_stack([x, y, z]), {"x": x, "y": y}) == pytest.approx(2 / 3)
    assert np.isnan(modularity(GRID, {"x": PLACES["x"]}))


@pytest.mark.parametrize("shared, expected", [(0.8e-12, 0.5), (1.2e-12, 1)])
def test_modularity_takes_rounding_for_no_information(monkeypatch, shared, expected):
    monkeypatch.setattr(
        information,
        "_binned_information",
        lambda codes, factors, bins: np.array([[1, 0], [0, shared]]),
    )
    assert modularity(GRID, PLACES) == expected


@pytest.mark.parametrize(
    "codes, factors, expected",
    [
        (IDENTITY, FACTORS, (0.999, 1, 0.999)),
        (GRID, PLACES, (0.996, 1, 0.996)),
        (GRID @ TURN.T, PLACES, (0.004, 1, 0)),
        (np.hstack([IDENTITY, IDENTITY]), FACTORS, (0.999, 1, 0.399)),
        (
            IDENTITY * [1, 1, 0],
            FACTORS,
            (0.999, 2 / 3, 1 - 1 / 3),
        ),  # a color lost: its share is even
        (IDENTITY * 0, FACTORS, (0, 0, 0)),
        (GRID[:, :1], PLACES, (0.999, 0.5, np.nan)),
        (GRID, {"x": PLACES["x"]}, (np.nan, 1, 0.996)),
    ],
    ids=[
        "identity",
        "straight",
        "turned",
        "duplicated",
        "lost",
        "dead",
        "one latent",
        "one factor",
    ],
)
def test_infomec_of_known_codes(codes, factors, expected):
    found = infomec(codes, factors)
    assert list(found) == ["InfoM", "InfoE", "InfoC"]
    assert list(found.values()) == pytest.approx(expected, abs=0.005, nan_ok=True)


def test_infomec_of_a_turned_plane_is_that_of_another_port():
    found = infomec(GRID @ TURN.T, PLACES)
    assert list(found.values()) == pytest.approx((0.004, 1, 0.016), abs=0.02)


def test_infom_weighs_factors_by_what_there_is_to_tell_of_each():
    """A latent that tells all of sixteen values and all of two is a latent of either factor."""
    number, bit = np.divmod(np.arange(3200) % 32, 2)
    found = infomec(np.arange(3200)[:, None] % 32, {"number": number, "bit": bit})
    assert found["InfoM"] == pytest.approx(0, abs=0.02)


def test_infoe_of_labels_is_the_entropy_taken_away_however_rare_they_are():
    """Labels told apart half the time: ln 2 of each second code is left, of -p ln p in all."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, 4000, p=[0.5, 0.25, 0.25])
    codes = np.column_stack([label > 0, np.zeros(4000)]).astype(float)
    whole = -(0.5 * np.log(0.5) + 0.5 * np.log(0.25))
    assert infomec(codes, {"c": label})["InfoE"] == pytest.approx(
        1 - 0.5 * np.log(2) / whole, abs=0.01
    )


def test_a_constant_latent_tells_nothing_however_many_codes_there_are():
    """scikit-learn adds noise to it, and finds information in the rounding of a large constant."""
    x = np.linspace(0, 1, 5000)
    label = np.arange(5000) % 2
    codes = np.column_stack([x, label + 0.001 * x, np.full(5000, 1e6), np.full(5000, 0.1)])
    assert infomec(codes, {"x": x, "l": label}) == infomec(codes[:, :2], {"x": x, "l": label})


def test_kl_per_latent_is_in_nats_and_the_mean_over_codes():
    """A posterior as the prior is free; a mean of m costs m²/2, a width of e is (e² - 3) / 2."""
    mu = np.array([[0.0, 2, 0, 1], [0, 2, 0, -3]])
    log_var = np.array([[0.0, 0, 2, 0], [0, 0, 2, 0]])
    assert kl_per_latent(mu, log_var) == pytest.approx([0, 2, (np.exp(2) - 3) / 2, 2.5])
    assert not active_units(mu * [1, 1, 1, 0.04]).any()  # a mean that is not 0 is not yet active
    assert active_units(mu * [1, 1, 1, 0.06]).tolist() == [False] * 3 + [True]  # 0.12²: just above


def test_periodic_factors_have_bins_around_the_circle():
    hue = np.random.default_rng(0).uniform(size=5000)
    codes = np.column_stack([hue, np.zeros(5000)])
    shifted = (hue + 0.75) * 2  # over the seam
    for values in (shifted, shifted + 2 * (np.arange(5000) % 3)):
        assert mig(codes, {"hue": values}, {"hue": 2.0}) > 0.95
    assert mig(codes, {"hue": values}) < 0.7  # three turns are three times as far
    around = np.column_stack([np.sin(2 * np.pi * hue), np.cos(2 * np.pi * hue)])
    assert infomec(around, {"hue": hue}, {"hue": 1.0})["InfoE"] == pytest.approx(1)
    assert infomec(around, {"hue": hue})["InfoE"] < 0.7
