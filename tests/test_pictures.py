"""What is seen in pictures that are known to the last pixel."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sbd_utils.data.circles import Sprites, draw_sprite, make_sprites
from sbd_utils.metrics.pictures import (
    explained,
    find_blobs,
    fixed_pattern,
    gray_levels,
    local_pattern,
    peak_height,
    quadrant,
    right_blobs,
    spectrum,
    strength,
)

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
    assert find_blobs(np.full((1, 3, 64, 64), 0.21)).count == 1, "just above VISIBLE"


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


def part(sprites, chosen):
    return Sprites(
        sprites.images[chosen], {name: values[chosen] for name, values in sprites.factors.items()}
    )


def test_right_blobs():
    truth = part(SPRITES, slice(9, 18))  # x = 0.5, with room to both sides
    pictures = truth.images.numpy()
    assert right_blobs(truth, pictures).all()
    assert right_blobs(truth, np.roll(pictures, 1, axis=3)).all(), "a pixel is within reach"
    moved, recolored = np.roll(pictures, (1, 1), axis=(2, 3)), np.roll(pictures, 1, axis=1)
    tripled = pictures + np.roll(pictures, 20, axis=3) + np.roll(pictures, -20, axis=3)
    for wrong in (moved, recolored, tripled, 0 * pictures):
        assert not right_blobs(truth, wrong).any()


@pytest.mark.parametrize("kind", [{"sizes": (3,)}, {"colors": ("#202020", "red")}])
def test_what_is_no_blob_itself_is_not_looked_for(kind):
    sprites = make_sprites(positions=2, **kind)
    with pytest.raises(ValueError, match="^sprites must each be a blob of 20 pixels at least"):
        right_blobs(sprites, sprites.images.numpy())


def test_local_pattern_finds_what_cancels_in_the_mean():
    truth = np.zeros((4, 3, 64, 64))
    truth[:, 0, 24:40, 24:40] = 1  # its windows are flat, inside and out
    signs = np.array([1, -1, 1, -1])[:, None, None, None]
    pictures = truth + truth * signs * (BOARD - 0.5) * 2 * 3 / 255
    assert gray_levels(pictures - truth, 2) == pytest.approx(0, abs=1e-9)
    found = local_pattern(pictures, truth)
    assert {name: len(levels) for name, levels in found.items()} == {
        "background": 4 * 60,
        "inside": 4 * 4,
    }
    assert_allclose(found["background"], 0)
    assert_allclose(found["inside"], 3 / 3**0.5)  # one of three channels has it
    truth[:, 0, 25, 25] = 0  # an edge in one window
    assert len(local_pattern(pictures, truth)["inside"]) == 4 * 3


def test_strength_is_that_of_a_pixel_over_all():
    rng = np.random.default_rng(0)
    pictures = 0.5 + rng.normal(size=(500, 3, 64, 64)) * (1 + BOARD)
    found = strength(pictures)
    assert np.square(found).mean() == pytest.approx(1)
    assert found[BOARD == 1].mean() / found[BOARD == 0].mean() == pytest.approx(2, rel=0.01)


def test_spectrum_sums_to_the_variance_and_has_the_patterns_at_their_frequencies():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 3, 64, 64))
    power = spectrum(noise)
    assert power.sum() == pytest.approx(noise.mean(axis=0).var(axis=(1, 2)).mean())
    assert quadrant(power).shape == (33, 33)
    blocks = np.kron(BOARD[:32, :32], np.ones((2, 2)))  # every 4 pixels
    for board, period in ((BOARD, 2), (blocks, 4)):
        power = spectrum(0.1 * noise + np.broadcast_to(board, noise.shape))
        assert np.unravel_index(power.argmax(), power.shape)[0] % (64 // period) == 0
        assert power[:: 64 // period, :: 64 // period].sum() == pytest.approx(0.25, rel=0.02)
    # Dots have all three peaks of a period of 2, where a board has only one, and none of 4.
    dots = np.zeros((64, 64))
    dots[::2, ::2] = 1
    power = spectrum(0.1 * noise + np.broadcast_to(dots, noise.shape))
    assert peak_height(power, 2) > 1000 and peak_height(power, 4) < 10


def test_a_peak_is_compared_with_the_24_frequencies_around_it():
    distance = np.minimum(np.arange(64) % 32, -np.arange(64) % 32)
    rings = np.maximum(distance[:, None], distance)
    assert peak_height(np.choose(rings.clip(max=3), [10.0, 5, 1, 3]), 2) == 10
    assert peak_height(np.ones((6, 6)), 2) == 1
    for side, period in ((4, 2), (9, 3), (7, 2)):
        with pytest.raises(ValueError, match=f"^period must be even and a divisor of {side}"):
            peak_height(np.ones((side, side)), period)


def test_quadrant_averages_the_waves_of_both_directions():
    power = np.zeros((8, 8))
    power[1, 2] = power[-1, -2] = 1  # down to the right
    power[3, 1] = power[-3, -1] = power[-3, 1] = power[3, -1] = 1
    found = quadrant(power)
    assert (found[1, 2], found[3, 1], found.sum()) == (0.5, 1, 1.5)
