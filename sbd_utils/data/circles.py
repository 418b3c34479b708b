"""Factors in, images out: one sprite on a black background, drawn by Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw

from sbd_utils import checks

SHAPES = {"circle": ImageDraw.ImageDraw.ellipse, "square": ImageDraw.ImageDraw.rectangle}
COLORS = ("red", "green", "blue")  # the post's
FACTORS = ("x", "y", "shape", "size", "color")


@dataclass(frozen=True)
class Sprites:
    """Images with the factors of variation that made them.

    images: float32 in [0, 1], [N, 3, image_size, image_size].
    factors: x and y (position as a fraction of the free way, 0 to 1), shape, size (pixels) and
        color (Pillow's name of it), each an array of length N.
    Raises ValueError for images or factors of another kind.
    """

    images: torch.Tensor
    factors: Mapping[str, np.ndarray]

    def __post_init__(self):
        image_size = checks.images("images", self.images)
        checks.mapping("factors", self.factors, FACTORS)
        columns = {
            name: checks.labels(f"factors[{name!r}]", values, len(self.images))
            for name, values in self.factors.items()
        }
        for x, y in set(zip(columns["x"].tolist(), columns["y"].tolist(), strict=True)):
            _check_place(x, y)
        kinds = (columns[name].tolist() for name in ("shape", "size", "color"))
        for shape, size, color in set(zip(*kinds, strict=True)):
            _check_sprite(shape, size, color, image_size)

    def only(self, factor: str) -> object:
        """The value that a factor has in all images; ValueError where it has more than one."""
        checks.check_one_of("factor", factor, FACTORS)
        values = np.unique(self.factors[factor]).tolist()
        if len(values) > 1:
            raise ValueError(f"sprites must be of one {factor}, got {', '.join(map(str, values))}")
        return values[0]

    def span(self, factor: str) -> tuple[float, float]:
        """From where to where a position goes, "x" or "y"; ValueError where it stays."""
        checks.check_one_of("factor", factor, ("x", "y"))
        low, high = float(np.min(self.factors[factor])), float(np.max(self.factors[factor]))
        if low == high:
            raise ValueError(f"sprites must be of more than one {factor}, got {low:g} for all")
        return low, high


def draw_sprite(
    x: float,
    y: float,
    shape: str = "circle",
    size: int = 16,
    color: str = "red",
    image_size: int = 64,
) -> torch.Tensor:
    """Draw one sprite; float32 in [0, 1], [3, image_size, image_size].

    The box's upper left corner is (image_size - 2 - size) * (x, y), given to Pillow unrounded.
    Pillow's boxes include their last row and column, so a size of 16 is 17 pixels across.
    """
    _check_sprite(shape, size, color, image_size)
    _check_place(x, y)
    left, top = (image_size - 2 - size) * x, (image_size - 2 - size) * y
    image = Image.new("RGB", (image_size, image_size))
    SHAPES[shape](ImageDraw.Draw(image), (left, top, left + size, top + size), fill=color)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # [3, height, width]


def make_sprites(
    image_size: int = 64,
    sizes: Sequence[int] = (16,),
    positions: int = 35,
    shapes: Sequence[str] = ("circle",),
    colors: Sequence[str] = COLORS,
) -> Sprites:
    """Draw every combination of the factors once; the defaults are the post's 3675 circles.

    positions: how many equispaced values in [0, 1] each of x and y takes.
    Order: x outermost, then y, shape, size, and color innermost.
    """
    checks.check_int("positions", positions)
    for name, values in (("sizes", sizes), ("shapes", shapes), ("colors", colors)):
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) == 0:
            raise checks.argument_error(name, "a list with at least one entry", values)
        if any(values.count(value) > 1 for value in values):
            raise checks.argument_error(name, "a list of different entries", values)
    for shape, size, color in product(shapes, sizes, colors):
        _check_sprite(shape, size, color, image_size)

    steps = np.linspace(0, 1, positions)
    rows = list(product(steps, steps, shapes, sizes, colors))
    images = torch.stack([draw_sprite(*row, image_size=image_size) for row in rows])
    columns = zip(FACTORS, zip(*rows, strict=True), strict=True)
    return Sprites(images, {name: np.array(column) for name, column in columns})


def _check_place(x: float, y: float) -> None:
    checks.check_float("x", x, 0, 1)
    checks.check_float("y", y, 0, 1)


def _check_sprite(shape: str, size: int, color: str, image_size: int) -> None:
    checks.check_one_of("shape", shape, SHAPES)
    checks.check_int("size", size, 1, checks.check_int("image_size", image_size, 4) - 2)
    try:
        channels = len(ImageColor.getrgb(color))
    except (ValueError, AttributeError, TypeError) as error:
        raise checks.argument_error("color", "a color that Pillow knows", color) from error
    if channels != 3:
        raise checks.argument_error("color", "opaque, with no alpha channel", color)
