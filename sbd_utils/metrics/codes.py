"""Images to codes and back with a trained VAE, and traversals."""

import numpy as np
import torch
from jaxtyping import Float, Real

from sbd_utils import checks
from sbd_utils.models.vae import VAE

TRAVERSAL = np.linspace(-2, 2, 7)  # the post's seven values
BATCH = 16  # images; of more, malloc gets each layer from the system anew: half of all the time


@torch.inference_mode()
def encode(
    vae: VAE, images: Float[torch.Tensor, "N 3 size size"]
) -> tuple[Float[np.ndarray, "N L"], Float[np.ndarray, "N L"]]:
    """Encode images to mu and log_var, in float64.

    Raises:
        ValueError: Unless images are float32 in [0, 1] and of the VAE's size.
    """
    checks.images("images", images, vae.image_size)
    device = next(vae.parameters()).device
    pairs = [vae.encode(batch.to(device)) for batch in images.split(BATCH)]
    mu, log_var = (torch.cat(parts).cpu().double().numpy() for parts in zip(*pairs, strict=True))
    return mu, log_var


@torch.inference_mode()
def decode(
    vae: VAE, codes: Real[np.ndarray, "*any L"], clamp: bool = True
) -> Float[np.ndarray, "*any 3 size size"]:
    """Decode codes to pictures, clamped to [0, 1] or not."""
    device = next(vae.parameters()).device
    z = torch.as_tensor(codes, dtype=torch.float32).reshape(-1, vae.latent_dim)
    pictures = torch.cat([vae.decode(batch.to(device)).cpu() for batch in z.split(BATCH)])
    pictures = pictures.clamp(0, 1) if clamp else pictures
    return pictures.numpy().reshape(*codes.shape[:-1], *pictures.shape[1:])


def traverse(
    codes: Real[np.ndarray, "*any L"],
    values: Real[np.ndarray, " V"] = TRAVERSAL,
    axes: Float[np.ndarray, "L L"] | None = None,
) -> Float[np.ndarray, "*any L V L"]:
    """Set each latent in turn to each value.

    Args:
        axes: Orthonormal rows; where given, the coordinate along each is set instead of a latent.
    """
    latent_dim = codes.shape[-1]
    axes = np.eye(latent_dim) if axes is None else axes
    sweeps = np.empty((*codes.shape[:-1], latent_dim, len(values), latent_dim))
    sweeps[:] = (codes @ axes.T)[..., None, None, :]
    for axis in range(latent_dim):
        sweeps[..., axis, :, axis] = values
    return sweeps @ axes
