"""Along which axes of the latent space a diagonal posterior would fit best."""

import numpy as np
from jaxtyping import Float

from sbd_utils.metrics.codes import decode
from sbd_utils.models.vae import VAE


def posterior_precision(
    vae: VAE, mu: Float[np.ndarray, "N L"], log_var: Float[np.ndarray, "N L"]
) -> Float[np.ndarray, "N L L"]:
    """Precision of the best posterior of each code, if decoders were linear: I + J^T J / variance.

    J is the Jacobian of the decoder, by central differences over a tenth of the encoder's standard
    deviation; the variance is the decoder's. With the decoder taken as linear at mu, the negative
    ELBO (beta 1) is least where the inverse of this matrix is the posterior's covariance or, for a
    posterior that is diagonal in some axes, the inverses of its diagonal there (Rolinek et al.
    2019, arXiv 1812.06775).
    """
    latent_dim = mu.shape[1]
    steps = np.exp(log_var / 2)[:, :, None] / 10  # [N, L, 1]
    precisions = []
    for code, step in zip(mu, steps, strict=True):
        up, down = (
            decode(vae, code + sign * step * np.eye(latent_dim), clamp=False) for sign in (1, -1)
        )
        slopes = (up - down).reshape(latent_dim, -1) / (2 * step)  # [L, pixels]
        precisions.append(np.eye(latent_dim) + slopes @ slopes.T / vae.decoder_variance)
    return np.stack(precisions)


def principal_axes(precision: Float[np.ndarray, "N L L"]) -> Float[np.ndarray, "L L"]:
    """Eigenvectors of the mean posterior precision, a row per axis, most precise first.

    They are simple, not optimal: the best axes would have to suit each code's own matrix.
    """
    return np.linalg.eigh(precision.mean(axis=0))[1].T[::-1].copy()
