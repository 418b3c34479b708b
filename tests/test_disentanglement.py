"""The mutual information gap of codes whose gap is known beforehand."""

import numpy as np
import pytest

from sbd_utils.measures.disentanglement import mig
from sbd_utils.measures.geometry import affine_fit

TURN = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])
X, Y, COLOR = (part.ravel() for part in np.meshgrid(range(35), range(35), range(3), indexing="ij"))
FACTORS = {"x": X / 34, "y": Y / 34, "color": np.array(["red", "green", "blue"])[COLOR]}


def test_mig_is_capped_by_its_bins_and_ignores_what_does_not_vary():
    """20 bins tell 35 positions apart up to ln 20 / ln 35 = 0.843, and 3 colors up to 1."""
    identity = np.column_stack([X, Y, COLOR])
    for name, low, cap in (("x", 0.82, 0.843), ("y", 0.82, 0.843), ("color", 1 - 1e-9, 1 + 1e-9)):
        assert low < mig(identity, {name: FACTORS[name]}) < cap
    whole = mig(identity, FACTORS)
    assert whole == pytest.approx(np.mean([mig(identity, {k: v}) for k, v in FACTORS.items()]))
    assert whole == mig(identity, FACTORS | {"size": np.full(3675, 16)})


@pytest.mark.parametrize("codes", [
    np.ones((3675, 3)), np.column_stack([X, Y, COLOR, X, Y, COLOR]),
], ids=["constant", "duplicated"])
def test_mig_is_zero_where_no_latent_is_ahead(codes):
    assert mig(codes, FACTORS) == pytest.approx(0, abs=1e-9)


def test_mig_falls_when_two_latents_are_turned_and_r2_does_not():
    places = np.column_stack([X, Y])
    turned = places @ TURN.T
    assert mig(places, {"x": X, "y": Y}) > 0.8 > 0.1 > mig(turned, {"x": X, "y": Y})
    assert affine_fit(places, turned).r2 == pytest.approx(1)


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
    grid = mig(np.column_stack([X, Y, COLOR]), {"x": X / 34})  # 35 values of 105 codes each, too
    assert grid == mig(np.column_stack([X, Y, COLOR]), {"x": X})


NINE = np.arange(9.0)


@pytest.mark.parametrize("codes, factors, bins, named", [
    (NINE, {"x": NINE}, 20, "codes"), (np.ones((9, 1)), {"x": NINE}, 20, "codes"),
    (np.full((9, 2), np.nan), {"x": NINE}, 20, "codes"),
    (np.ones((9, 2)), {"size": np.full(9, 16)}, 20, "factors"),
    (np.ones((9, 2)), {"size": np.full(9, 0.5)}, 20, "factors"),
    (np.ones((9, 2)), {}, 20, "factors"),
    (np.ones((9, 2)), {"x": NINE[1:]}, 20, r"factors\['x'\]"),
    (np.ones((9, 2)), {"x": NINE * np.nan}, 20, r"factors\['x'\]"),
    (np.ones((9, 2)), NINE, 20, "factors"), (np.ones((9, 2)), {"x": NINE}, 0, "bins"),
    (np.ones((9, 2)), {"x": NINE}, 1, "bins"), (np.ones((9, 2)), {"x": NINE}, 2.5, "bins"),
])
def test_mig_refuses(codes, factors, bins, named):
    with pytest.raises(ValueError, match=f"^{named} must"):
        mig(codes, factors, bins)
