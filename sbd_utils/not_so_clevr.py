"""CoordConv's toy world (Liu et al. 2018, arXiv 1807.03247): one square on a canvas, three tasks.

A center is a pixel (x, y); networks see it as coordinates in [-1, 1], those of `coordinate_grid`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from sbd_utils.speed import LAYOUT, flushed_denormals, hand_back_memory, keep_freed_memory
from sbd_utils.variants import DECONV, AppendCoordinates, ComposedDecoder, Recipe

CANVAS, SQUARE = 64, 9
SPLITS = ("uniform", "quadrant")
COORDCONV = Recipe(start="broadcast", side=CANVAS, coordinates="first", kernel=1, depth=5, width=32)


def centers() -> torch.Tensor:
    """Every (x, y) at which the square fits, [3136, 2] of int64, row by row."""
    line = torch.arange(SQUARE // 2, CANVAS - SQUARE // 2)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def held_out(split: str, seed: int = 0) -> torch.Tensor:
    """Which centers are for the test, [3136] of bool.

    "uniform": a random fifth. "quadrant": the lower right quarter. ValueError for anything else.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if split == "quadrant":
        return (centers() >= CANVAS // 2).all(dim=1)
    places = centers()
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    return order < len(places) // 5


def coordinates(places: torch.Tensor) -> torch.Tensor:
    """Pixels [N, 2] as coordinates in [-1, 1], [N, 2]."""
    return places * 2 / (CANVAS - 1) - 1


def one_hot(places: torch.Tensor) -> torch.Tensor:
    """A canvas with one bright pixel, [N, 1, 64, 64]."""
    canvas = torch.zeros(len(places), CANVAS**2)
    return canvas.scatter_(1, pixel_numbers(places)[:, None], 1).view(-1, 1, CANVAS, CANVAS)


def pixel_numbers(places: torch.Tensor) -> torch.Tensor:
    """Pixels [N, 2] numbered row by row, [N]."""
    return places[:, 1] * CANVAS + places[:, 0]


def squares(places: torch.Tensor) -> torch.Tensor:
    """The 9x9 squares around pixels [N, 2], 1 on 0, [N, 1, 64, 64]."""
    line = torch.arange(CANVAS)
    x, y = ((line - place[:, None]).abs() <= SQUARE // 2 for place in places.T)
    return (x[:, None, :] & y[:, :, None]).float()[:, None]


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
        coordinates, pixel_numbers, lambda drawn, wanted: F.cross_entropy(drawn.flatten(1), wanted),
        lambda drawn, wanted: (drawn.flatten(1).argmax(dim=1) == wanted).float(),
    ),
    # Where is the bright pixel? Right within half a pixel.
    "regression": Task(
        one_hot, coordinates, F.mse_loss,
        lambda told, wanted: ((told - wanted).abs() < 1 / (CANVAS - 1)).all(dim=1).float(),
    ),
    # Draw the square. The score is the intersection over the union.
    "rendering": Task(coordinates, squares, F.binary_cross_entropy_with_logits, _overlap),
}


def new_network(task: str, coordconv: bool, width: int | None = None) -> nn.Module:
    """A stack of convolutions for a task, with or without coordinates.

    What draws is a decoder of a "code" of two numbers: DeConv, or Spatial Broadcast with kernels of
    a single pixel. width: channels of its maps, by default 64 (DeConv), 32 (CoordConv) or 16 (what
    reads). ValueError for an unknown task.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if task != "regression":
        recipe = COORDCONV if coordconv else DECONV
        recipe = replace(recipe, width=width or recipe.width)
        return ComposedDecoder(2, CANVAS, recipe, channels=1)
    width = width or 16
    if coordconv:
        return nn.Sequential(
            AppendCoordinates(), nn.Conv2d(3, width, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
            nn.Flatten(), nn.Linear(width, 2),
        )
    layers = []
    for channels in (1, width, width, width):
        layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4 * 4, 2))


@dataclass(frozen=True)
class Fit:
    """A training: the seconds and the mean score in the test after some steps, the last included.

    scores: of each center, as the network was left, [3136]; train: their mean over those shown.
    """

    parameters: int
    steps: list[int]
    seconds: list[float]
    test: list[float]
    train: float
    scores: torch.Tensor

    def until(self, share: float) -> tuple[int, float] | None:
        """Steps and seconds until the test score first reached a share; None if it never did."""
        for steps, seconds, score in zip(self.steps, self.seconds, self.test, strict=True):
            if score >= share:
                return steps, seconds
        return None


def fit(
    task: str, coordconv: bool, split: str, steps: int, learning_rate: float,
    width: int | None = None, seed: int = 0, batch_size: int = 16, first_look: int = 25,
) -> Fit:
    """Train a network with Adam for so many steps, whatever the test says.

    The learning rate falls to 0 by the last step: held up, it keeps plain networks from settling.
    width: see new_network. Looks at the test come after first_look steps and then a fifth later
    each time, so that the step at which a score is reached is found late by a fifth at most. They
    count no seconds. Raises ValueError for an unknown task or split, steps or first_look below 1.
    """
    if min(steps, first_look) < 1:
        raise ValueError(f"need at least 1 step and look, got {steps=}, {first_look=}")
    keep_freed_memory()
    places, test = centers(), held_out(split, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = new_network(task, coordconv, width).to(memory_format=LAYOUT)
    given, wanted = TASKS[task].given(places), TASKS[task].wanted(places)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps)
    known = (~test).nonzero()[:, 0]
    at_steps, at_seconds, test_scores = [], [], []
    look, seconds = first_look, 0.0
    with flushed_denormals():
        for step in range(1, steps + 1):
            start = time.perf_counter()
            rows = known[torch.randint(len(known), (batch_size,), generator=generator)]
            optimizer.zero_grad()
            TASKS[task].loss(network(given[rows]), wanted[rows]).backward()
            optimizer.step()
            schedule.step()
            seconds += time.perf_counter() - start
            if step >= look or step == steps:
                at_steps.append(step)
                at_seconds.append(seconds)
                test_scores.append(_scores(task, network, given[test], wanted[test]).mean().item())
                look *= 1.2
        scores = _scores(task, network, given, wanted)
    hand_back_memory()
    return Fit(sum(p.numel() for p in network.parameters()), at_steps, at_seconds, test_scores,
               scores[~test].mean().item(), scores)


@torch.inference_mode()
def _scores(task, network, given, wanted) -> torch.Tensor:
    pairs = zip(given.split(32), wanted.split(32), strict=True)
    return torch.cat([TASKS[task].score(network(x), y) for x, y in pairs])
