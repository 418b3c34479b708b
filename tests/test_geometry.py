"""The measures of a map against maps whose geometry is known beforehand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sbd_utils.metrics.geometry import (
    additive_model_r2,
    additive_splines_r2,
    affine_fit,
    affine_r2,
    compare,
    folded_cells,
    informative_latents,
    knn_probe_r2,
    lattice_places,
    principal_plane,
)

LATTICE = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 5)), axis=-1)  # [5, 7, 2]
POINTS = LATTICE.reshape(-1, 2)
TURN = np.sqrt(0.5) * np.array([[1, -1], [1, 1]])
FOLD = np.column_stack([np.abs(POINTS[:, 0]), POINTS[:, 1]])
X, Y, COLOR = (part.ravel() for part in np.meshgrid(range(35), range(35), range(3), indexing="ij"))


@pytest.mark.parametrize(
    "matrix, singular_ratio, angle",
    [
        (2.1 * TURN, 1, 90),
        ([[3, 0], [0, -1]], 1 / 3, 90),  # a reflection
        ([[2, 1], [0, 1]], (3 - 5**0.5) / 2, 45),  # a shear: the golden ratio squared, inverted
        ([[2, -1], [0, 1]], (3 - 5**0.5) / 2, 135),
    ],
)
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


def test_affine_fit_refuses_points_on_a_line():
    for source in (POINTS * [1, 0], POINTS[:2]):
        with pytest.raises(ValueError, match="^source must be three points at least, not all on"):
            affine_fit(source, POINTS[: len(source)])


@pytest.mark.parametrize("value", [0.5, 0.1])  # the mean of 35 times 0.1 need not be 0.1
def test_the_same_point_every_time_is_no_geometry(value):
    fit = affine_fit(POINTS, POINTS * 0 + value)
    assert (fit.r2, fit.singular_ratio) == (0, 0) and (fit.offset == value).all()


def test_rounding_is_neither_a_slope_nor_a_fold_nor_a_better_fit():
    noise = 1e-16 * np.random.default_rng(0).standard_normal(POINTS.shape)
    assert affine_fit(POINTS, 1 + noise).r2 == 0
    for width, r2 in ((0.8e-12, 0), (1.2e-12, 1)):
        assert affine_fit(POINTS, 1 + width * POINTS / 2).r2 == pytest.approx(r2, abs=1e-3)
    assert folded_cells(LATTICE @ [[0.3, 0.7], [0.6, 1.4]]) == 0  # all on a line
    for offset, unit in ((1e6, 1), (1e8, 1), (0, 1e-13), (0, 1e16)):
        source = offset + unit * POINTS
        fit = affine_fit(source, POINTS)
        assert fit.r2 == pytest.approx(1)
        assert np.allclose(source @ fit.matrix.T + fit.offset, POINTS, atol=1e-6)
    places = np.random.default_rng(0).standard_normal((100_000, 2))
    codes = places + 1e4 + 2 * np.random.default_rng(1).standard_normal(places.shape)
    for score in (
        lambda codes: affine_fit(places, codes).r2,
        lambda codes: additive_model_r2(codes, places, np.zeros(len(codes))),
    ):
        assert score(codes.astype(np.float32)) == pytest.approx(score(codes), abs=1e-3)


@pytest.mark.parametrize("matrix", [TURN, [[1, 4], [0, 1]], [[-1, 0], [0, 1]], [[0, 0.1], [9, 0]]])
def test_no_affine_map_folds(matrix):
    assert folded_cells(LATTICE @ np.transpose(matrix) + 3) == 0


@pytest.mark.parametrize(
    "columns, folded",
    [
        ([0, 1, 2, 3, 4, 5, 4], 4),
        ([0, 1, 2, 3, 2, 1, 2], 8),
        ([0, -1, -2, -3, -2, -1, 0], 12),
        ([0, 1, 2, 3, 3, 3, 3], 0),
        ([0, 1, 2, 3, 3, 3, 2], 4),
    ],
)
def test_folded_cells_are_counted_and_degenerate_ones_are_not(columns, folded):
    """Four rows of six cells, whose seven columns of corners go to and fro."""
    lattice = LATTICE.copy()
    lattice[..., 0] = columns
    for view in (lattice, lattice @ TURN.T, -lattice[:, ::-1]):  # the last is mirrored
        assert folded_cells(view) == folded


@pytest.mark.parametrize("back, folded", [(0.8e-9, 0), (1.2e-9, 1)])
def test_a_cell_has_an_area_from_a_billionth_of_the_largest_on(back, folded):
    assert folded_cells(np.stack(np.meshgrid([0, 1, 1 - back], [0, 1]), axis=-1)) == folded


@pytest.mark.parametrize("columns, folded", [([0, 1, 2, 3, 2, 3], 5), ([0, 1, 2, 3, 4, 5], 0)])
@pytest.mark.parametrize("n", [6, 31])
def test_compare_counts_the_cells_between_six_lines_of_any_lattice(columns, folded, n):
    places = lattice_places(np.linspace(0.2, 0.8, n))
    assert_allclose(places[0, -1], [0.8, 0.2])  # x along a row, y down a column
    points = places.copy()
    points[..., 0] = np.interp(places[..., 0], np.linspace(0.2, 0.8, 6), columns)
    found = compare(points, places)
    assert found.folded == folded
    assert found.fit.r2 == pytest.approx(1) if not folded else found.fit.r2 < 0.95


def test_the_principal_plane_is_the_places_again_however_the_code_lies():
    places = lattice_places(np.linspace(-1, 1, 6)) * [1, 1.2]  # no tie of the two components
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    small = 0.01 * np.random.default_rng(1).standard_normal((6, 6, 2))
    codes = np.concatenate([places[..., ::-1] * [1, -1], small], axis=-1) @ turn + 3
    assert_allclose(principal_plane(codes, places), places, atol=0.05)
    assert_allclose(principal_plane(2 * codes, places), 2 * places, atol=0.1)  # not stretched


def test_informative_latents_go_up_from_the_lowest_mean():
    assert list(informative_latents(np.array([[0, -9, -1, 0.1], [0, 1, -5, -0.1]]))) == [1, 2, 0, 3]
    assert list(informative_latents(np.array([[-1, 0], [-1, 0], [-1, -9]]))) == [1, 0], "no median"


def test_additive_r2_is_one_in_any_directions_and_loses_the_interaction():
    places, shift = np.column_stack([X, Y]), np.array([[5, -3], [0, 40], [9, 9]])[COLOR]
    sheared = places @ [[1, 2], [0, 3]] + shift
    assert additive_model_r2(sheared, places, COLOR) == pytest.approx(1)
    product = (X - 17) * (COLOR - 1)  # no sum of a place and a color explains any of it
    for share, codes in ((0, product), (X.var() / (X + product).var(), X + product)):
        assert additive_model_r2(codes[:, None], places, COLOR) == pytest.approx(share)


SCATTERED = np.random.default_rng(0).uniform(size=(2500, 2))  # [0, 1]², nowhere twice


def test_additive_r2_needs_labels_that_repeat_and_more_codes_than_it_fits():
    places = np.column_stack([X, Y])
    assert additive_model_r2(places[:5], places[:5], np.arange(5) // 3) == pytest.approx(1)
    additive_model_r2(places[:12], places[:12], np.arange(12) // 2)
    for count, labels in (
        (len(X), np.arange(len(X))),
        (4, np.arange(4) // 2),
        (12, np.arange(12) % 7),
    ):
        with pytest.raises(ValueError, match="^labels must be of more codes"):
            additive_model_r2(places[:count] ** 2, places[:count], labels)


@pytest.mark.parametrize("offset, unit", [(1e7, 1), (0, 1e-13)])
def test_additive_r2_of_places_in_any_unit(offset, unit):
    codes, places = np.column_stack([X, COLOR]), offset + unit * np.column_stack([X, Y])
    assert additive_model_r2(codes, places, COLOR) == pytest.approx(1)


def test_readout_finds_places_in_whatever_form():
    """Also on a square that is wound into a tube, of which no affine map makes a square again."""
    angle = 1.9 * np.pi * SCATTERED[:, 0]
    tube = np.column_stack([np.cos(angle), np.sin(angle), 3 * SCATTERED[:, 1]])
    for codes in (SCATTERED, SCATTERED @ TURN.T + 7, tube):
        assert 0.99 < knn_probe_r2(codes, SCATTERED) < 1
    assert affine_fit(tube[:, :2], SCATTERED).r2 < 0.5
    offset = (SCATTERED + 1e5).astype(np.float32)
    assert knn_probe_r2(tube, offset) == knn_probe_r2(tube, offset.astype(float))


def test_readout_of_what_is_lost_is_that_of_a_guess():
    """The mean of five places at random misses by 6/5 of their variance: an R² of -0.2."""
    noise = np.random.default_rng(1).normal(size=SCATTERED.shape)
    assert knn_probe_r2(noise, SCATTERED) == pytest.approx(-0.2, abs=0.02)
    fold = np.column_stack([abs(SCATTERED[:, 0] - 0.5), SCATTERED[:, 1]])
    assert knn_probe_r2(fold, SCATTERED) == pytest.approx((1 - 0.2) / 2, abs=0.04)


def test_readout_is_cross_validated_and_the_same_every_time():
    """A code that tells every image apart tells nothing of its place."""
    numbers = np.random.default_rng(1).permutation(len(SCATTERED))[:, None].astype(float)
    assert knn_probe_r2(numbers, SCATTERED) < 0
    assert knn_probe_r2(numbers[:7], SCATTERED[:7]) < 0
    assert knn_probe_r2(numbers, SCATTERED) == knn_probe_r2(numbers, SCATTERED)


R = np.random.default_rng(2)
U, V = R.uniform(size=(2, 2500))
KIND = R.choice(["disc", "heart"], 2500)


def test_affine_r2_predicts_quantities_out_of_sample_and_leaves_labels_out():
    factors = {"u": U, "v": V, "kind": KIND}
    turned = np.column_stack([U, 9 * V]) @ TURN.T + 5
    assert affine_r2(turned, factors) == pytest.approx(1)
    assert affine_r2(turned, {"u": U, "v": V}) == affine_r2(turned, factors)
    assert affine_r2(turned[:, :1] * 0 + U[:, None], factors) == pytest.approx(0.5, abs=0.01)
    assert affine_r2(turned * [1e4, 1e-4], factors) == pytest.approx(1)
    many = R.normal(size=(100, 50))  # fitted to, they would have an R² of a half
    assert affine_r2(many, {"u": U[:100]}) < 0
    assert np.isnan(affine_r2(turned, {"kind": KIND}))
    ring = np.column_stack([np.sin(2 * np.pi * U + 1), 3 * np.cos(2 * np.pi * U + 1)])
    assert affine_r2(ring, {"u": 5 * U}, {"u": 5.0}) == pytest.approx(1)
    assert affine_r2(ring, {"u": 5 * U}) < 0.7


def test_additive_splines_r2_takes_any_function_of_one_factor_and_none_of_two():
    factors, shift = {"u": U, "v": V, "kind": KIND}, 3.0 * (KIND == "disc")
    curved = np.column_stack([np.sin(12 * U) + shift, V**2 - 0.3 * U, abs(U - 0.5) - shift])
    for codes in (curved, curved @ np.linalg.qr(R.normal(size=(3, 3)))[0]):
        assert additive_splines_r2(codes, factors) == pytest.approx(1, abs=2e-3)
    turns = (U + 0.3) % 1  # rolled and unrolled
    ring = np.column_stack([np.sin(2 * np.pi * U + 1), turns])
    assert additive_splines_r2(ring, {"u": 7 * turns + 7, "v": V}, {"u": 7.0}) == pytest.approx(
        1, abs=2e-3
    )
    fine = np.sin(30 * U)[:, None]  # of nine pieces it would have 0.69, of eleven 0.93
    assert additive_splines_r2(fine, factors) == pytest.approx(0.79, abs=0.05)
    product = (U - 0.5) * (V - 0.5)
    assert additive_splines_r2(product[:, None], factors) == pytest.approx(0, abs=0.05)
    half = np.column_stack([product / product.std(), U / U.std()])  # of the variance of both
    assert additive_splines_r2(half, factors) == pytest.approx(0.5, abs=0.02)
    assert (
        additive_splines_r2(R.normal(size=(100, 1)), {"u": U[:100], "v": V[:100]}) < 0
    )  # not fitted to
    assert additive_splines_r2(0 * half + 0.1, factors) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("draw", ["exponential", "lognormal", "standard_cauchy"])
def test_additive_splines_r2_finds_a_line_even_of_quantities_with_long_tails(draw, seed):
    rng = np.random.default_rng(seed)
    long, y = getattr(rng, draw)(size=100), rng.uniform(size=100)
    codes = np.column_stack([long / long.std(), y])
    assert additive_splines_r2(codes, {"long": long, "y": y}) > 0.999


def test_additive_splines_r2_knows_no_order_of_labels():
    rng = np.random.default_rng(0)
    kinds = rng.choice(20, p=np.arange(1, 21) / 210, size=200)
    codes = np.column_stack([rng.normal(size=20)[kinds], rng.normal(size=200)])
    scores = [
        additive_splines_r2(codes, {"kind": order[kinds]})
        for order in (np.arange(20), rng.permutation(20), rng.permutation(20))
    ]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-6)
