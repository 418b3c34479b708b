"""What is seen in pictures that are known to the last pixel."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sbd_utils.measures.pictures import (
    explained,
    find_blobs,
    fixed_pattern,
    gray_levels,
    right_blobs,
)
from sbd_utils.worlds.circles import draw_sprite, make_sprites

SPRITES = make_sprites(positions=3)  # 27


def test_find_blobs_counts_locates_and_names_the_color():
    one, two = draw_sprite(0.5, 0.25).numpy(), draw_sprite(1, 1, color="blue").numpy()
    green, black = draw_sprite(0, 0, "square", 20, "green").numpy(), np.zeros((3, 64, 64))
    dim = np.full((3, 64, 64), 0.19)  # under VISIBLE, as is all of `black`
    veiled = np.where(one[:1] > 0, 3 * one - 1, dim)
    blobs = find_blobs(np.stack([one, one + two, green, black, dim, veiled]))
    assert list(blobs.count) == [1, 2, 1, 0, 0, 1]
    # Boxes from (23, 11.5), cut to 11; from (46, 46); 21 pixels across from the corner.
    assert_allclose(blobs.centroid[[0, 1, 2, 5]], [[31, 19], [42.5, 36.5], [10, 10], [31, 19]])
    red = [1, 0, 0]
    assert_allclose(blobs.color[[0, 1, 2, 5]], [red, [0.5, 0, 0.5], [0, 1, 0], red])
    assert np.isnan(blobs.centroid[3:5]).all() and np.isnan(blobs.color[3:5]).all()


def test_specks_are_not_blobs():
    images = np.zeros((2, 3, 64, 64))
    images[:, 0, 5, 5:24] = 1  # 19 pixels
    images[1, 1, 5, 24] = 1  # the 20th
    assert list(find_blobs(images).count) == [0, 1]


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 64, 64, 3)])
def test_find_blobs_refuses(shape):
    with pytest.raises(ValueError, match="^images must"):
        find_blobs(np.zeros(shape))


BOARD = np.indices((64, 64)).sum(axis=0) % 2  # 0 and 1 in turn


def test_fixed_pattern_is_the_share_that_every_image_repeats():
    noise = np.random.default_rng(0).normal(size=(200, 3, 64, 64))
    board = np.tile(BOARD * 2.0 - 1, (200, 3, 1, 1))
    assert fixed_pattern(board, 2) == pytest.approx(1)
    assert fixed_pattern(noise, 2) < 1e-4
    # Variances 1 and 9: a tenth. With its sign drawn anew for every image, it is no fixed pattern.
    assert fixed_pattern(board + 3 * noise, 2) == pytest.approx(0.1, rel=0.05)
    assert fixed_pattern(board * np.sign(noise[:, :1, :1, :1]), 2) < 0.05
    blocks = np.kron(BOARD[:32, :32], np.ones((2, 2)))[None, None]  # it repeats every 4 pixels
    assert fixed_pattern(blocks, 2) == 0
    assert fixed_pattern(blocks, 4) == fixed_pattern(blocks, 8) == pytest.approx(1)
    assert fixed_pattern(np.ones((2, 3, 64, 64)) * [[[[1]], [[2]], [[3]]]], 2) == 0


@pytest.mark.parametrize("shape, period", [
    ((2, 3, 64, 64), 1), ((2, 3, 64, 64), 5), ((2, 3, 64, 66), 4), ((3, 64, 64), 2),
])
def test_fixed_pattern_refuses(shape, period):
    with pytest.raises(ValueError, match="^(period|images) must be"):
        fixed_pattern(np.zeros(shape), period)


@pytest.mark.parametrize("amplitude", [0.5 / 255, 3 / 255, 0.25])
def test_gray_levels_are_those_of_the_pattern_alone(amplitude):
    noise = np.random.default_rng(0).normal(size=(400, 3, 64, 64)).astype(np.float32)
    board = np.tile(BOARD * 2.0 - 1, (400, 3, 1, 1)).astype(np.float32)
    # The board is 1 from its mean everywhere, so the amplitude is the standard deviation.
    assert gray_levels(amplitude * board, 2) == pytest.approx(255 * amplitude, rel=1e-5)
    both = amplitude * board + noise / 20 + np.float32(0.3)
    assert gray_levels(both, 2) == pytest.approx(255 * amplitude, rel=0.02, abs=0.02)


def test_gray_levels_of_nothing():
    assert gray_levels(np.zeros((2, 3, 64, 64)), 2) == 0


def test_explained_is_one_less_the_share_of_the_variance_that_is_missed():
    truth = SPRITES.images.numpy()
    mean = truth.mean(axis=0)
    assert explained(SPRITES, truth) == 1
    assert explained(SPRITES, np.broadcast_to(mean, truth.shape)) == pytest.approx(0, abs=1e-6)
    assert explained(SPRITES, (truth + mean) / 2) == pytest.approx(0.75)
    assert explained(SPRITES, 2 * mean - truth) == pytest.approx(-3)


def test_right_blobs():
    truth = replace(SPRITES, images=SPRITES.images[9:18])  # x = 0.5, with room to both sides
    pictures = truth.images.numpy()
    assert right_blobs(truth, pictures).all()
    assert right_blobs(truth, np.roll(pictures, 1, axis=3)).all(), "a pixel is within reach"
    moved, recolored = np.roll(pictures, 2, axis=3), np.roll(pictures, 1, axis=1)
    tripled = pictures + np.roll(pictures, 20, axis=3) + np.roll(pictures, -20, axis=3)
    for wrong in (moved, recolored, tripled, 0 * pictures):
        assert not right_blobs(truth, wrong).any()
