"""Scores that predict factors or match latents, on codes whose score is known beforehand."""

import numpy as np
import pytest

from sbd_utils.metrics import prediction
from sbd_utils.metrics.prediction import dci, error_ratio, factor_vae_score, mcc, sap

RNG = np.random.default_rng(0)
DIGITS = RNG.integers(4, size=(3000, 10)).astype(float)
TEN = {f"f{i}": DIGITS[:, i] for i in range(10)}  # quantities
X, Y = RNG.uniform(size=(2, 3000))
LABEL = RNG.integers(3, size=3000)
PLACES = {"x": X, "y": Y}
TURN = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])


def test_dci_of_importances_that_are_known():
    """Two of ten equally important: 1 - ln 2 / ln 10; a latent of no importance has no weight."""
    pairs = np.hstack([np.eye(5), np.eye(5)])  # [latents, factors]
    for importances, score in (
        (pairs, 0.69897),
        (pairs.T, 1),
        (0 * pairs, 0),
        (np.vstack([pairs, np.zeros((3, 10))]), 0.69897),
    ):
        assert prediction._concentration(importances) == pytest.approx(score, abs=1e-5)


def test_dci_of_a_periodic_factor_is_of_its_sine_and_cosine():
    around = np.column_stack([np.sin(2 * np.pi * X), np.cos(2 * np.pi * X)])
    found = dci(around, {"hue": X, "y": Y}, {"hue": 1.0})
    assert found["completeness"] < 0.3
    assert dci(around, {"hue": X}, {"hue": 1.0})["informativeness"] > 0.99
    assert dci(around, {"hue": X}, {"hue": 1.0})["completeness"] < 0.01


def test_dci_of_two_factors_per_latent_and_of_two_latents_per_factor():
    crowded = dci(4 * DIGITS[:, :5] + DIGITS[:, 5:], TEN)
    assert crowded["disentanglement"] == pytest.approx(0.69897, abs=0.02)
    assert crowded["completeness"] == pytest.approx(1, abs=0.02)
    five = {name: TEN[name] for name in list(TEN)[:5]}
    doubled = dci(np.hstack([DIGITS[:, :5]] * 2), five)
    assert doubled["completeness"] == pytest.approx(0.69897, abs=0.01)
    assert doubled["disentanglement"] == pytest.approx(1, abs=0.01)
    assert doubled["informativeness"] == pytest.approx(1, abs=0.01)


def test_dci_weighs_by_importance_and_a_dead_latent_has_none():
    identity = np.column_stack([X, Y, LABEL, np.zeros(3000)])
    found = dci(identity, PLACES | {"label": LABEL})
    assert list(found.values()) == pytest.approx([1, 1, 1], abs=0.01)
    dead = dci(0 * identity, PLACES | {"label": LABEL})
    assert list(dead.values()) == pytest.approx([0, 0, 0], abs=0.02)
    # x in latent 1; y and z in latent 2, which is twice as important: (1 + 2 (1 - ln 2 / ln 3)) / 3
    x, y, z = DIGITS[:, :3].T
    weighed = dci(np.column_stack([x, 4 * y + z]), {"x": x, "y": y, "z": z})["disentanglement"]
    assert weighed == pytest.approx((3 - 2 * np.log(2) / np.log(3)) / 3, abs=0.02)


@pytest.mark.parametrize("scale, offset", [(1e-6, 0), (1e-9, 1), (1, 1e7)])
def test_trees_see_codes_of_any_scale(scale, offset):
    codes, factors = np.column_stack([X, LABEL]), {"x": X, "label": LABEL}
    for score in (
        lambda codes: dci(codes, factors)["disentanglement"],
        lambda codes: sap(codes, {"label": LABEL}),
    ):
        assert score(scale * codes + offset) == pytest.approx(score(codes), abs=0.01)


def test_trees_get_wide_codes_as_they_are():
    """A latent is narrow from a spread of 1e-4 down, or of 1e-4 of its mean if that is above 1."""
    codes = np.tile([[1.0], [-1]], (5, 1)) * [0.9e-4, 1.1e-4, 1.9e-4, 2.1e-4] + [0.6, 0.6, 2, 2]
    assert prediction._widened(codes).std(axis=0) == pytest.approx([1, 1.1e-4, 1, 2.1e-4])


@pytest.mark.parametrize("width, votes", [(0.8e-6, [100, 100]), (1.2e-6, [200, 0])])
def test_variances_are_equal_within_rounding(width, votes):
    codes = np.column_stack([np.zeros(1000), np.tile([-width, width], 500)])
    found = prediction._votes(codes, np.zeros(1000, int), np.random.default_rng(0))
    assert found.tolist() == [votes, votes]


def test_a_class_of_a_single_code_has_no_vote():
    """There nothing varies, so the last latent, which varies most, would get a share of it."""
    classes = np.repeat([0, 1, 2], [7, 2, 1])
    codes = np.arange(10.0)[:, None] * np.array([[0, 1, 9], [1, 0, 9], [0, 0, 0]])[classes]
    first, second, last = prediction._votes(codes, classes, np.random.default_rng(0)).sum(axis=0)
    assert first > second > 0 == last


@pytest.mark.parametrize("scale, offset", [(1e-8, 0), (1, 1e8), (60, 1.7e9)])
def test_trees_see_quantities_of_any_unit(scale, offset):
    codes = np.column_stack([X, Y])
    found = dci(codes, {"x": scale * X + offset, "y": Y})
    assert list(found.values()) == pytest.approx(list(dci(codes, PLACES).values()), abs=0.01)


@pytest.mark.parametrize("offset", [0, 0.5])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_equal_variances_share_the_vote_whatever_the_order(offset, order):
    """A batch of 64 lacks a label of 1% every other time, and then neither latent varies."""
    rng = np.random.default_rng(0)
    rare = (rng.uniform(size=3000) < 0.01).astype(int)
    codes = np.column_stack([LABEL, rare])[:, order] + offset
    found = factor_vae_score(codes, {"label": LABEL, "rare": rare})
    assert found == pytest.approx(0.86, abs=0.02)


def test_the_votes_of_few_codes_flatter_noise_as_is_said():
    rng = np.random.default_rng(0)
    found = [
        factor_vae_score(
            rng.normal(size=(100, 10)),
            {f"f{i}": column for i, column in enumerate(rng.uniform(size=(5, 100)))},
        )
        for _ in range(8)
    ]
    assert np.mean(found) == pytest.approx(0.33, abs=0.06)


def test_dci_is_undefined_for_one_factor_and_one_latent():
    found = dci(X[:, None], {"x": X})
    assert np.isnan([found["disentanglement"], found["completeness"]]).all()
    assert found["informativeness"] == pytest.approx(1, abs=0.01)


def test_informativeness_is_held_out_and_0_for_a_guess_of_labels_or_quantities():
    """With one label of three told, one of the others is right, too: 2/3, where a guess has 1/3."""
    noise = np.random.default_rng(1).normal(size=(3000, 2))
    for factors in (PLACES, {"label": LABEL}, {"rare": X < 0.1}):
        assert dci(noise, factors)["informativeness"] == pytest.approx(0, abs=0.1)
    one = np.column_stack([LABEL == 0, np.zeros(3000)])
    assert dci(one, {"label": LABEL})["informativeness"] == pytest.approx(0.5, abs=0.03)


def test_sap_of_quantities_is_the_gap_of_r2():
    half = X + np.sqrt(1 / 12) * np.random.default_rng(1).normal(size=3000)  # R² of 1/2
    assert sap(np.column_stack([X, half]), {"x": X}) == pytest.approx(0.5, abs=0.03)
    assert sap(np.column_stack([X, 0 * X]), {"x": X}) == pytest.approx(1)
    for codes in (np.column_stack([X, X]), np.zeros((3000, 2))):
        assert sap(codes, PLACES) == pytest.approx(0, abs=1e-9)
    assert sap(np.column_stack([X, Y]) @ TURN.T, PLACES) == pytest.approx(0, abs=0.05)


def test_sap_of_labels_is_the_gap_of_balanced_accuracy_from_a_guess():
    one, noise = (LABEL == 0).astype(float), np.random.default_rng(1).normal(size=3000)
    assert sap(np.column_stack([LABEL, 0 * X]), {"label": LABEL}) == pytest.approx(1)
    assert sap(np.column_stack([one, noise]), {"label": LABEL}) == pytest.approx(0.5, abs=0.05)
    rare = X < 0.1  # always to say no has the balanced accuracy of a guess
    assert sap(np.column_stack([noise, 0 * X]), {"rare": rare}) == pytest.approx(0, abs=0.1)
    halfway = np.column_stack([noise + 1.5 * rare, 0 * X])  # right: Phi(0.75) = 0.77 of either
    assert sap(halfway, {"rare": rare}) == pytest.approx(0.547, abs=0.06)


def test_sap_of_a_periodic_factor_is_half_at_most():
    angle = 7 * X
    wave = np.column_stack([np.sin(2 * np.pi * X), 0 * X])
    assert sap(wave, {"angle": angle}, {"angle": 7.0}) == pytest.approx(0.5, abs=0.02)
    both = np.column_stack([np.sin(2 * np.pi * X), np.cos(2 * np.pi * X)])
    assert sap(both, {"angle": angle}, {"angle": 7.0}) == pytest.approx(0, abs=0.04)


def test_mcc_matches_each_factor_with_a_latent_of_its_own():
    codes = np.column_stack([LABEL, -Y, 3 + 2 * X])
    assert mcc(codes, PLACES | {"label": LABEL}) == pytest.approx(1)
    assert mcc(codes[:, 2:], PLACES) == pytest.approx(0.5)  # one latent, two factors
    assert mcc(np.column_stack([X, X]), PLACES) == pytest.approx(0.5, abs=0.02)
    assert mcc(np.column_stack([X, Y]) @ TURN.T, PLACES) == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert mcc(np.zeros((3000, 2)), PLACES) == 0


def test_mcc_makes_the_sum_large_not_the_first_match():
    """Latent 1 is mostly x, but no other tells of y, so x is matched with the fainter latent 2."""
    x, y, noise = np.random.default_rng(1).normal(size=(3, 3000))
    codes = np.column_stack([0.8 * x + 0.6 * y, 0.7 * x + 0.51**0.5 * noise])
    assert mcc(codes, {"x": x, "y": y}) == pytest.approx((0.7 + 0.6) / 2, abs=0.02)


def test_mcc_of_labels_in_any_order_and_of_an_unrolled_angle():
    assert mcc(np.array([2, 0, 1])[LABEL][:, None], {"label": LABEL}) == pytest.approx(1)
    assert mcc(X[:, None], {"hue": X}, {"hue": 1.0}) == pytest.approx(np.sqrt(6) / np.pi, abs=0.01)
    wave = np.cos(2 * np.pi * X + 1)[:, None]
    assert mcc(wave, {"hue": X}, {"hue": 1.0}) == pytest.approx(1)


def test_factor_vae_score_of_known_codes():
    plain = np.column_stack([X, Y, LABEL])
    factors = PLACES | {"label": LABEL}
    assert factor_vae_score(plain, factors) == 1
    assert factor_vae_score(plain * [1, 10, 0.6], PLACES) > 0.99
    noisy = plain + 0.1 * np.random.default_rng(1).normal(size=plain.shape)
    assert factor_vae_score(noisy[:, :2] * [1, 10], PLACES) > 0.99  # by normalized variance
    assert factor_vae_score(0 * plain, factors) == 0
    for latents in (3, 300):  # of 300, votes that taught the rule would seem to follow it
        noise = np.random.default_rng(1).normal(size=(3000, latents))
        assert factor_vae_score(noise, factors) == pytest.approx(1 / 3, abs=0.06)
    turned = np.column_stack([X, Y]) @ TURN.T
    for codes in (turned, np.hstack([turned, 1e-3 * plain])):  # dead latents have no vote
        assert factor_vae_score(codes, PLACES) == pytest.approx(0.5, abs=0.08)


def test_error_ratio_is_of_the_means():
    assert error_ratio(np.array([1, 3]), np.array([3, 3, 6])) == 2
