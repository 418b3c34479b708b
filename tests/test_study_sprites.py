"""The scores of the plane of positions and the row of a run, on codes that are known."""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from sbd_utils.data.sprites import WORLDS, World
from sbd_utils.experiments import sprites, tables
from sbd_utils.models.vae import VAE
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.records import load_run

CORNER = 49 / 256  # 7 of 16 places a side are farther than 0.03 from the quadrant's own


def centers(images):
    """Where the discs of [N, 3, 64, 64] images are, x and y as a world has them, [N, 2]."""
    light = images.sum(axis=1)
    light = light / light.sum(axis=(1, 2), keepdims=True)
    pixels = (np.arange(64) + 0.5) / 64
    return np.stack([(light.sum(axis=1) * pixels).sum(1), (light.sum(axis=2) * pixels).sum(1)], 1)


class Known(VAE):
    """A known code of the positions [N, 2], and what a decoder adds to a pixel [N]."""

    def __init__(self, code, wrong=lambda code: np.full(len(code), 0.2)):
        torch.nn.Module.__init__(self)
        self.code, self.wrong, self.images = code, wrong, []

    def encode(self, images):
        self.images = images.numpy()
        return self.code(centers(self.images)), None

    def decode(self, codes):
        drawn = self.images[: len(codes)].copy()
        drawn[:, 0, 0, 0] += self.wrong(codes)
        return drawn


@pytest.fixture
def plane(monkeypatch):
    """`position_plane_scores` of a Known VAE in a world."""
    monkeypatch.setattr(sprites, "SPRITES_PER_POSITION", 4)
    monkeypatch.setattr(sprites, "encode", lambda vae, images: vae.encode(images))
    monkeypatch.setattr(sprites, "decode", lambda vae, codes: vae.decode(codes))
    return lambda vae, world="quadrant": sprites.position_plane_scores(vae, WORLDS[world])


def test_sprites_stand_at_their_places(plane):
    vae = Known(lambda places: places)
    found = sprites.encode_lattice(vae, WORLDS["triangle"])
    assert centers(found.images.numpy()) == pytest.approx(
        np.tile(found.positions, (4, 1)), abs=1e-3
    )
    assert found.codes == pytest.approx(np.tile(found.positions, (4, 1, 1)), abs=1e-3)
    assert found.affine == pytest.approx(found.codes, abs=1e-3)
    assert (found.seen == (found.positions.sum(axis=1) < 1.001)).all()


def affine(places):
    return places @ [[2.0, 0.5, 0], [-1, 1, 0.3]] + [1, 2, 3]


def in_corner(places):
    return (places > 0.525).all(axis=1)


def wave(places):
    """1 and -1 in turns over the lattice, which no affine map follows."""
    return np.where(np.rint(places.sum(axis=1) * 15 / 0.7) % 2, 1.0, -1.0)


@pytest.mark.parametrize("world, unseen", [("quadrant", CORNER), ("large", 0), ("hue-of-place", 0)])
def test_an_affine_code_is_flat(plane, world, unseen):
    found = plane(Known(affine), world)
    assert found["sheet"] == pytest.approx(1, abs=1e-4)
    assert found["flat"] == pytest.approx(1, abs=1e-3)
    assert found["folded"] == 0 and found["unseen"] == pytest.approx(unseen)
    for where in ("seen", "unseen"):
        assert found[f"code_{where}"] < 0.01
        assert found[f"picture_{where}"] == pytest.approx(0.2) == found[f"drawn_{where}"]
    assert found["picture_right"] == found["drawn_right"] == 1


@pytest.mark.parametrize("world", ["quadrant", "large"])
def test_a_code_that_leaves_the_plane_in_the_corner(plane, world):
    """Where nothing was seen, and in a world that shows all, as a control."""

    def code(places):
        off = wave(places) * np.where(in_corner(places), 0.3, 0.1)
        return np.column_stack([places, off])

    found = plane(Known(code), world)
    assert found["code_unseen"] / found["code_seen"] == pytest.approx(3, rel=0.01)
    # 0.1 of codes that vary by x, y and the wave itself
    lattice = np.linspace(0.15, 0.85, 16)
    x, y = (axis.ravel() for axis in np.meshgrid(lattice, lattice))
    seen = ~in_corner(np.column_stack([x, y]))
    spread = x[seen].var() + y[seen].var() + 0.1**2
    assert found["code_seen"] == pytest.approx((0.1**2 / spread) ** 0.5, rel=0.01)
    assert found["picture_seen"] == found["drawn_unseen"] == pytest.approx(0.2)
    assert found["sheet"] == pytest.approx(1, abs=1e-4) and found["flat"] < 0.999


def test_flat_is_of_the_axis_that_the_map_serves_worse(plane):
    """Of x, y / 2 and a wave of 0.1, the map explains x and y / 2, and leaves the wave."""
    found = plane(
        Known(lambda places: np.column_stack([places[:, 0], places[:, 1] / 2, 0.1 * wave(places)])),
        "large",
    )
    moves = np.linspace(0.15, 0.85, 16).var()
    assert found["flat"] == pytest.approx(moves / 4 / (moves / 4 + 0.1**2), rel=0.01)


def test_a_code_without_one_of_the_axes_is_not_flat(plane):
    assert plane(Known(lambda places: places * [0, 1]), "large")["flat"] < 0.01


def test_what_is_drawn_of_the_planes_code_and_of_the_encoders(plane):
    def code(places):  # which confuses the unseen places with a seen one
        return np.where(in_corner(places)[:, None], 0.3, places)

    found = plane(Known(code, lambda code: np.where(in_corner(code), 0.6, 0.2)))
    assert found["picture_unseen"] == pytest.approx(0.2)  # it is drawn as seen places are
    assert found["drawn_unseen"] == pytest.approx(0.6)  # the plane leads to the corner
    assert found["drawn_seen"] == pytest.approx(0.2)


def test_a_place_is_seen_within_0_03_of_a_draw():
    found = sprites.seen_in_training(
        np.array([[0.52, 0.7], [0.535, 0.7]]), WORLDS["quadrant"].train
    )
    assert found.tolist() == [True, False]


@pytest.mark.parametrize("shift, right", [((0, 0), 1), ((1, 1), 1), ((2, 1), 0)])
def test_a_picture_is_right_with_one_blob_within_two_pixels(plane, monkeypatch, shift, right):
    vae = Known(lambda places: places)
    monkeypatch.setattr(
        vae, "decode", lambda codes: np.roll(vae.images[: len(codes)], shift, axis=(2, 3))
    )
    found = plane(vae)
    assert found["picture_right"] == right == found["drawn_right"]


def test_a_small_sprite_is_no_blob(plane):
    assert np.isnan(plane(Known(affine), "small")["drawn_right"])


def test_shapes_take_turns(plane, monkeypatch):
    drawn, draw = [], World.draw
    monkeypatch.setattr(
        World, "draw", lambda world, factors: drawn.append(factors) or draw(world, factors)
    )
    for name in ("sprites", "large"):
        sprites.encode_lattice(Known(lambda places: places), WORLDS[name])
    assert drawn[0]["shape"].reshape(4, -1).unique(dim=1)[:, 0].tolist() == [0, 1, 2, 0]
    assert "shape" not in drawn[1]


def test_a_sheet_that_is_bent_is_one_sheet_and_not_flat(plane):
    found = plane(Known(lambda places: np.column_stack([places, 5 * (places[:, :1] - 0.5) ** 2])))
    assert found["sheet"] == pytest.approx(1, abs=1e-4) and found["flat"] < 0.8


def test_sprites_of_two_slopes_are_not_one_sheet(plane):
    def code(places):
        slope = np.repeat([0.5, 1.5], len(places) // 2)[:, None]
        return slope * places + 7 * slope  # how far apart they start does not count

    found = plane(Known(code), "large")
    assert found["sheet"] == pytest.approx(0.8, abs=1e-3)  # 1 - 0.5² / (1 + 0.5²)
    assert found["flat"] == pytest.approx(2 / 3, abs=1e-3)  # 1 / (1 + 0.25 along each axis)


def test_a_code_that_folds_left_onto_right(plane):
    line = 0.15 + 7 * 0.7 / 15  # one of the lattice
    folded = plane(Known(lambda places: np.abs(places - [line, 0])), "large")["folded"]
    assert folded == pytest.approx(7 / 15)


@pytest.fixture
def reported(monkeypatch):
    """What `report` is asked for, which takes its time elsewhere."""
    calls = []
    monkeypatch.setattr(sprites, "report", lambda *args: calls.append(args) or {"MIG": 0.5})
    monkeypatch.setattr(sprites, "SCORED", 300)
    return calls


def test_scores_are_of_the_same_new_images_for_all_runs(monkeypatch, reported):
    drawn = []
    monkeypatch.setattr(sprites, "SCORED", 2100)  # of which 2000 are drawn
    monkeypatch.setattr(sprites, "position_plane_scores", lambda vae, world: {"flat": 0.9})
    monkeypatch.setattr(
        sprites,
        "encode",
        lambda vae, images: (drawn.append(images.numpy()) or centers(images.numpy()), None),
    )
    vae = Known(lambda positions: positions)
    for share, expected in ((0, 1.0), (1, 0.0), (0.5, 0.75)):
        monkeypatch.setattr(
            sprites,
            "decode",
            lambda vae, codes, share=share: (
                share * drawn[-1][:2000].mean(axis=0) + (1 - share) * drawn[-1]
            )[: len(codes)],
        )
        found = sprites.score(vae, WORLDS["large"])
        assert found == {
            "explained": pytest.approx(expected, abs=1e-5),
            "active": 2,
            "MIG": 0.5,
            "flat": 0.9,
        }
        assert np.array_equal(drawn[0], drawn[-1]) and len(drawn[0]) == 2100
    for codes, factors, periods in reported:
        assert codes == pytest.approx(np.column_stack([factors["x"], factors["y"]]), abs=1e-3)
        assert set(factors) == {"x", "y", "h"} and periods == {"h": 1}


@pytest.mark.parametrize("spread, active", [((1, 1, 0), 2), ((1, 0, 1), 2), ((1, 0.1, 0.1), 1)])
def test_dead_latents_are_not_scored(monkeypatch, plane, reported, spread, active):
    """0.1 of a place has a variance of 0.0005, in which all of the place can be read."""
    monkeypatch.setattr(sprites, "position_plane_scores", lambda vae, world: {"flat": 0.9})
    vae = Known(lambda places: places[:, [0, 1, 1]] * spread)
    found = sprites.score(vae, WORLDS["large"])
    assert found["active"] == active
    if active == 2:
        assert reported[0][0].shape == (300, 2) and found["flat"] == 0.9
    else:
        assert set(found) == {"explained", "active"} and not reported


def test_a_run_that_diverged_is_a_row_without_scores(monkeypatch, capsys):
    def diverges(*args):
        raise sprites.TrainingDivergedError("epoch 7")

    monkeypatch.setattr(sprites, "train", diverges)
    job = sprites.Job("large", "sbd", 1)
    assert sprites.train_and_score(job) == {**asdict(job), "cpu": sprites.cpu_name()}
    assert "epoch 7" in capsys.readouterr().err


def test_a_row_is_of_its_world_decoder_and_seed(monkeypatch, tmp_path, reported):
    monkeypatch.setattr(sprites, "RUNS", tmp_path)
    monkeypatch.setattr(
        sprites, "TrainConfig", partial(TrainConfig, compiled=False, precision="float32")
    )
    monkeypatch.setattr("sbd_utils.metrics.information.ACTIVE", 0)
    worlds = {name: replace(world, image_size=32) for name, world in WORLDS.items()}
    monkeypatch.setattr(sprites, "WORLDS", worlds)
    small = {"EPOCH": 16, "SCORED": 20, "BEFORE": 1, "SPRITES_PER_POSITION": 2, "SIDE": 6}
    for name, value in small.items():
        monkeypatch.setattr(sprites, name, value)
    job = sprites.Job("quadrant", "deconv", 3, decoder_variance=0.5, epochs=2)
    row = sprites.train_and_score(job)
    assert row | asdict(job) == row and row["precision"] == "float32"
    [path] = tmp_path.glob("deconv-seed3-*")
    run = load_run(path)
    assert (run.config.decoder_variance, run.config.epochs) == (0.5, 2)
    assert run.config.latent_dim == 10
    history = run.history
    assert [row["reconstruction_before"], row["reconstruction"]] == history.reconstruction
    assert row["kl"] == history.kl[-1]
    assert sprites.train_and_score(job) == row  # the run is loaded, not trained anew
    assert reported[0][0].shape == (20, 10) and len(reported) == 2
    other = sprites.train_and_score(replace(job, world="large"))
    assert other["reconstruction"] != row["reconstruction"] and other["unseen"] == 0


def test_jobs_are_the_protocols():
    jobs, pilot = sprites.JOBS["sprites"], sprites.JOBS["pilot"]
    assert len(jobs) == 6 * 2 * 5 and {job.seed for job in jobs} == set(range(5))
    assert {job.world for job in jobs} == set(sprites.STUDIED) and len(sprites.STUDIED) == 6
    assert len(pilot) == 6 and {job.seed for job in pilot} == {100, 101}
    assert {job.decoder_variance for job in jobs} == {sprites.VARIANCE}
    epochs = {(job.world, job.epochs) for job in jobs}
    assert epochs == {(world, 30 if world == "hue-of-place" else 150) for world in sprites.STUDIED}
    assert {job.epochs for job in pilot} == {100}
    fixed = sprites.EPOCH, sprites.LATENTS, sprites.SCORED, sprites.BEFORE  # for committed scores
    assert fixed == (4096, 10, 10_000, 10)
    assert (sprites.SPRITES_PER_POSITION, sprites.SIDE) == (8, 16)


@pytest.mark.parametrize("study", sprites.JOBS)
def test_committed_scores_are_whole(study):
    found = tables.read_all(study)
    assert found.precision.notna().all()
    assert (found.unseen.between(0, 1) == (found.active > 1)).all()


SCORES = ["reconstruction", "MIG", "flat", "explained", "drawn_unseen", "code_unseen"]
GOOD = {"sbd": [5, 0.6, 0.99, 0.98, 2, 2, 2], "deconv": [9, 0.2, 0.8, 0.96, 9, 9, 9]}


def rows(to=()):
    """Rows in which every answer is a yes, but for scores set to others, by world and decoder."""
    jobs = sprites.JOBS["sprites"]
    scores = [np.multiply(GOOD[job.decoder], 1 + 0.001 * job.seed) for job in jobs]
    table = pd.DataFrame(map(asdict, jobs)).assign(precision="float32")
    table[[*SCORES, "picture_unseen"]] = scores
    table.loc[(table.world == "small") & (table.decoder == "deconv"), "explained"] = 0.6
    for (world, decoder, score), value in dict(to).items():
        table.loc[(table.world == world) & (table.decoder == decoder), score] = value
    return table


def answered(table):
    return sprites.protocol_answers(table).answer.groupby(level="question").first().to_dict()


def test_protocol_is_answered():
    assert set(answered(rows()).values()) == {"yes"} and len(answered(rows())) == 8
    table = sprites.protocol_answers(rows())
    gap = table.loc[("better pictures", "reconstruction, SB minus DeConv")]
    assert gap["must be"] == "< 0" and gap["mean"] == pytest.approx(-4 * 1.002)
    assert gap[["least", "most"]].tolist() == pytest.approx([-4 * 1.004, -4])
    assert table.loc[("a plane of places", "flat, SB"), "must be"] == "> 0.9"
    log = table.loc[("unseen: drawing", "log of the drawn error there, SB over DeConv")]
    assert log["mean"] == pytest.approx(np.log(2 / 9))


def test_small_objects_are_judged_by_shares():
    """What is left unexplained: 40% and 10% of small ones, 4% and 2% of large ones."""
    large = {("large", "sbd", "explained"): 0.98, ("large", "deconv", "explained"): 0.96}
    to = large | {("small", "sbd", "explained"): 0.9}
    gap = sprites.protocol_answers(rows(to=to)).xs("small objects").iloc[0]
    assert gap["mean"] == pytest.approx(np.log(10 / 40) - np.log(2 / 4)) and gap.answer == "yes"
    # Nearly half of it again: a gap that is ten times as large, and no larger as a share.
    found = answered(rows(to=large | {("small", "sbd", "explained"): 0.79}))
    assert found["small objects"] == "not shown"
    # Worse by a tenth, which is less than in the large ones.
    worse = {("small", "sbd", "explained"): 0.56, ("large", "sbd", "explained"): 0.5}
    assert answered(rows(to=worse))["small objects"] == "not shown"


@pytest.mark.parametrize(
    ("question", "case", "value"),
    (
        ("better pictures", ("sprites", "sbd", "reconstruction"), 10),
        ("disentangled", ("sprites", "deconv", "MIG"), 0.7),
        ("a plane of places", ("sprites", "sbd", "flat"), 0.85),  # above DeConv's
        ("a plane of places", ("sprites", "deconv", "flat"), 0.995),
        ("small objects", ("small", "deconv", "explained"), 0.985),
        ("dependent factors", ("hue-of-place", "sbd", "flat"), 0.7),
        ("dependent factors", ("triangle", "sbd", "flat"), 0.7),
        ("unseen: drawing", ("quadrant", "sbd", "drawn_unseen"), 10),
        ("unseen: encoding", ("quadrant", "sbd", "code_unseen"), 10),
        ("unseen: both", ("quadrant", "sbd", "picture_unseen"), 10),
    ),
)
def test_an_answer_can_be_no(question, case, value):
    found = answered(rows(to={case: value}))
    assert found.pop(question) == "not shown" and set(found.values()) == {"yes"}


def one_run(table):
    return (table.world == "sprites") & (table.decoder == "sbd") & (table.seed == 0)


@pytest.mark.parametrize("score", [0.05, 0.19, np.nan])
def test_one_seed_that_disagrees_is_not_shown(score):
    table = rows()
    table.loc[one_run(table), "MIG"] = score
    assert answered(table)["disentangled"] == "not shown"


def test_a_run_without_scores_leaves_the_others_their_answers():
    table = rows()
    table.loc[one_run(table), ["reconstruction", "MIG", "flat", "precision"]] = np.nan
    for some in (table, table[~one_run(table)]):
        found = answered(some)
        lost = {"better pictures", "disentangled", "a plane of places"}
        assert {name for name, answer in found.items() if answer != "yes"} == lost


def test_a_seed_of_two_processors_is_one_seed():
    table = rows()
    again = table[one_run(table)].assign(MIG=0.05)
    found = sprites.protocol_answers(pd.concat([table, again])).xs("disentangled").iloc[0]
    assert found["least"] == pytest.approx((0.6 + 0.05) / 2 - 0.2) and found.answer == "yes"
    assert answered(pd.concat([table, again.assign(MIG=np.nan)]))["disentangled"] == "not shown"


def test_a_pair_of_two_precisions_is_refused():
    table = rows()
    table.loc[one_run(table), "precision"] = "bfloat16"
    with pytest.raises(ValueError, match="^rows must be of one precision"):
        sprites.protocol_answers(table)


def test_small_objects_that_nobody_draws_answer_nothing():
    to = {("small", "sbd", "explained"): 0.49, ("small", "deconv", "explained"): 0.1}
    assert answered(rows(to=to))["small objects"] == "cannot be answered"
