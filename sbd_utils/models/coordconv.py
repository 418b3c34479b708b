"""Networks for the tasks of Not-so-Clevr, with CoordConv and without it (Liu et al. 2018)."""

from dataclasses import replace

import torch
from torch import nn

from sbd_utils.data.not_so_clevr import CANVAS, centers
from sbd_utils.models.decoders import DECONV, ComposedDecoder, DecoderConfig
from sbd_utils.models.layers import AppendCoordinates

PLAIN = replace(DECONV, channels=32)
COORDCONV = DecoderConfig(
    start="broadcast", base_size=None, coordinates="first", kernel=1, depth=5, channels=16
)
ENDS = ("plain", "coordconv")
# Each is one of the two ends, changed by what its name says; xy stands for coordinates.
DECODERS = {
    "plain": PLAIN,
    "plain-xy-every": replace(PLAIN, coordinates="every"),
    "plain-kernel2": replace(PLAIN, kernel=2),
    "plain-width16": replace(PLAIN, channels=16),
    "plain-broadcast": replace(PLAIN, start="broadcast"),
    "plain-broadcast-xy-every": replace(PLAIN, start="broadcast", coordinates="every"),
    "plain-side8": replace(PLAIN, base_size=8),  # three doublings, not five: two layers less
    "plain-side8-xy-first": replace(PLAIN, base_size=8, coordinates="first"),
    "plain-side8-broadcast-xy-first": replace(
        PLAIN, base_size=8, start="broadcast", coordinates="first"
    ),
    "coordconv-linear": replace(COORDCONV, start="linear"),
    "coordconv-depth6": replace(COORDCONV, depth=6),
    "coordconv-kernel3": replace(COORDCONV, kernel=3),
    "coordconv-width32": replace(COORDCONV, channels=32),
    "coordconv-width8": replace(COORDCONV, channels=8),
    "coordconv": COORDCONV,
}
# Too few pixels can differ for a training to make sense: see `distinct_pixels`.
BLIND = {
    "plain-kernel1": replace(PLAIN, kernel=1),
    "plain-side8-broadcast": replace(PLAIN, base_size=8, start="broadcast"),
    "coordconv-no-xy": replace(COORDCONV, coordinates="none"),
    "coordconv-kernel3-no-xy": replace(COORDCONV, coordinates="none", kernel=3),
}


def new_network(task: str, network: str) -> nn.Module:
    """A stack of convolutions for a task.

    Args:
        network: for regression "plain" or "coordconv"; for the other tasks a name in DECODERS,
            which decodes the two coordinates.
    """
    if task != "regression":
        return ComposedDecoder(2, CANVAS, DECODERS[network], out_channels=1)
    width = 16
    if network == "coordconv":
        return nn.Sequential(
            AppendCoordinates(),
            nn.Conv2d(3, width, 1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 2),
        )
    layers = []
    for channels in (1, width, width, width):
        layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4 * 4, 2))


@torch.inference_mode()
def distinct_pixels(config: DecoderConfig) -> int:
    """How many of the 3136 centers a decoder can draw differently, at most.

    Pixels of the same kind are the same function of the code, whatever the weights, so at most one
    pixel of each kind can win a classification. Counted with random weights and codes.
    """
    x, y = centers().T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [
            ComposedDecoder(2, CANVAS, config, out_channels=1).double()(torch.rand(8, 2).double())
            for _ in range(3)
        ]
    return len(torch.cat(drawn)[:, 0, y, x].T.mul(1e9).round().unique(dim=0))
