"""Images to codes and back with a trained VAE, and codes swept along their axes."""

import numpy as np
import torch

from sbd_utils import checks
from sbd_utils.models.vae import VAE

TRAVERSAL = np.linspace(-2, 2, 7)  # the post's seven values
BATCH = 16  # images; of more, malloc gets each layer from the system anew: half of all the time


@torch.inference_mode()
def encode(vae: VAE, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """mu and log_var of images [N, 3, size, size] as float64 arrays [N, latent_dim]."""
    device = device_of(vae)
    checks.images("images", images, vae.image_size)
    pairs = [vae.encode(batch.to(device)) for batch in images.split(BATCH)]
    mu, log_var = (torch.cat(parts).cpu().double().numpy() for parts in zip(*pairs, strict=True))
    return mu, log_var


@torch.inference_mode()
def decode(vae: VAE, codes: np.ndarray, clamp: bool = True) -> np.ndarray:
    """Pictures of codes [..., latent_dim], clamped to [0, 1] or not, [..., 3, size, size]."""
    device = device_of(vae)
    (codes,) = checks.arrays(codes=(codes, f"... {vae.latent_dim}"))
    checks.check_one_of("clamp", clamp, (True, False))
    z = torch.as_tensor(codes, dtype=torch.float32).reshape(-1, vae.latent_dim)
    pictures = torch.cat([vae.decode(batch.to(device)).cpu() for batch in z.split(BATCH)])
    pictures = pictures.clamp(0, 1) if clamp else pictures
    return pictures.numpy().reshape(*codes.shape[:-1], *pictures.shape[1:])


def device_of(vae: VAE) -> torch.device:
    """Where a VAE's weights are; ValueError for what is not like one."""
    parts = ("encode", "decode", "latent_dim", "image_size")
    if not isinstance(vae, torch.nn.Module) or not all(hasattr(vae, part) for part in parts):
        raise checks.argument_error("vae", "a VAE", vae)
    return next(vae.parameters()).device


def traverse(
    codes: np.ndarray, values: np.ndarray = TRAVERSAL, axes: np.ndarray | None = None
) -> np.ndarray:
    """Set each latent in turn to each value: [..., L] to [..., L, len(values), L].

    axes: orthonormal rows [L, L]; where given, the coordinate along each of them is set instead.
    """
    codes, values = checks.arrays(codes=(codes, "... L"), values=(values, "V"))
    latent_dim = codes.shape[-1]
    axes = np.eye(latent_dim) if axes is None else checks.orthonormal("axes", axes, latent_dim)
    sweeps = np.empty((*codes.shape[:-1], latent_dim, len(values), latent_dim))
    sweeps[:] = (codes @ axes.T)[..., None, None, :]
    for axis in range(latent_dim):
        sweeps[..., axis, :, axis] = values
    return sweeps @ axes
