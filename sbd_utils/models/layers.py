"""The layers that a decoder is composed of."""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F


class TransposedConv2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with its bias added afterwards, whose gradient is faster that way."""

    def forward(
        self, x: Float[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch out_channels out_height out_width"]:
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return y + self.bias.to(y.dtype)[:, None, None]


def coordinate_grid(
    height: int, width: int, device: torch.device | None = None
) -> Float[torch.Tensor, "2 height width"]:
    """x and y from -1 to 1 at every pixel."""
    rows, columns = (torch.linspace(-1, 1, side, device=device) for side in (height, width))
    # indexing="xy": the first grid grows along the width, so it really is x.
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


class AppendCoordinates(nn.Module):
    """Append x and y as two channels.

    A convolution after it makes a CoordConv layer (Liu et al. 2018, arXiv 1807.03247).
    """

    def forward(
        self, x: Float[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch channels+2 height width"]:
        height, width = x.shape[2:]
        grid = coordinate_grid(height, width, x.device).to(x.dtype)
        return torch.cat([x, grid.expand(len(x), -1, -1, -1)], dim=1)


class NearestUpsample(nn.Module):
    """nn.Upsample(scale_factor=2), whose compiled gradient is a scalar loop, in half the time."""

    def forward(
        self, x: Float[torch.Tensor, "batch channels height width"]
    ) -> Float[torch.Tensor, "batch channels 2*height 2*width"]:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Broadcast(nn.Module):
    """Tile a code over an image of side × side pixels."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(
        self, z: Float[torch.Tensor, "batch latent_dim"]
    ) -> Float[torch.Tensor, "batch latent_dim side side"]:
        return z[:, :, None, None].expand(-1, -1, self.side, self.side)


class BroadcastConv2d(nn.Conv2d):
    """Tile a code, append coordinates, convolve with stride 1, ReLU (Watters et al. 2019, fig. 1).

    The output's height and width are `side` - kernel + 1 + 2 * padding.
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

    def forward(
        self, z: Float[torch.Tensor, "batch latent_dim"]
    ) -> Float[torch.Tensor, "batch out_channels height width"]:
        tiled = z[:, :, None, None].expand(-1, -1, *self.grid.shape[1:])
        x = torch.cat([tiled, self.grid.to(z.dtype).expand(len(z), -1, -1, -1)], dim=1)
        return F.relu(super().forward(x))
