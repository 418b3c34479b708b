"""The DeConv and Spatial Broadcast decoders and variants of both, by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from sbd_utils import checks
from sbd_utils.models.layers import (
    AppendCoordinates,
    Broadcast,
    BroadcastConv2d,
    NearestUpsample,
    TransposedConv2d,
)

CHOICES = {
    "start": ("linear", "broadcast"),
    "upsampling": ("deconv", "resize"),
    "coordinates": ("none", "first", "every"),
    "padded": (True, False),
}


@dataclass(frozen=True)
class DecoderConfig:
    """How a decoder gets from a code to an image. The defaults are the post's DeConv decoder.

    Attributes:
        start: the first feature map comes from a "linear" layer, or is the code, "broadcast".
        base_size: height and width of the first map, a power of two; doublings lead from there to
            the image's size. None: the image's own.
        upsampling: a doubling is a transposed convolution of stride 2 ("deconv"), or
            nearest-neighbor upsampling and a convolution ("resize").
        depth: number of convolutions where nothing is doubled.
        coordinates: x and y are appended to the "first" map, to "every" map, or to "none".
        channels: of every hidden feature map.
        kernel: of every convolution; odd where a convolution of stride 1 is padded.
        padded: with zeros, so that a convolution keeps the size; else a broadcast map starts larger
            by what the convolutions take off.
    """

    start: str = "linear"
    base_size: int | None = 2
    upsampling: str = "deconv"
    depth: int = 3
    coordinates: str = "none"
    channels: int = 64
    kernel: int = 4
    padded: bool = True

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            checks.check_one_of(name, getattr(self, name), allowed)
        for name in ("depth", "channels", "kernel", *["base_size"] * (self.base_size is not None)):
            object.__setattr__(self, name, checks.check_int(name, getattr(self, name)))


class ComposedDecoder(nn.Sequential):
    """The decoder of a config: [batch, latent_dim] to [batch, out_channels, size, size].

    Raises:
        ValueError: the config's sizes do not fit together, or not to the image.
    """

    def __init__(
        self,
        latent_dim: int,
        image_size: int = 64,
        config: DecoderConfig = DecoderConfig(),
        out_channels: int = 3,
    ):
        if config.kernel > image_size:
            raise ValueError(f"kernel must fit into {image_size} pixels, got {config.kernel}")
        base_size = config.base_size or image_size
        ratio, rest = divmod(image_size, base_size)
        if rest or ratio & (ratio - 1) or not ratio:
            raise ValueError(f"base_size must lead to {image_size} by doublings, got {base_size}")
        doublings = ratio.bit_length() - 1
        keeps_size = not doublings or config.upsampling == "resize"
        if keeps_size and config.padded and config.kernel % 2 == 0:
            raise ValueError(f"a padded kernel must be odd to keep the size, got {config.kernel}")
        if doublings and not config.padded:
            raise ValueError(f"padded must be True where {doublings} doublings set the size")
        super().__init__(*_layers(config, latent_dim, base_size, doublings, out_channels))


def _layers(
    config: DecoderConfig, latent_dim: int, base_size: int, doublings: int, out_channels: int
) -> Iterator[nn.Module]:
    """Yield the layers of a decoder, first to last."""
    hidden, kernel, count = config.channels, config.kernel, doublings or config.depth
    padding = kernel // 2 if config.padded else 0
    # Without padding, the first map is larger by what the convolutions take off.
    first_size = base_size if config.padded else base_size + count * (kernel - 1)
    merged = config.start == "broadcast" and not doublings and count > 1
    if merged:
        yield BroadcastConv2d(
            latent_dim, hidden, kernel, first_size, config.coordinates != "none", padding
        )
    elif config.start == "broadcast":
        yield Broadcast(first_size)
    else:
        yield from (
            nn.Linear(latent_dim, hidden * base_size**2),
            nn.ReLU(),
            nn.Unflatten(1, (hidden, base_size, base_size)),
        )
    channels = hidden if merged or config.start == "linear" else latent_dim
    for layer in range(int(merged), count):
        if doublings and config.upsampling == "resize":
            yield NearestUpsample()
        if config.coordinates == "every" or (config.coordinates == "first" and layer == 0):
            yield AppendCoordinates()
            channels += 2
        last = layer == count - 1
        out = out_channels if last else hidden
        if doublings and config.upsampling == "deconv":
            yield TransposedConv2d(
                channels,
                out,
                kernel,
                stride=2,
                padding=(kernel - 1) // 2,
                output_padding=kernel % 2,
            )
        else:
            yield nn.Conv2d(channels, out, kernel, padding=padding)
        if not last:
            yield nn.ReLU()
        channels = out


DECONV = DecoderConfig()
# The paper's kernel is 4.
SBD = DecoderConfig(start="broadcast", base_size=None, coordinates="first", kernel=3)
PAIR = ("deconv", "sbd")  # the two decoders that the post compares
# The decoders by name. Add your own: a DecoderConfig, or a class or function that builds a module
# from latent_dim and image_size. A name says what differs from DECONV or SBD; xy stands for
# coordinates. What resizes has a kernel of 3, which keeps the size.
DECODERS: dict[str, DecoderConfig | Callable[[int, int], nn.Module]] = {
    "deconv": DECONV,
    "deconv-xy-first": replace(DECONV, coordinates="first"),
    "deconv-xy-every": replace(DECONV, coordinates="every"),
    "deconv-kernel3": replace(DECONV, kernel=3),
    "deconv-kernel5": replace(DECONV, kernel=5),
    "deconv-width25": replace(DECONV, channels=25),
    "resize": replace(DECONV, upsampling="resize", kernel=3),
    "resize-xy-every": replace(DECONV, upsampling="resize", kernel=3, coordinates="every"),
    # The first map is linear or broadcast, of this size, and has coordinates if not no-xy.
    **{
        f"{start}{side}-deconv": replace(DECONV, start=start, base_size=side, coordinates="first")
        for start in CHOICES["start"]
        for side in (2, 4, 8, 16)
    },
    "broadcast4-no-xy": replace(DECONV, start="broadcast", base_size=4),
    "broadcast8-no-xy": replace(DECONV, start="broadcast", base_size=8),
    "broadcast8-resize": replace(
        DECONV, start="broadcast", base_size=8, upsampling="resize", kernel=3, coordinates="first"
    ),
    "linear64-width22": replace(SBD, start="linear", channels=22),
    "sbd": SBD,
    "sbd-no-xy": replace(SBD, coordinates="none"),
    "sbd-xy-every": replace(SBD, coordinates="every"),
    "sbd-kernel5": replace(SBD, kernel=5),
    "sbd-unpadded": replace(SBD, padded=False),
    **{f"sbd-depth{depth}": replace(SBD, depth=depth) for depth in (2, 4, 5)},
    **{f"sbd-width{width}": replace(SBD, channels=width) for width in (16, 22, 128)},
}


def builder(name: str) -> Callable[[int, int], nn.Module]:
    """The function of latent_dim and image_size that builds a decoder, by its name in DECODERS."""
    checks.check_one_of("decoder", name, DECODERS)
    decoder = DECODERS[name]
    return (
        partial(ComposedDecoder, config=decoder) if isinstance(decoder, DecoderConfig) else decoder
    )
