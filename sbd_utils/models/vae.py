"""The encoder, and the VAE around it and a decoder. Nothing here trains or plots."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import nn

from sbd_utils import checks
from sbd_utils.models.decoders import builder

WIDTH = 64  # channels of every convolution of the encoder

Images = Float[torch.Tensor, "batch 3 size size"]
Codes = Float[torch.Tensor, "batch latent_dim"]


class Encoder(nn.Module):
    """Four strided convolutions, then the mean and log-variance of q(z|x).

    Args:
        image_size: height and width of the images, a multiple of 16.
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

    def forward(self, x: Images) -> tuple[Codes, Codes]:
        hidden = self.hidden(self.convolutions(x))  # [batch, 256]
        return self.mu(hidden), self.log_var(hidden)


class VAE(nn.Module):
    """A VAE with q(z|x) diagonal Gaussian, prior N(0, I) and p(x|z) Gaussian of fixed variance.

    Args:
        decoder: "sbd", "deconv" or another name in DECODERS; a module, which is used as it is; or a
            class or function that builds one from latent_dim and image_size.
        image_size: height and width of the images, a power of two from 32.

    Raises:
        ValueError: an argument out of its range, or a decoder that draws images of another shape.
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
        drawn = _draw_zeros(self.decoder, latent_dim)
        if drawn.shape != (2, 3, image_size, image_size):
            raise checks.argument_error(
                "what decoder draws", f"of shape [2, 3, {image_size}, {image_size}]", drawn
            )

    def encode(self, x: Images) -> tuple[Codes, Codes]:
        """mu and log_var of images; ValueError unless these are float32 in [0, 1]."""
        checks.images("x", x, self.image_size)
        return self.encoder(x)

    def decode(self, z: Codes) -> Images:
        """Images of codes, not clamped.

        Raises:
            ValueError: z is no dense tensor [batch, latent_dim].
        """
        odd = not isinstance(z, torch.Tensor) or checks.odd_tensor(z)
        if odd or z.shape[1:] != (self.latent_dim,):
            raise checks.argument_error("z", f"floats [batch, {self.latent_dim}]", z)
        return self.decoder(z)

    def reconstruct(self, x: Images) -> Images:
        """Decode mu: nothing is sampled, so always the same."""
        return self.decode(self.encode(x)[0])

    def loss_terms(
        self, x: Images, noise: Codes
    ) -> tuple[Float[torch.Tensor, " batch"], Float[torch.Tensor, " batch"]]:
        """The two terms of the negative ELBO in nats: reconstruction, without constants, and KL.

        Args:
            noise: a draw from N(0, I), which makes the one sample of z.

        Returns:
            One value per image each (Kingma & Welling 2014, arXiv 1312.6114, eq. 10).
        """
        mu, log_var = (head.float() for head in self.encoder(x))
        z = mu + torch.exp(0.5 * log_var) * noise
        squared_error = (self.decoder(z).float() - x).square().sum(dim=(1, 2, 3))
        kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1)
        return squared_error / (2 * self.decoder_variance), kl


@torch.no_grad()
def _draw_zeros(decoder: nn.Module, latent_dim: int) -> torch.Tensor:
    """Images of two zero codes, which leave the decoder and the CPU's random state as they were."""
    modes = {module: module.training for module in decoder.modules()}
    device = next((weights.device for weights in decoder.parameters()), None)
    try:
        with torch.random.fork_rng(devices=[]):
            return decoder.eval()(torch.zeros(2, latent_dim, device=device))
    finally:
        for module, mode in modes.items():
            module.training = mode
