"""How affine, how folded and how additive the map between factors and codes is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Real, Shaped
from scipy.linalg import orthogonal_procrustes
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from sbd_utils.data.circles import Sprites, draw_sprite
from sbd_utils.metrics.codes import encode
from sbd_utils.metrics.factors import Factor, parse_factors
from sbd_utils.models.vae import VAE

LINES = np.linspace(0.2, 0.8, 31)  # the post's window and points a line; every sixth is a line


@dataclass(frozen=True)
class AffineFit:
    """The least-squares map target = source @ matrix.T + offset, and how good it is.

    Attributes:
        r2: 1 - squared error over the target's variance, both dimensions together; 0 for a target
            that is the same point every time.
        singular_ratio: Smallest over largest singular value; 1 is a rotated and scaled square.
        angle: Degrees between the images of the two source axes; 90 is no shear.
    """

    matrix: Float[np.ndarray, "2 2"]
    offset: Float[np.ndarray, "2"]
    r2: float
    singular_ratio: float
    angle: float


def affine_fit(source: Real[np.ndarray, "N 2"], target: Real[np.ndarray, "N 2"]) -> AffineFit:
    """Fit the best affine map from source to target.

    Raises:
        ValueError: For source points on one line.
    """
    source, target = source.astype(float), target.astype(float)  # sums of float32 lose digits
    # Far from 0, or small beside 1, least squares would take what varies for rounding.
    middle = source.mean(axis=0)
    unit = np.ptp(source, axis=0).max() or 1
    design = np.column_stack([(source - middle) / unit, np.ones(len(source))])  # [N, 3]
    if np.linalg.matrix_rank(design) < 3:
        raise ValueError("source must be three points at least, not all on one line")
    solution = np.linalg.lstsq(design, target)[0]  # [3, 2]
    variance = np.square(target - np.mean(target, axis=0)).sum()
    if np.ptp(target, axis=0).max() <= 1e-12 * abs(target).max():  # rounding, at most
        return AffineFit(np.zeros((2, 2)), target[0], r2=0.0, singular_ratio=0.0, angle=90.0)
    matrix = solution[:2].T / unit
    offset = solution[2] - matrix @ middle
    singular = np.linalg.svd(matrix, compute_uv=False)
    lengths = np.linalg.norm(matrix, axis=0)
    cosine = matrix[:, 0] @ matrix[:, 1] / max(lengths.prod(), np.finfo(float).tiny)
    return AffineFit(
        matrix,
        offset,
        r2=float(1 - np.square(target - design @ solution).sum() / variance),
        singular_ratio=float(singular[1] / singular[0]),
        angle=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
    )


def folded_cells(lattice: Real[np.ndarray, "rows columns 2"]) -> int:
    """Count the cells of a mapped lattice that are turned over.

    A smooth one-to-one map keeps the orientation of every cell; the cells with the rarer sign of
    signed area are the folded ones. Cells without an area have none.
    """
    along = lattice[1:, 1:] - lattice[:-1, :-1]
    across = lattice[:-1, 1:] - lattice[1:, :-1]
    area = along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]  # twice, signed
    least = 1e-9 * max(np.square(along).sum(axis=2).max(), np.square(across).sum(axis=2).max())
    return int(min((area > least).sum(), (area < -least).sum()))


def informative_latents(log_var: Real[np.ndarray, "N L"]) -> Int[np.ndarray, " L"]:
    """Latents from the lowest mean log-variance up."""
    return np.argsort(np.mean(log_var, axis=0), kind="stable")


def additive_model_r2(
    codes: Real[np.ndarray, "N L"],
    places: Real[np.ndarray, "N 2"],
    labels: Shaped[np.ndarray, " N"],
) -> float:
    """R² of the codes under the model code = A place + b(label).

    1 means that the two factors add up in every image, in whatever directions of the latent space,
    be they rotated or duplicated. Where place and label are correlated, it does not tell which of
    them adds. It is of the codes that were fitted, so that of few codes noise has more than 0.

    Raises:
        ValueError: For labels of fewer than two codes in the mean, or no more codes than the fit
            has numbers for each latent.
    """
    codes, places = codes.astype(float), places.astype(float)  # sums of float32 lose digits
    distinct = np.unique(labels)
    if len(distinct) > len(labels) / 2 or len(codes) <= 2 + len(distinct):
        raise ValueError("labels must be of more codes, as this few would be fitted perfectly")
    unit = np.ptp(places, axis=0).max() or 1  # as in affine_fit
    design = np.column_stack([(places - places.mean(axis=0)) / unit, labels[:, None] == distinct])
    left = codes - design @ np.linalg.lstsq(design, codes)[0]
    return float(1 - np.square(left).sum() / np.square(codes - codes.mean(axis=0)).sum())


def knn_probe_r2(codes: Real[np.ndarray, "N L"], places: Real[np.ndarray, "N 2"]) -> float:
    """R² of places as the mean of the places of the 5 nearest codes.

    By 5-fold cross-validation, shuffled with seed 0, so that only other images are looked up.
    """
    return _held_out_r2(KNeighborsRegressor(5), codes, places.astype(float))


def affine_r2(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> float:
    """Mean cross-validated R² of factors that an affine map of the codes predicts, 1 at best.

    Noise has 0 or less. A periodic factor stands for its sine and cosine, which a code that unrolls
    it does not have. Labels have no place on a line: they are left out, and NaN is the R² of labels
    alone. No linear map of the codes changes it, unless it loses a dimension, or all but a
    millionth of one, or the latents are nearly as many as the codes; nor do dead or duplicated
    latents. Of correlated factors one is predicted from the other's code: a false positive.
    """
    codes, factors = parse_factors(codes, factors, periods)
    targets = [factor.targets for factor in factors if factor.kind != "label"]
    # Scaled, as the regression takes directions far narrower than others for rounding.
    fit = make_pipeline(StandardScaler(), LinearRegression())
    scores = [_held_out_r2(fit, codes, some) for some in targets]
    return float(np.mean(scores)) if scores else float("nan")


def additive_splines_r2(
    codes: Real[np.ndarray, "N L"],
    factors: Mapping[str, Any] | list[Factor],
    periods: Mapping[str, float] | None = None,
) -> float:
    """Cross-validated R² of the codes as a sum of one smooth function per factor, 1 at best.

    As `additive_model_r2`, but for any factors: cubic splines of 10 pieces of one width, which need
    not meet where a periodic factor begins anew, and a constant per label. Where a quantity has few
    values, as in a long tail, hardly more than a line is found. All latents count together by their
    variance. No rotation of the latent space changes it. Dead latents hardly do; 0 where all are
    dead. Correlated factors let it be: it asks for a sum, not for which factor explains what.
    """
    codes, factors = parse_factors(codes, factors, periods)
    if not np.ptp(codes, axis=0).any():
        return 0.0
    splines = SplineTransformer(11)
    terms = []
    for factor in factors:
        terms.append(
            factor.targets
            if factor.kind == "label"
            else splines.fit_transform(factor.values[:, None])
        )
        if factor.kind != "label":  # a line of its own, too large for the ridge to hold down
            terms.append(1000 * StandardScaler().fit_transform(factor.values[:, None]))
    return _held_out_r2(Ridge(0.01), np.column_stack(terms), codes)  # for pieces of too few codes


def _held_out_r2(
    estimator: BaseEstimator, inputs: Real[np.ndarray, "N a"], targets: Real[np.ndarray, "N b"]
) -> float:
    """R² of targets that are predicted from inputs that were not fitted to."""
    folds = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(estimator, inputs, targets, cv=folds).reshape(targets.shape)
    return float(r2_score(targets, predicted, multioutput="variance_weighted"))


def principal_plane(
    codes: Real[np.ndarray, "rows columns L"], places: Real[np.ndarray, "rows columns 2"]
) -> Float[np.ndarray, "rows columns 2"]:
    """Project codes onto the plane that they vary along most.

    The plane of the first two principal components is rotated or mirrored, not stretched, until it
    lies as the places do.
    """
    flat = codes.reshape(-1, codes.shape[-1])
    flat = flat - flat.mean(axis=0)
    plane = flat @ np.linalg.svd(flat, full_matrices=False)[2][:2].T
    target = places.reshape(-1, 2) - places.mean(axis=(0, 1))
    return (plane @ orthogonal_procrustes(plane, target)[0]).reshape(places.shape)


@dataclass(frozen=True)
class Geometry:
    """A lattice of places in two latents, or in two other directions of the code.

    Attributes:
        points: The code of a sprite at x of column j and y of row i at index [i, j].
        folded: How many of the 25 cells between six lines a side are turned over.
    """

    points: Real[np.ndarray, "n n 2"]
    fit: AffineFit
    folded: int


def compare(points: Real[np.ndarray, "n n 2"], places: Real[np.ndarray, "n n 2"]) -> Geometry:
    """Measure the map from places to points; n is 5 k + 1, so that every k-th line is one."""
    if len(points) % 5 != 1:
        raise ValueError(f"points must be [n, n, 2] with n of 6, 11, 16, ..., got {len(points)}")
    step = len(points) // 5
    fit = affine_fit(places.reshape(-1, 2), points.reshape(-1, 2))
    return Geometry(points, fit, folded_cells(points[::step, ::step]))


def lattice_places(lines: Real[np.ndarray, " n"] = LINES) -> Real[np.ndarray, "n n 2"]:
    """All places whose x and y are among n lines, x along a row and y down a column."""
    return np.stack(np.meshgrid(lines, lines), axis=-1)


def draw_lattice(sprites: Sprites, color: str) -> Float[torch.Tensor, "961 3 size size"]:
    """Draw a sprite of their one kind, in a color, at each place of the lattice.

    Raises:
        ValueError: Unless the sprites are of one shape and size and have the color.
    """
    if color not in sprites.factors["color"]:
        raise ValueError(f"color must be one of the sprites', got {color!r}")
    look = sprites.only("shape"), sprites.only("size"), color, sprites.images.shape[-1]
    return torch.stack(
        [draw_sprite(x, y, *look) for x, y in lattice_places().reshape(-1, 2).tolist()]
    )


def encode_lattice(vae: VAE, sprites: Sprites, color: str) -> Float[np.ndarray, "31 31 L"]:
    """Encode the lattice of `draw_lattice`, of the sprites that the VAE was trained on.

    Raises:
        ValueError: Unless their places reach as far as the lattice does.
    """
    lattice = draw_lattice(sprites, color)
    for axis in ("x", "y"):
        low, high = sprites.span(axis)
        if low > LINES[0] or high < LINES[-1]:
            raise ValueError(
                f"sprites must be from {LINES[0]:g} to {LINES[-1]:g} in {axis}, "
                f"got {low:g} to {high:g}"
            )
    return encode(vae, lattice)[0].reshape(31, 31, -1)


def measure_geometry(
    vae: VAE, sprites: Sprites, latents: Int[np.ndarray, "2"], color: str
) -> Geometry:
    """Measure the lattice of `encode_lattice` in two latents."""
    codes = encode_lattice(vae, sprites, color)
    return compare(codes[:, :, latents], lattice_places())
