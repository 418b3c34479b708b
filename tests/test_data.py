"""The sprites against Pillow itself and against counts made by hand."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sbd_utils.data import draw_sprite, make_sprites


@pytest.fixture(scope="module")
def default():
    return make_sprites()


def pillow(shape, box, rgb, image_size=64):
    """What Pillow itself draws, [3, image_size, image_size] in [0, 1]."""
    image = Image.new("RGB", (image_size, image_size), (0, 0, 0))
    pen = ImageDraw.Draw(image)
    {"circle": pen.ellipse, "square": pen.rectangle}[shape](box, fill=rgb)
    return torch.tensor(np.asarray(image) / 255, dtype=torch.float32).permute(2, 0, 1)


def test_defaults_are_the_posts_3675_images(default):
    assert default.images.shape == (3675, 3, 64, 64)
    assert default.images.dtype == torch.float32
    assert default.images.min() == 0 and default.images.max() == 1
    assert {name: len(values) for name, values in default.factors.items()} == {
        "x": 3675, "y": 3675, "shape": 3675, "size": 3675, "color": 3675,
    }
    assert set(default.factors["shape"]) == {"circle"} and set(default.factors["size"]) == {16}
    assert len({image.numpy().tobytes() for image in default.images}) == 3675


def test_default_order_is_x_then_y_then_color(default):
    steps = [k / 34 for k in range(35)]
    assert list(default.factors["color"]) == ["red", "green", "blue"] * 1225
    np.testing.assert_allclose(default.factors["y"], np.tile(np.repeat(steps, 3), 35))
    np.testing.assert_allclose(default.factors["x"], np.repeat(steps, 105))


@pytest.mark.parametrize(
    "i, j, color", [(0, 0, 0), (34, 34, 1), (10, 3, 2), (3, 10, 0), (17, 33, 1)]
)
def test_default_pixels_are_pillows_with_unrounded_boxes(default, i, j, color):
    left, top = 46 * i / 34, 46 * j / 34
    rgb = [(255, 0, 0), (0, 128, 0), (0, 0, 255)][color]
    expected = pillow("circle", (left, top, left + 16, top + 16), rgb)
    assert torch.equal(default.images[i * 105 + j * 3 + color], expected)


def test_unrounded_box_is_cut_not_rounded():
    """46 * 10 / 34 = 13.53 and 46 * 3 / 34 = 4.06: columns 13 to 29, rows 4 to 20."""
    red = draw_sprite(10 / 34, 3 / 34, shape="square")[0]
    expected = torch.zeros(64, 64)
    expected[4:21, 13:30] = 1
    assert torch.equal(red, expected)


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_size_16_is_17_pixels_across(shape):
    red = draw_sprite(0.5, 0.25, shape=shape)[0]
    assert red.any(dim=0).sum() == 17 and red.any(dim=1).sum() == 17


def test_circle_leaves_the_corners_of_its_box_black_and_square_does_not():
    assert draw_sprite(0, 0, "circle")[0, 0, 0] == 0
    assert draw_sprite(0, 0, "square")[0, 0, 0] == 1


def test_x_moves_along_the_width_and_y_along_the_height():
    left_to_right = draw_sprite(1, 0)[0].nonzero()
    assert left_to_right[:, 1].min() == 46 and left_to_right[:, 0].min() == 0
    down = draw_sprite(0, 1)[0].nonzero()
    assert down[:, 0].min() == 46 and down[:, 1].min() == 0


def test_green_is_half_bright(default):
    green = default.images[1]
    assert green[1].max() == torch.tensor(128 / 255) and not green[[0, 2]].any()
    assert draw_sprite(0, 0, color="lime")[1].max() == 1


def test_any_shapes_sizes_colors_and_image_size_in_order():
    sprites = make_sprites(
        image_size=48, sizes=(5, 20), positions=2, shapes=["square", "circle"],
        colors=("#ff8000", "white", "lime"),
    )
    assert sprites.images.shape == (2 * 2 * 2 * 2 * 3, 3, 48, 48)
    rgb = {"#ff8000": (255, 128, 0), "white": (255, 255, 255), "lime": (0, 255, 0)}
    row = 0
    for x in (0, 1):
        for y in (0, 1):
            for shape in ("square", "circle"):
                for size in (5, 20):
                    for color in rgb:
                        found = [values[row] for values in sprites.factors.values()]
                        assert found == [x, y, shape, size, color]
                        left, top = (46 - size) * x, (46 - size) * y
                        box = (left, top, left + size, top + size)
                        assert torch.equal(sprites.images[row], pillow(shape, box, rgb[color], 48))
                        row += 1


def test_one_position_is_the_upper_left_and_the_largest_size_fits():
    sprites = make_sprites(image_size=32, sizes=[30], positions=1, shapes=["square"])
    assert len(sprites.images) == 3
    assert torch.equal(sprites.images[0, 0, :31, :31], torch.ones(31, 31))
    assert not sprites.images[0, 0, 31].any() and not sprites.images[0, 0, :, 31].any()


@pytest.mark.parametrize("name, value", [
    ("x", -0.01), ("x", 1.01), ("x", float("nan")), ("x", "0"), ("y", 2), ("y", float("nan")),
    ("y", None), ("shape", "triangle"), ("shape", None), ("size", 63), ("size", 0), ("size", 16.0),
    ("color", "no such color"), ("color", 7), ("color", None), ("color", "#ff000080"),
    ("color", "rgba(255, 0, 0, 128)"), ("image_size", 3), ("image_size", 64.0),
    ("image_size", "64"),
])
def test_draw_sprite_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        draw_sprite(**{"x": 0.5, "y": 0.5, name: value})


@pytest.mark.parametrize("name, value, named", [
    ("positions", 0, "positions"), ("positions", -1, "positions"), ("positions", 2.5, "positions"),
    ("sizes", (), "sizes"), ("sizes", 16, "sizes"), ("sizes", (16, 63), "size"),
    ("shapes", [], "shapes"), ("shapes", "circle", "shapes"), ("shapes", ["circle", "?"], "shape"),
    ("colors", [], "colors"), ("colors", "red", "colors"), ("colors", ["red", "?"], "color"),
    ("colors", None, "colors"), ("colors", ["red", "#0f08"], "color"),
    ("image_size", 17, "size"), ("image_size", 0, "image_size"), ("image_size", 64.0, "image_size"),
])
def test_make_sprites_names_the_bad_argument(name, value, named):
    with pytest.raises(ValueError, match=f"^{named} must"):
        make_sprites(**{name: value})
