"""The encoder, the two decoders and the VAE around them. Nothing here trains or plots."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

WIDTH = 64  # channels of every hidden convolution, in the encoder and in both decoders


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


class TransposedConv2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with the bias added after it: the gradient of its own bias is slow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return y + self.bias.to(y.dtype)[:, None, None]


class DeConvDecoder(nn.Module):
    """The usual decoder: a 2x2 feature map, doubled until it is the image.

    Takes [batch, latent_dim], returns [batch, 3, image_size, image_size].
    """

    def __init__(self, latent_dim: int, image_size: int = 64):
        super().__init__()
        doublings = (image_size // 2).bit_length() - 1  # from 2x2 to image_size
        self.linear = nn.Sequential(nn.Linear(latent_dim, WIDTH * 2 * 2), nn.ReLU())
        layers = []
        for _ in range(doublings - 1):
            layers += [TransposedConv2d(WIDTH, WIDTH, 4, stride=2, padding=1), nn.ReLU()]
        self.deconvolutions = nn.Sequential(
            *layers, TransposedConv2d(WIDTH, 3, 4, stride=2, padding=1)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.deconvolutions(self.linear(z).view(-1, WIDTH, 2, 2))


def coordinate_grid(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
    """x and y from -1 to 1 at every pixel, [2, height, width]."""
    rows, columns = (torch.linspace(-1, 1, side, device=device) for side in (height, width))
    # indexing="xy": the first grid grows along the width, so it really is x.
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


def append_coordinates(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """x [batch, channels, height, width] with grid [2, height, width] as two more channels.

    What CoordConv does before it convolves (Liu et al. 2018, arXiv 1807.03247).
    """
    return torch.cat([x, grid.to(x.dtype).expand(len(x), -1, -1, -1)], dim=1)


class SpatialBroadcastDecoder(nn.Module):
    """Tile z over the image, append two coordinate channels, convolve with stride 1.

    Watters et al. 2019; kernel 3 as in the post, where the paper has 4. With `shortcut` set, two
    layers go by `lean_layers`: the same up to rounding, with nothing tiled, in less memory.
    Takes [batch, latent_dim], returns [batch, 3, image_size, image_size].
    """

    shortcut = False

    def __init__(self, latent_dim: int, image_size: int = 64):
        super().__init__()
        self.register_buffer("grid", coordinate_grid(image_size, image_size))
        self.convolutions = nn.Sequential(
            nn.Conv2d(latent_dim + 2, WIDTH, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTH, 3, kernel_size=3, padding=1),
        )

    def broadcast(self, z: torch.Tensor) -> torch.Tensor:
        """z [batch, latent_dim] to [batch, latent_dim + 2, height, width]: z tiled, then x, y."""
        _, height, width = self.grid.shape
        tiled = z[:, :, None, None].expand(-1, -1, height, width)
        return append_coordinates(tiled, self.grid)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if not self.shortcut:
            return self.convolutions(self.broadcast(z))
        layers = self.convolutions
        return layers[3:](lean_layers(z, self.grid, layers[0], layers[2]))


def lean_layers(
    z: torch.Tensor, grid: torch.Tensor, first: nn.Conv2d, second: nn.Conv2d
) -> torch.Tensor:
    """The SB decoder's first two layers and the ReLU between.

    z: [batch, latent_dim]; grid: [2, height, width]. Returns [batch, out, height, width]. Neither
    the broadcast code nor the first layer's output is kept for the backward pass.
    """
    def hidden(z: torch.Tensor) -> torch.Tensor:
        x = broadcast_convolution(z, grid, first.weight, first.bias)
        return torch.where(x > 0, x, 0)  # nn.ReLU would keep its output for its backward

    x = checkpoint(hidden, z, use_reentrant=False, preserve_rng_state=False)
    return _Convolution.apply(x, second.weight.to(x.dtype), second.bias.to(x.dtype))


def broadcast_convolution(
    z: torch.Tensor, grid: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """What a convolution makes of a broadcast code, exactly, with nothing tiled or concatenated.

    z: [batch, latent_dim]; grid: [coordinates, height, width]; weight: [out, latent_dim +
    coordinates, kernel, kernel], applied with stride 1 and zero padding that keeps the size.
    Returns [batch, out, height, width].

    Every pixel of the tiled code is the same, so an output can differ from its neighbor only
    where the kernel hangs over the edge: z's part, on a picture no larger than the kernel, is all
    there is to compute. The coordinates' part is the same for every image.
    """
    kernel, latent_dim, (height, width) = weight.shape[-1], z.shape[1], grid.shape[1:]
    before = (kernel - 1) // 2
    padding = (before, kernel - 1 - before) * 2
    tile = z[:, :, None, None].expand(-1, -1, min(kernel, height), min(kernel, width))
    small = F.conv2d(F.pad(tile, padding), weight[:, :latent_dim])
    coordinates = F.conv2d(F.pad(grid[None], padding), weight[:, latent_dim:], bias)
    # Channels last in memory: [batch, height, width, out], which the next layer takes as it is.
    spread = _Spread.apply(small.permute(0, 2, 3, 1), height, width)
    return (spread + coordinates.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Spread(torch.autograd.Function):
    """[batch, rows, columns, channels] to [batch, height, width, channels]: repeat the middle.

    With its own backward, since that of indexing scatters pixel by pixel.
    """

    @staticmethod
    def forward(ctx, small: torch.Tensor, height: int, width: int) -> torch.Tensor:
        _, rows, columns, _ = small.shape
        ctx.sizes = (1, rows, height), (2, columns, width)
        index = []
        for _, few, many in ctx.sizes:
            middle, i = (few - 1) // 2, torch.arange(many, device=small.device)
            index.append(i.clamp(max=middle) + (i - (many - few + middle)).clamp(min=0))
        return small[:, index[0][:, None], index[1]]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        dtype = gradient.dtype
        for dim, few, many in ctx.sizes:
            middle = (few - 1) // 2
            first, repeated, last = gradient.split(
                [middle, many - few + 1, few - 1 - middle], dim
            )
            total = repeated.sum(dim, keepdim=True, dtype=torch.promote_types(dtype, torch.float32))
            gradient = torch.cat([first, total, last], dim)
        return gradient.to(dtype), None, None


class _Convolution(torch.autograd.Function):
    """A convolution of odd kernel that keeps the size, with a backward in two steps.

    x: [batch, in, height, width]; weight: [out, in, kernel, kernel]; bias: [out]. The weights'
    gradient comes first, the last to need the input; then the input's gradient, which
    torch.compile puts into its memory. nn.Conv2d holds both.
    """

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        x, weight = ctx.saved_tensors
        padding = weight.shape[-1] // 2
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [1, 1], [padding, padding], [1, 1], False, [0, 0],
            1, [False, True, True],
        )
        return F.conv_transpose2d(gradient, weight, padding=padding), of_weight, of_bias


DECODERS = {"sbd": SpatialBroadcastDecoder, "deconv": DeConvDecoder}


class VAE(nn.Module):
    """A VAE with q(z|x) diagonal Gaussian, prior N(0, I) and p(x|z) Gaussian of fixed variance.

    decoder: "sbd", "deconv", or what builds another from latent_dim and image_size.
    image_size: a power of two from 32.
    Raises ValueError for anything else, and for a wrong latent_dim or decoder_variance.
    """

    def __init__(
        self, decoder: str | Callable[[int, int], nn.Module] = "sbd", latent_dim: int = 5,
        decoder_variance: float = 0.3, image_size: int = 64,
    ):
        super().__init__()
        if not callable(decoder) and decoder not in list(DECODERS):
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
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
        build = decoder if callable(decoder) else DECODERS[decoder]
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
