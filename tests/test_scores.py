"""The scores of a stand-in VAE that is known to the last pixel."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sbd_utils.data.circles import COLORS, Sprites, draw_sprite, make_sprites
from sbd_utils.metrics.codes import decode, encode, traverse
from sbd_utils.metrics.geometry import (
    LINES,
    additive_model_r2,
    affine_fit,
    draw_lattice,
    encode_lattice,
    knn_probe_r2,
    measure_geometry,
)
from sbd_utils.metrics.information import mig
from sbd_utils.metrics.pictures import Moves, find_blobs, measure_moves
from sbd_utils.metrics.scores import score
from sbd_utils.models.vae import VAE
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.records import History, Run

SPRITES = make_sprites(positions=3)  # 27
GAIN = torch.tensor([1 / 4, 1 / 8])  # place = 0.5 + GAIN * z: -2 to 2 is all of x, half of y


class Painter(VAE):
    """Latent 0 is x, 1 is y, 2 is the color (-2 red, 0 green, 2 blue), 3 is dead."""

    latent_dim = 4

    def __init__(self, image_size=64, size=16, shape="circle"):
        torch.nn.Module.__init__(self)  # it has no networks
        self.image_size, self.size, self.shape = image_size, size, shape
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        blobs = find_blobs(images.numpy())
        corner = torch.tensor(blobs.centroid - self.size / 2 + 0.3)  # with room for rounding
        place = corner / (self.image_size - 2 - self.size)
        color = torch.tensor(blobs.color.argmax(axis=1)) * 2 - 2
        z = torch.column_stack([(place - 0.5) / GAIN, color, 0 * color]).float()
        return z, torch.tensor([-4.0, -3.0, -1.0, 0.0]).expand_as(z)

    def decode(self, z):
        places = (0.5 + GAIN * z[:, :2]).clamp(0, 1).tolist()
        t = z[:, 2] / 2
        rgb = torch.stack([-t, (1 - t.abs()) * 128 / 255, t], dim=1).clamp(0, 1)
        look = self.shape, self.size, "red", self.image_size
        discs = torch.stack([draw_sprite(*place, *look)[:1] for place in places])
        return discs * rgb[:, :, None, None]


class Blinker(Painter):
    """Shows nothing where the dead latent is above 1."""

    def decode(self, z):
        return super().decode(z) * (z[:, 3] <= 1)[:, None, None, None]


class Weaver(Painter):
    """Adds checkerboards of 4 gray levels with periods 2 and 4, which go below black."""

    def decode(self, z):
        places = np.indices((64, 64))
        boards = sum((places // side).sum(axis=0) % 2 * 2.0 - 1 for side in (1, 2))
        return super().decode(z) + 4 / 255 * torch.from_numpy(boards).float()


class Folder(Painter):
    """Its plane is folded at x = 0.7, which turns over the last of five columns of cells."""

    def encode(self, images):
        z, log_var = super().encode(images)
        return torch.column_stack([(z[:, 0] - 0.8).abs(), z[:, 1:]]), log_var


class Odd(Blinker):
    """The latents in reverse, and that of x moves y, too, by a fifth of all."""

    def encode(self, images):
        z, log_var = super().encode(images)
        return self.shear(z, -1).flip(1), log_var.flip(1)

    def decode(self, z):
        return super().decode(self.shear(z.flip(1), 1))

    def shear(self, z, sign):
        return z + sign * 0.05 / GAIN[1] * z[:, :1] * torch.tensor([0, 1, 0, 0])


def test_traverse_sets_one_latent_to_each_value():
    codes, values = np.arange(8.0).reshape(2, 4) + 10, np.array([-1, 0, 1])
    sweeps = traverse(codes, values)
    assert sweeps.shape == (2, 4, 3, 4)
    for (base, latent, step), sweep in zip(np.ndindex(2, 4, 3), sweeps.reshape(-1, 4), strict=True):
        expected = codes[base].copy()
        expected[latent] = values[step]
        assert_array_equal(sweep, expected)
    assert_allclose(traverse(codes)[0, 0, :, 0], [-2, -4 / 3, -2 / 3, 0, 2 / 3, 4 / 3, 2])


def test_traverse_along_axes_sets_the_coordinate_along_each(turn):
    codes = np.arange(8.0).reshape(2, 4)
    along = traverse(codes, np.array([-1, 5]), turn) @ turn.T
    assert_allclose(along, traverse(codes @ turn.T, np.array([-1, 5])), atol=1e-12)


@pytest.fixture
def turn():
    return np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]


@pytest.mark.parametrize("decoder", ["deconv", "sbd"])
def test_encode_and_decode_are_the_vaes_and_clamp(decoder):
    vae = VAE(decoder, latent_dim=3, image_size=32).eval()
    images = make_sprites(32, positions=10).images[:260]  # more than a batch of 256
    mu, log_var = encode(vae, images)
    assert mu.shape == log_var.shape == (260, 3) and mu.dtype == np.float64
    for found, expected in zip((mu, log_var), vae.encode(images), strict=True):
        assert_allclose(found, expected.detach(), atol=1e-5)
    with torch.no_grad():
        next(reversed(list(vae.parameters()))).copy_(torch.tensor([-3.0, 0.5, 3.0]))
    pictures = decode(vae, mu[:130].reshape(2, 65, 3))  # more than a batch of 128
    assert pictures.shape == (2, 65, 3, 32, 32)
    expected = vae.decode(torch.tensor(mu[:130]).float()).detach()
    assert expected.min() < -1 and expected.max() > 2
    assert_allclose(pictures.reshape(130, 3, 32, 32), expected.clamp(0, 1), atol=1e-5)
    assert_allclose(decode(vae, mu[:130], clamp=False), expected, atol=1e-5)


def test_moves_are_those_of_the_painter():
    codes = np.array([[0, 0, -2, 0], [1, 1, 2, 0], [2, 2, 2, 0]])
    moves = measure_moves(Painter(), codes, SPRITES, every=1)
    assert_allclose(moves.x, [1, 0, 0, 0], atol=1e-6)
    assert_allclose(moves.y, [0, 0.5, 0, 0], atol=1e-6)
    assert_allclose(moves.color, [0, 0, 1, 0], atol=1e-6)
    assert_array_equal(moves.factors, np.eye(4, 3, dtype=bool))
    assert_array_equal(moves.one_blob, 1)
    assert moves.mixing == 0


OTHERS = [  # image_size, size, shape
    (32, 8, "circle"),
    (32, 8, "square"),
    (128, 16, "circle"),
    (64, 5, "circle"),
]


@pytest.mark.parametrize("look", OTHERS)
def test_other_sprites_move_all_the_way_and_have_full_marks(look):
    image_size, size, shape = look
    sprites, painter = make_sprites(image_size, (size,), 5, (shape,)), Painter(*look)
    moves = measure_moves(painter, np.array([[0, 0, -2, 0], [1, 1, 2, 0]]), sprites, every=1)
    ways = np.array([moves.x, moves.y, moves.color])
    # A whole way is a whole number of pixels, half a way may be cut.
    assert_allclose(ways, np.eye(3, 4) * [[1], [0.5], [1]], atol=1.01 / (image_size - 2 - size))
    assert moves.x[0] == pytest.approx(1, abs=1e-6) == moves.color[2]
    numbers = score(Run(TrainConfig(), painter, History([2.5], [7.5], [60.0])), sprites)
    full = dict.fromkeys(("explained", "right_blob", "one_blob", "factors_moved"), 1)
    full |= {"mixing": 0, "folded_red": 0}
    assert {name: numbers[name] for name in full} == pytest.approx(full, abs=1e-4)
    assert numbers["mig"] > 0.95 and numbers["r2_red"] > 0.99
    assert numbers["angle_blue"] == pytest.approx(90, abs=2)


def test_moves_are_shares_of_the_sprites_own_places_and_colors():
    """Of places from 0.2 to 0.8, half the way is 0.3; of red and orange, all of it is a third."""
    steps, kinds = (0.2, 0.5, 0.8), {"shape": "circle", "size": 16}
    rows = [(x, y, color) for x in steps for y in steps for color in ("red", "#ff8000")]
    columns = dict(zip(("x", "y", "color"), map(np.array, zip(*rows, strict=True)), strict=True))
    images = torch.stack([draw_sprite(x, y, color=color) for x, y, color in rows])
    sprites = Sprites(images, columns | {n: np.full(len(rows), v) for n, v in kinds.items()})
    painter = Painter()

    def decode(z):  # from red at -2 to orange at 2
        places = (0.5 + z[:, :2] * torch.tensor([0.3, 0.15]) / 2).tolist()
        return torch.stack(
            [
                draw_sprite(*place)[:1]
                * torch.tensor([1, float(t + 2) / 4 * 128 / 255, 0])[:, None, None]
                for place, t in zip(places, z[:, 2].clamp(-2, 2), strict=True)
            ]
        )

    painter.decode = decode
    moves = measure_moves(painter, np.zeros((1, 4)), sprites)
    assert_allclose([moves.x[0], moves.y[1]], [1, 0.5], atol=1.01 / (0.6 * 46))
    assert_allclose(moves.color, [0, 0, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    "kind, named",
    [
        ({"sizes": (8, 16)}, "one size, got 8, 16"),
        ({"shapes": ("circle", "square")}, "one shape"),
        ({"positions": 1}, "more than one x, got 0 for all"),
        ({"sizes": (3,)}, "each be a blob"),
        ({"image_size": 32}, "of 64 pixels a side"),
    ],
)
def test_moves_are_measured_only_of_what_the_sprites_tell(kind, named):
    with pytest.raises(ValueError, match=f"^sprites must (be )?(of )?{named}"):
        measure_moves(Painter(), np.zeros((1, 4)), make_sprites(**{"positions": 3} | kind))


def test_the_lattice_is_of_the_sprites_own_kind_and_within_their_places():
    sprites = make_sprites(32, (8,), 3, ("square",), ("red", "lime"))
    drawn = draw_lattice(sprites, "lime")
    assert drawn.shape == (961, 3, 32, 32)
    assert torch.equal(drawn[31 * 30], draw_sprite(0.2, 0.8, "square", 8, "lime", 32))
    with pytest.raises(ValueError, match="^color must be one of the sprites', got 'green'"):
        draw_lattice(sprites, "green")
    lower = Sprites(sprites.images[:12], {n: v[:12] for n, v in sprites.factors.items()})
    with pytest.raises(ValueError, match="^sprites must be from 0.2 to 0.8 in x, got 0 to 0.5"):
        encode_lattice(Painter(32, 8, "square"), lower, "red")


@pytest.mark.parametrize(
    "kind, named",
    [
        ({"colors": ("red", "blue")}, "sprites must be in red, green, blue"),
        ({"sizes": (8, 16)}, "sprites must be of one size"),
        ({"image_size": 32}, r"images must be a float32 tensor in \[0, 1\], \[N, 3, 64, 64\]"),
    ],
)
def test_score_refuses_what_it_cannot_judge(kind, named):
    run = Run(TrainConfig(), Painter(), History([2.5], [7.5], [60.0]))
    with pytest.raises(ValueError, match=f"^{named}"):
        score(run, make_sprites(positions=3, **kind))
    with pytest.raises(ValueError, match="^run must be trained"):
        score(Run(TrainConfig(), Painter(), History()), SPRITES)


def test_a_latent_that_moves_position_and_color_is_mixed():
    painter = Painter()
    plain = painter.decode
    painter.decode = lambda z: plain(torch.column_stack([z[:, :2], z[:, 0] / 2 - 1, z[:, 3]]))
    moves = measure_moves(painter, np.zeros((1, 4)), SPRITES)
    assert_array_equal(moves.factors, [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert moves.mixing == 0.5, "one of the two that move anything"


def test_a_factor_is_moved_by_more_than_a_tenth_of_its_range():
    less, more = np.full(2, 0.09), np.full(2, 0.11)
    assert_array_equal(Moves(less, more, less, more).factors, [[0, 1, 0]] * 2)


def test_along_the_axes_of_a_turned_code_moves_are_those_of_the_painter(turn):
    painter, codes = Painter(), np.array([[0, 0, -2, 0], [1, 1, 2, 0], [2, 2, 2, 0]])
    expected = measure_moves(painter, codes, SPRITES, every=1)
    plain, back = painter.decode, torch.tensor(turn).float()
    painter.decode = lambda z: plain(z @ back.T)
    assert measure_moves(painter, codes @ turn, SPRITES, every=1).mixing > 0.5
    moves = measure_moves(painter, codes @ turn, SPRITES, every=1, axes=turn)
    for factor in ("x", "y", "color"):
        assert_allclose(getattr(moves, factor), getattr(expected, factor), atol=1e-3)


@pytest.mark.parametrize("base, one_blob", [(0, [1, 1, 1, 5 / 7]), (2, [0.5, 0.5, 0.5, 5 / 7])])
def test_black_pictures_are_not_blobs_and_do_not_spoil_the_moves(base, one_blob):
    """The sweeps of the second code are black, all but those of latent 3, if that is at 2."""
    codes = np.zeros((102, 4))
    codes[101, 3] = base  # of the second that is swept
    moves = measure_moves(Blinker(), codes, SPRITES)
    assert_allclose(moves.one_blob, one_blob)
    assert_allclose([moves.x[0], moves.y[1], moves.color[2], moves.x[3]], [1, 0.5, 1, 0], atol=1e-6)


def test_geometry_of_an_affine_code_is_affine_and_of_a_fold_is_folded():
    flat = measure_geometry(Painter(), SPRITES, np.array([1, 0]), "green")
    assert flat.points.shape == (31, 31, 2)
    y, x = (LINES[[5, 20]] - 0.5) * [8, 4]
    assert_allclose(flat.points[5, 20], [y, x], atol=0.2)  # y first, as the latents are
    assert_allclose(flat.fit.matrix, [[0, 8], [4, 0]], atol=0.1)
    assert flat.fit.r2 == pytest.approx(1, abs=2e-3) and flat.folded == 0
    assert flat.fit.singular_ratio == pytest.approx(0.5, abs=0.02)
    assert flat.fit.angle == pytest.approx(90, abs=1)
    fold = measure_geometry(Folder(), SPRITES, np.array([0, 1]), "red")
    assert fold.folded == 5 and fold.fit.r2 < flat.fit.r2


def test_score_of_the_painter_is_full_marks():
    numbers = score(Run(TrainConfig(), Painter(), History([2.5], [7.5], [60.0])), SPRITES)
    expected = {
        "reconstruction": 2.5,
        "kl": 7.5,
        "seconds": 60,
        "explained": 1,
        "right_blob": 1,
        "mixing": 0,
        "factors_moved": 1,
        "one_blob": 1,
        "readout_affine": 1,
        "additive": 1,
        "mig": 1,
    }
    expected |= {f"folded_{color}": 0 for color in COLORS}
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    left = {"r2": 1, "singular_ratio": 0.5, "angle": 90}
    names = {f"{name}_{color}" for name in left for color in COLORS}
    assert set(numbers) == set(expected) | names | {"readout", "pattern", "gray_levels"}
    assert numbers["pattern"] == numbers["gray_levels"] == 0, "drawn to the last pixel"
    places = np.column_stack([SPRITES.factors["x"], SPRITES.factors["y"]])
    mu, _ = encode(Painter(), SPRITES.images)
    assert numbers["readout"] == knn_probe_r2(mu[:, :2], places) > 0.7, "of nine places"
    assert all(numbers[n] == pytest.approx(left[n.rsplit("_", 1)[0]], rel=0.02) for n in names)


def test_score_of_an_odd_painter_is_that_of_its_parts():
    history = History([9.0, 8.0, 2.5], [3.0, 5.0, 7.5], [10.0, 30.0, 11.0])
    numbers = score(Run(TrainConfig(), Odd(), history), SPRITES)
    assert (numbers["reconstruction"], numbers["kl"]) == (2.5, 7.5)
    assert numbers["seconds"] == history.undisturbed_seconds == 33
    assert numbers["one_blob"] == pytest.approx((3 + 5 / 7) / 4), "the mean over the latents"
    assert numbers["factors_moved"] == pytest.approx((2 + 1 + 1) / 3), "of the three that do"
    assert numbers["mixing"] == 0 and numbers["right_blob"] == 1
    mu, places = (
        encode(Odd(), SPRITES.images)[0],
        np.column_stack([SPRITES.factors["x"], SPRITES.factors["y"]]),
    )
    assert numbers["readout"] == knn_probe_r2(mu[:, [3, 2]], places), "by the most precise latents"
    assert numbers["readout_affine"] == affine_fit(mu[:, [3, 2]], places).r2
    assert numbers["additive"] == additive_model_r2(mu, places, SPRITES.factors["color"])
    assert numbers["mig"] == mig(mu, SPRITES.factors) < 1
    for color in COLORS:
        geometry = measure_geometry(Odd(), SPRITES, np.array([3, 2]), color)
        assert numbers[f"r2_{color}"] == geometry.fit.r2
        assert numbers[f"angle_{color}"] == geometry.fit.angle
        assert numbers[f"singular_ratio_{color}"] == geometry.fit.singular_ratio
    folded = score(Run(TrainConfig(), Folder(), history), SPRITES)
    mu = encode(Folder(), SPRITES.images)[0]
    assert (
        folded["readout_affine"]
        == affine_fit(mu[:, :2], places).r2
        < (affine_fit(places, mu[:, :2]).r2)
    )
    assert folded["folded_green"] == 5


def test_score_tells_of_a_pattern_before_it_is_clamped():
    numbers = score(Run(TrainConfig(), Weaver(), History([2.5], [7.5], [60.0])), SPRITES)
    assert numbers["pattern"] == pytest.approx(1 / 2, abs=1e-4), "that of 2 pixels alone"
    assert numbers["gray_levels"] == pytest.approx(4, abs=1e-3)
    assert numbers["right_blob"] == numbers["mig"] == 1 and numbers["mixing"] == 0
