"""Streams of images: a world draws new ones for every epoch."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from sbd_utils import checks
from sbd_utils.data.dsprites import DSprites
from sbd_utils.data.sprites import World


@dataclass(frozen=True)
class Stream:
    """Training data of which no image is seen twice.

    A run of a seed sees the same images on every machine, but for rounding, wherever it was
    stopped.

    Attributes:
        count: the number of images in an epoch.
    """

    world: World | DSprites
    count: int

    def __post_init__(self):
        if not isinstance(self.world, (World, DSprites)):
            raise checks.argument_error("world", "a World or DSprites", self.world)
        object.__setattr__(self, "count", checks.check_int("count", self.count))

    def __len__(self) -> int:
        return self.count

    def draw(self, seed: int, epoch: int) -> Float32[torch.Tensor, "{self.count} 3 size size"]:
        """The images of an epoch, from 0 up, on the CPU."""
        return self.world.sample(self.count, generator(seed, epoch))[0]


def generator(*key: int) -> torch.Generator:
    """A generator with a seed of its own for every tuple of numbers below 2**32.

    Raises:
        ValueError: a larger number, which NumPy would take for two.
    """
    for part in key:
        checks.check_int("a seed of a stream", part, 0, 2**32 - 1)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
