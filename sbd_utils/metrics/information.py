"""Scores of disentanglement from mutual information, and what a posterior says by itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, r2_score
from sklearn.preprocessing import StandardScaler

from sbd_utils import checks
from sbd_utils.metrics.factors import BINS, Factor, alive, parse_factors

ACTIVE = 0.01  # variance of a latent's posterior mean above which it is an active unit


def mig(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942): mean of (I1 - I2) / H; 0 to 1.

    I1 and I2 are the largest mutual information of a factor with latents, cut into bins of equal
    width, and H is the entropy of the factor's classes.

    Order and scale of the latents change nothing; turning them, and a duplicate, close the gap.
    The cap is ln(bins) / ln(K) for a factor of K equally frequent classes, if that is below 1, and
    less where the bins do not divide K. A circle of many angles that two latents code as its sine
    and cosine has no gap. Correlated factors close it, and so do small samples, in which every
    latent seems to tell something, and a dead latent of a VAE in which a trace of a factor is left,
    since the bins follow the range of each latent: leave out those that are no active units. A bin
    has one closed end, so that the sign of a latent of few values may matter.

    Args:
        codes: At least two latents.
        factors: As in `parse_factors`, like periods and bins.

    Raises:
        ValueError: As in `parse_factors`, and for a single latent.
    """
    codes, factors = parse_factors(codes, factors, periods, bins, estimated=False)
    if codes.shape[1] < 2:
        raise checks.argument_error("codes", "[N, at least 2]", codes)
    gaps = []
    for factor, shared in zip(factors, _binned_information(codes, factors, bins).T, strict=True):
        second, first = np.sort(shared)[-2:]
        gaps.append((first - second) / _entropy(np.bincount(factor.classes)))
    return float(np.mean(gaps))


def modularity(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> float:
    """Modularity (Ridgeway and Mozer 2018, arXiv 1802.05312): each latent informs about one factor.

    Mean over latents of 1 - sum of I² over the other factors / ((factors - 1) I² of its best one),
    with the mutual information I as in `mig`; in [0, 1], NaN for a single factor.

    The bins cap no perfect code, but chance lowers it where few codes are in each. Order and scale
    of the latents change nothing, nor does a duplicate of all of them, and a sign as little as in
    `mig`; turning lowers it. A latent that informs about no factor counts 0; a *nearly* dead one,
    which is noise, gets a chance value. The score ignores how much a latent says: a faint code may
    score 1. Correlated factors lower it.
    """
    codes, factors = parse_factors(codes, factors, periods, bins)
    if len(factors) < 2:
        return float("nan")
    shared = _binned_information(codes, factors, bins)
    squared = np.where(shared > 1e-12, np.square(shared), 0)  # rounding is no information
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / np.where(best > 0, best, 1) / (len(factors) - 1)
    return float(np.where(best > 0, 1 - others, 0).mean())


def infomec(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> dict[str, float]:
    """InfoM, InfoE and InfoC (Hsu et al. 2023, arXiv 2305.18378), each 1 at best.

    InfoM (modular): mean over latents of the largest share that one factor has of the latent's
    information, scaled so that equal shares are 0. InfoC (compact): the same over factors. Shares
    are of the mutual information of latent and classes, by nearest neighbors, over the classes'
    entropy.
    InfoE (explicit): how much a linear model finds, on the data it was fitted to: R² of a quantity,
    or of the sine and cosine of a periodic factor; of labels, the share of their entropy that
    logistic regression takes away.

    Order, sign and scale of the latents (up to 20 times) change nothing. Turning lowers InfoM and
    InfoC, duplicates and a circle coded as sine and cosine InfoC, bending InfoE, correlated factors
    InfoM and InfoC; a perfect code has 1 in any number of bins. Dead latents are left out; one
    without any information counts 0, but the little that noise seems to have is shared out, too, so
    noise may have any value. In InfoE noise has about latents / N of a quantity, (K - 1) / (2 ln K)
    times that of K labels, and may have near 1 where both are many and codes few.

    NaN: InfoM of a single factor, InfoC of a single latent that is alive. All are 0 where none is.
    """
    codes, factors = parse_factors(codes, factors, periods, bins)
    codes = codes[:, alive(codes)]
    if not codes.shape[1]:
        return {"InfoM": 0.0, "InfoE": 0.0, "InfoC": 0.0}
    codes = StandardScaler().fit_transform(codes)
    shared = np.column_stack(
        [
            mutual_info_classif(
                codes, factor.classes, discrete_features=False, n_neighbors=10, random_state=0
            )
            / _entropy(np.bincount(factor.classes))
            for factor in factors
        ]
    )  # [latents, factors]
    return {
        "InfoM": _largest_share(shared),
        "InfoE": float(np.mean([_explicit(codes, factor) for factor in factors])),
        "InfoC": _largest_share(shared.T),
    }


def _largest_share(shared: Float[np.ndarray, "rows columns"]) -> float:
    """Mean over rows of the largest entry's share, from 0 for equal entries to 1 for one alone."""
    if shared.shape[1] == 1:
        return float("nan")
    total, least = shared.sum(axis=1), 1 / shared.shape[1]
    share = np.where(total > 0, shared.max(axis=1) / np.where(total > 0, total, 1), least)
    return float((share.mean() - least) / (1 - least))


def _explicit(codes: Float[np.ndarray, "N L"], factor: Factor) -> float:
    if factor.kind != "label":
        predicted = LinearRegression().fit(codes, factor.targets).predict(codes)
        return r2_score(factor.targets, predicted, multioutput="variance_weighted")
    model = LogisticRegression(C=np.inf, max_iter=2000).fit(codes, factor.classes)
    unexplained = log_loss(factor.classes, model.predict_proba(codes))
    return 1 - unexplained / _entropy(np.bincount(factor.classes))


def kl_per_latent(
    mu: Float[np.ndarray, "N L"], log_var: Float[np.ndarray, "N L"]
) -> Float[np.ndarray, " L"]:
    """Mean KL(N(mu, exp(log_var)) || N(0, 1)) of each latent, in nats.

    It is near 0 for a dead latent. The sum over latents is the KL term of the loss. Turning mu
    alone does not change it, but a turned posterior is no longer diagonal.
    """
    return ((mu**2 + np.exp(log_var) - 1 - log_var) / 2).mean(axis=0)


def active_units(mu: Float[np.ndarray, "N L"]) -> Bool[np.ndarray, " L"]:
    """Which latents have a posterior mean whose variance is above 0.01 (Burda et al. 2015).

    arXiv 1509.00519. For VAEs with the prior N(0, 1), not for codes of another scale. Sign and
    order do not change their number; a duplicated latent counts twice, and turning may change it.
    """
    return mu.var(axis=0) > ACTIVE


def _binned_information(
    codes: Float[np.ndarray, "N L"], factors: list[Factor], bins: int
) -> Float[np.ndarray, "L factors"]:
    """Mutual information of latents, cut into bins, and the classes of factors, in nats."""
    return np.array(
        [
            [_mutual_information(column, factor.classes, bins) for factor in factors]
            for column in codes.T
        ]
    )


def _mutual_information(
    column: Float[np.ndarray, " N"], labels: Int[np.ndarray, " N"], bins: int
) -> float:
    joint = np.histogram2d(column, labels, bins=(bins, labels.max() + 1))[0]
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of what was counted."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
