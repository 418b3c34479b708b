"""The paper's kind of sprites: one shape of any color on black, drawn in batches by torch.

Ranges and held-out positions are those of Spriteworld's COBRA configuration, by the paper's first
author; square, ellipse and heart are those of dSprites. Comments mark what is our own choice.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32

from sbd_utils import checks
from sbd_utils.data.factors import Columns, Continuous, Discrete, FactorSet
from sbd_utils.data.rules import Dependent, Rule, Where

# The shapes, and the angles by which they look the same; a disc does so by any.
PERIODS = {
    "square": math.pi / 2,
    "ellipse": math.pi,
    "heart": 2 * math.pi,
    "triangle": 2 * math.pi / 3,
    "disc": 0.0,
}
SHAPES = tuple(PERIODS)  # the factor "shape" is an index into it
FACTORS = ("shape", "x", "y", "scale", "angle", "h", "s", "v")
UNIT = ("x", "y", "scale", "s", "v")  # the factors from 0 to 1; angle and h are periodic
PIXELS = 2**18  # computed at once: few enough for a CPU's cache, enough for a GPU

HEART = (7 / 24 + 3 * math.pi / 32) / (1 / 2 + math.pi / 8)  # tip to center, over the diagonal


def _square(u: torch.Tensor, v: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    return torch.maximum(u.abs(), v.abs()) - radius / math.sqrt(2)


def _ellipse(u, v, radius, ratio: float = 0.5):
    """Signed distance to first order; exact for a disc."""
    u, v = u.abs().clamp(min=1e-3), v.abs().clamp(min=1e-3) / ratio  # not 0 / 0 in the middle
    inside = torch.hypot(u, v) / radius
    return inside * (inside - 1) * radius**2 / torch.hypot(u, v / ratio)


def _heart(u, v, radius):
    """Union of a square on its tip and half a disc on each of its two upper sides."""
    side, u, up = radius / HEART, u.abs(), radius - v  # of the square, the diagonal
    square = (u + (up - side / 2).abs() - side / 2) / math.sqrt(2)
    disc = torch.hypot(u - side / 4, up - side * 3 / 4) - side * math.sqrt(2) / 4
    return torch.minimum(square, disc)


def _triangle(u, v, radius):
    return torch.maximum(v, math.sqrt(3) / 2 * u.abs() - v / 2) - radius / 2


def _disc(u, v, radius):
    return _ellipse(u, v, radius, ratio=1.0)


DISTANCES = (_square, _ellipse, _heart, _triangle, _disc)  # signed, in pixels, below 0 inside


def rgb(
    h: Float[torch.Tensor, " N"], s: Float[torch.Tensor, " N"], v: Float[torch.Tensor, " N"]
) -> Float[torch.Tensor, "N 3"]:
    """RGB colors in [0, 1] of hue (period 1), saturation and value (both in [0, 1])."""
    sector = (h[:, None] * 6 + torch.tensor([5, 3, 1], device=h.device)).remainder(6)
    return v[:, None] * (1 - s[:, None] * torch.minimum(sector, 4 - sector).clamp(0, 1))


def draw(
    factors: Columns, image_size: int = 64
) -> Float32[torch.Tensor, "N 3 {image_size} {image_size}"]:
    """Draw sprites on black, anti-aliased, on the factors' device.

    A pixel's brightness is 1/2 minus its center's distance to the outline, clamped to [0, 1].

    Args:
        factors: the columns of `FACTORS`:
            shape: an index into `SHAPES`;
            x, y: the center of mass in [0, 1] of the image, y downwards;
            scale: the diameter of the circle around the center that just holds the shape, as a
            fraction of the image, in (0, 1]: the disc's diameter, the ellipse's long axis (twice
            the short one), the square's diagonal, twice the distance from the triangle's center to
            its corners, and from the heart's center to its tip;
            angle: radians, counterclockwise; at 0 the ellipse is horizontal, triangle and heart
            are upright;
            h, s, v: the color as in `colorsys`, h of period 1, s and v in [0, 1].

    Raises:
        ValueError: a factor is out of its range.
    """
    columns = {name: factors[name].float() for name in FACTORS}
    for name, column in columns.items():
        _check_range(name, column)
    table = torch.stack(list(columns.values()))  # [8, N]
    images = table.new_zeros(table.shape[1], 3, image_size**2)
    # Only a patch that holds the sprite is computed. A corner of 60 degrees fades out over a whole
    # pixel, so the patch has that and half a pixel on each side.
    side = min(image_size, math.ceil(float(columns["scale"].max()) * image_size) + 4)
    count = max(1, PIXELS // side**2)
    for part, rows in zip(images.split(count), table.split(count, dim=1), strict=True):
        _paint(part, rows, image_size, side)
    return images.view(-1, 3, image_size, image_size)


def _check_range(name: str, values: torch.Tensor) -> None:
    """Raise ValueError unless a factor's values are some that `draw` can draw."""
    if name in UNIT or name == "shape":
        low, high = 0, 1 if name in UNIT else len(SHAPES) - 1
        least, most = map(float, values.aminmax())
        if not low <= least <= most <= high or (name == "scale" and least == 0):
            above = "above " * (name == "scale")
            raise ValueError(
                f"{name} must be from {above}{low} to {high}, got {least:g} to {most:g}"
            )
    if name == "shape" and not torch.equal(values, values.round()):
        raise checks.argument_error(name, "whole numbers", values)


def _paint(images: torch.Tensor, rows: torch.Tensor, size: int, side: int) -> None:
    """Draw factors [8, N] on black images [N, 3, size * size], in patches [side, side]."""
    shape, x, y, scale, angle, h, s, v = rows
    center, radius = rows[1:3] * size, scale * size / 2
    first = (center - radius - 1.5).floor().clamp(0, size - side)
    lines = first[..., None] + torch.arange(side, device=rows.device)  # [2, N, side]
    off = lines + 0.5 - center[..., None]
    right, down = off[0, :, None, :], off[1, :, :, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = cos * right - sin * down, sin * right + cos * down  # [N, side, side]
    distance = torch.empty_like(along)
    for number in shape.unique().long().tolist():
        mine = shape == number
        distance[mine] = DISTANCES[number](along[mine], across[mine], radius[mine, None, None])
    cover = (0.5 - distance).clamp(0, 1).flatten(1)
    pixels = (lines[1, :, :, None] * size + lines[0, :, None, :]).long().flatten(1)
    images.scatter_(2, pixels[:, None].expand(-1, 3, -1), rgb(h, s, v)[..., None] * cover[:, None])


def _is_period(one: Continuous, shapes: tuple[float, ...]) -> bool:
    """Whether images of these shapes are alike at both ends of a factor."""
    span = one.high - one.low
    if one.name == "h":  # a single turn, since measures take the range for the period
        return abs(span - 1) < 1e-4
    turns = [span / period for period in (PERIODS[SHAPES[int(i)]] for i in shapes) if period]
    return one.name == "angle" and all(
        round(turn) >= 1 and abs(turn - round(turn)) < 1e-4 for turn in turns
    )


@dataclass(frozen=True)
class World:
    """The distribution of a data set of sprites. Worlds are values: a run is named by its world.

    Attributes:
        name: a label; worlds that differ in nothing else are equal.
        train: what varies in training.
        held_out: values of the same factors that training leaves out.
        fixed: pairs of a factor and its value, for those of `FACTORS` that do not vary.
        image_size: height and width, in pixels.

    Raises:
        ValueError: train and fixed do not share out `FACTORS`; a factor leaves its range; a
            periodic one looks different at its ends; held_out overlaps train (in a hundred draws).
    """

    name: str = field(compare=False)
    train: FactorSet
    held_out: FactorSet | None = None
    fixed: tuple[tuple[str, float], ...] = ()
    image_size: int = 64

    def __post_init__(self):
        checks.check_type("train", self.train, FactorSet)
        object.__setattr__(self, "image_size", checks.check_int("image_size", self.image_size, 4))
        fixed = {name: checks.check_float(name, value) + 0.0 for name, value in self.fixed}
        if sorted((*self.train.names, *fixed)) != sorted(FACTORS):
            raise ValueError(
                f"train and fixed must share out {', '.join(FACTORS)}, got "
                f"{', '.join(self.train.names)} and {', '.join(fixed) or 'nothing'}"
            )
        values = {name: (value,) for name, value in fixed.items()} | {
            one.name: one.values if isinstance(one, Discrete) else (one.low, one.high)
            for one in self.train.factors
        }
        for name, some in values.items():
            _check_range(name, torch.tensor(some).float())
        for one in self.train.factors:
            if one.name == "shape":
                checks.check_type("shape", one, Discrete)
            if one.periodic and not _is_period(one, values["shape"]):
                raise checks.argument_error(one.name, "alike at both ends to be periodic", one)
        if "shape" in fixed:  # equal worlds have equal reprs
            fixed["shape"] = int(fixed["shape"])
        object.__setattr__(self, "fixed", tuple(fixed.items()))
        if self.held_out is not None:
            self._check_held_out(self.held_out)

    def _check_held_out(self, held_out: FactorSet) -> None:
        if set(held_out.names) != set(self.train.names):
            raise checks.argument_error(
                "held_out", f"a set of {', '.join(self.train.names)}", held_out.names
            )
        self.train - held_out  # raises where held_out crosses the ends of a periodic factor
        for one, other in ((self.train, held_out), (held_out, self.train)):
            if one.contains(other.sample(100, torch.Generator().manual_seed(0))).any():
                raise checks.argument_error("held_out", "disjoint from train", held_out)

    def sample(
        self, count: int, generator: torch.Generator, device: torch.device | str | None = None
    ) -> tuple[Float32[torch.Tensor, "{count} 3 size size"], dict[str, torch.Tensor]]:
        """Draw training images.

        Args:
            generator: of the CPU.
            device: where to draw the images; the factors are the same for every device.

        Returns:
            Images in [0, 1], and the factors that vary, each [count].
        """
        factors = self.train.sample(count, generator)
        factors = {name: column.to(device) for name, column in factors.items()}
        return self.draw(factors), factors

    def draw(self, factors: Columns) -> Float32[torch.Tensor, "N 3 size size"]:
        """Draw images of any values of the factors that vary, such as held-out ones."""
        if set(factors) != set(self.train.names):
            raise ValueError(
                f"factors must be {', '.join(self.train.names)}, got {', '.join(factors)}"
            )
        like = next(iter(factors.values())).float()
        fixed = {name: torch.full_like(like, value) for name, value in self.fixed}
        return draw({**factors, **fixed}, self.image_size)


def _sum_below_1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x + y < 1


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


POSITION = Continuous("x", 0.1, 0.9) * Continuous("y", 0.1, 0.9)
CORNER = Continuous("x", 0.5, 0.9) * Continuous("y", 0.5, 0.9)
HUE = Continuous("h", 0, 1, periodic=True)
COLOR = HUE * Continuous("s", 0.3, 1) * Continuous("v", 0.9, 1)
# dSprites' shapes, full turn, and ratio of scales. The scales are our choice: 0.2 is the largest
# that stays inside the image at 0.1 from its border.
FORM = (
    Discrete("shape", (0, 1, 2))
    * Continuous("scale", 0.1, 0.2)
    * Continuous("angle", 0, 2 * math.pi, periodic=True)
)


def discs(
    name: str,
    pixels: float = 12,
    train: FactorSet = POSITION * HUE,
    held_out: FactorSet | None = None,
) -> World:
    """A world of vivid discs of varying position and hue, `pixels` of 64 across."""
    fixed = {"shape": SHAPES.index("disc"), "scale": pixels / 64, "angle": 0.0, "s": 1.0, "v": 1.0}
    return World(name, train, held_out, tuple(fixed.items()))


# The paper asks about form, size, dependence and held-out positions. "sprites" varies all eight
# factors. The other worlds differ from "large" in one thing each, so that a difference between two
# worlds has one cause. Their discs have three factors, as the post's; 12 of 64 pixels is the
# largest even diameter that stays inside the image.
WORLDS = {
    world.name: world
    for world in (
        World("sprites", FORM * POSITION * COLOR),
        discs("large"),
        discs("small", pixels=4),
        # From orange to magenta, less than a full turn, so that each hue has one x.
        discs(
            "hue-of-place",
            train=Dependent(POSITION, Continuous("h", 0.1, 0.9), Rule("h = x", ("x",), _same)),
        ),
        discs("triangle", train=Where(POSITION, Rule("x + y < 1", ("x", "y"), _sum_below_1)) * HUE),
        discs("quadrant", train=(POSITION - CORNER) * HUE, held_out=CORNER * HUE),
    )
}
