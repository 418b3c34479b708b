"""What a VAE pays for the axes that its code lies along, and which it would rather have."""

import numpy as np
import torch

from sbd_utils.measures.codes import decode
from sbd_utils.models.vae import VAE


def wanted_precision(vae: VAE, mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """How precisely the loss wants the codes mu [N, L] known, [N, L, L]: I + J^T J / variance.

    J is how the picture changes with the code, by central differences over a tenth of the encoder's
    standard deviation; the variance is the decoder's. With the decoder taken as linear at mu, the
    negative ELBO (beta 1) wants its inverse as the posterior's covariance or, of a posterior that
    is diagonal in some axes, the inverses of its diagonal there (Rolinek et al. 2019).
    """
    latent_dim = mu.shape[1]
    steps = np.exp(log_var / 2)[:, :, None] / 10  # [N, L, 1]
    found = []
    for code, step in zip(mu, steps, strict=True):
        up, down = (decode(vae, code + sign * step * np.eye(latent_dim), clamp=False)
                    for sign in (1, -1))
        slopes = (up - down).reshape(latent_dim, -1) / (2 * step)  # [L, pixels]
        found.append(np.eye(latent_dim) + slopes @ slopes.T / vae.decoder_variance)
    return np.stack(found)


def loss_along(
    vae: VAE, images: torch.Tensor, mu: torch.Tensor, axes: torch.Tensor, widths: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both loss terms, in nats, [N] each, where q is diagonal along these axes: VAE.loss_terms.

    images [N, 3, size, size] and their codes mu [N, L]; axes: orthonormal rows [L, L]; widths: the
    standard deviation along each, [L] or [N, L]; noise: draws from N(0, I), [samples, N, L].
    """
    z = mu + (noise * widths) @ axes  # [samples, N, L]
    drawn = vae.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    squared_error = (drawn - images).square().sum(dim=(2, 3, 4)).mean(dim=0)
    kl = ((mu @ axes.T).square() + widths.square() - 1 - 2 * widths.log()).sum(dim=1) / 2
    return squared_error / (2 * vae.decoder_variance), kl


def best_widths(
    vae: VAE, images: torch.Tensor, mu: torch.Tensor, axes: torch.Tensor, start: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """One width an axis for all codes, [L], from start [L] to where the mean loss is least.

    The rest is as in loss_along, and so is the loss. It takes 12 iterations of L-BFGS.
    """
    log_widths = start.log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_widths], max_iter=12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        terms = loss_along(vae, images, mu, axes, log_widths.exp(), noise)
        mean = sum(term.mean() for term in terms)
        [log_widths.grad] = torch.autograd.grad(mean, [log_widths])
        return mean

    optimizer.step(loss)
    return log_widths.detach().exp()
