"""The latent space as a map: how affine, how folded, how much of a sum."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from sbd_utils.measures.codes import encode
from sbd_utils.models.vae import VAE
from sbd_utils.worlds.circles import draw_sprite

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


def readout_r2(codes: np.ndarray, places: np.ndarray) -> float:
    """How much of the places [N, 2] their codes [N, latents] tell, in whatever form: R².

    Each place is guessed as the mean of the 5 nearest codes' places, of the four fifths of the
    images that it does not belong to (cross-validation, shuffled with seed 0).
    """
    folds = KFold(5, shuffle=True, random_state=0)
    guessed = cross_val_predict(KNeighborsRegressor(5), codes, places, cv=folds)
    return float(r2_score(places, guessed, multioutput="variance_weighted"))


def principal_plane(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Codes [rows, columns, latent_dim] in the plane that they vary along most, [rows, columns, 2].

    The first two principal components, so all latents have a part in it and none is chosen. The
    plane is turned or mirrored, not stretched, until it lies as places [rows, columns, 2] do.
    """
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
    step = (len(points) - 1) // 5
    fit = affine_fit(places.reshape(-1, 2), points.reshape(-1, 2))
    return Geometry(points, fit, folded_cells(points[::step, ::step]))


def lattice_places(lines: np.ndarray = LINES) -> np.ndarray:
    """All places whose x and y are among n lines, [n, n, 2], x along a row and y down a column."""
    return np.stack(np.meshgrid(lines, lines), axis=-1)


def draw_lattice(color: str, size: int = 16, image_size: int = 64) -> torch.Tensor:
    """A circle at each place of the post's lattice, [961, 3, image_size, image_size]."""
    places = lattice_places().reshape(-1, 2).tolist()
    return torch.stack([draw_sprite(*p, "circle", size, color, image_size) for p in places])


def encode_lattice(vae: VAE, color: str, size: int = 16) -> np.ndarray:
    """The codes of circles on the post's lattice of places over [0.2, 0.8]^2, [31, 31, L]."""
    return encode(vae, draw_lattice(color, size, vae.image_size))[0].reshape(31, 31, -1)


def measure_geometry(
    vae: VAE, latents: np.ndarray, color: str, size: int = 16
) -> Geometry:
    """The post's lattice of circles of a size and a color in two latents.

    Raises ValueError unless latents are two different indices below latent_dim.
    """
    if len(latents) != 2 or latents[0] == latents[1] or not all(
        0 <= k < vae.latent_dim for k in latents
    ):
        raise ValueError(
            f"latents must be two different indices below {vae.latent_dim}, got {list(latents)}"
        )
    return compare(encode_lattice(vae, color, size)[:, :, latents], lattice_places())
