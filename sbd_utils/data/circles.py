"""Factors in, images out: one sprite on a black background, drawn by Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image, ImageColor, ImageDraw

from sbd_utils import checks

SHAPES = {"circle": ImageDraw.ImageDraw.ellipse, "square": ImageDraw.ImageDraw.rectangle}
COLORS = ("red", "green", "blue")  # the post's
FACTORS = ("x", "y", "shape", "size", "color")


@dataclass(frozen=True)
class Sprites:
    """Images with the factors of variation that made them.

    Attributes:
        images: in [0, 1].
        factors: columns [N]: x and y (position as a fraction of the free way, 0 to 1), shape, size
            (pixels) and color (a name that Pillow knows).

    Raises:
        ValueError: images of another kind, or factors that are missing or not [N].
    """

    images: Float32[torch.Tensor, "N 3 image_size image_size"]
    factors: Mapping[str, np.ndarray]

    def __post_init__(self):
        checks.images("images", self.images)
        for name in FACTORS:
            column = self.factors.get(name)
            if np.shape(column) != (len(self.images),):
                raise checks.argument_error(
                    f"factors[{name!r}]", f"an array [{len(self.images)}]", column
                )

    def only(self, factor: str) -> object:
        """The value that a factor has in all images; ValueError where it has more than one."""
        values = np.unique(self.factors[factor]).tolist()
        if len(values) > 1:
            raise ValueError(f"sprites must be of one {factor}, got {', '.join(map(str, values))}")
        return values[0]

    def span(self, factor: str) -> tuple[float, float]:
        """Least and greatest "x" or "y"; ValueError where they are equal."""
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
) -> Float32[torch.Tensor, "3 {image_size} {image_size}"]:
    """Draw one sprite, in [0, 1].

    Args:
        x, y: position in [0, 1]: the box's upper left corner is (image_size - 2 - size) * (x, y),
            given to Pillow unrounded.
        shape: a key of `SHAPES`.
        size: in pixels. Pillow's boxes include their last row and column, so 16 is 17 across.
        color: a name that Pillow knows.

    Raises:
        ValueError: an argument out of its range.
    """
    checks.check_one_of("shape", shape, SHAPES)
    checks.check_int("size", size, 1, checks.check_int("image_size", image_size, 4) - 2)
    if len(ImageColor.getrgb(color)) != 3:  # raises where Pillow does not know it
        raise checks.argument_error("color", "opaque", color)
    free = image_size - 2 - size
    left, top = free * checks.check_float("x", x, 0, 1), free * checks.check_float("y", y, 0, 1)
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

    Args:
        positions: number of equispaced values in [0, 1] that each of x and y takes.

    Returns:
        The sprites, with x outermost, then y, shape, size, and color innermost.

    Raises:
        ValueError: an argument that `draw_sprite` refuses, or positions below 1.
    """
    steps = np.linspace(0, 1, checks.check_int("positions", positions))
    rows = list(product(steps, steps, shapes, sizes, colors))
    images = torch.stack([draw_sprite(*row, image_size=image_size) for row in rows])
    columns = zip(FACTORS, zip(*rows, strict=True), strict=True)
    return Sprites(images, {name: np.array(column) for name, column in columns})
