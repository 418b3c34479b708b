"""CoordConv's toy world (Liu et al. 2018, arXiv 1807.03247): one square on a canvas, three tasks.

A center is a pixel (x, y); networks see it as coordinates in [-1, 1], those of `coordinate_grid`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sbd_utils import checks

CANVAS, SQUARE = 64, 9
SPLITS = ("uniform", "quadrant")


def centers() -> torch.Tensor:
    """Every (x, y) at which the square fits, [3136, 2] of int64, row by row."""
    line = torch.arange(SQUARE // 2, CANVAS - SQUARE // 2)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def held_out(split: str, seed: int = 0) -> torch.Tensor:
    """Which centers are for the test, [3136] of bool.

    "uniform": a random fifth. "quadrant": the lower right quarter.
    """
    checks.check_one_of("split", split, SPLITS)
    checks.check_int("seed", seed, 0)
    if split == "quadrant":
        return (centers() >= CANVAS // 2).all(dim=1)
    places = centers()
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    return order < len(places) // 5


def coordinates(places: torch.Tensor) -> torch.Tensor:
    """Pixels [N, 2] as coordinates in [-1, 1], [N, 2]."""
    _check_places(places)
    return places * 2 / (CANVAS - 1) - 1


def one_hot(places: torch.Tensor) -> torch.Tensor:
    """A canvas with one bright pixel, [N, 1, 64, 64]."""
    numbers = pixel_numbers(places)
    canvas = torch.zeros(len(places), CANVAS**2)
    return canvas.scatter_(1, numbers[:, None], 1).view(-1, 1, CANVAS, CANVAS)


def pixel_numbers(places: torch.Tensor) -> torch.Tensor:
    """Pixels [N, 2], whole numbers, numbered row by row, [N]."""
    _check_places(places)
    if places.dtype != torch.int64 or not ((places >= 0) & (places < CANVAS)).all():
        raise checks.argument_error("places", f"pixels of int64 from 0 to {CANVAS - 1}", places)
    return places[:, 1] * CANVAS + places[:, 0]


def squares(places: torch.Tensor) -> torch.Tensor:
    """The 9x9 squares around pixels [N, 2], 1 on 0, [N, 1, 64, 64]."""
    _check_places(places)
    line = torch.arange(CANVAS)
    x, y = ((line - place[:, None]).abs() <= SQUARE // 2 for place in places.T)
    return (x[:, None, :] & y[:, :, None]).float()[:, None]


def _check_places(places: torch.Tensor) -> None:
    checks.check_type("places", places, torch.Tensor)
    checks.arrays(places=(places, "N 2"))


@dataclass(frozen=True)
class Task:
    """What goes in, what should come out, the loss, and a score from 0 to 1 for each example."""

    given: Callable
    wanted: Callable
    loss: Callable
    score: Callable


def _overlap(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Intersection over union of what is drawn, [N]."""
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
        lambda told, wanted: ((told - wanted).abs() < 1 / (CANVAS - 1)).all(dim=1).float(),
    ),
    # Draw the square. The score is the intersection over the union.
    "rendering": Task(coordinates, squares, F.binary_cross_entropy_with_logits, _overlap),
}
