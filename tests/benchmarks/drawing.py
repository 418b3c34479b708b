"""Sprites drawn one by one by Pillow, to compare with and to race against."""

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw

from sbd_utils.data.factors import Columns
from sbd_utils.data.sprites import SHAPES, WORLDS, draw, rgb

LANCZOS = Image.Resampling.LANCZOS  # Spriteworld's renderer: five times finer, then this
COUNT, ROUNDS = 256, 40
WORDS = (
    f"Images of sprites, 64×64, {COUNT} at once by `draw`, and one by one by Pillow: five times "
    "finer and scaled down, as Spriteworld does, or with jagged edges. `ratio` is the time of each "
    f"over that of `draw`, with its quartiles over {ROUNDS} rounds."
)


def arc(x: float, y: float, radius: float, start: float, stop: float, count: int) -> list:
    """Points of a circle's arc."""
    angles = np.linspace(start, stop, count)
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def outlines(points: int) -> list[np.ndarray]:
    """Every shape as a polygon around (0, 0), x to the right, y down, in a circle of radius 1."""
    round_one = np.array(arc(0, 0, 1, 0, 2 * math.pi, points))
    lobe, turn, up = math.sqrt(2) / 4, math.pi / 4, 0.65665  # of a heart whose tip is (0, up)
    heart = [
        (0, up),
        *arc(0.25, up - 0.75, lobe, turn, -3 * turn, points),
        *arc(-0.25, up - 0.75, lobe, -turn, -5 * turn, points),
    ]
    corners = {
        "square": arc(0, 0, 1, math.pi / 4, 7 * math.pi / 4, 4),
        "triangle": arc(0, 0, 1, math.pi / 6, 3 * math.pi / 2, 3),
        "ellipse": round_one * [1, 0.5],
        "disc": round_one,
        "heart": np.array(heart) / up,
    }
    return [np.array(corners[shape]) for shape in SHAPES]


def to_pillow(factors: Columns, size: int, points: int = 30) -> list[tuple[list, tuple]]:
    """What Pillow draws on an image of this size: of each sprite, the corners and the color."""
    shapes, found = outlines(points), []
    rows = torch.stack([factors[name].double() for name in ("x", "y", "scale", "angle")]).T.tolist()
    colors = (rgb(factors["h"], factors["s"], factors["v"]) * 255).round().int().tolist()
    for shape, (x, y, scale, angle), color in zip(
        factors["shape"].tolist(), rows, colors, strict=True
    ):
        cos, sin = math.cos(angle), math.sin(angle)
        corners = shapes[shape] @ [[cos, -sin], [sin, cos]] * scale / 2 + [x, y]
        # A pixel's middle has a whole number.
        found.append(([tuple(corner) for corner in (corners * size - 0.5).tolist()], tuple(color)))
    return found


def pillow(
    sprites: list[tuple[list, tuple]], size: int, finer: int = 1, filter: int = LANCZOS
) -> torch.Tensor:
    """Images [N, 3, size, size]; anti-aliased where drawn so much finer, then scaled down."""
    images = []
    for corners, color in sprites:
        image = Image.new("RGB", (size * finer, size * finer))
        ImageDraw.Draw(image).polygon(corners, color)
        images.append(np.asarray(image.resize((size, size), filter) if finer > 1 else image))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def measure(ratio: Callable[[list, list], dict]) -> list[dict]:
    """Images of the world "sprites" per second, all ways in turns; ratio: of times over ours."""
    factors = WORLDS["sprites"].train.sample(COUNT, torch.Generator().manual_seed(0))
    jagged, fine = to_pillow(factors, 64), to_pillow(factors, 64 * 5)
    ways = {
        "draw": lambda: draw(factors),
        "Pillow, as Spriteworld": lambda: pillow(fine, 64, 5),
        "Pillow, jagged": lambda: pillow(jagged, 64),
    }
    times = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):
        for way, once in ways.items():
            start = time.perf_counter()
            once()
            times[way].append((time.perf_counter() - start) / COUNT)
    times = {way: spent[1:] for way, spent in times.items()}  # the first is to warm up
    return [
        {
            "way": way,
            "images_per_second": 1 / statistics.median(spent),
            **ratio(spent, times["draw"]),
        }
        for way, spent in times.items()
    ]
