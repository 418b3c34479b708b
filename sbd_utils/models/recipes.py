"""How a decoder is made: DeConv, Spatial Broadcast, and what lies between and around them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from sbd_utils import checks
from sbd_utils.models.decoders import (
    AppendCoordinates,
    Broadcast,
    BroadcastConv2d,
    FrugalConv2d,
    NearestUpsample,
    TransposedConv2d,
)

CHOICES = {
    "start": ("linear", "broadcast"), "up": ("deconv", "resize"),
    "coordinates": ("none", "first", "every"), "padded": (True, False),
}


@dataclass(frozen=True)
class Recipe:
    """How a decoder gets from a code to an image. The defaults are the post's DeConv decoder.

    start: the first map by a "linear" layer, or the code "broadcast" over it.
    side: the first map's, a power of two, and doublings make up what it lacks of the image's size;
        None is the image's own.
    up: a doubling is a transposed convolution of stride 2 ("deconv"), or a nearest-neighbor
        "resize" and a convolution.
    depth: how many convolutions of stride 1 there are where nothing is doubled.
    coordinates: whether x and y are appended to no map, the "first", or "every" one.
    width: channels of every map inside.
    kernel: of every convolution; odd where a convolution of stride 1 is padded.
    padded: with zeros, so that a convolution keeps the size; else a broadcast map starts out larger
        by what the convolutions take off.
    """

    start: str = "linear"
    side: int | None = 2
    up: str = "deconv"
    depth: int = 3
    coordinates: str = "none"
    width: int = 64
    kernel: int = 4
    padded: bool = True

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            checks.one_of(name, getattr(self, name), allowed)
        for name in ("depth", "width", "kernel", *(["side"] if self.side is not None else [])):
            object.__setattr__(self, name, checks.whole(name, getattr(self, name)))


class ComposedDecoder(nn.Sequential):
    """The decoder of a recipe: [batch, latent_dim] to [batch, channels, image_size, image_size].

    ValueError for a kernel larger than the image, or a side that no doublings lead from.
    """

    def __init__(self, latent_dim: int, image_size: int = 64, recipe: Recipe = Recipe(),
                 channels: int = 3):
        for name, value in (("latent_dim", latent_dim), ("image_size", image_size),
                            ("channels", channels)):
            checks.whole(name, value)
        checks.kind("recipe", recipe, Recipe)
        if recipe.kernel > image_size:
            raise ValueError(f"kernel must fit into {image_size} pixels, got {recipe.kernel}")
        side = recipe.side or image_size
        ratio, rest = divmod(image_size, side)
        if rest or ratio & (ratio - 1) or not ratio:
            raise ValueError(f"side must lead to {image_size} by doublings, got {side}")
        doublings = ratio.bit_length() - 1
        plain = not doublings or recipe.up == "resize"
        if plain and recipe.padded and recipe.kernel % 2 == 0:
            raise ValueError(f"a padded kernel must be odd to keep the size, got {recipe.kernel}")
        if doublings and not recipe.padded:
            raise ValueError(f"padded must be True where {doublings} doublings set the size")
        super().__init__(*_layers(recipe, latent_dim, side, doublings, channels))


def _layers(
    recipe: Recipe, latent_dim: int, side: int, doublings: int, out_channels: int
) -> Iterator[nn.Module]:
    """The layers of a decoder, first to last; doublings: how many lead from side to the image."""
    width, kernel, count = recipe.width, recipe.kernel, doublings or recipe.depth
    padding = kernel // 2 if recipe.padded else 0
    # Where padding does not make it up, a map starts larger by what the convolutions take off.
    first_side = side if recipe.padded else side + count * (kernel - 1)
    merged = recipe.start == "broadcast" and not doublings and count > 1
    if merged:
        yield BroadcastConv2d(latent_dim, width, kernel, first_side,
                              recipe.coordinates != "none", padding)
    elif recipe.start == "broadcast":
        yield Broadcast(first_side)
    else:
        yield from (nn.Linear(latent_dim, width * side**2), nn.ReLU(),
                    nn.Unflatten(1, (width, side, side)))
    channels = width if merged or recipe.start == "linear" else latent_dim
    for layer in range(int(merged), count):
        if doublings and recipe.up == "resize":
            yield NearestUpsample()
        if recipe.coordinates == "every" or (recipe.coordinates == "first" and layer == 0):
            yield AppendCoordinates()
            channels += 2
        last = layer == count - 1
        out = out_channels if last else width
        if doublings and recipe.up == "deconv":
            yield TransposedConv2d(channels, out, kernel, stride=2, padding=(kernel - 1) // 2,
                                   output_padding=kernel % 2)
        else:
            yield FrugalConv2d(channels, out, kernel, padding=padding)
        if not last:
            yield nn.ReLU()
        channels = out


DECONV = Recipe()
SBD = Recipe(start="broadcast", side=None, coordinates="first", kernel=3)  # the paper's kernel is 4
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
# What tells the post's two arguments apart, trained to the end.
APART = {
    "broadcast8-resize": replace(DECONV, start="broadcast", side=8, up="resize", kernel=3,
                                 coordinates="first"),
    "linear64-width22": replace(SBD, start="linear", width=22),
    "deconv-kernel3": replace(DECONV, kernel=3),
    "deconv-kernel5": replace(DECONV, kernel=5),
}
# The decoders by name. A reader's own can be added: a Recipe, or a class or function that builds a
# module from latent_dim and image_size.
DECODERS: dict[str, Recipe | Callable[[int, int], nn.Module]] = VARIANTS | PLACES | APART
PAIR = ("deconv", "sbd")  # the two decoders that the post compares


def builder(name: str) -> Callable[[int, int], nn.Module]:
    """What builds the decoder of a name in DECODERS from latent_dim and image_size."""
    checks.one_of("decoder", name, DECODERS)
    decoder = DECODERS[name]
    return partial(ComposedDecoder, recipe=decoder) if isinstance(decoder, Recipe) else decoder
