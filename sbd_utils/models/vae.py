"""The encoder, and the VAE around it and a decoder. Nothing here trains or plots."""

from collections.abc import Callable

import torch
from torch import nn

from sbd_utils import checks
from sbd_utils.models.decoders import builder

WIDTH = 64  # channels of every convolution of the encoder


class Encoder(nn.Module):
    """Four strided convolutions, then the mean and log-variance of q(z|x).

    Takes [batch, 3, image_size, image_size], returns two of [batch, latent_dim]. image_size: 16 or
    more.
    """

    def __init__(self, latent_dim: int, image_size: int = 64):
        super().__init__()
        checks.check_int("latent_dim", latent_dim), checks.check_int("image_size", image_size, 16)
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

    decoder: "sbd", "deconv" or another name in DECODERS, a module, which is used as it is, or a
        class or function that builds one from latent_dim and image_size.
    image_size: a power of two from 32.
    Raises ValueError for anything else, and for a decoder that draws other pictures.
    """

    def __init__(
        self,
        decoder: str | nn.Module | Callable[[int, int], nn.Module] = "sbd",
        latent_dim: int = 5,
        decoder_variance: float = 0.3,
        image_size: int = 64,
    ):
        super().__init__()
        build = decoder if callable(decoder) else builder(decoder)
        self.latent_dim = checks.check_int("latent_dim", latent_dim)
        self.decoder_variance = checks.check_positive("decoder_variance", decoder_variance)
        self.image_size = checks.check_int("image_size", image_size, 32)
        if image_size & (image_size - 1):
            raise checks.argument_error("image_size", "a power of two", image_size)
        self.encoder = Encoder(latent_dim, image_size)
        self.decoder = decoder if isinstance(decoder, nn.Module) else build(latent_dim, image_size)
        checks.check_type("decoder", self.decoder, nn.Module)
        drawn = _try(self.decoder, latent_dim)
        checks.shaped("what decoder draws", drawn, 2, 3, image_size, image_size)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, image_size, image_size] to mu and log_var, [batch, latent_dim]."""
        checks.images("x", x, self.image_size)
        return self.encoder(x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Codes [batch, latent_dim] to images [batch, 3, image_size, image_size], not clamped."""
        if not isinstance(z, torch.Tensor) or checks.odd_tensor(z) or z.dtype != torch.float32:
            raise checks.argument_error("z", f"a float32 tensor, [batch, {self.latent_dim}]", z)
        checks.shaped("z", z, None, self.latent_dim)
        if not len(z) or not z.isfinite().all():
            raise checks.argument_error("z", "codes, one at least, without NaN or infinity", z)
        return self.decoder(z)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Decode mu, shapes as in encode and decode: nothing is sampled, so always the same."""
        return self.decode(self.encode(x)[0])

    def loss_terms(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of the negative ELBO in nats, constants dropped: reconstruction and KL.

        x: [batch, 3, image_size, image_size], its values unchecked, for it runs once a step.
        noise: a draw from N(0, I), [batch, latent_dim], which makes the one sample of z.
        Returns one value an image each, [batch] (Kingma & Welling 2014, arXiv 1312.6114, eq. 10).
        """
        checks.shaped("x", x, None, 3, self.image_size, self.image_size)
        checks.shaped("noise", noise, len(x), self.latent_dim)
        mu, log_var = (head.float() for head in self.encoder(x))
        z = mu + torch.exp(0.5 * log_var) * noise
        squared_error = (self.decoder(z).float() - x).square().sum(dim=(1, 2, 3))
        kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1)
        return squared_error / (2 * self.decoder_variance), kl


@torch.no_grad()
def _try(decoder: nn.Module, latent_dim: int) -> torch.Tensor:
    """What a decoder draws of two zero codes in evaluation mode; it stays as it was.

    So does the random state: a decoder may draw noise in every mode.
    """
    modes = {module: module.training for module in decoder.modules()}
    device = next((weights.device for weights in decoder.parameters()), torch.device("cpu"))
    try:
        for module in modes:  # not decoder.eval(), which a module may define to do more
            module.training = False
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return decoder(torch.zeros(2, latent_dim, device=device))
    finally:
        for module, mode in modes.items():
            module.training = mode
