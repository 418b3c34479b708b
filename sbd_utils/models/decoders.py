"""The parts of which a recipe composes a decoder."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sbd_utils import checks


class TransposedConv2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d with the bias added after it: the gradient of its own bias is slow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return y + self.bias.to(y.dtype)[:, None, None]


def coordinate_grid(height: int, width: int, device: torch.device | None = None) -> torch.Tensor:
    """x and y from -1 to 1 at every pixel, [2, height, width]."""
    checks.whole("height", height), checks.whole("width", width)
    rows, columns = (torch.linspace(-1, 1, side, device=device) for side in (height, width))
    # indexing="xy": the first grid grows along the width, so it really is x.
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


class AppendCoordinates(nn.Module):
    """[batch, channels, height, width] to [batch, channels + 2, height, width].

    A convolution behind it is a CoordConv layer (Liu et al. 2018, arXiv 1807.03247).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = coordinate_grid(*x.shape[2:], x.device).to(x.dtype)
        return torch.cat([x, grid.expand(len(x), -1, -1, -1)], dim=1)


class NearestUpsample(nn.Module):
    """[batch, channels, height, width] to twice the sides, each pixel four times.

    As nn.Upsample(scale_factor=2), whose compiled gradient adds up number by number: a step of
    training takes half the time this way.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Broadcast(nn.Module):
    """A code [batch, latent_dim] tiled to [batch, latent_dim, side, side]."""

    def __init__(self, side: int):
        super().__init__()
        self.side = checks.whole("side", side)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :, None, None].expand(-1, -1, self.side, self.side)


class BroadcastConv2d(nn.Conv2d):
    """Tile a code, append coordinates, convolve with stride 1, ReLU (Watters et al. 2019).

    Takes [batch, latent_dim], returns [batch, out_channels, height, width] of the size `side`, less
    kernel - 1 without padding. Compiled, it goes by `broadcast_convolution`: the same up to
    rounding, and the backward pass computes the output again instead of keeping it.
    """

    def __init__(self, latent_dim: int, out_channels: int, kernel: int, side: int,
                 coordinates: bool = True, padding: int = 0):
        checks.one_of("coordinates", coordinates, (True, False))
        for name, value in (("latent_dim", latent_dim), ("out_channels", out_channels),
                            ("side", side)):
            checks.whole(name, value)
        checks.whole("kernel", kernel, 1, side + 2 * checks.whole("padding", padding, 0))
        super().__init__(latent_dim + 2 * coordinates, out_channels, kernel, padding=padding)
        grid = coordinate_grid(side, side)[: 2 * coordinates]  # [2 or 0, side, side]
        self.register_buffer("grid", grid, persistent=False)

    def broadcast(self, z: torch.Tensor) -> torch.Tensor:
        """z [batch, latent_dim] to what is convolved, [batch, latent_dim + 2, side, side]."""
        tiled = z[:, :, None, None].expand(-1, -1, *self.grid.shape[1:])
        return torch.cat([tiled, self.grid.to(z.dtype).expand(len(z), -1, -1, -1)], dim=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():  # only compiled is the shortcut the faster way
            return F.relu(super().forward(self.broadcast(z)))
        return checkpoint(self.shortcut, z, use_reentrant=False, preserve_rng_state=False)

    def shortcut(self, z: torch.Tensor) -> torch.Tensor:
        """The layer with nothing tiled, shapes as in forward."""
        x = broadcast_convolution(z, self.grid, self.weight, self.bias, self.padding[0])
        return torch.where(x > 0, x, 0)  # nn.ReLU would keep its output for its backward


def broadcast_convolution(
    z: torch.Tensor, grid: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: int
) -> torch.Tensor:
    """What a convolution makes of a broadcast code, exactly, with nothing tiled or concatenated.

    z: [batch, latent_dim]; grid: [coordinates, height, width]; weight: [out, latent_dim +
    coordinates, kernel, kernel], applied with stride 1 and zero padding. Returns [batch, out,
    height + 2 padding - kernel + 1, the same of width].

    Every pixel of the tiled code is the same, so an output can differ from its neighbor only
    where the kernel hangs over the edge: z's part, on a picture no larger than the kernel, is all
    there is to compute. The coordinates' part is the same for every image.
    """
    checks.shaped("z", z, None, None), checks.shaped("grid", grid, None, None, None)
    checks.shaped("weight", weight, None, z.shape[1] + len(grid), None, None)
    checks.shaped("bias", bias, len(weight))
    if type(padding) is not int or padding < 0:
        raise checks.refused("padding", "a whole number of at least 0", padding)
    kernel, latent_dim, sides = weight.shape[-1], z.shape[1], grid.shape[1:]
    tile = z[:, :, None, None].expand(-1, -1, *(min(kernel, side) for side in sides))
    small = F.conv2d(tile, weight[:, :latent_dim], padding=padding)
    # Channels last in memory: [batch, height, width, out], which the next layer takes as it is.
    height, width = (side + 2 * padding - kernel + 1 for side in sides)
    x = _Spread.apply(small.permute(0, 2, 3, 1), height, width)
    if len(grid):
        coordinates = F.conv2d(grid[None], weight[:, latent_dim:], bias, padding=padding)
        x = x + coordinates.permute(0, 2, 3, 1)
    else:
        x = x + bias.to(x.dtype)
    return x.permute(0, 3, 1, 2)


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


class FrugalConv2d(nn.Conv2d):
    """nn.Conv2d of stride 1 that, compiled, holds one feature map less in its backward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(x)
        return _Convolution.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.padding)


class _Convolution(torch.autograd.Function):
    """A convolution of stride 1 with a backward in two steps.

    x: [batch, in, height, width]; weight: [out, in, kernel, kernel]; bias: [out]. The weights'
    gradient comes first, the last to need the input; then the input's gradient, which
    torch.compile puts into its memory. nn.Conv2d holds both.
    """

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        x, weight = ctx.saved_tensors
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [1, 1], ctx.padding, [1, 1], False, [0, 0], 1,
            [False, True, True],
        )
        of_input = F.conv_transpose2d(gradient, weight, padding=ctx.padding)
        return of_input, of_weight, of_bias, None
