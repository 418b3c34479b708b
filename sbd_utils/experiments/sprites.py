"""The study of sprites: {world} × {decoder} × {seed}, and what is measured of each run."""

import sys
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree

from sbd_utils import checks
from sbd_utils.claims import SIDES
from sbd_utils.data.factors import Discrete, FactorSet
from sbd_utils.data.sprites import WORLDS, World
from sbd_utils.metrics.codes import decode, encode
from sbd_utils.metrics.disentanglement import report
from sbd_utils.metrics.geometry import folded_cells, principal_plane
from sbd_utils.metrics.information import active_units
from sbd_utils.metrics.pictures import find_blobs
from sbd_utils.models.decoders import PAIR
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RUNS
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import TrainingDivergedError, print_progress, train
from sbd_utils.training.machine import cpu_name, release_memory
from sbd_utils.training.records import provenance
from sbd_utils.training.stream import Stream, generator

EPOCH = 4096  # images; none is seen twice
EPOCHS, LATENTS = 150, 10
SHORT_EPOCHS = 30  # of hue-of-place, which was added when the computing time was spent
VARIANCE = 0.02  # of the decoder; at the post's 0.3 the sprites stay gray


@dataclass(frozen=True)
class Job:
    """One run to train and to score; `world` is a name in WORLDS."""

    world: str
    decoder: str
    seed: int
    decoder_variance: float = VARIANCE
    epochs: int = EPOCHS


# The pilot fixed variance and epochs: two worlds, with a seed each that the study does not use.
JOBS = {
    "sprites": [
        Job(world, decoder, seed, epochs=SHORT_EPOCHS if world == "hue-of-place" else EPOCHS)
        for seed in range(5)
        for world in ("sprites", "large", "small", "hue-of-place", "triangle", "quadrant")
        for decoder in PAIR
    ],
    "pilot": [
        Job(world, decoder, seed, variance, 100)
        for world, seed, variance in (
            ("sprites", 100, 0.3),
            ("sprites", 100, VARIANCE),
            ("large", 101, VARIANCE),
        )
        for decoder in PAIR
    ],
    # After the seeds had run: small discs that weigh as much as large ones do above.
    "weighed": [
        Job("small", decoder, seed, VARIANCE / 10, 50) for seed in (0, 1) for decoder in PAIR
    ],
    # After hue-of-place had run: its few epochs, where no factor depends on another.
    "short": [Job("large", decoder, 0, epochs=SHORT_EPOCHS) for decoder in PAIR],
}
SCORED = 10_000  # images, drawn for the measures
EVAL_SEED = 2**20  # no training has it
BEFORE = 10  # epochs before the last, of which reconstruction_before is
SPRITES_PER_POSITION, SIDE = 8, 16  # at each place of a lattice, and its places a side


def settings(job: Job) -> tuple[TrainConfig, Stream]:
    """What the run of a job is trained by and on: ten latents, a world's stream."""
    config = TrainConfig(
        job.decoder,
        job.seed,
        epochs=job.epochs,
        latent_dim=LATENTS,
        decoder_variance=job.decoder_variance,
    )
    return config, Stream(WORLDS[job.world], EPOCH)


def train_and_score(job: Job) -> dict:
    """The row of a job; a run that diverged has no scores."""
    try:
        run = train(*settings(job), RUNS, print_progress)
    except TrainingDivergedError as error:
        print(error, file=sys.stderr)
        return {**asdict(job), "cpu": cpu_name()}
    row = {
        **asdict(job),
        "reconstruction": run.history.reconstruction[-1],
        "reconstruction_before": run.history.reconstruction[-1 - BEFORE],
        "kl": run.history.kl[-1],
        **score(run.vae, WORLDS[job.world]),
        "seconds": run.history.undisturbed_seconds,
        **provenance(run),
    }
    release_memory()
    return row


def score(vae: VAE, world: World) -> dict[str, float]:
    """Measures of a VAE's codes on new images of its world, and its plane of places.

    The same images for all runs. explained: 1 - squared error over the images' squared distance
    from their mean. active: the number of active units; the scores of `report` are of these alone,
    since the faintest trace of a factor in a dead latent would count like any other. Where fewer
    than two are active, there are no more scores. The others by `plane`.
    """
    images, factors = world.sample(SCORED, generator(EVAL_SEED, 0))
    mu, _ = encode(vae, images)
    some = images[:2000].numpy()
    left = np.square(decode(vae, mu[:2000]) - some).sum() / np.square(some - some.mean(0)).sum()
    active = active_units(mu)
    found = {"explained": float(1 - left), "active": int(active.sum())}
    if active.sum() < 2:
        return found
    columns = {name: column.numpy() for name, column in factors.items()}
    return {**found, **report(mu[:, active], columns, world.train.periods), **plane(vae, world)}


class Moved(NamedTuple):
    """Sprites at each place of a lattice, and their codes."""

    places: np.ndarray  # [place, 2], x and y
    seen: np.ndarray  # [place], bool: in training
    images: torch.Tensor  # [look * place, 3, height, width]
    codes: np.ndarray  # [look, place, latent]
    slope: np.ndarray  # [2, latent], of the best affine map from seen places to codes
    affine: np.ndarray  # [look, place, latent], what it makes of the places


def placed(world: World) -> tuple[np.ndarray, torch.Tensor]:
    """Eight sprites of a world, its shapes in turn, at each place of a lattice over [0.15, 0.85]².

    Places [place, 2], and images as in Moved. They stand there whatever the world says of places
    and of what depends on them.
    """
    count = SPRITES_PER_POSITION
    sprites = world.train.sample(count, generator(EVAL_SEED, 1))
    for factor in world.train.factors:
        if isinstance(factor, Discrete):
            values = torch.tensor(factor.values).float()
            sprites[factor.name] = values.repeat(count)[:count]
    line = torch.linspace(0.15, 0.85, SIDE)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    factors = {name: column.repeat_interleave(len(places)) for name, column in sprites.items()}
    factors |= {name: places[:, axis].repeat(count) for axis, name in enumerate("xy")}
    return places.numpy(), world.draw(factors)


def moved(vae: VAE, world: World) -> Moved:
    """The codes of `placed` sprites, and the affine map that fits them best.

    A place is seen that is no farther than 0.03 from one of 20,000 draws of training. The map has
    one slope for all sprites, and starts at each sprite's mean.
    """
    places, images = placed(world)
    codes = encode(vae, images)[0].reshape(SPRITES_PER_POSITION, len(places), -1)
    seen = seen_places(places, world.train)
    return Moved(places, seen, images, codes, *affine_map(codes, places, seen))


def seen_places(places: np.ndarray, shown: FactorSet) -> np.ndarray:
    """Which places [place, 2] training sees that draws from a set of factors, bool [place]."""
    drawn = shown.sample(20_000, generator(EVAL_SEED, 2))
    return cKDTree(torch.stack([drawn["x"], drawn["y"]], dim=1)).query(places)[0] < 0.03


def affine_map(
    codes: np.ndarray, places: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best affine map from seen places to codes: slope and affine, as Moved has them."""
    start = codes[:, seen].mean(axis=1, keepdims=True)
    design = places - places[seen].mean(axis=0)
    slope = np.linalg.lstsq(design[seen], (codes - start)[:, seen].mean(axis=0))[0]
    return slope, start + design @ slope


def plane(vae: VAE, world: World) -> dict[str, float]:
    """How flat the codes of places are, and what is left of that where none was seen in training.

    sheet: R² of one sheet, of any form, for all sprites of `moved`; what varies is the code of one
    sprite as it moves. flat: of the affine map, on seen places, for the axis that it serves worse:
    what it explains of the moves along x, or y, over this and all that it leaves. folded: share of
    folded cells, in each sprite's principal plane. unseen: share of places that are.

    Then errors, root mean squares over sprites and places that are seen, or unseen; where all are
    seen, those that the world `quadrant` holds out stand for the unseen ones, as a control. code:
    distance of the code from the affine map's, over that of seen codes from their mean. picture: of
    the reconstruction, summed over pixels and channels. drawn: the same, of what is drawn from the
    affine map's code. And the shares of pictures of unseen places that are right: with one blob,
    within two pixels of its place. They are NaN where a sprite is too small to be a blob.
    """
    places, seen, images, codes, slope, affine = moved(vae, world)
    steps = codes - codes[:, seen].mean(axis=1, keepdims=True)
    around = np.square(steps - steps.mean(axis=0))[:, seen].sum()
    off = np.square(codes - affine)[:, seen].sum()
    moves = len(codes) * np.square(places[seen] - places[seen].mean(axis=0)).sum(axis=0)  # [2]
    along = moves * np.square(slope).sum(axis=1)
    lattice = places.reshape(SIDE, SIDE, 2)
    folded = [
        folded_cells(principal_plane(code.reshape(SIDE, SIDE, -1), lattice)) for code in codes
    ]
    found = {
        "sheet": float(1 - around / np.square(steps[:, seen]).sum()),
        "flat": float((along / (along + off)).min()),
        "folded": float(np.mean(folded) / (SIDE - 1) ** 2),
        "unseen": float(1 - seen.mean()),
    }
    if seen.all():
        seen = seen_places(places, WORLDS["quadrant"].train)
        _, affine = affine_map(codes, places, seen)
    spread = np.square(codes - codes[:, seen].mean(axis=1, keepdims=True))[:, seen].sum(axis=2)
    errors = {"code": np.square(codes - affine).sum(axis=2) / spread.mean()}  # [look, place]
    rights = {}
    for name, those in (("picture", codes), ("drawn", affine)):
        pictures = decode(vae, those.reshape(len(images), -1))
        square = np.square(pictures - images.numpy()).sum(axis=(1, 2, 3))
        errors[name] = square.reshape(len(codes), -1)
        rights[f"{name}_right"] = _right(images.numpy(), pictures, np.tile(~seen, len(codes)))
    for name, square in errors.items():
        for where, some in (("seen", seen), ("unseen", ~seen)):
            found[f"{name}_{where}"] = float(square[:, some].mean() ** 0.5)
    return found | rights


def _right(images: np.ndarray, pictures: np.ndarray, some: np.ndarray) -> float:
    """The share of some pictures that show one blob within two pixels of where the image has it."""
    truth, drawn = find_blobs(images[some]), find_blobs(pictures[some])
    if (truth.count != 1).any():
        return float("nan")
    with np.errstate(invalid="ignore"):
        near = np.linalg.norm(truth.centroid - drawn.centroid, axis=1) <= 2
    return float(((drawn.count == 1) & near).mean())


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """What the protocol asks, answered: a line per condition, with its question's answer.

    rows: of results/sprites.csv. A condition holds if the number of every seed is what it must be,
    which for a difference would happen by luck in 1 case of 32. A question's answer is "yes" if all
    its conditions hold, else "not shown", also where a run has no score. ValueError for a pair of
    decoders that were trained at different precision.
    """
    if (rows.groupby(["world", "seed"]).precision.nunique() > 1).any():
        raise checks.argument_error(
            "rows", "of one precision in each world and seed", rows.precision
        )
    rows = rows.assign(
        log_left=np.log(1 - rows.explained),
        **{f"log_{name}": np.log(rows[f"{name}_unseen"]) for name in ("drawn", "code", "picture")},
    )
    seeds = sorted({job.seed for job in JOBS["sprites"]})

    def of(decoder: str, score: str, world: str) -> pd.Series:
        """A score by seed, its mean over processors; NaN where one of them has none."""
        runs = rows[(rows.world == world) & (rows.decoder == decoder)]
        return runs.groupby("seed")[score].agg(lambda runs: runs.mean(skipna=False)).reindex(seeds)

    def sb_minus_deconv(score: str, world: str) -> pd.Series:
        return of("sbd", score, world) - of("deconv", score, world)

    asked = [
        (
            "better pictures",
            "reconstruction, SB minus DeConv",
            sb_minus_deconv("reconstruction", "sprites"),
            "<",
            0,
        ),
        ("disentangled", "MIG, SB minus DeConv", sb_minus_deconv("MIG", "sprites"), ">", 0),
        ("a plane of places", "flat, SB", of("sbd", "flat", "sprites"), ">", 0.9),
        ("a plane of places", "flat, SB minus DeConv", sb_minus_deconv("flat", "sprites"), ">", 0),
        (
            "small objects",
            "log of the unexplained, SB over DeConv, small minus large",
            sb_minus_deconv("log_left", "small") - sb_minus_deconv("log_left", "large"),
            "<",
            0,
        ),
        (
            "small objects",
            "log of the unexplained, SB over DeConv, small",
            sb_minus_deconv("log_left", "small"),
            "<",
            0,
        ),
        *(
            (
                "dependent factors",
                f"flat, SB minus DeConv, {world}",
                sb_minus_deconv("flat", world),
                ">",
                0,
            )
            for world in ("hue-of-place", "triangle")
        ),
        *(
            (
                f"unseen: {what}",
                f"log of the {name} error there, SB over DeConv",
                sb_minus_deconv(f"log_{name}", "quadrant"),
                "<",
                0,
            )
            for what, name in (("drawing", "drawn"), ("encoding", "code"), ("both", "picture"))
        ),
    ]
    table = pd.DataFrame(
        [
            {
                "question": question,
                "measure": measure,
                "mean": values.mean(skipna=False),
                "least": values.min(skipna=False),
                "most": values.max(skipna=False),
                "must be": f"{side} {bound:g}",
                "holds": bool(SIDES[side](values, bound).all()),
            }
            for question, measure, values, side, bound in asked
        ]
    )
    every = table.groupby("question")["holds"].transform("all")
    table["answer"] = np.where(every, "yes", "not shown")
    if rows[rows.world == "small"].groupby("decoder").explained.mean().max() < 0.5:
        table.loc[table.question == "small objects", "answer"] = "cannot be answered"
    return table.set_index(["question", "measure"])
