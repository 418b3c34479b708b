"""Scores of disentanglement that predict factors from latents, or match the two."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.tree import DecisionTreeClassifier

from sbd_utils import checks
from sbd_utils.metrics.factors import Factor, alive, parse_factors

TREES, CODES_PER_TREE = 50, 2000  # of a forest; at most
VOTES_PER_FACTOR, CODES_PER_VOTE = 400, 64  # of the FactorVAE score


def dci(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Disentanglement, completeness, informativeness (Eastwood and Williams 2018, ICLR), 1 at best.

    A random forest predicts each factor from all latents. Disentanglement: 1 - the entropy (base:
    factors) of a latent's importances over the factors, weighted by its importance. Completeness:
    the same of a factor's importances over the latents (base: latents, so dead ones raise a score
    that is not yet 1). Informativeness: how well the trees predict what they were not fitted to, R²
    of quantities and of the sine and cosine of periodic factors, for labels the balanced accuracy,
    scaled so that a guess has 0; it may be below 0.

    Sign, order, scale and bending of the latents change nothing but what chance does. Turning
    lowers the first two, a duplicate or a circle coded as sine and cosine completeness, and
    correlated factors disentanglement. Any forest finds importances in noise: a factor that no
    latent encodes has some, and dead latents get some of them, which raises disentanglement. Give
    each image once: trees that were fitted to one of two that are alike have seen the other.

    NaN: disentanglement of a single factor, completeness of a single latent.
    """
    codes, factors = parse_factors(codes, factors, periods)
    fitted = [_forest(codes, factor) for factor in factors]
    importances = np.column_stack([importance for importance, _ in fitted])  # [latents, factors]
    return {
        "disentanglement": _concentration(importances),
        "completeness": _concentration(importances.T),
        "informativeness": float(np.mean([score for _, score in fitted])),
    }


def _forest(
    codes: Float[np.ndarray, "N L"], factor: Factor
) -> tuple[Float[np.ndarray, " L"], float]:
    """The importance of each latent for a factor, and how well the factor is predicted."""
    codes = _widened(codes)
    kind = RandomForestClassifier if factor.kind == "label" else RandomForestRegressor
    forest = kind(
        TREES,
        max_features=None,
        min_samples_leaf=5,
        max_samples=min(CODES_PER_TREE, len(codes)),
        oob_score=True,
        random_state=0,
    )
    if factor.kind == "label":
        forest.fit(codes, factor.classes)
        guessed = forest.oob_decision_function_.argmax(axis=1)
        score = balanced_accuracy_score(factor.classes, guessed, adjusted=True)
    else:
        # One scale for sine and cosine; trees lose what is small, or far from 0.
        targets = factor.targets - factor.targets.mean(axis=0)
        targets /= targets.std(axis=0).max()
        forest.fit(codes, targets.squeeze())
        predicted = forest.oob_prediction_.reshape(targets.shape)
        score = r2_score(targets, predicted, multioutput="variance_weighted")
    return forest.feature_importances_, score


def _widened(codes: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N L"]:
    """Codes for trees, which work in 32 bits and take values closer than 1e-7 for equal."""
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    narrow = (spread > 0) & (spread < 1e-4 * np.maximum(1, abs(mean)))
    return (codes - np.where(narrow, mean, 0)) / np.where(narrow, spread, 1)


def _concentration(importances: Float[np.ndarray, "rows columns"]) -> float:
    """1 - the entropy of each row's shares, base the row's length, weighted by the rows' sums."""
    if importances.shape[1] == 1:
        return float("nan")
    total = importances.sum(axis=1, keepdims=True)
    if not total.any():
        return 0.0
    shares = importances / np.where(total > 0, total, 1)
    logarithms = np.log(np.where(shares > 0, shares, 1)) / np.log(importances.shape[1])
    return float(total[:, 0] @ (1 + (shares * logarithms).sum(axis=1)) / total.sum())


def sap(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> float:
    """Separated attribute predictability (Kumar et al. 2018, arXiv 1711.00848), in [0, 1].

    Mean over factors of the gap between the two latents that predict it best, each alone: R² of a
    line for a quantity, balanced accuracy of one threshold fewer than labels, scaled so that a
    guess has 0.

    Order, sign and scale of the latents change nothing, nor do dead ones; turning, bending,
    duplicates and correlated factors lower it. The cap is 1, but 1/2 for a periodic factor whose
    values are even around the circle, as a latent may be its sine or its cosine, not both.

    Raises:
        ValueError: As in `parse_factors`, and for a single latent.
    """
    codes, factors = parse_factors(codes, factors, periods)
    if codes.shape[1] < 2:
        raise checks.argument_error("codes", "[N, at least 2]", codes)
    scores = [np.sort(_predicted_alone(codes, factor))[-2:] for factor in factors]
    return float(np.mean([first - second for second, first in scores]))


def _predicted_alone(codes: Float[np.ndarray, "N L"], factor: Factor) -> Float[np.ndarray, " L"]:
    """How well each latent predicts a factor alone."""
    if factor.kind == "label":
        tree = DecisionTreeClassifier(
            max_leaf_nodes=factor.targets.shape[1], class_weight="balanced", random_state=0
        )
        columns = _widened(codes).T[:, :, None]  # [L, N, 1]
        guessed = [tree.fit(column, factor.classes).predict(column) for column in columns]
        return np.array(
            [balanced_accuracy_score(factor.classes, some, adjusted=True) for some in guessed]
        )
    moves = np.ptp(codes, axis=0) > 0
    scaled = (codes - codes.mean(axis=0)) / np.where(moves, codes.std(axis=0), 1)
    covariance = scaled.T @ (factor.targets - factor.targets.mean(axis=0)) / len(codes)
    return np.where(moves, np.square(covariance).sum(axis=1) / factor.targets.var(axis=0).sum(), 0)


def mcc(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> float:
    """Mean correlation coefficient (Hyvärinen and Morioka 2016, arXiv 1605.06336), in [0, 1].

    Each factor gets a latent of its own, so that the mean of the absolute correlations is largest;
    a factor that goes without counts 0. For a label or a periodic factor it is the multiple
    correlation of the latent with the indicators, or with sine and cosine: an angle, even around
    the circle, that a latent unrolls has 0.78, not 1.

    Order, sign and scale of the latents change nothing, nor do dead ones, nor a duplicate where
    each factor has a latent; turning and bending lower it. Correlated factors score high in one
    another's latents: a false positive (arXiv 2602.24278). So does noise in small samples.
    """
    codes, factors = parse_factors(codes, factors, periods)
    matrix = np.array([_correlations(codes, factor) for factor in factors])  # [factors, latents]
    return float(matrix[linear_sum_assignment(matrix, maximize=True)].sum() / len(factors))


def _correlations(codes: Float[np.ndarray, "N L"], factor: Factor) -> Float[np.ndarray, " L"]:
    """The multiple correlation of each latent with a factor's targets."""
    moves = np.ptp(codes, axis=0) > 0
    fit = LinearRegression().fit(factor.targets, codes).predict(factor.targets)
    shares = fit.var(axis=0) / np.where(moves, codes.var(axis=0), 1)
    return np.where(moves, np.sqrt(np.clip(shares, 0, 1)), 0)


def factor_vae_score(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> float:
    """The FactorVAE score (Kim and Mnih 2018, arXiv 1802.05983), in [0, 1].

    Of 64 codes of one class of a factor, the latent whose variance shrinks most votes for the
    factor; the score is the share of votes that a rule predicts (latent to factor, by majority of
    other votes). Quantities are held fixed within a bin only, around the circle for periodic ones.

    Order, sign, scale (up to 20 times) and duplicates of latents change nothing; turning lowers it.
    Dead latents have no vote; 0 where every latent is dead. A guess has 1 / factors, and a single
    factor 1; but all votes are of the same codes, so that of a hundred codes noise of five factors
    has about 0.3. Correlated factors shrink together and lower it. So does a latent of few exact
    values: where a batch lacks the rare ones, it does not vary at all, and shares the vote.
    """
    codes, factors = parse_factors(codes, factors, periods)
    codes = codes[:, alive(codes)]
    if not codes.shape[1]:
        return 0.0
    codes = codes / codes.std(axis=0)
    rng = np.random.default_rng(0)
    learned, tested = np.stack(  # each [factors, latents]
        [_votes(codes, factor.classes, rng) for factor in factors], axis=1
    )
    return float(tested[learned.argmax(axis=0), np.arange(codes.shape[1])].sum() / tested.sum())


def _votes(
    codes: Float[np.ndarray, "N L"], classes: Int[np.ndarray, " N"], rng: np.random.Generator
) -> Float[np.ndarray, "halves=2 L"]:
    """How often each latent varies least within a class, in either half of the votes."""
    counts = np.bincount(classes)
    rows, starts = np.argsort(classes, kind="stable"), np.cumsum(counts) - counts
    drawn = rng.choice(
        classes[counts[classes] > 1], VOTES_PER_FACTOR
    )  # of a single code, nothing varies
    places = rng.integers(0, counts[drawn], size=(CODES_PER_VOTE, VOTES_PER_FACTOR))
    spread = codes[rows[starts[drawn] + places]].var(axis=0)  # [votes, latents]
    least = spread <= spread.min(axis=1, keepdims=True) + 1e-12  # equal ones share the vote
    return (
        (least / least.sum(axis=1, keepdims=True)).reshape(2, VOTES_PER_FACTOR // 2, -1).sum(axis=1)
    )


def error_ratio(seen: Real[np.ndarray, " N"], unseen: Real[np.ndarray, " M"]) -> float:
    """Mean error on held-out images over the mean error on training images; 1 is no difference."""
    return float(unseen.mean() / seen.mean())
