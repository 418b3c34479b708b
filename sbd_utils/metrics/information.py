"""Measures of disentanglement that count information, and what a posterior tells of itself."""

from collections.abc import Mapping

import numpy as np
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, r2_score
from sklearn.preprocessing import StandardScaler

from sbd_utils import checks
from sbd_utils.metrics.describe import BINS, Factor, alive, describe

ACTIVE = 0.01  # variance of a latent's posterior mean above which it is an active unit


def mig(
    codes: np.ndarray,
    factors: Mapping[str, np.ndarray],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942): mean of (I1 - I2) / H; 0 to 1.

    codes [N, latents], cut into equal-width bins; factors and periods: see measures/describe.py. H
    is the entropy of the sampled classes. Order and scale of the latents change nothing; turning
    them, and a duplicate, close the gap. Cap: ln(bins) / ln(K) for a factor of K equally frequent
    classes, if that is below 1, and less where the bins do not divide K. A circle of many angles
    that two latents code as its sine and cosine has no gap: 0 for this factor. Correlated factors
    close the gap. So do small samples, in which every latent seems to tell something, and a dead
    latent of a VAE in which a trace of a factor is left, since the bins follow the range of each
    latent: leave out those that are no active units. A bin has one closed end, so that the sign of
    a latent of few values may matter.
    Raises ValueError for fewer than two latents, labels of fewer than two codes in the mean (floats
    are quantities), or where no factor varies.
    """
    codes, found = describe(codes, factors, periods, bins, estimated=False)
    if codes.shape[1] < 2:
        raise checks.argument_error("codes", "[N, at least 2]", codes)
    gaps = []
    for factor, shared in zip(found, _binned_information(codes, found, bins).T, strict=True):
        second, first = np.sort(shared)[-2:]
        gaps.append((first - second) / _entropy(np.bincount(factor.classes)))
    return float(np.mean(gaps))


def modularity(
    codes: np.ndarray,
    factors: Mapping[str, np.ndarray],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> float:
    """Modularity (Ridgeway and Mozer 2018, arXiv 1802.05312): each latent tells of one factor only.

    Mean over latents of 1 - sum of I² over the other factors / ((factors - 1) I² of its best one),
    with I as in `mig`; in [0, 1]. The bins cap no perfect code, but chance lowers it where few
    codes are in each. Order and scale of the latents change nothing, nor does a duplicate of all of
    them, and a sign as little as in `mig`; turning lowers it. A latent that tells of none counts 0;
    a *nearly* dead one, with noise left, counts what chance gives it. Not how much it tells: a
    faint code may score 1. Correlated factors lower it. NaN for a single factor. ValueError as for
    all estimators.
    """
    codes, found = describe(codes, factors, periods, bins)
    if len(found) < 2:
        return float("nan")
    shared = _binned_information(codes, found, bins)  # [latents, factors]
    squared = np.where(shared > 1e-12, np.square(shared), 0)  # rounding is no information
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / np.where(best > 0, best, 1) / (len(found) - 1)
    return float(np.where(best > 0, 1 - others, 0).mean())


def infomec(
    codes: np.ndarray,
    factors: Mapping[str, np.ndarray],
    periods: Mapping[str, float] | None = None,
    bins: int = BINS,
) -> dict[str, float]:
    """InfoM, InfoE and InfoC (Hsu et al. 2023, arXiv 2305.18378), each 1 at best.

    InfoM (modular): mean over latents of the largest share that one factor has of what the latent
    tells, scaled so that equal shares are 0. InfoC (compact): the same over factors. Shares are of
    the mutual information of latent and classes, by nearest neighbors, over the classes' entropy.
    So InfoC is low for a circle that two latents code as its sine and cosine.
    Order, sign and scale of the latents (up to 20 times) change nothing. Turning lowers InfoM and
    InfoC, duplicates InfoC, bending InfoE; a perfect code has 1 in any number of bins.
    Dead latents are left out; one that tells exactly nothing counts 0, but the next to nothing that
    noise tells is shared out, too: noise may have any value. Correlated factors lower both.
    InfoE (explicit): how much a linear model finds, on the data it was fitted to: R² of a quantity,
    or of the sine and cosine of a periodic factor; of labels, the share of their entropy that
    logistic regression takes away. Noise has about latents / N of a quantity, (K - 1) / (2 ln K)
    times that of K labels, and may have near 1 where both are many and codes few.
    NaN: InfoM of a single factor, InfoC of a single latent that is alive. All are 0 where none is.
    """
    codes, found = describe(codes, factors, periods, bins)
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
            for factor in found
        ]
    )  # [latents, factors]
    return {
        "InfoM": _largest_share(shared),
        "InfoE": float(np.mean([_explicit(codes, factor) for factor in found])),
        "InfoC": _largest_share(shared.T),
    }


def _largest_share(shared: np.ndarray) -> float:
    """Mean over rows of the largest entry's share, from 0 for equal entries to 1 for one alone."""
    if shared.shape[1] == 1:
        return float("nan")
    total, least = shared.sum(axis=1), 1 / shared.shape[1]
    share = np.where(total > 0, shared.max(axis=1) / np.where(total > 0, total, 1), least)
    return float((share.mean() - least) / (1 - least))


def _explicit(codes: np.ndarray, factor: Factor) -> float:
    if factor.kind != "label":
        predicted = LinearRegression().fit(codes, factor.numbers).predict(codes)
        return r2_score(factor.numbers, predicted, multioutput="variance_weighted")
    model = LogisticRegression(C=np.inf, max_iter=2000).fit(codes, factor.classes)
    unexplained = log_loss(factor.classes, model.predict_proba(codes))
    return 1 - unexplained / _entropy(np.bincount(factor.classes))


def kl_per_latent(mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Nats that each latent's posterior costs, KL(N(mu, exp(log_var)) || N(0, 1)), [latents].

    mu and log_var [N, latents], of which it is the mean; no factors are needed. The capacity that
    each latent takes: near 0 for a dead one, whatever else it may say, and the same for either
    sign. Their sum, the KL term of the loss, knows no turning of mu alone, but a turned posterior
    is no longer diagonal.
    """
    mu, log_var = checks.doubles(mu=(mu, "N latents"), log_var=(log_var, "N latents"))
    return ((mu**2 + np.exp(log_var) - 1 - log_var) / 2).mean(axis=0)


def active_units(mu: np.ndarray) -> np.ndarray:
    """Which latents have a posterior mean whose variance is above ACTIVE, bool [latents].

    mu [N, latents], of a VAE with the prior N(0, 1): it is not for codes of another scale. Their
    number (Burda et al. 2015, arXiv 1509.00519) knows no sign or order. A duplicated latent counts
    twice, and turning may change it.
    """
    (mu,) = checks.doubles(mu=(mu, "N latents"))
    if len(mu) < 2:
        raise checks.argument_error("mu", "[at least 2, latents]", mu)
    return mu.var(axis=0) > ACTIVE


def _binned_information(codes: np.ndarray, factors: list[Factor], bins: int) -> np.ndarray:
    """Nats that latents, cut into bins, share with the factors' classes, [latents, factors]."""
    return np.array(
        [
            [_mutual_information(column, factor.classes, bins) for factor in factors]
            for column in codes.T
        ]
    )


def _mutual_information(column: np.ndarray, labels: np.ndarray, bins: int) -> float:
    joint = np.histogram2d(column, labels, bins=(bins, labels.max() + 1))[0]
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
