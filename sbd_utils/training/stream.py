"""Images without end: a world draws new ones for every epoch."""

from dataclasses import dataclass

import numpy as np
import torch

from sbd_utils import checks
from sbd_utils.data.dsprites import DSprites
from sbd_utils.data.sprites import World


@dataclass(frozen=True)
class Stream:
    """What `train` takes in place of images where none should be seen twice.

    count: how many images an epoch has. A run of a seed sees the same images on every machine, but
    for rounding, wherever it was stopped.
    """

    world: World | DSprites
    count: int

    def __post_init__(self):
        if not isinstance(self.world, (World, DSprites)):
            raise checks.argument_error("world", "a World or DSprites", self.world)
        object.__setattr__(self, "count", checks.check_int("count", self.count))

    def __len__(self) -> int:
        return self.count

    def draw(self, seed: int, epoch: int) -> torch.Tensor:
        """The images of an epoch, from 0 up, [count, 3, image_size, image_size] on the CPU."""
        return self.world.sample(self.count, generator(seed, epoch))[0]


def generator(*key: int) -> torch.Generator:
    """A generator of its own for every pair of numbers; manual_seed would drop all but 32 bits.

    ValueError for a part of 2**32 and above, which would count as two.
    """
    for part in key:
        checks.check_int("a seed of a stream", part, 0, 2**32 - 1)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
