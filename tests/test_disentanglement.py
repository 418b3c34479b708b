"""All scores together: what each ignores, where they disagree, and how little is enough."""

import doctest
import functools
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from sbd_utils.metrics import disentanglement
from sbd_utils.metrics.disentanglement import hand_made, report
from sbd_utils.metrics.factors import CorrelatedFactors

COUNT = 1500
CODES, FACTORS = hand_made(COUNT)
PURE = CODES["identity"]
RNG = np.random.default_rng(1)
MIXED = PURE + 0.05 * RNG.standard_normal(PURE.shape)
MIXED[:, 1] += 0.2 * PURE[:, 0] * (1 - PURE[:, 2])
NOISY = PURE + 0.15 * RNG.standard_normal(PURE.shape)
NOISY[:, :2] += PURE[:, 1:] * [0.4, -0.3]
DEAD = 0.001 * RNG.standard_normal((COUNT, 10))
HALF = 0.5**0.5
BASES = CODES | {"mixed": MIXED, "noisy": NOISY}
CHANGES = {
    "": lambda z: z,
    "turned": lambda z: z @ [[HALF, HALF, 0], [-HALF, HALF, 0], [0, 0, 1]],
    "order, sign": lambda z: z[:, [2, 0, 1]] * [-1, 1, -1],
    "stretched": lambda z: z * [1, 3, 0.5],
    "bent": lambda z: np.exp(3 * z),
    "split": lambda z: np.column_stack([z[:, 0].clip(None, 0.5), z[:, 0].clip(0.5), z[:, 1:]]),
    "duplicated": lambda z: np.hstack([z, z]),
    "dead latents": lambda z: np.hstack([z, DEAD]),
}


def promised():
    """The table of the module's docstring: a row per score, a column per change, of =, - and ~."""
    head, *rows = disentanglement.__doc__.split("\n\n")[2].splitlines()
    names = [name.strip() for name in head.split("  ") if name.strip()]
    return pd.DataFrame({row[:25].strip(): row[25:].split() for row in rows}, index=names).T


@functools.cache
def scored(change, code):
    return report(CHANGES[change](BASES[code]), FACTORS)


@pytest.mark.parametrize("change", list(CHANGES)[1:])
def test_the_docstring_promises_what_a_change_does(change):
    table = promised()
    assert list(table.columns) == list(CHANGES)[1:] and set(table.stack()) == set("=-~")
    assert list(table.index) == list(scored("", "identity").index)
    by = pd.DataFrame(
        [scored(change, code) - scored("", code) for code in ("identity", "mixed", "noisy")]
    )
    for score, mark in table[change].items():
        pure, *others = changes = by[score]
        seen = (
            max(abs(changes)) < 0.02,
            pure < -0.025 and max(others) < 0.02,
            (abs(pure) < 0.002 and max(map(abs, others)) > 0.005),
        )
        assert seen["=-~".index(mark)], f"{score} is {mark}, but changes by {changes.round(3)}"


@pytest.mark.parametrize(
    "code, high, low",
    [
        ("identity", "MIG|SAP|Factor|mod|DCI|Info|MCC|R²", "none"),
        (
            "plane turned by 45°",
            "inform|InfoE|R²",
            "MIG|SAP|Factor|mod|DCI dis|DCI com|InfoM|InfoC",
        ),
        ("duplicated", "Factor|mod|DCI dis|InfoM|MCC|R²", "MIG|SAP|DCI com|InfoC"),
        ("ten dead latents", "MIG|SAP|Factor|DCI|Info|MCC|R²", "mod"),
        ("plane folded", "MIG|Factor|mod|InfoM|InfoC|sum of curves", "SAP|inform|InfoE|MCC|affine"),
        ("x bent", "Factor|mod|DCI|InfoM|InfoC|sum", "none"),
        ("x split over two", "Factor|mod|DCI dis|inform|InfoM|InfoE|MCC|R²", "MIG|SAP|InfoC"),
        ("other order and signs", "MIG|SAP|Factor|mod|DCI|Info|MCC|R²", "none"),
        ("noise", "none", "MIG|SAP|Factor|mod|DCI|InfoM|InfoE|MCC|R²"),
    ],
)
def test_where_the_scores_disagree(code, high, low):
    scores = scored("", code)
    assert (scores.filter(regex=high) > 0.87).all(), scores
    assert (scores.filter(regex=low) < 0.8).all(), scores


def test_a_collapsed_code_scores_0_everywhere():
    assert report(np.full((COUNT, 3), 0.1), FACTORS).abs().max() < 0.05


def test_scores_that_are_not_defined_are_nan():
    scores = report(PURE, {"shape": FACTORS["shape"]})
    assert list(scores.index[scores.isna()]) == [
        "modularity",
        "DCI disentanglement",
        "InfoM",
        "affine readout R²",
    ]


def test_digits_score_as_in_disentanglement_lib():
    """Its dummy data: ten factors of ten values; as they are, and shuffled anew in every row."""
    digits = np.random.default_rng(0).integers(1, 11, size=(600, 10)).astype(float)
    factors = {f"f{i}": digits[:, i] for i in range(10)}
    assert report(digits, factors).min() > 0.9
    shuffled = report(np.random.default_rng(1).permuted(digits, axis=1), factors)
    assert shuffled.drop("modularity").max() < 0.2 and shuffled["modularity"] < 0.5


@pytest.mark.parametrize(
    "noise, most",
    [(False, {}), (True, {"FactorVAE score": 0.6, "modularity": 0.7, "InfoM": 1, "InfoC": 1})],
)
def test_with_fifty_codes_the_scores_are_coarse_and_in_range(noise, most):
    """A perfect code keeps what is not counted in bins; noise has up to 0.3 instead of 0."""
    codes, factors = hand_made(50)
    scores = report(codes["noise" if noise else "identity"], factors)
    if noise:
        assert all(-2 < value < most.get(name, 0.35) for name, value in scores.items()), scores
    else:
        assert scores.drop(["MIG", "modularity"]).min() > 0.9
        assert 0.3 < scores["MIG"] < 0.7 < scores["modularity"] < 0.9


def test_correlated_factors_lower_some_scores_and_raise_others():
    """x and y of a correlation of 0.8: as both latents, and, what is wrong, as x twice."""
    rng = np.random.default_rng(0)
    x, other, noise = rng.normal(size=(3, 2000))
    factors = {"x": x, "y": 0.8 * x + 0.6 * other}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorrelatedFactors)
        both, once = (
            report(np.column_stack([x, latent]), factors)
            for latent in (factors["y"], x + 0.01 * noise)
        )
    assert both.filter(regex="DCI|InfoE|MCC|R²|Factor").min() > 0.98
    assert both["SAP"] < 0.5 and both["InfoM"] < 0.8 and both["InfoC"] < 0.8 and both["MIG"] < 0.9
    assert once["MCC"] == pytest.approx(0.9, abs=0.01)  # (1 + 0.8) / 2
    assert once["affine readout R²"] == pytest.approx(0.82, abs=0.01)  # (1 + 0.64) / 2


def test_hand_made_codes_are_what_their_names_say():
    codes, factors = hand_made(100, seed=3)
    assert len(codes) == 9 and {len(code) for code in codes.values()} == {100}
    split = codes["x split over two"]
    assert np.allclose(split[:, 0] + split[:, 1] - 0.5, factors["x"])
    assert (codes["ten dead latents"][:, :3] == codes["identity"]).all()
    assert not (hand_made(100)[0]["noise"] == codes["noise"]).any()


def test_the_example_of_the_docstring():
    assert doctest.testmod(disentanglement) == (0, 8)


def test_ten_thousand_codes_take_seconds():
    """Of the processor, whatever else it does."""
    rng = np.random.default_rng(0)
    factors = {"x": rng.uniform(size=10_000), "hue": rng.uniform(size=10_000)}
    factors["shape"] = rng.integers(3, size=10_000)
    codes = np.column_stack([*factors.values(), rng.normal(size=10_000)])
    start = time.process_time()
    report(codes + 0.3 * rng.normal(size=codes.shape), factors, {"hue": 1.0})
    assert time.process_time() - start < 10
