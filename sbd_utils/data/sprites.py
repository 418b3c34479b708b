"""The paper's kind of sprites: one shape of any color on black, drawn in batches by torch.

Ranges and held-out places are those of Spriteworld's COBRA configuration, by the paper's first
author; square, ellipse and heart are those of dSprites. What is ours is said where it stands.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sbd_utils import checks
from sbd_utils.data.factors import Columns, Continuous, Discrete, FactorSet
from sbd_utils.data.rules import Dependent, Rule, Where

# A shape is its place in SHAPES. Turned by its period, it looks the same; a disc, by any angle.
PERIODS = {
    "square": math.pi / 2,
    "ellipse": math.pi,
    "heart": 2 * math.pi,
    "triangle": 2 * math.pi / 3,
    "disc": 0.0,
}
SHAPES = tuple(PERIODS)
FACTORS = ("shape", "x", "y", "scale", "angle", "h", "s", "v")
RANGES = {
    "shape": (0, len(SHAPES) - 1),
    "x": (0, 1),
    "y": (0, 1),
    "scale": (0, 1),
    "s": (0, 1),
    "v": (0, 1),
}  # of what `draw` takes; angle and h go around
PIXELS = 2**18  # computed at once: few enough for a processor's cache, enough for a GPU

HEART = (7 / 24 + 3 * math.pi / 32) / (1 / 2 + math.pi / 8)  # tip to center, over the diagonal


def _square(u: torch.Tensor, v: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    return torch.maximum(u.abs(), v.abs()) - radius / math.sqrt(2)


def _ellipse(u, v, radius, ratio: float = 0.5):
    """To first order, which for a disc is exact."""
    u, v = u.abs().clamp(min=1e-3), v.abs().clamp(min=1e-3) / ratio  # not 0 / 0 in the middle
    inside = torch.hypot(u, v) / radius
    return inside * (inside - 1) * radius**2 / torch.hypot(u, v / ratio)


def _heart(u, v, radius):
    """A square on its tip, and half a disc on each of its two upper sides."""
    side, u, up = radius / HEART, u.abs(), radius - v  # of the square, the diagonal
    square = (u + (up - side / 2).abs() - side / 2) / math.sqrt(2)
    disc = torch.hypot(u - side / 4, up - side * 3 / 4) - side * math.sqrt(2) / 4
    return torch.minimum(square, disc)


def _triangle(u, v, radius):
    return torch.maximum(v, math.sqrt(3) / 2 * u.abs() - v / 2) - radius / 2


def _disc(u, v, radius):
    return _ellipse(u, v, radius, ratio=1.0)


DISTANCES = (_square, _ellipse, _heart, _triangle, _disc)  # signed, in pixels, below 0 inside


def rgb(h: torch.Tensor, s: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Colors [N, 3] in [0, 1] of h (of period 1), s and v (in [0, 1]), each [N]."""
    given = checks.columns("color", {"h": h, "s": s, "v": v}, ("h", "s", "v"))
    for name in ("s", "v"):
        _check_values(name, name, given[name])
    return _rgb(**given)


def _rgb(h: torch.Tensor, s: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    sector = (h[:, None] * 6 + torch.tensor([5, 3, 1], device=h.device)).remainder(6)
    return v[:, None] * (1 - s[:, None] * torch.minimum(sector, 4 - sector).clamp(0, 1))


def draw(factors: Mapping[str, torch.Tensor], image_size: int = 64) -> torch.Tensor:
    """Images of sprites, float32 in [0, 1], [N, 3, image_size, image_size], on their device.

    factors: each [N]. shape: a place in SHAPES. x, y: the center of mass in [0, 1] of the image, y
    downwards. scale: the diameter, as a fraction of the image, of the circle around the center that
    just holds the shape, however it is turned, in (0, 1]: the disc's diameter, the ellipse's long
    axis (the short one is half of it), the square's diagonal, twice the way from the triangle's
    center to its corners, and from the heart's to its tip. angle: radians, counterclockwise as
    seen; at 0 the ellipse lies, triangle and heart stand upright; PERIODS has the symmetries. h, s,
    v: the color as in `colorsys`, h of period 1, s and v in [0, 1].

    A pixel is as bright as 1/2 - its center's distance to the outline, in [0, 1].
    """
    size = checks.check_int("image_size", image_size, 4)
    given = checks.columns("factors", factors, FACTORS)
    for name in RANGES:
        _check_values(f"factors[{name!r}]", name, given[name])
    table = torch.stack([given[name] for name in FACTORS])
    images = table.new_zeros(table.shape[1], 3, size * size)
    # Only a patch that holds the sprite is computed. A corner of 60 degrees fades out over a whole
    # pixel, so the patch has that and half a one on each side.
    side = min(size, math.ceil(float(given["scale"].max()) * size) + 4)
    count = max(1, PIXELS // side**2)
    for part, rows in zip(images.split(count), table.split(count, dim=1), strict=True):
        _paint(part, rows, size, side)
    return images.view(-1, 3, size, size)


def _check_values(told: str, name: str, values: torch.Tensor) -> None:
    (low, high), (least, most) = RANGES[name], map(float, values.aminmax())
    if least < low or most > high or (name == "scale" and least == 0):
        above = "above " * (name == "scale")
        raise ValueError(f"{told} must be from {above}{low} to {high}, got {least:g} to {most:g}")
    if name == "shape" and not torch.equal(values, values.round()):
        raise checks.argument_error(told, "whole numbers", values)


def _paint(images: torch.Tensor, rows: torch.Tensor, size: int, side: int) -> None:
    """Draw factors [8, N] on black images [N, 3, size * size], each in a patch [side, side]."""
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
    images.scatter_(2, pixels[:, None].expand(-1, 3, -1), _rgb(h, s, v)[..., None] * cover[:, None])


def _goes_around(one: Continuous, shapes: tuple[float, ...]) -> bool:
    """Whether pictures of these shapes are alike at both ends of a factor."""
    if one.name == "h":  # a single turn, since measures take the range for the period
        return abs(one.high - one.low - 1) < 1e-4
    periods = [PERIODS[SHAPES[int(shape)]] for shape in shapes]
    turns = [(one.high - one.low) / period for period in periods if period]  # a disc is always
    return one.name == "angle" and all(
        round(turn) >= 1 and abs(turn - round(turn)) < 1e-4 for turn in turns
    )


@dataclass(frozen=True)
class World:
    """What varies, over which set in training, what is held out, and what every image has.

    fixed: pairs of a factor and its number, those of `draw` that do not vary. A world is a value
    whose repr says all of it, so a run can be named by it. Raises ValueError where the factors of
    train and fixed are not those of `draw` or leave their ranges (by the ends of its intervals),
    one goes around where its pictures do not, or those held out are others than train's, or not
    apart from it, by a hundred draws of each.
    """

    name: str
    train: FactorSet
    held_out: FactorSet | None = None
    fixed: tuple[tuple[str, float], ...] = ()
    image_size: int = 64

    def __post_init__(self):
        checks.check_type("name", self.name, str)
        checks.check_type("train", self.train, FactorSet)
        size = checks.check_int("image_size", self.image_size, 4)
        try:
            fixed = tuple((name, checks.check_float(name, value)) for name, value in self.fixed)
        except (TypeError, ValueError) as error:
            raise checks.argument_error(
                "fixed", "pairs of a factor and a number", self.fixed
            ) from error
        names = [name for name, _ in fixed]
        if sorted((*self.train.names, *names)) != sorted(FACTORS):
            raise ValueError(
                f"train and fixed must share out {', '.join(FACTORS)}, got "
                f"{', '.join(self.train.names)} and {', '.join(names) or 'nothing'}"
            )
        values = {name: ("fixed", (value,)) for name, value in fixed} | {
            one.name: ("train", one.values if isinstance(one, Discrete) else (one.low, one.high))
            for one in self.train.factors
        }
        for name in RANGES:
            where, some = values[name]
            _check_values(f"{name} of {where}", name, torch.tensor(some).float())
        for one in self.train.factors:
            if one.name == "shape":
                checks.check_type("shape of train", one, Discrete)
        for one in self.train.factors:
            if one.periodic and not _goes_around(one, values["shape"][1]):
                raise checks.argument_error(
                    f"{one.name} of train", "alike at both ends to go around", one
                )
        # Worlds that are equal have one repr: a shape is whole, all others are floats.
        fixed = tuple(
            (name, int(value) if name == "shape" else value + 0.0) for name, value in fixed
        )
        object.__setattr__(self, "image_size", size)
        object.__setattr__(self, "fixed", fixed)
        if self.held_out is not None:
            checks.check_type("held_out", self.held_out, FactorSet)
            if set(self.held_out.names) != set(self.train.names):
                raise checks.argument_error(
                    "held_out", f"a set of {', '.join(self.train.names)}", self.held_out.names
                )
            self.train - self.held_out  # refuses what goes around by the ends of train
            for one, other in ((self.train, self.held_out), (self.held_out, self.train)):
                if one.contains(other.sample(100, torch.Generator().manual_seed(0))).any():
                    raise checks.argument_error("held_out", "apart from train", self.held_out)

    def sample(
        self, count: int, generator: torch.Generator, device: torch.device | str | None = None
    ) -> tuple[torch.Tensor, Columns]:
        """Training images [count, 3, image_size, image_size], and the factors that vary [count].

        The generator, and so the draws, are the CPU's; device says where to draw the pictures.
        """
        factors = self.train.sample(count, generator)
        try:
            factors = {name: column.to(device) for name, column in factors.items()}
        except (TypeError, RuntimeError, AssertionError) as error:
            raise checks.argument_error(
                "device", "a device of torch that is here", device
            ) from error
        return self.draw(factors), factors

    def draw(self, factors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Images of any values of the factors that vary, such as held-out ones or a grid."""
        given = checks.columns("factors", factors, self.train.names)
        if len(factors) > len(given):
            raise checks.argument_error("factors", f"of {', '.join(given)} only", list(factors))
        like = next(iter(given.values()))
        return draw(
            given | {name: torch.full_like(like, value) for name, value in self.fixed},
            self.image_size,
        )


def _sum_below_1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x + y < 1


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


PLACE = Continuous("x", 0.1, 0.9) * Continuous("y", 0.1, 0.9)
CORNER = Continuous("x", 0.5, 0.9) * Continuous("y", 0.5, 0.9)
HUE = Continuous("h", 0, 1, periodic=True)
COLOR = HUE * Continuous("s", 0.3, 1) * Continuous("v", 0.9, 1)
# dSprites' shapes, its whole turn, and its largest scale twice the smallest. The numbers are ours:
# 0.2 is the largest that stays inside the image at 0.1 from its border.
FORM = (
    Discrete("shape", (0, 1, 2))
    * Continuous("scale", 0.1, 0.2)
    * Continuous("angle", 0, 2 * math.pi, periodic=True)
)


def discs(
    name: str, pixels: float = 12, train: FactorSet = PLACE * HUE, held_out: FactorSet | None = None
) -> World:
    """A world of vivid discs, so many of 64 pixels across, of which place and hue vary."""
    scale = checks.check_positive("pixels", pixels) / 64
    fixed = {"shape": SHAPES.index("disc"), "scale": scale, "angle": 0.0, "s": 1.0, "v": 1.0}
    return World(name, train, held_out, tuple(fixed.items()))


# The paper asks about form, size, dependence and held-out places. "sprites" varies all eight
# factors. The other worlds differ from "large" in one thing each, so that a difference between two
# worlds has one cause: their discs have three factors, as the post's, and at 12 of 64 pixels the
# largest even size that stays inside. A disc looks the same however it is turned; with a square
# instead, the angle would be one more factor to hold still.
WORLDS = {
    world.name: world
    for world in (
        World("sprites", FORM * PLACE * COLOR),
        discs("large"),
        discs("small", pixels=4),
        # From orange to magenta, an open piece of the circle, so that a hue tells of one x only.
        discs(
            "hue-of-place",
            train=Dependent(PLACE, Continuous("h", 0.1, 0.9), Rule("h = x", ("x",), _same)),
        ),
        discs("triangle", train=Where(PLACE, Rule("x + y < 1", ("x", "y"), _sum_below_1)) * HUE),
        discs("quadrant", train=(PLACE - CORNER) * HUE, held_out=CORNER * HUE),
    )
}
