"""What is drawn against areas, centers and colors from elsewhere, and the worlds' promises."""

import colorsys
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sbd_utils.data.factors import Continuous, Discrete
from sbd_utils.data.sprites import (
    COLOR,
    FACTORS,
    FORM,
    HUE,
    PERIODS,
    POSITION,
    SHAPES,
    WORLDS,
    World,
    discs,
    draw,
    rgb,
)
from sbd_utils.experiments.sprites import STUDIED
from tests.benchmarks.drawing import pillow, to_pillow

AREAS = {
    "square": 1 / 2,
    "ellipse": math.pi / 8,
    "triangle": 3 * math.sqrt(3) / 16,
    "disc": math.pi / 4,
    "heart": 0.5176,
}  # of a scale of 1; the heart's is integrated below
WHITE = {"x": 0.5, "y": 0.5, "scale": 0.5, "angle": 0.0, "h": 0.0, "s": 0.0, "v": 1.0}


def factors(shape="disc", **given):
    """The factors as draw takes them, from numbers and tensors."""
    values = {"shape": SHAPES.index(shape), **WHITE, **given}
    columns = {name: torch.as_tensor(value).reshape(-1) for name, value in values.items()}
    count = max(len(column) for column in columns.values())
    return {name: column.expand(count) for name, column in columns.items()}


def cover(shape, image_size=64, **given):
    """How much of each pixel white sprites cover, [N, image_size, image_size]."""
    images = draw(factors(shape, **given), image_size)
    assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    return images[:, 0]


def center(cover):
    """Center of mass (x, y) as a fraction of the image, [2, N]."""
    line = (torch.arange(cover.shape[-1]) + 0.5) / cover.shape[-1]
    mass = cover.sum(dim=(1, 2))
    return (
        torch.stack([(cover.sum(dim=1) * line).sum(dim=1), (cover.sum(dim=2) * line).sum(dim=1)])
        / mass
    )


def test_the_hearts_area_and_center_by_counting_points():
    """A square on its tip and two half discs: the outline that `_heart` has, drawn otherwise."""
    u, up = torch.meshgrid(
        torch.linspace(-0.7, 0.7, 1401), torch.linspace(-0.1, 1.3, 1401), indexing="ij"
    )
    inside = (u.abs() + (up - 0.5).abs() <= 0.5) | (
        (u.abs() - 0.25) ** 2 + (up - 0.75) ** 2 <= 1 / 8
    )
    tip = float(up[inside].mean())  # the way from the center to the tip, half a scale
    assert float(inside.sum()) / 1e6 / (2 * tip) ** 2 == pytest.approx(AREAS["heart"], rel=1e-3)
    assert math.hypot(0.25, 0.75 - tip) + math.sqrt(1 / 8) < tip  # no lobe is farther than the tip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.1, 0.2, 0.6])
def test_areas_and_centers_of_mass_wherever_and_however_turned(shape, scale):
    generator = torch.Generator().manual_seed(0)
    place = 0.32 + 0.36 * torch.rand(2, 200, generator=generator)
    angle = 7 * torch.rand(200, generator=generator)
    covered = cover(shape, x=place[0], y=place[1], angle=angle, scale=scale)
    area = covered.sum(dim=(1, 2))
    assert area == pytest.approx(AREAS[shape] * (64 * scale) ** 2, abs=1.2, rel=0.005)
    assert center(covered) == pytest.approx(place, abs=0.15 / 64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale, apart", [(0.15, 0.08), (0.6, 0.02)])
def test_pillow_draws_the_same(shape, scale, apart):
    """From other outlines, eight times finer: no pixel far off, and little in sum."""
    x, y, angle, h = torch.rand(4, 60, generator=torch.Generator().manual_seed(0))
    given = factors(shape, x=x, y=y, angle=7 * angle, h=h, s=1.0, scale=scale)
    images = draw(given)
    wanted = pillow(to_pillow(given, 8 * 64, points=200), 64, 8, Image.Resampling.BOX)
    assert (images - wanted).abs().max() < 0.4  # at a corner
    assert (images - wanted).abs().sum() < apart * wanted.sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_is_the_circle_that_just_holds_the_shape(shape):
    line = torch.arange(200) + 0.5 - 100
    away = torch.hypot(line[None], line[:, None])
    angle = torch.linspace(0, 2 * math.pi, 50)
    inside = cover(shape, 200, scale=0.9, angle=angle) > 0.5
    assert torch.equal(inside, inside & (away < 90.5))
    reach = torch.where(inside, away, torch.tensor(0.0)).amax(dim=(1, 2))
    assert reach.min() > 88


@pytest.mark.parametrize("shape, period", PERIODS.items())
def test_turned_by_its_period_a_shape_looks_the_same_and_by_less_does_not(shape, period):
    angle = torch.linspace(-3, 3, 20)
    start, step = cover(shape, angle=angle), period or 1.234
    torch.testing.assert_close(cover(shape, angle=angle + step), start, atol=1e-4, rtol=0)
    for part in (2, 3, 4, 5):
        if period:
            turned = cover(shape, angle=angle + period / part)
            assert ((turned - start).abs().amax(dim=(1, 2)) > 0.3).all()


def test_upright_and_counterclockwise():
    heart, triangle, ellipse = (cover(shape)[0] for shape in ("heart", "triangle", "ellipse"))
    wide = (heart > 0.5).sum(dim=1)
    assert wide[24] > 20 and wide[32] > wide[44] > 0  # lobes above, the tip below
    rows = (triangle > 0.5).sum(dim=1)
    assert (rows[20:39].diff() >= 0).all() and rows[17] < 5 and rows[38] > 24
    assert (ellipse > 0.5).sum(dim=1).max() == 2 * (ellipse > 0.5).sum(dim=0).max() == 32
    # Turned by an eighth, the long axis goes from lower left to upper right.
    turned = cover("ellipse", angle=math.pi / 4)[0]
    assert turned[22, 41] > 0.9 > 0.1 > turned[22, 22]
    quarter = cover("heart", angle=math.pi / 2)[0]
    torch.testing.assert_close(quarter, heart.rot90(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_smooth_in_place_and_in_size(shape):
    """Moved by a twentieth of a pixel, no pixel changes by more than that times its slope."""
    x = 0.5 + torch.arange(40) / 20 / 64
    moved = cover(shape, x=x, angle=0.3, scale=0.2)
    assert moved.diff(dim=0).abs().max() < 0.055
    area = moved.sum(dim=(1, 2))
    assert area.max() - area.min() < 0.01 * area.mean()
    assert (moved[0] - moved[20].roll(-1, dims=1)).abs().max() < 1e-4  # a whole pixel later
    grown = cover(shape, scale=0.1 + torch.arange(100) / 2000, angle=0.3).sum(dim=(1, 2))
    assert (grown.diff() > 0).all()
    between = (moved > 0.05) & (moved < 0.95)
    assert between.any(dim=2).any(dim=1).all()


def test_colors_are_those_of_colorsys_and_hue_has_a_period_of_one():
    generator = torch.Generator().manual_seed(0)
    h, s, v = torch.rand(3, 500, generator=generator)
    h[:18] = torch.arange(18) / 6 - 1
    rows = torch.stack([h % 1, s, v]).T.tolist()  # colorsys is right from 0 up only
    wanted = torch.tensor([colorsys.hsv_to_rgb(*row) for row in rows])
    torch.testing.assert_close(rgb(h, s, v), wanted, atol=1e-5, rtol=0)
    images = draw(factors("square", h=h, s=s, v=v))
    torch.testing.assert_close(images[:, :, 32, 32], wanted, atol=1e-5, rtol=0)
    assert not images[:, :, 0].any()


def test_a_batch_is_its_images_one_by_one():
    """Whatever the patch, which the largest of a batch sets, and whatever shapes are mixed."""
    generator = torch.Generator().manual_seed(0)
    given = {name: torch.rand(300, generator=generator) for name in FACTORS}
    given["shape"] = torch.randint(5, (300,), generator=generator)
    given["scale"] = given["scale"].clamp(min=0.01)  # some are cut by the border
    images = draw(given, 32)
    assert images.shape == (300, 3, 32, 32)
    for i in range(0, 300, 23):
        alone = draw({name: column[i : i + 1] for name, column in given.items()}, 32)[0]
        torch.testing.assert_close(images[i], alone, atol=1e-5, rtol=0)
    assert torch.equal(draw({name: column.double() for name, column in given.items()}, 32), images)


@pytest.mark.parametrize("name", STUDIED)
def test_every_world_draws_what_it_says(name):
    world = WORLDS[name]
    images, found = world.sample(400, torch.Generator().manual_seed(0))
    again, same = world.sample(400, torch.Generator().manual_seed(0), device="cpu")
    assert torch.equal(images, again) and all(torch.equal(found[k], same[k]) for k in found)
    assert images.shape == (400, 3, 64, 64) and images.dtype == torch.float32
    assert world.train.contains(found).all() and tuple(found) == world.train.names
    cover = images.amax(dim=1)
    assert center(cover) == pytest.approx(torch.stack([found["x"], found["y"]]), abs=0.012)
    assert (cover.amax(dim=(1, 2)) > 0.85).all()  # visible
    edge = torch.cat([cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]], dim=1)
    assert (edge.sum(dim=1) < 0.05 * cover.sum(dim=(1, 2))).all()  # nothing is cut
    assert torch.equal(world.draw(found), images)
    copy = pickle.loads(pickle.dumps(world))
    assert copy == world and repr(copy) == repr(world) and hash(copy) == hash(world)
    if world.held_out:
        held = world.held_out.sample(400, torch.Generator().manual_seed(0))
        assert not world.train.contains(held).any() and world.draw(held).amax() > 0.9


def test_worlds_differ_from_large_in_what_their_names_say():
    large, small = WORLDS["large"], WORLDS["small"]
    assert replace(small, fixed=large.fixed) == large != small
    assert {a for a, b in zip(small.fixed, large.fixed, strict=True) if a != b} == {
        ("scale", 4 / 64)
    }
    across = [
        (world.draw(factors_of(x=0.5, y=0.5, h=0.0))[0, 0, 32] > 0.5).sum()
        for world in (small, large)
    ]
    assert across == [4, 12]
    hue, triangle, quadrant = (WORLDS[name] for name in ("hue-of-place", "triangle", "quadrant"))
    assert {world.fixed for world in (hue, triangle, quadrant)} == {large.fixed}
    _, found = hue.sample(100, torch.Generator().manual_seed(0))
    assert torch.equal(found["h"], found["x"])
    assert hue.train.factor == Continuous("h", 0.1, 0.9)
    x, y = torch.tensor([[0.49, 0.51, 0.51], [0.5, 0.5, 0.49]])
    edge = {"x": x, "y": y, "h": 0 * x}
    assert triangle.train.contains(edge).tolist() == [True, False, False]
    assert quadrant.held_out.contains(edge).tolist() == [False, True, False]
    _, found = large.sample(1000, torch.Generator().manual_seed(0))
    inside, out = quadrant.train.contains(found), quadrant.held_out.contains(found)
    assert (inside ^ out).all()
    assert torch.equal(out, (found["x"] >= 0.5) & (found["y"] >= 0.5))


@pytest.mark.usefixtures("unenforced_annotations")
def test_equal_worlds_have_one_repr():
    large = WORLDS["large"]
    numbers = {
        name: np.float32(value) if name == "s" else int(value) if name == "angle" else value
        for name, value in large.fixed
    }
    same = World("large", large.train, None, numbers.items(), np.int64(64))
    assert same == large and repr(same) == repr(large) and hash(same) == hash(large)


def test_the_name_is_a_label():
    large = WORLDS["large"]
    other = replace(large, name="other")
    assert other == large and hash(other) == hash(large)


def factors_of(**values):
    return {name: torch.tensor([value]) for name, value in values.items()}


def test_all_eight_factors_of_the_sprites_are_told():
    kinds = {factor.name: factor for factor in WORLDS["sprites"].train.factors}
    assert set(kinds) == set(FACTORS)
    assert WORLDS["sprites"].train.periods == {"angle": 2 * math.pi, "h": 1}
    assert kinds["shape"] == Discrete("shape", (0, 1, 2))
    assert {name: (one.low, one.high) for name, one in kinds.items() if name != "shape"} == {
        "x": (0.1, 0.9),
        "y": (0.1, 0.9),
        "scale": (0.1, 0.2),
        "angle": (0, 2 * math.pi),
        "h": (0, 1),
        "s": (0.3, 1),
        "v": (0.9, 1),
    }


@pytest.mark.parametrize(
    "name, bad, says",
    [
        ("x", 1.2, "x must be from 0 to 1, got 1.2 to 1.2"),
        ("y", math.nan, "y must be from 0 to 1, got nan to nan"),
        ("scale", 0.0, "scale must be from above 0 to 1, got 0 to 0"),
        ("scale", 1.1, "scale must be from above 0 to 1"),
        ("shape", 5, "shape must be from 0 to 4"),
        ("shape", 0.5, "shape must be whole numbers"),
        ("v", -0.1, "v must be from 0 to 1"),
    ],
)
def test_draw_names_the_bad_factor(name, bad, says):
    with pytest.raises(ValueError) as caught:
        draw(factors() | {name: torch.tensor(bad).reshape(-1)})
    assert str(caught.value).startswith(says)


def turned(high, *shapes):
    """A world whose angle goes around, from 0 to high."""
    return World(
        "a",
        POSITION * COLOR * Discrete("shape", shapes) * Continuous("angle", 0, high, periodic=True),
        fixed=(("scale", 0.1),),
        image_size=4,
    )


def test_what_goes_around_may_be_rounded_and_an_image_small():
    images, found = turned(1.00008 * math.pi / 2, 0).sample(9, torch.Generator().manual_seed(0))
    assert images.shape == (9, 3, 4, 4) and found["angle"].max() < 1.00008 * math.pi / 2
    assert (
        discs("a", train=POSITION * Continuous("h", 0, 1.00008, periodic=True)).train.periods["h"]
        > 1
    )


LARGE, QUADRANT = WORLDS["large"], WORLDS["quadrant"]
X, Y = Continuous("x", -1, 2), Continuous("y", 0.1, 0.9)


def shaped(shape):
    return World("a", POSITION * COLOR * shape, fixed=(("scale", 0.1), ("angle", 0.0)))


def hued(high):
    return discs("a", train=POSITION * Continuous("h", 0, high, periodic=True))


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: World("a", Continuous("x", 0, 1)), "train and fixed must share out shape, x, y"),
        (lambda: replace(LARGE, fixed=LARGE.fixed[1:]), "train and fixed must share out"),
        (lambda: replace(LARGE, image_size=3), "image_size must be a whole number of at least 4"),
        (lambda: discs("a", train=X * Y * HUE), "x must be from 0 to 1, got -1 to 2"),
        (
            lambda: World("a", FORM * POSITION * HUE, fixed=(("s", 2.0), ("v", 1.0))),
            "s must be from 0 to 1, got 2 to 2",
        ),
        (lambda: discs("a", pixels=65), "scale must be from above 0 to 1, got 1.01562"),
        (lambda: discs("a", pixels=0), "scale must be from above 0 to 1, got 0"),
        (lambda: shaped(Continuous("shape", 0, 2)), "shape must be a Discrete, got Continuous"),
        (lambda: shaped(Discrete("shape", (0.5, 1.5))), "shape must be whole numbers, got Tensor"),
        *(
            (lambda high=high: hued(high), "h must be alike at both ends to be periodic")
            for high in (0.1, 0.5, 1.00012, 2, 360)
        ),
        (lambda: turned(math.pi, 0, 2), "angle must be alike at both ends to be periodic"),
        (lambda: turned(5e-5 * math.pi / 2, 0), "angle must be alike"),
        (lambda: turned(1.00012 * math.pi / 2, 0), "angle must be alike"),
        (
            lambda: discs("a", train=Continuous("x", 0.1, 0.9, periodic=True) * Y * HUE),
            "x must be alike at both ends to be periodic",
        ),
        (lambda: replace(LARGE, held_out=Y), "held_out must be a set of x, y, h, got ('y',)"),
        (lambda: replace(LARGE, held_out=QUADRANT.held_out), "held_out must be disjoint from"),
        (
            lambda: discs(
                "a",
                train=Continuous("x", 0.5, 0.51) * Continuous("y", 0.5, 0.9) * HUE,
                held_out=POSITION * HUE,
            ),
            "held_out must be disjoint from train",
        ),
        (
            lambda: discs(
                "a",
                train=Continuous("x", 0.1, 0.5) * Y * HUE,
                held_out=Continuous("x", 0.495, 0.9) * Y * HUE,
            ),
            "held_out must be disjoint from train",
        ),  # found by a hundred draws of each, not by fifty
        (
            lambda: discs(
                "a",
                train=POSITION * (HUE - Continuous("h", 0.9, 1)),
                held_out=POSITION * Continuous("h", 0.9, 1.1),
            ),
            "hole must be within the range of the periodic h",
        ),
        (lambda: LARGE.draw(factors_of(x=0.5, y=0.5)), "factors must be x, y, h, got x, y"),
        (
            lambda: LARGE.draw(factors_of(x=0.5, y=0.5, h=0.1, scale=0.9)),
            "factors must be x, y, h, got x, y, h, scale",
        ),
    ],
)
def test_impossible_worlds_are_refused(make, says):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(says)
