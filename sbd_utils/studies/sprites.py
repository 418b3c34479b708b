"""The study of sprites: {world} × {decoder} × {seed}, and what is measured of each run."""

import sys
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree

from sbd_utils.claims import SIDES
from sbd_utils.measures import intervals
from sbd_utils.measures.codes import decode, encode
from sbd_utils.measures.disentanglement import report
from sbd_utils.measures.geometry import folded_cells, principal_plane
from sbd_utils.measures.prediction import error_ratio
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RUNS
from sbd_utils.studies import tables
from sbd_utils.studies.store import provenance
from sbd_utils.training.loop import Run, TrainConfig, load_or_train, progress
from sbd_utils.training.speed import hand_back_memory
from sbd_utils.training.stream import Stream, generator
from sbd_utils.worlds.sprites import WORLDS, World

DECODERS = ("deconv", "sbd")
EPOCH = 4096  # images; none is seen twice
EPOCHS, LATENTS = 100, 10
# The pilot fixed EPOCHS: two worlds, with a seed each that the study does not use.
JOBS = {
    name: [{"world": world, "decoder": decoder, "seed": seed}
           for world, seed in cases for decoder in DECODERS]
    for name, cases in (("sprites", [(world, seed) for seed in range(5) for world in WORLDS]),
                        ("pilot", [("sprites", 100), ("large", 101)]))
}
SCORED = 10_000  # images, drawn for the measures
SCORES = 2**20  # in the place of a seed; no training has it
LOOKS, SIDE = 8, 16  # sprites that stand at each place of a lattice, and its places a side


def trained(world: str, decoder: str, seed: int) -> Run:
    """A VAE of ten latents, trained on a world's stream, or loaded where it is finished."""
    config = TrainConfig(decoder, seed, epochs=EPOCHS, latent_dim=LATENTS)
    return load_or_train(config, Stream(WORLDS[world], EPOCH), RUNS, lambda run: print(
        f"{world}: {progress(run)}", file=sys.stderr))


def train_and_score(world: str, decoder: str, seed: int) -> dict:
    """A row of the table, of a trained VAE."""
    run = trained(world, decoder, seed)
    row = {
        "world": world, "decoder": decoder, "seed": seed, "images": EPOCH * len(run.history),
        "reconstruction": run.history.reconstruction[-1], "kl": run.history.kl[-1],
        **score(run.vae, WORLDS[world]), "seconds": run.history.undisturbed_seconds,
        **provenance(run),
    }
    hand_back_memory()
    return row


def score(vae: VAE, world: World) -> dict[str, float]:
    """Measures of a VAE's codes on new images of its world, and its plane of places.

    The same images for all runs. explained: 1 - squared error over the images' squared distance
    from their mean. The others by `report` and by `plane`.
    """
    images, factors = world.sample(SCORED, generator(SCORES, 0))
    mu, log_var = encode(vae, images)
    some = images[:2000].numpy()
    left = np.square(decode(vae, mu[:2000]) - some).sum() / np.square(some - some.mean(0)).sum()
    columns = {name: column.numpy() for name, column in factors.items()}
    return {"explained": float(1 - left), **report(mu, columns, world.train.periods),
            **plane(vae, world)}


class Moved(NamedTuple):
    """Sprites at each place of a lattice, and their codes."""

    places: np.ndarray  # [place, 2], x and y
    seen: np.ndarray  # [place], bool: in training
    images: torch.Tensor  # [look * place, 3, height, width]
    codes: np.ndarray  # [look, place, latent]
    affine: np.ndarray  # [look, place, latent], of the best affine map from seen places


def moved(vae: VAE, world: World) -> Moved:
    """Eight sprites of a world at each place of a lattice over [0.15, 0.85]².

    They stand there whatever the world says of places and of what depends on them. A place is seen
    that is no farther than 0.03 from one of 20,000 draws of training. The affine map has one slope
    for all sprites, and starts at each sprite's mean.
    """
    looks = world.train.sample(LOOKS, generator(SCORES, 1))
    line = torch.linspace(0.15, 0.85, SIDE)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    factors = {name: column.repeat_interleave(len(places)) for name, column in looks.items()}
    factors |= {name: places[:, axis].repeat(LOOKS) for axis, name in enumerate("xy")}
    images = world.draw(factors)
    drawn = world.train.sample(20_000, generator(SCORES, 2))
    seen = cKDTree(torch.stack([drawn["x"], drawn["y"]], dim=1)).query(places)[0] < 0.03

    codes = encode(vae, images)[0].reshape(LOOKS, len(places), -1)
    start = codes[:, seen].mean(axis=1, keepdims=True)
    design = places.numpy() - places[seen].numpy().mean(axis=0)
    slope = np.linalg.lstsq(design[seen], (codes - start)[:, seen].mean(axis=0))[0]  # [2, latent]
    return Moved(places.numpy(), seen, images, codes, start + design @ slope)


def plane(vae: VAE, world: World) -> dict[str, float]:
    """How flat the codes of places are, and what is left of that where none was seen in training.

    sheet: R² of one sheet, of any form, for all sprites of `moved`; what varies is the code of one
    sprite as it moves. flat: R² of the affine map, on seen places. folded: share of folded cells,
    in each sprite's principal plane. unseen: share of places that are. And three errors, root mean
    squares over sprites and seen places, each with its ratio, the same over unseen places divided
    by it, NaN where all is seen: code, the distance of the code from the affine map's; picture, of
    the reconstruction, summed over pixels and channels; drawn, the same of what is drawn from the
    affine map's code.
    """
    places, seen, images, codes, affine = moved(vae, world)
    steps = codes - codes[:, seen].mean(axis=1, keepdims=True)
    total, off = np.square(steps[:, seen]).sum(), np.square(codes - affine)
    around = np.square(steps - steps.mean(axis=0))[:, seen].sum()
    lattice = places.reshape(SIDE, SIDE, 2)
    folded = [folded_cells(principal_plane(code.reshape(SIDE, SIDE, -1), lattice))
              for code in codes]

    def error(codes: np.ndarray) -> np.ndarray:
        """Squared error of what is drawn of codes, for each place, [P]."""
        wrong = np.square(decode(vae, codes.reshape(len(images), -1)) - images.numpy())
        return wrong.sum(axis=(1, 2, 3)).reshape(LOOKS, -1).mean(axis=0)

    errors = {"code": off.sum(axis=2).mean(axis=0), "picture": error(codes),
              "drawn": error(affine)}
    return {
        "sheet": float(1 - around / total), "flat": float(1 - off[:, seen].sum() / total),
        "folded": float(np.mean(folded) / (SIDE - 1) ** 2), "unseen": float(1 - seen.mean()),
        **{name: float(square[seen].mean() ** 0.5) for name, square in errors.items()},
        **{f"{name}_ratio": float("nan") if seen.all()
           else error_ratio(square[seen], square[~seen]) ** 0.5 for name, square in errors.items()},
    }


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """What the protocol asks, answered: a line per condition, with its question's answer.

    rows: of results/sprites.csv, both decoders with the same seeds in every world. A condition
    holds if the whole 95% interval of a mean over seeds is what it must be. A question's answer is
    "yes" if all its conditions hold, else "not shown".
    """
    rows = rows.assign(**{f"log_{name}": np.log(rows[f"{name}_ratio"])
                          for name in ("drawn", "code", "picture")})

    def sb_minus_deconv(score: str, world: str) -> pd.Series:
        return tables.difference(rows[rows.world == world], score).droplevel("cpu").sort_index()

    sb = rows[(rows.world == "sprites") & (rows.decoder == "sbd")]
    small, large = (sb_minus_deconv("explained", world) for world in ("small", "large"))
    asked = [
        ("better pictures", "reconstruction, SB minus DeConv",
         sb_minus_deconv("reconstruction", "sprites"), "<", 0),
        ("disentangled", "MIG, SB minus DeConv", sb_minus_deconv("MIG", "sprites"), ">", 0),
        ("a plane of places", "flat, SB", sb.flat, ">", 0.9),
        ("a plane of places", "flat, SB minus DeConv", sb_minus_deconv("flat", "sprites"), ">", 0),
        ("small objects", "unexplained, DeConv minus SB, small minus large", small - large, ">", 0),
        *(("dependent factors", f"flat, SB minus DeConv, {world}",
           sb_minus_deconv("flat", world), ">", 0) for world in ("hue-of-place", "triangle")),
        *((f"unseen: {what}", f"log of the {name} ratio, SB minus DeConv",
           sb_minus_deconv(f"log_{name}", "quadrant"), "<", 0)
          for what, name in (("drawing", "drawn"), ("encoding", "code"), ("both", "picture"))),
    ]
    lines = []
    for question, measure, values, side, bound in asked:
        found = intervals.mean(values)
        lines.append({"question": question, "measure": measure, "mean": found.value,
                      "low": found.low, "high": found.high, "seeds": found.count,
                      "must be": f"{side} {bound:g}",
                      "holds": all(SIDES[side](end, bound) for end in (found.low, found.high))})
    table = pd.DataFrame(lines)
    every = table.groupby("question")["holds"].transform("all")
    table["answer"] = np.where(every, "yes", "not shown")
    if rows[rows.world == "small"].groupby("decoder").explained.mean().max() < 0.5:
        table.loc[table.question == "small objects", "answer"] = "cannot be answered"
    return table.set_index(["question", "measure"])
