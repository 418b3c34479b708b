"""Scores of disentanglement, which need the true factors."""

from collections.abc import Mapping

import numpy as np

from sbd_utils import checks


def mig(codes: np.ndarray, factors: Mapping[str, np.ndarray], bins: int = 20) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942): mean of (I1 - I2) / H.

    codes [N, latent_dim], cut into equal-width bins. factors: name to N labels or numbers; each
    value is a class. But floats of more than `bins` values, each of fewer than `bins` codes in the
    mean, are continuous, and cut into bins, too. Factors that do not vary are left out.
    Raises ValueError for fewer than two latents, or where no factor varies.
    """
    (codes,) = checks.arrays(codes=(codes, "N latents"))
    if codes.shape[1] < 2:
        raise checks.refused("codes", "[N, at least 2]", codes)
    checks.mapping("factors", factors)
    checks.whole("bins", bins, 2)
    gaps = []
    for name, values in factors.items():
        labels = _classes(checks.labels(f"factors[{name!r}]", values, len(codes)), bins)
        if labels.max() == 0:
            continue
        shared = sorted(_mutual_information(column, labels, bins) for column in codes.T)
        gaps.append((shared[-1] - shared[-2]) / _entropy(np.bincount(labels)))
    if not gaps:
        raise checks.refused("factors", "of one at least that varies", list(factors))
    return float(np.mean(gaps))


def _classes(values: np.ndarray, bins: int) -> np.ndarray:
    """The classes of a factor, numbered from 0."""
    distinct, labels = np.unique(values, return_inverse=True)
    if values.dtype.kind == "f" and bins < len(distinct) > len(values) / bins:
        edges = np.linspace(distinct[0], distinct[-1], bins + 1)[1:-1]
        labels = np.unique(np.digitize(values, edges), return_inverse=True)[1]
    return labels


def _mutual_information(column: np.ndarray, labels: np.ndarray, bins: int) -> float:
    joint = np.histogram2d(column, labels, bins=(bins, labels.max() + 1))[0]
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
