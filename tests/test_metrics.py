"""Every measure against maps, codes and pictures whose score is known beforehand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sbd_utils.data import draw_sprite
from sbd_utils.metrics import (
    additive_r2,
    affine_fit,
    find_blobs,
    fixed_pattern,
    folded_cells,
    informative_latents,
    mig,
)

LATTICE = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 5)), axis=-1)  # [5, 7, 2]
POINTS = LATTICE.reshape(-1, 2)
TURN = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])
FOLD = np.column_stack([np.abs(POINTS[:, 0]), POINTS[:, 1]])
X, Y, COLOR = (part.ravel() for part in np.meshgrid(range(35), range(35), range(3), indexing="ij"))
FACTORS = {"x": X / 34, "y": Y / 34, "color": np.array(["red", "green", "blue"])[COLOR]}


@pytest.mark.parametrize("matrix, singular_ratio, angle", [
    (2.1 * TURN, 1, 90),
    ([[3, 0], [0, -1]], 1 / 3, 90),  # a reflection
    ([[2, 1], [0, 1]], (3 - 5**0.5) / 2, 45),  # a shear: the golden ratio squared, inverted
    ([[2, -1], [0, 1]], (3 - 5**0.5) / 2, 135),
])
def test_affine_fit_recovers_an_affine_map(matrix, singular_ratio, angle):
    fit = affine_fit(POINTS, POINTS @ np.transpose(matrix) + [5, -7])
    assert_allclose(fit.matrix, matrix, atol=1e-12)
    assert_allclose(fit.offset, [5, -7])
    assert (fit.r2, fit.singular_ratio) == pytest.approx((1, singular_ratio))
    assert fit.angle == pytest.approx(angle)


def test_r2_of_a_fold_is_what_is_left_of_the_variance_and_no_rotation_changes_it():
    left = FOLD[:, 1].var() / (FOLD[:, 0].var() + FOLD[:, 1].var())  # |x| has no slope in x
    assert affine_fit(POINTS, FOLD).r2 == pytest.approx(left)
    assert affine_fit(POINTS, FOLD @ TURN.T).r2 == pytest.approx(left)
    radius, angle = 1 + POINTS[:, 0], np.pi * POINTS[:, 1]
    circles = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    assert affine_fit(POINTS, circles).r2 < 0.5


BAD = (POINTS[:, :1], POINTS[0], POINTS * np.nan, POINTS + np.inf, None)


@pytest.mark.parametrize("named, source, target", [
    *(("source", bad, POINTS) for bad in BAD), *(("target", POINTS, bad) for bad in BAD[:4]),
    ("source and target", POINTS, POINTS[1:]), ("source", POINTS * [1, 0], POINTS),
    ("source", POINTS[:2], POINTS[:2]), ("source", POINTS[:0], POINTS[:0]),
])
def test_affine_fit_refuses(named, source, target):
    with pytest.raises(ValueError, match=f"^{named} must"):
        affine_fit(source, target)


@pytest.mark.parametrize("value", [0.5, 0.1])  # the mean of 35 times 0.1 need not be 0.1
def test_the_same_point_every_time_is_no_geometry(value):
    fit = affine_fit(POINTS, POINTS * 0 + value)
    assert (fit.r2, fit.singular_ratio) == (0, 0) and (fit.offset == value).all()


@pytest.mark.parametrize("matrix", [TURN, [[1, 4], [0, 1]], [[-1, 0], [0, 1]], [[0, 0.1], [9, 0]]])
def test_no_affine_map_folds(matrix):
    assert folded_cells(LATTICE @ np.transpose(matrix) + 3) == 0


@pytest.mark.parametrize("columns, folded", [
    ([0, 1, 2, 3, 4, 5, 4], 4), ([0, 1, 2, 3, 2, 1, 2], 8), ([0, -1, -2, -3, -2, -1, 0], 12),
    ([0, 1, 2, 3, 3, 3, 3], 0), ([0, 1, 2, 3, 3, 3, 2], 4),
])
def test_folded_cells_are_counted_and_degenerate_ones_are_not(columns, folded):
    """Four rows of six cells, whose seven columns of corners go to and fro."""
    lattice = LATTICE.copy()
    lattice[..., 0] = columns
    for view in (lattice, lattice @ TURN.T, -lattice[:, ::-1]):  # the last is mirrored
        assert folded_cells(view) == folded


@pytest.mark.parametrize("bad", [POINTS, LATTICE[:1], LATTICE[:, :, :1], LATTICE[:, :1]])
def test_folded_cells_refuses(bad):
    with pytest.raises(ValueError, match="^lattice must"):
        folded_cells(bad)


def test_informative_latents_go_up_from_the_lowest_mean():
    assert list(informative_latents(np.array([[0, -9, -1, 0.1], [0, 1, -5, -0.1]]))) == [1, 2, 0, 3]


def test_additive_r2_is_one_in_any_directions_and_loses_the_interaction():
    places, shift = np.column_stack([X, Y]), np.array([[5, -3], [0, 40], [9, 9]])[COLOR]
    sheared = places @ [[1, 2], [0, 3]] + shift
    assert additive_r2(sheared, places, FACTORS["color"]) == pytest.approx(1)
    product = (X - 17) * (COLOR - 1)  # no sum of a place and a color explains any of it
    for share, codes in ((0, product), (X.var() / (X + product).var(), X + product)):
        assert additive_r2(codes[:, None], places, FACTORS["color"]) == pytest.approx(share)


def test_mig_is_capped_by_its_bins_and_ignores_what_does_not_vary():
    """20 bins tell 35 positions apart up to ln 20 / ln 35 = 0.843, and 3 colors up to 1."""
    identity = np.column_stack([X, Y, COLOR])
    for name, low, cap in (("x", 0.82, 0.843), ("y", 0.82, 0.843), ("color", 1 - 1e-9, 1 + 1e-9)):
        assert low < mig(identity, {name: FACTORS[name]}) < cap
    whole = mig(identity, FACTORS)
    assert whole == pytest.approx(np.mean([mig(identity, {k: v}) for k, v in FACTORS.items()]))
    assert whole == mig(identity, FACTORS | {"size": np.full(3675, 16)})


@pytest.mark.parametrize("codes", [
    np.ones((3675, 3)), np.column_stack([X, Y, COLOR, X, Y, COLOR]),
], ids=["constant", "duplicated"])
def test_mig_is_zero_where_no_latent_is_ahead(codes):
    assert mig(codes, FACTORS) == pytest.approx(0, abs=1e-9)


def test_mig_falls_when_two_latents_are_turned_and_r2_does_not():
    places = np.column_stack([X, Y])
    turned = places @ TURN.T
    assert mig(places, {"x": X, "y": Y}) > 0.8 > 0.1 > mig(turned, {"x": X, "y": Y})
    assert affine_fit(places, turned).r2 == pytest.approx(1)


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
