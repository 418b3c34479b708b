"""What a VAE pays for the axes that its code lies along, and which it would rather have."""

import numpy as np
import torch

from sbd_utils import checks
from sbd_utils.metrics.codes import decode
from sbd_utils.models.vae import VAE


def wanted_precision(vae: VAE, mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """How precisely the loss wants the codes mu [N, L] known, [N, L, L]: I + J^T J / variance.

    J is how the picture changes with the code, by central differences over a tenth of the encoder's
    standard deviation; the variance is the decoder's. With the decoder taken as linear at mu, the
    negative ELBO (beta 1) wants its inverse as the posterior's covariance or, of a posterior that
    is diagonal in some axes, the inverses of its diagonal there (Rolinek et al. 2019).
    """
    mu, log_var = checks.arrays(mu=(mu, "N L"), log_var=(log_var, "N L"))
    latent_dim = mu.shape[1]
    steps = np.exp(log_var / 2)[:, :, None] / 10  # [N, L, 1]
    found = []
    for code, step in zip(mu, steps, strict=True):
        up, down = (
            decode(vae, code + sign * step * np.eye(latent_dim), clamp=False) for sign in (1, -1)
        )
        slopes = (up - down).reshape(latent_dim, -1) / (2 * step)  # [L, pixels]
        found.append(np.eye(latent_dim) + slopes @ slopes.T / vae.decoder_variance)
    return np.stack(found)


def turned_axes(precision: np.ndarray) -> np.ndarray:
    """The eigenvectors of the mean wanted precision [N, L, L], rows of [L, L], most precise first.

    Not the best axes that there are, which would have to suit each code's own matrix, but simple.
    """
    precision = checks.definite("precision", precision, "N L L")
    return np.linalg.eigh(precision.mean(axis=0))[1].T[::-1].copy()


def precision_along(precision: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The diagonal [N, L] that the wanted precision has along orthonormal axes, rows of [L, L]."""
    precision = checks.definite("precision", precision, "N L L")
    axes = checks.orthonormal("axes", axes, precision.shape[-1])
    return np.einsum("ai,nij,aj->na", axes, precision, axes)


def diagonal_posterior_gap(precision: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """What a posterior that is diagonal along these axes pays for it, nats per code, [N].

    By the wanted precision P [N, L, L], so for a linear decoder: half of sum ln P_kk less ln det P,
    which is 0 where P is diagonal, too.
    """
    along = np.log(precision_along(precision, axes)).sum(axis=1)
    return (along - np.linalg.slogdet(precision)[1]) / 2


def optimal_stddevs(precision: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """One standard deviation per axis for all codes, [L]: the best that a linear decoder allows."""
    return precision_along(precision, axes).mean(axis=0) ** -0.5


def balanced_noise(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """2 L draws for each of count codes, [2 L, count, L], of mean 0 and covariance I exactly.

    They are opposite pairs along axes at right angles, turned at random for each code. With them
    the mean of what is quadratic has no sampling error.
    """
    checks.check_int("count", count), checks.check_int("latent_dim", latent_dim)
    checks.check_int("seed", seed, 0)
    normal = np.random.default_rng(seed).standard_normal((count, latent_dim, latent_dim))
    draws = latent_dim**0.5 * np.linalg.qr(normal)[0].transpose(1, 0, 2)
    return np.concatenate([draws, -draws])


def loss_along(
    vae: VAE,
    images: torch.Tensor,
    mu: np.ndarray,
    axes: np.ndarray,
    widths: np.ndarray,
    noise: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Both loss terms, in nats, [N] each, where q is diagonal along these axes: VAE.loss_terms.

    images [N, 3, size, size] and their codes mu [N, L]; axes: orthonormal rows [L, L]; widths: the
    standard deviation along each, [L] or [N, L]; noise: of mean 0 and variance 1, [samples, N, L].
    """
    mu, noise, widths = checks.arrays(
        mu=(mu, "N L"), noise=(noise, "S N L"), widths=(widths, "... L")
    )
    axes = checks.orthonormal("axes", axes, mu.shape[1])
    if widths.shape not in (mu.shape, mu.shape[1:]) or widths.min() <= 0:
        raise checks.argument_error("widths", "above 0, [L] or [N, L] as mu is", widths)
    drawn = decode(vae, mu + (noise * widths) @ axes, clamp=False)
    checks.images("images", images, vae.image_size)
    checks.shaped("images", images, len(mu), *drawn.shape[2:])
    squared_error = np.square(drawn - images.numpy(force=True)).sum(axis=(2, 3, 4), dtype=float)
    kl = ((mu @ axes.T) ** 2 + widths**2 - 1 - 2 * np.log(widths)).sum(axis=1) / 2
    return squared_error.mean(axis=0) / (2 * vae.decoder_variance), kl
