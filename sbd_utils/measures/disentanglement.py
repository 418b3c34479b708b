"""Scores of disentanglement, which need the true factors."""

from collections.abc import Mapping

import numpy as np


def mig(codes: np.ndarray, factors: Mapping[str, np.ndarray], bins: int = 20) -> float:
    """Mutual information gap (Chen et al. 2018, arXiv 1802.04942): mean of (I1 - I2) / H.

    codes [N, latent_dim], cut into equal-width bins; factors that do not vary are left out.
    Raises ValueError for fewer than two latents, or where no factor varies.
    """
    if np.ndim(codes) != 2 or np.shape(codes)[1] < 2:
        raise ValueError(f"codes must be [N, at least 2], got {np.shape(codes)}")
    if not any(len(np.unique(values)) > 1 for values in factors.values()):
        raise ValueError("factors must hold one that varies")
    gaps = []
    for values in factors.values():
        _, labels = np.unique(values, return_inverse=True)
        if labels.max() == 0:
            continue
        shared = sorted(_mutual_information(column, labels, bins) for column in codes.T)
        gaps.append((shared[-1] - shared[-2]) / _entropy(np.bincount(labels)))
    return float(np.mean(gaps))


def _mutual_information(column: np.ndarray, labels: np.ndarray, bins: int) -> float:
    joint = np.histogram2d(column, labels, bins=(bins, labels.max() + 1))[0]
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
