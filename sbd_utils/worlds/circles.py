"""Factors in, images out: one sprite on a black background, drawn by Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw

SHAPES = {"circle": ImageDraw.ImageDraw.ellipse, "square": ImageDraw.ImageDraw.rectangle}
COLORS = ("red", "green", "blue")  # the post's
FACTORS = ("x", "y", "shape", "size", "color")


@dataclass(frozen=True)
class Sprites:
    """Images with the factors of variation that made them.

    images: float32 in [0, 1], [N, 3, image_size, image_size].
    factors: x and y (position as a fraction of the free way, 0 to 1), shape, size (pixels) and
        color (Pillow's name of it), each an array of length N.
    """

    images: torch.Tensor
    factors: Mapping[str, np.ndarray]


def draw_sprite(
    x: float, y: float, shape: str = "circle", size: int = 16, color: str = "red",
    image_size: int = 64,
) -> torch.Tensor:
    """Draw one sprite; float32 in [0, 1], [3, image_size, image_size].

    The box's upper left corner is (image_size - 2 - size) * (x, y), given to Pillow unrounded.
    Pillow's boxes include their last row and column, so a size of 16 is 17 pixels across.
    """
    _check_sprite(shape, size, color, image_size)
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
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
    Raises ValueError for an empty list, an unknown shape or color, or a size that does not fit.
    """
    if not isinstance(positions, Integral) or positions < 1:
        raise ValueError(f"positions must be a whole number of at least 1, got {positions!r}")
    for name, values in (("sizes", sizes), ("shapes", shapes), ("colors", colors)):
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) == 0:
            raise ValueError(f"{name} must be a list with at least one entry, got {values!r}")
    for shape, size, color in product(shapes, sizes, colors):
        _check_sprite(shape, size, color, image_size)

    steps = np.linspace(0, 1, positions)
    rows = list(product(steps, steps, shapes, sizes, colors))
    images = torch.stack([draw_sprite(*row, image_size=image_size) for row in rows])
    columns = zip(FACTORS, zip(*rows, strict=True), strict=True)
    return Sprites(images, {name: np.array(column) for name, column in columns})


def _check_sprite(shape: str, size: int, color: str, image_size: int) -> None:
    if shape not in list(SHAPES):
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    if not isinstance(image_size, Integral) or image_size < 4:
        raise ValueError(f"image_size must be a whole number of at least 4, got {image_size!r}")
    if not isinstance(size, Integral) or not 1 <= size <= image_size - 2:
        raise ValueError(
            f"size must be a whole number from 1 to image_size - 2 = {image_size - 2}, got {size!r}"
        )
    try:
        channels = len(ImageColor.getrgb(color))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"color must be a color that Pillow knows, got {color!r}") from error
    if channels != 3:
        raise ValueError(f"color must be opaque, got {color!r} with an alpha channel")
