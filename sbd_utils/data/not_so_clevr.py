"""CoordConv's Not-so-Clevr (Liu et al. 2018, arXiv 1807.03247): a square on a canvas, three tasks.

A center is a pixel (x, y); networks see it as coordinates in [-1, 1], those of `coordinate_grid`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, Num
from torch.nn import functional as F

from sbd_utils import checks

CANVAS, SQUARE = 64, 9
SPLITS = ("uniform", "quadrant")


Pixels = Int64[torch.Tensor, "N 2"]  # x and y


def centers() -> Pixels:
    """Every (x, y) at which the square fits, [3136, 2], row by row."""
    line = torch.arange(SQUARE // 2, CANVAS - SQUARE // 2)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def held_out(split: str, seed: int = 0) -> Bool[torch.Tensor, " center"]:
    """Which centers are for the test: a random fifth ("uniform"), or the lower right "quadrant"."""
    checks.check_one_of("split", split, SPLITS)
    if split == "quadrant":
        return (centers() >= CANVAS // 2).all(dim=1)
    count = len(centers())
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)) < count // 5


def coordinates(pixels: Num[torch.Tensor, "N 2"]) -> Float[torch.Tensor, "N 2"]:
    """Pixels as coordinates in [-1, 1]."""
    return pixels * 2 / (CANVAS - 1) - 1


def one_hot(pixels: Pixels) -> Float[torch.Tensor, "N 1 64 64"]:
    """A canvas with one bright pixel."""
    canvas = torch.zeros(len(pixels), CANVAS**2)
    return canvas.scatter_(1, pixel_numbers(pixels)[:, None], 1).view(-1, 1, CANVAS, CANVAS)


def pixel_numbers(pixels: Pixels) -> Int64[torch.Tensor, " N"]:
    """Pixels numbered row by row."""
    return pixels[:, 1] * CANVAS + pixels[:, 0]


def squares(pixels: Pixels) -> Float[torch.Tensor, "N 1 64 64"]:
    """The 9×9 squares around pixels, 1 on 0."""
    line = torch.arange(CANVAS)
    x, y = ((line - center[:, None]).abs() <= SQUARE // 2 for center in pixels.T)
    return (x[:, None, :] & y[:, :, None]).float()[:, None]


@dataclass(frozen=True)
class Task:
    """What a network learns.

    Attributes:
        given: from pixels [N, 2] to a network's input.
        wanted: from pixels [N, 2] to the targets.
        loss: of outputs and targets, a scalar.
        score: of outputs and targets, from 0 to 1 for each example, [N].
    """

    given: Callable
    wanted: Callable
    loss: Callable
    score: Callable


def _intersection_over_union(
    drawn: torch.Tensor, wanted: torch.Tensor
) -> Float[torch.Tensor, " N"]:
    drawn, wanted = drawn.flatten(1) > 0, wanted.flatten(1) > 0
    return (drawn & wanted).sum(dim=1) / (drawn | wanted).sum(dim=1)


TASKS = {
    # Of all pixels, which is it? Right or wrong.
    "classification": Task(
        coordinates,
        pixel_numbers,
        lambda drawn, wanted: F.cross_entropy(drawn.flatten(1), wanted),
        lambda drawn, wanted: (drawn.flatten(1).argmax(dim=1) == wanted).float(),
    ),
    # Where is the bright pixel? Right within half a pixel.
    "regression": Task(
        one_hot,
        coordinates,
        F.mse_loss,
        lambda output, wanted: ((output - wanted).abs() < 1 / (CANVAS - 1)).all(dim=1).float(),
    ),
    # Draw the square. The score is the intersection over the union.
    "rendering": Task(
        coordinates, squares, F.binary_cross_entropy_with_logits, _intersection_over_union
    ),
}
