"""The encoder, and the VAE around it and a decoder. Nothing here trains or plots."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn

from sbd_utils.models.recipes import builder

WIDTH = 64  # channels of every convolution of the encoder


class Encoder(nn.Module):
    """Four strided convolutions, then the mean and log-variance of q(z|x).

    Takes [batch, 3, image_size, image_size], returns two of [batch, latent_dim].
    """

    def __init__(self, latent_dim: int, image_size: int = 64):
        super().__init__()
        layers = []
        for channels in (3, WIDTH, WIDTH, WIDTH):
            layers += [nn.Conv2d(channels, WIDTH, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(WIDTH * (image_size // 16) ** 2, 256), nn.ReLU()
        )
        self.mu = nn.Linear(256, latent_dim)
        self.log_var = nn.Linear(256, latent_dim)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.hidden(self.convolutions(x))  # [batch, 256]
        return self.mu(hidden), self.log_var(hidden)  # [batch, latent_dim] each


class VAE(nn.Module):
    """A VAE with q(z|x) diagonal Gaussian, prior N(0, I) and p(x|z) Gaussian of fixed variance.

    decoder: "sbd", "deconv" or another of recipes.RECIPES, or what builds one from latent_dim and
        image_size.
    image_size: a power of two from 32.
    Raises ValueError for anything else, and for a wrong latent_dim or decoder_variance.
    """

    def __init__(
        self, decoder: str | Callable[[int, int], nn.Module] = "sbd", latent_dim: int = 5,
        decoder_variance: float = 0.3, image_size: int = 64,
    ):
        super().__init__()
        build = decoder if callable(decoder) else builder(decoder)
        if not isinstance(latent_dim, Integral) or latent_dim < 1:
            raise ValueError(f"latent_dim must be a whole number of at least 1, got {latent_dim!r}")
        if not isinstance(decoder_variance, Real) or not 0 < decoder_variance < float("inf"):
            raise ValueError(f"decoder_variance must be above 0, got {decoder_variance!r}")
        if (
            not isinstance(image_size, Integral)
            or image_size < 32
            or image_size & (image_size - 1)
        ):
            raise ValueError(f"image_size must be a power of two from 32, got {image_size!r}")
        self.latent_dim, self.image_size = latent_dim, image_size
        self.decoder_variance = decoder_variance
        self.encoder = Encoder(latent_dim, image_size)
        self.decoder = build(latent_dim, image_size)
        with torch.no_grad():
            shape = self.decoder(torch.zeros(1, latent_dim)).shape
        if shape != (1, 3, image_size, image_size):
            raise ValueError(f"decoder must draw [batch, 3, {image_size}, {image_size}], "
                             f"got [batch, {', '.join(map(str, shape[1:]))}]")

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, image_size, image_size] to mu and log_var, [batch, latent_dim]."""
        check_images(x, self.image_size, "x")
        return self.encoder(x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Codes [batch, latent_dim] to images [batch, 3, image_size, image_size], not clamped."""
        if not isinstance(z, torch.Tensor):
            raise ValueError(f"z must be a tensor, got {type(z).__name__}")
        if z.ndim != 2 or z.shape[1] != self.latent_dim or len(z) == 0:
            raise ValueError(f"z must be [batch, {self.latent_dim}], got {list(z.shape)}")
        if z.dtype != torch.float32 or not z.isfinite().all():
            raise ValueError(f"z must be float32 and finite, got {z.dtype} or a NaN or infinity")
        return self.decoder(z)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode mu, shapes as in encode and decode: nothing is sampled, so always the same."""
        return self.decode(self.encode(x)[0])

    def loss_terms(
        self, x: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of the negative ELBO in nats, constants dropped: reconstruction and KL.

        x: [batch, 3, image_size, image_size], unchecked, for it runs once a step.
        noise: a draw from N(0, I), [batch, latent_dim], which makes the one sample of z.
        Returns one value an image each, [batch] (Kingma & Welling 2014, arXiv 1312.6114, eq. 10).
        """
        mu, log_var = (head.float() for head in self.encoder(x))
        z = mu + torch.exp(0.5 * log_var) * noise
        squared_error = (self.decoder(z).float() - x).square().sum(dim=(1, 2, 3))
        kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1)
        return squared_error / (2 * self.decoder_variance), kl


def check_images(images: torch.Tensor, image_size: int, name: str = "images") -> None:
    """Raise ValueError unless images are float32 in [0, 1], [N, 3, image_size, image_size]."""
    expected = f"float32 in [0, 1], [N, 3, {image_size}, {image_size}] with N of at least 1"
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, {expected}, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1:] != (3, image_size, image_size) or len(images) == 0:
        raise ValueError(f"{name} must be {expected}, got shape {list(images.shape)}")
    if images.dtype != torch.float32:
        raise ValueError(f"{name} must be {expected}, got {images.dtype}")
    low, high = (float(bound) for bound in images.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also False for NaN
        raise ValueError(f"{name} must be {expected}, got values from {low} to {high}")
