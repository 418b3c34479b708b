"""Decoders between DeConv and Spatial Broadcast, all from the same four parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from sbd_utils.models import (
    DECODERS,
    WIDTH,
    TransposedConv2d,
    append_coordinates,
    coordinate_grid,
)

CHOICES = {
    "start": ("linear", "broadcast"), "up": ("deconv", "resize"),
    "coordinates": ("none", "first", "every"),
}


class AppendCoordinates(nn.Module):
    """[batch, channels, height, width] to [batch, channels + 2, height, width]; CoordConv's half.

    A convolution behind it is a CoordConv layer (Liu et al. 2018, arXiv 1807.03247).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return append_coordinates(x, coordinate_grid(*x.shape[2:], x.device))


class Broadcast(nn.Module):
    """A code [batch, latent_dim] tiled to [batch, latent_dim, side, side]."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :, None, None].expand(-1, -1, self.side, self.side)


@dataclass(frozen=True)
class Recipe:
    """How a decoder gets from a code to an image. The defaults are the post's DeConv decoder.

    start: the first map by a "linear" layer, or the code "broadcast" over it.
    side: the first map's, a power of two; what it lacks of the image size is made up by doublings.
    up: a doubling is a transposed convolution of stride 2 ("deconv"), or a nearest-neighbor
        "resize" and a convolution.
    depth: how many convolutions of stride 1 there are where nothing is doubled.
    coordinates: whether x and y are appended to no map, the "first", or "every" one.
    kernel: of every convolution; odd where a convolution of stride 1 is padded.
    padded: with zeros, so that a convolution keeps the size; else a broadcast map starts out larger
        by what the convolutions take off.
    """

    start: str = "linear"
    side: int = 2
    up: str = "deconv"
    depth: int = 3
    coordinates: str = "none"
    width: int = WIDTH
    kernel: int = 4
    padded: bool = True

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("side", "depth", "width", "kernel"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}"
                )


class ComposedDecoder(nn.Sequential):
    """The decoder of a recipe: [batch, latent_dim] to [batch, channels, image_size, image_size].

    ValueError for a kernel larger than the image, or a side that no doublings lead from.
    """

    def __init__(self, latent_dim: int, image_size: int = 64, recipe: Recipe = Recipe(),
                 channels: int = 3):
        if recipe.kernel > image_size:
            raise ValueError(f"kernel must fit into {image_size} pixels, got {recipe.kernel}")
        ratio, rest = divmod(image_size, recipe.side)
        if rest or ratio & (ratio - 1) or not ratio:
            raise ValueError(f"side must lead to {image_size} by doublings, got {recipe.side}")
        doublings = ratio.bit_length() - 1
        plain = not doublings or recipe.up == "resize"
        if plain and recipe.padded and recipe.kernel % 2 == 0:
            raise ValueError(f"a padded kernel must be odd to keep the size, got {recipe.kernel}")
        if doublings and not recipe.padded:
            raise ValueError(f"padded must be True where {doublings} doublings set the size")
        super().__init__(*parts(recipe, latent_dim, doublings, channels))


def parts(
    recipe: Recipe, latent_dim: int, doublings: int, out_channels: int
) -> Iterator[nn.Module]:
    """The layers of a decoder, first to last; doublings: how many lead to the image's size."""
    width, side, kernel = recipe.width, recipe.side, recipe.kernel
    layers = doublings or recipe.depth
    if recipe.start == "linear":
        yield from (nn.Linear(latent_dim, width * side**2), nn.ReLU(),
                    nn.Unflatten(1, (width, side, side)))
        channels = width
    else:
        margin = 0 if recipe.padded or doublings else layers * (kernel - 1)
        yield Broadcast(side + margin)
        channels = latent_dim
    for layer in range(layers):
        last = layer == layers - 1
        resized = doublings and recipe.up == "resize"
        if resized:
            yield nn.Upsample(scale_factor=2)  # nearest
        if recipe.coordinates == "every" or (recipe.coordinates == "first" and layer == 0):
            yield AppendCoordinates()
            channels += 2
        out = out_channels if last else width
        if doublings and not resized:
            yield TransposedConv2d(channels, out, kernel, stride=2, padding=(kernel - 1) // 2,
                                   output_padding=kernel % 2)
        else:
            yield nn.Conv2d(channels, out, kernel, padding=kernel // 2 if recipe.padded else 0)
        if not last:
            yield nn.ReLU()
        channels = out


DECONV = Recipe()
SBD = Recipe(start="broadcast", side=64, coordinates="first", kernel=3)
# Small first maps with coordinates, or without (no-xy); transposed convolutions do the rest.
PLACES = {
    **{f"{start}{side}-deconv": replace(DECONV, start=start, side=side, coordinates="first")
       for start in CHOICES["start"] for side in (2, 4, 8, 16)},
    **{f"broadcast{side}-no-xy": replace(DECONV, start="broadcast", side=side) for side in (4, 8)},
}
# Each differs from one of the two in what its name says; xy stands for coordinates. What resizes
# has a kernel of 3, and what broadcasts to 8×8 has coordinates, too.
VARIANTS = {
    "deconv": DECONV,
    "deconv-xy-first": replace(DECONV, coordinates="first"),
    "deconv-xy-every": replace(DECONV, coordinates="every"),
    "deconv-width25": replace(DECONV, width=25),
    "resize": replace(DECONV, up="resize", kernel=3),
    "resize-xy-every": replace(DECONV, up="resize", kernel=3, coordinates="every"),
    "broadcast8-deconv": PLACES["broadcast8-deconv"],
    "sbd": SBD,
    "sbd-no-xy": replace(SBD, coordinates="none"),
    "sbd-xy-every": replace(SBD, coordinates="every"),
    "sbd-kernel5": replace(SBD, kernel=5),
    "sbd-unpadded": replace(SBD, padded=False),
    **{f"sbd-depth{depth}": replace(SBD, depth=depth) for depth in (2, 4, 5)},
    **{f"sbd-width{width}": replace(SBD, width=width) for width in (16, 22, 128)},
}
RECIPES = VARIANTS | PLACES


def builder(name: str) -> Callable[[int, int], nn.Module]:
    """What builds the decoder of a name from latent_dim and image_size; ValueError for no name.

    "deconv" and "sbd" are the classes of `models`, with the same weights and results as their
    recipes.
    """
    if name not in list(RECIPES):
        raise ValueError(f"decoder must be one of {', '.join(RECIPES)}, got {name!r}")
    return DECODERS.get(name) or partial(ComposedDecoder, recipe=RECIPES[name])
