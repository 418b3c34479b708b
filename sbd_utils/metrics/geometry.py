"""The latent space as a map: how affine, how folded, how much of a sum."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from sbd_utils import checks
from sbd_utils.data.circles import Sprites, draw_sprite
from sbd_utils.metrics.codes import encode
from sbd_utils.metrics.describe import describe
from sbd_utils.models.vae import VAE

LINES = np.linspace(0.2, 0.8, 31)  # the post's window and points a line; every sixth is a line


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

    Raises ValueError for source points on one line.
    """
    source, target = checks.doubles(source=(source, "N 2"), target=(target, "N 2"))
    # Far from 0, or small beside 1, least squares would take what varies for rounding.
    middle = source.mean(axis=0)
    unit = np.ptp(source, axis=0).max() or 1
    design = np.column_stack([(source - middle) / unit, np.ones(len(source))])  # [N, 3]
    if np.linalg.matrix_rank(design) < 3:
        raise checks.argument_error(
            "source", "of three points at least, not all on one line", source
        )
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


def folded_cells(lattice: np.ndarray) -> int:
    """How many cells of a mapped lattice [rows, columns, 2] are turned over.

    A smooth one-to-one map keeps the orientation of every cell; the cells with the rarer sign of
    signed area are the folded ones. Cells without an area have none.
    """
    (lattice,) = checks.arrays(lattice=(lattice, "rows columns 2"))
    if min(lattice.shape[:2]) < 2:
        raise checks.argument_error("lattice", "of two rows and two columns at least", lattice)
    along = lattice[1:, 1:] - lattice[:-1, :-1]
    across = lattice[:-1, 1:] - lattice[1:, :-1]
    area = along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]  # twice, signed
    least = 1e-9 * max(np.square(along).sum(axis=2).max(), np.square(across).sum(axis=2).max())
    return int(min((area > least).sum(), (area < -least).sum()))


def informative_latents(log_var: np.ndarray) -> np.ndarray:
    """Latents from the lowest mean log-variance up: [N, latent_dim] to [latent_dim] indices."""
    (log_var,) = checks.arrays(log_var=(log_var, "N latents"))
    return np.argsort(np.mean(log_var, axis=0), kind="stable")


def additive_model_r2(codes: np.ndarray, places: np.ndarray, labels: np.ndarray) -> float:
    """How much of the codes is a linear part for the place plus a constant for the label.

    codes [N, latent_dim], places [N, 2], labels [N]. 1 means code = A place + b(label) for every
    image: the two factors add up, in whatever directions of the latent space, be they turned or
    duplicated. Where place and label are correlated, it does not tell which of them adds. It is of
    the codes that were fitted, so that of few codes noise has more than 0. ValueError for codes
    that are the same every time, no more codes than the fit has numbers for each latent, or labels
    of fewer than two codes in the mean.
    """
    codes, places = checks.doubles(codes=(codes, "N latents"), places=(places, "N 2"))
    labels = checks.labels("labels", labels, len(codes))
    if not np.ptp(codes, axis=0).any():
        raise checks.argument_error("codes", "different", codes)
    distinct = np.unique(labels)
    if len(distinct) > len(labels) / 2:  # which would explain any code
        raise checks.argument_error("labels", "of two codes each at least, in the mean", labels)
    if len(codes) <= 2 + len(distinct):
        raise checks.argument_error("codes", f"more than {2 + len(distinct)}", codes)
    unit = np.ptp(places, axis=0).max() or 1  # as in affine_fit
    design = np.column_stack([(places - places.mean(axis=0)) / unit, labels[:, None] == distinct])
    left = codes - design @ np.linalg.lstsq(design, codes)[0]
    return float(1 - np.square(left).sum() / np.square(codes - codes.mean(axis=0)).sum())


def knn_probe_r2(codes: np.ndarray, places: np.ndarray) -> float:
    """How much of the places [N, 2] their codes [N, latents] tell, in whatever form: R².

    Each place is guessed as the mean of the 5 nearest codes' places, of the four fifths of the
    images that it does not belong to (cross-validation, shuffled with seed 0). ValueError for fewer
    than seven, or places that are the same every time.
    """
    codes, places = checks.doubles(codes=(codes, "N latents"), places=(places, "N 2"))
    if len(places) < 7 or not np.ptp(places, axis=0).any():
        raise checks.argument_error("places", "seven at least, and different", places)
    return _held_out_r2(KNeighborsRegressor(5), codes, places)


def affine_r2(
    codes: np.ndarray, factors: Mapping[str, np.ndarray], periods: Mapping[str, float] | None = None
) -> float:
    """How well an affine map of the codes [N, latents] predicts the factors: mean R², 1 at best.

    Each is predicted where the map was not fitted, by cross-validation; noise has 0 or less. A
    periodic factor stands for its sine and cosine, which a code that unrolls it does not have.
    Labels have no place on a line: they are left out, and NaN is the R² of labels alone. Factors
    and periods: see measures/describe.py. No linear map of the codes changes it, unless it loses a
    dimension, or all but a millionth of one, or the latents are nearly as many as the codes; nor do
    dead or duplicated latents. Of correlated factors one is predicted from the other's code: a
    false positive.
    """
    codes, found = describe(codes, factors, periods)
    found = [factor.numbers for factor in found if factor.kind != "label"]
    # Scaled, as the regression takes directions far narrower than others for rounding.
    fit = make_pipeline(StandardScaler(), LinearRegression())
    scores = [_held_out_r2(fit, codes, numbers) for numbers in found]
    return float(np.mean(scores)) if scores else float("nan")


def sum_r2(
    codes: np.ndarray, factors: Mapping[str, np.ndarray], periods: Mapping[str, float] | None = None
) -> float:
    """How much of the codes [N, latents] is a sum of one function per factor: R², 1 at best.

    As additive_model_r2, but for any factors and any smooth functions of them: cubic splines of 10
    pieces of one width, which need not meet where a periodic factor begins anew, and a constant per
    label. Where a quantity has few values, as in a long tail, hardly more than a line is found.
    Cross-validated, all latents together by their variance. No turning of the latent space, as by
    an orthogonal matrix, changes it. Dead latents hardly do; 0 where all are dead. Correlated
    factors let it be: it asks for a sum, not for which factor explains what.
    """
    codes, found = describe(codes, factors, periods)
    if not np.ptp(codes, axis=0).any():
        return 0.0
    splines = SplineTransformer(11)
    terms = []
    for factor in found:
        terms.append(
            factor.numbers
            if factor.kind == "label"
            else splines.fit_transform(factor.values[:, None])
        )
        if factor.kind != "label":  # a line of its own, too large for the ridge to hold down
            terms.append(1000 * StandardScaler().fit_transform(factor.values[:, None]))
    return _held_out_r2(Ridge(0.01), np.column_stack(terms), codes)  # for pieces of too few codes


def _held_out_r2(estimator: BaseEstimator, inputs: np.ndarray, targets: np.ndarray) -> float:
    """R² of targets [N, a] where they are predicted from inputs [N, b] that were not fitted to."""
    folds = KFold(5, shuffle=True, random_state=0)
    guessed = cross_val_predict(estimator, inputs, targets, cv=folds).reshape(targets.shape)
    return float(r2_score(targets, guessed, multioutput="variance_weighted"))


def principal_plane(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Codes [rows, columns, latent_dim] in the plane that they vary along most, [rows, columns, 2].

    The first two principal components, so all latents have a part in it and none is chosen. The
    plane is turned or mirrored, not stretched, until it lies as places [rows, columns, 2] do.
    """
    codes, places = checks.doubles(
        codes=(codes, "rows columns latents"), places=(places, "rows columns 2")
    )
    if codes.shape[2] < 2 or len(places) * len(places[0]) < 2:
        raise checks.argument_error("codes", "two at least, of two latents at least", codes)
    flat = codes.reshape(-1, codes.shape[-1])
    flat = flat - flat.mean(axis=0)
    plane = flat @ np.linalg.svd(flat, full_matrices=False)[2][:2].T
    target = places.reshape(-1, 2) - places.mean(axis=(0, 1))
    return (plane @ orthogonal_procrustes(plane, target)[0]).reshape(places.shape)


@dataclass(frozen=True)
class Geometry:
    """A lattice of places in two latents, or in two other directions of the code.

    points: [n, n, 2], the code of a sprite at x of column j and y of row i at index [i, j].
    folded: of the 25 cells between six lines a side, how many are turned over.
    """

    points: np.ndarray
    fit: AffineFit
    folded: int


def compare(points: np.ndarray, places: np.ndarray) -> Geometry:
    """How affine the map from places to points is, and how folded; both [n, n, 2], n = 5 k + 1."""
    points, places = checks.lattices(points=points, places=places)
    step = (len(points) - 1) // 5
    fit = affine_fit(places.reshape(-1, 2), points.reshape(-1, 2))
    return Geometry(points, fit, folded_cells(points[::step, ::step]))


def lattice_places(lines: np.ndarray = LINES) -> np.ndarray:
    """All places whose x and y are among n lines, [n, n, 2], x along a row and y down a column."""
    (lines,) = checks.arrays(lines=(lines, "n"))
    return np.stack(np.meshgrid(lines, lines), axis=-1)


def draw_lattice(sprites: Sprites, color: str) -> torch.Tensor:
    """A sprite of their kind and one color at each place of the lattice, [961, 3, size, size].

    ValueError unless the sprites are of one shape and size and have the color.
    """
    checks.check_type("sprites", sprites, Sprites)
    checks.check_one_of("color", color, sorted(set(map(str, sprites.factors["color"]))))
    look = sprites.only("shape"), sprites.only("size"), color, sprites.images.shape[-1]
    return torch.stack(
        [draw_sprite(x, y, *look) for x, y in lattice_places().reshape(-1, 2).tolist()]
    )


def encode_lattice(vae: VAE, sprites: Sprites, color: str) -> np.ndarray:
    """The codes of draw_lattice's images, of the sprites that the VAE was trained on, [31, 31, L].

    ValueError unless their places reach as far as the lattice does, from 0.2 to 0.8.
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


def measure_geometry(vae: VAE, sprites: Sprites, latents: np.ndarray, color: str) -> Geometry:
    """The post's lattice of sprites in two latents, as encode_lattice has it.

    Raises ValueError unless latents are two different indices below latent_dim.
    """
    codes = encode_lattice(vae, sprites, color)
    (pair,) = checks.arrays(latents=(latents, "2"))
    if pair[0] == pair[1] or not np.isin(pair, range(codes.shape[2])).all():
        raise checks.argument_error(
            "latents", f"two different indices below {codes.shape[2]}", latents
        )
    return compare(codes[:, :, pair.astype(int)], lattice_places())
