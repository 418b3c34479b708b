"""The layers that a decoder is composed of."""

import torch
from torch import nn
from torch.nn import functional as F


class TransposedConv2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with its bias added afterwards, whose gradient is faster that way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return y + self.bias.to(y.dtype)[:, None, None]


def coordinate_grid(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
    """x and y from -1 to 1 at every pixel, [2, height, width]."""
    rows, columns = (torch.linspace(-1, 1, side, device=device) for side in (height, width))
    # indexing="xy": the first grid grows along the width, so it really is x.
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


class AppendCoordinates(nn.Module):
    """[batch, channels, height, width] to [batch, channels + 2, height, width].

    A convolution after it makes a CoordConv layer (Liu et al. 2018, arXiv 1807.03247).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = coordinate_grid(*x.shape[2:], x.device).to(x.dtype)
        return torch.cat([x, grid.expand(len(x), -1, -1, -1)], dim=1)


class NearestUpsample(nn.Module):
    """[batch, channels, height, width] to twice the sides, each pixel four times.

    The same as nn.Upsample(scale_factor=2), whose compiled gradient is a scalar loop: this way a
    training step takes half the time.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Broadcast(nn.Module):
    """A code [batch, latent_dim] tiled to [batch, latent_dim, side, side]."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :, None, None].expand(-1, -1, self.side, self.side)


class BroadcastConv2d(nn.Conv2d):
    """Tile a code, append coordinates, convolve with stride 1, ReLU (Watters et al. 2019, fig. 1).

    Takes [batch, latent_dim], returns [batch, out_channels, height, width], of the size `side` less
    kernel - 1 plus twice the padding.
    """

    def __init__(
        self,
        latent_dim: int,
        out_channels: int,
        kernel: int,
        side: int,
        coordinates: bool = True,
        padding: int = 0,
    ):
        super().__init__(latent_dim + 2 * coordinates, out_channels, kernel, padding=padding)
        grid = coordinate_grid(side, side)[: 2 * coordinates]  # [2 or 0, side, side]
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        tiled = z[:, :, None, None].expand(-1, -1, *self.grid.shape[1:])
        x = torch.cat([tiled, self.grid.to(z.dtype).expand(len(z), -1, -1, -1)], dim=1)
        return F.relu(super().forward(x))
