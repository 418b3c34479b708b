"""Arrays in, numbers out. Knows no model and no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

VISIBLE = 0.2  # brightness of a pixel that belongs to a blob; Pillow's green is 0.5 at full
LEAST_AREA = 20  # pixels of a blob that the eye would count; the post's circle has 221


@dataclass(frozen=True)
class AffineFit:
    """The least-squares map target = source @ matrix.T + offset, and how good it is.

    r2: 1 - squared error over the target's variance, both dimensions together; 0 for a target that
    is the same point every time, which has no variance to explain.
    singular_ratio: smallest over largest singular value; 1 is a turned and scaled square.
    angle: degrees between the images of the two source axes; 90 is no shear.
    """

    matrix: np.ndarray
    offset: np.ndarray
    r2: float
    singular_ratio: float
    angle: float


def affine_fit(source: np.ndarray, target: np.ndarray) -> AffineFit:
    """Fit the best affine map from source [N, 2] to target [N, 2].

    Raises ValueError for other shapes, values that are not finite, or points on one line.
    """
    for name, points in (("source", source), ("target", target)):
        if np.ndim(points) != 2 or np.shape(points)[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"{name} must be finite, [N, 2], got shape {np.shape(points)}")
    if len(source) != len(target):
        raise ValueError(f"source and target must pair up, got {len(source)} and {len(target)}")
    design = np.column_stack([source, np.ones(len(source))])  # [N, 3]
    if np.linalg.matrix_rank(design) < 3:
        raise ValueError("source must have three points that are not on one line")
    solution = np.linalg.lstsq(design, target)[0]  # [3, 2]
    variance = np.square(target - np.mean(target, axis=0)).sum()
    if not np.ptp(target, axis=0).any():
        return AffineFit(np.zeros((2, 2)), target[0], r2=0.0, singular_ratio=0.0, angle=90.0)
    matrix, offset = solution[:2].T, solution[2]
    singular = np.linalg.svd(matrix, compute_uv=False)
    lengths = np.linalg.norm(matrix, axis=0)
    cosine = matrix[:, 0] @ matrix[:, 1] / max(lengths.prod(), np.finfo(float).tiny)
    return AffineFit(
        matrix, offset,
        r2=float(1 - np.square(target - design @ solution).sum() / variance),
        singular_ratio=float(singular[1] / singular[0]),
        angle=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
    )


def folded_cells(lattice: np.ndarray) -> int:
    """How many cells of a mapped lattice [rows, columns, 2] are turned over.

    A smooth one-to-one map keeps the orientation of every cell; the cells with the rarer sign of
    signed area are the folded ones.
    """
    if np.ndim(lattice) != 3 or np.shape(lattice)[2] != 2 or min(np.shape(lattice)[:2]) < 2:
        raise ValueError(f"lattice must be [rows, columns, 2], got {np.shape(lattice)}")
    along = lattice[1:, 1:] - lattice[:-1, :-1]
    across = lattice[:-1, 1:] - lattice[1:, :-1]
    area = along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]  # twice, signed
    return int(min((area > 0).sum(), (area < 0).sum()))


def informative_latents(log_var: np.ndarray) -> np.ndarray:
    """Latents from the lowest mean log-variance up: [N, latent_dim] to [latent_dim] indices."""
    return np.argsort(np.mean(log_var, axis=0), kind="stable")


def additive_r2(codes: np.ndarray, places: np.ndarray, labels: np.ndarray) -> float:
    """How much of the codes is a linear part for the place plus a constant for the label.

    codes [N, latent_dim], places [N, 2], labels [N]. 1 means code = A place + b(label) for every
    image: the two factors add up, in whatever directions of the latent space.
    """
    design = np.column_stack([places, labels[:, None] == np.unique(labels)])
    left = codes - design @ np.linalg.lstsq(design, codes)[0]
    return float(1 - np.square(left).sum() / np.square(codes - codes.mean(axis=0)).sum())


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


@dataclass(frozen=True)
class Blobs:
    """What can be seen in N pictures.

    count: blobs of at least LEAST_AREA pixels brighter than VISIBLE, [N].
    centroid: x and y in pixels, weighted by brightness, [N, 2]; NaN where nothing is visible.
    color: shares of red, green and blue, [N, 3], which sum to 1; NaN where nothing is visible.
    """

    count: np.ndarray
    centroid: np.ndarray
    color: np.ndarray


def find_blobs(images: np.ndarray) -> Blobs:
    """Count the blobs in images [N, 3, height, width] and locate what is visible of them."""
    if np.ndim(images) != 4 or np.shape(images)[1] != 3:
        raise ValueError(f"images must be [N, 3, height, width], got {np.shape(images)}")
    images = np.clip(images, 0, 1)
    brightness = images.max(axis=1)
    mask = brightness > VISIBLE
    weight = np.where(mask, brightness, 0)  # [N, height, width]
    total = weight.sum(axis=(1, 2))
    total = np.where(total > 0, total, np.nan)[:, None]
    rows, columns = np.indices(mask.shape[1:])
    centroid = np.stack([(weight * c).sum(axis=(1, 2)) for c in (columns, rows)], axis=1) / total
    color = (images * mask[:, None]).sum(axis=(2, 3))
    color = color / np.where(np.isnan(total), np.nan, color.sum(axis=1, keepdims=True))
    count = []
    for picture in mask:
        labels, _ = ndimage.label(picture)
        count.append((np.bincount(labels.ravel())[1:] >= LEAST_AREA).sum())
    return Blobs(np.array(count), centroid, color)


def fixed_pattern(images: np.ndarray, period: int) -> float:
    """How much of the images' variance is a pattern that all of them repeat every period pixels.

    images: [N, channels, height, width]. The variance of the means over all pixels of one phase
    (row mod period, column mod period), over the variance of all pixels, each within its channel; 0
    where no pixel varies. ValueError unless period divides height and width.
    """
    if np.ndim(images) != 4:
        raise ValueError(f"images must be [N, channels, height, width], got {np.shape(images)}")
    _, channels, height, width = np.shape(images)
    if period < 2 or height % period or width % period:
        raise ValueError(f"period must be 2 or more and divide {height} and {width}, got {period}")
    mean = images.mean(axis=0, dtype=float)  # [channels, height, width]
    phases = mean.reshape(channels, height // period, period, width // period, period)
    # Not images.var, whose copy in double precision would be twice as large as the images.
    squares = np.einsum("nchw,nchw->c", images, images, dtype=float) / (len(images) * mean[0].size)
    variance = (squares - mean.mean(axis=(1, 2)) ** 2).mean()
    return float(phases.mean(axis=(1, 3)).var(axis=(1, 2)).mean() / variance) if variance else 0.0


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean of values, one a seed (Student's t).

    ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"values must be two or more, got {len(values)}")
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)
