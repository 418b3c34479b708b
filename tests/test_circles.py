"""The sprites against Pillow itself and against counts made by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sbd_utils.data.circles import Sprites, draw_sprite, make_sprites

BAD = [
    *[("x", value) for value in (-0.01, 1.01, float("nan"))],
    ("y", 2),
    ("shape", "triangle"),
    ("size", 0),
    ("size", 63),
    ("color", "#ff000080"),
    ("image_size", 3),
]


def test_defaults_are_the_posts_3675_images_in_order():
    default = make_sprites()
    assert default.images.shape == (3675, 3, 64, 64)
    assert default.images.dtype == torch.float32
    assert default.images.min() == 0 and default.images.max() == 1
    assert len({image.numpy().tobytes() for image in default.images}) == 3675
    steps = [k / 34 for k in range(35)]
    factors = {name: list(values) for name, values in default.factors.items()}
    assert factors.pop("color") == ["red", "green", "blue"] * 1225
    assert factors.pop("shape") == ["circle"] * 3675 and factors.pop("size") == [16] * 3675
    np.testing.assert_allclose(factors.pop("y"), np.tile(np.repeat(steps, 3), 35))
    np.testing.assert_allclose(factors.pop("x"), np.repeat(steps, 105))
    assert not factors


def test_unrounded_box_is_cut_not_rounded_and_17_pixels_across():
    """46 * 10 / 34 = 13.53 and 46 * 3 / 34 = 4.06: columns 13 to 29, rows 4 to 20."""
    expected = torch.zeros(64, 64)
    expected[4:21, 13:30] = 1
    assert torch.equal(draw_sprite(10 / 34, 3 / 34, shape="square")[0], expected)
    circle = draw_sprite(10 / 34, 3 / 34)[0]
    assert torch.equal(circle.amax(0), expected.amax(0)) and circle.sum() == 221
    assert torch.equal(circle.amax(1), expected.amax(1))


def test_green_is_half_bright():
    green = draw_sprite(0, 0, color="green").amax((1, 2))
    assert torch.equal(green, torch.tensor([0, 128 / 255, 0]))


def test_any_shapes_sizes_colors_and_image_size_in_order():
    rgb = {"#ff8000": (255, 128, 0), "white": (255, 255, 255), "lime": (0, 255, 0)}
    sprites = make_sprites(
        image_size=48, sizes=(5, 20), positions=3, shapes=["square", "circle"], colors=tuple(rgb)
    )
    rows = list(product((0, 0.5, 1), (0, 0.5, 1), ("square", "circle"), (5, 20), rgb))
    assert list(zip(*sprites.factors.values(), strict=True)) == rows
    assert sprites.images.shape == (108, 3, 48, 48)
    for image, (x, y, shape, size, color) in zip(sprites.images, rows, strict=True):
        left, top = (46 - size) * x, (46 - size) * y  # 20.5 for a size of 5 in the middle
        picture = Image.new("RGB", (48, 48))
        pen = ImageDraw.Draw(picture)
        draw = {"circle": pen.ellipse, "square": pen.rectangle}[shape]
        draw((left, top, left + size, top + size), fill=rgb[color])
        expected = torch.tensor(np.asarray(picture) / 255, dtype=torch.float32)
        assert torch.equal(image, expected.permute(2, 0, 1))


def test_one_position_is_the_upper_left_and_the_largest_size_fits():
    sprites = make_sprites(image_size=32, sizes=[30], positions=1, shapes=["square"])
    assert len(sprites.images) == 3
    assert draw_sprite(0, 0, "square", 2, image_size=4).sum() == 9
    assert torch.equal(sprites.images[0, 0, :31, :31], torch.ones(31, 31))
    assert not sprites.images[0, 0, 31].any() and not sprites.images[0, 0, :, 31].any()


@pytest.mark.parametrize(
    "make, arguments, name",
    [
        *((draw_sprite, {"x": 0.5, "y": 0.5, name: value}, name) for name, value in BAD),
        (make_sprites, {"positions": 0}, "positions"),
        (make_sprites, {"sizes": (16, 63)}, "size"),
        (make_sprites, {"image_size": 17}, "size"),
    ],
)
def test_the_message_names_the_bad_argument(make, arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        make(**arguments)


def test_a_color_that_pillow_does_not_know_is_refused():
    with pytest.raises(ValueError, match="no such color"):
        draw_sprite(0.5, 0.5, color="no such color")


def test_factors_that_are_missing_or_of_another_length_are_refused():
    sprites = make_sprites(positions=2)
    for name, column in (("y", None), ("size", sprites.factors["size"][1:])):
        factors = {k: v for k, v in {**sprites.factors, name: column}.items() if v is not None}
        with pytest.raises(ValueError, match=rf"^factors\['{name}'\] must be an array \[12\]"):
            Sprites(sprites.images, factors)
