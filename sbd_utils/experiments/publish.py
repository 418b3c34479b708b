"""`make publish`: the weights of typical pairs of runs, into results/published/."""

import sys
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform

from sbd_utils import files
from sbd_utils.data.circles import make_sprites
from sbd_utils.experiments import circles, sprites, tables
from sbd_utils.models.decoders import PAIR
from sbd_utils.settings import RUNS
from sbd_utils.training.loop import print_progress, train
from sbd_utils.training.machine import cpu_name
from sbd_utils.training.records import PUBLISHED, run_id

# The worlds of which a pair is published, and the scores that it is chosen by.
SHOWN = ("sprites", "quadrant", "hue-of-place")
SCORES = (
    "reconstruction",
    "kl",
    "explained",
    "MIG",
    "flat",
    "sheet",
    "folded",
    "code_unseen",
    "picture_unseen",
    "drawn_unseen",
)


def typical(rows: pd.DataFrame, scores: Iterable[str] = tables.SCORES) -> tuple[str, int]:
    """The processor and the seed whose pair of runs is most typical.

    rows: one per run, such as those of tables.read. Every score that all runs have is standardized
    over its decoder's runs (one that never varies counts for nothing). Of the pairs whose weights
    were kept, which have all scores, the typical one has the least sum of Euclidean distances to
    all pairs; where all were kept, that is the medoid.
    """
    pairs = rows[rows.decoder.isin(PAIR)]
    table = pairs.pivot(index=["cpu", "seed"], columns="decoder", values=list(scores))
    kept, shared = table.notna().all(axis=1), table.dropna(axis=1)
    missing = set(PAIR) - set(pairs.decoder)
    if missing or len(table) < 3 or not kept.any() or shared.empty:
        raise ValueError(f"rows must have all scores of both decoders for 3 seeds, got\n{table}")
    spread = shared.std()
    standard = (shared - shared.mean()) / spread.where(spread > 0, np.inf)
    distances = pd.Series(squareform(pdist(standard)).sum(axis=0), index=table.index)
    cpu, seed = distances[kept].idxmin()
    return cpu, int(seed)


def main() -> None:
    """Copy the records of the typical pairs; a run whose record is missing is trained again.

    A pair that is typical as it was trained on another processor would be another one here, and
    stays as it is: SystemExit says so when the others are published.
    """
    torch.set_num_threads(1)  # as in the studies
    populations = {"circles": (tables.read("seeds", "blog"), tables.SCORES)}
    if "sprites" in tables.studies():
        populations |= {
            world: (rows, SCORES)
            for world, rows in tables.read_all("sprites").groupby("world")
            if world in SHOWN
        }
    elsewhere = []
    for world, (rows, scores) in populations.items():
        cpu, seed = typical(rows, scores)
        if cpu != cpu_name():
            elsewhere.append(f"seed {seed} of {world} is typical as it was trained on {cpu}")
            continue
        for decoder in PAIR:
            publish(world, decoder, seed)
            print(f"{world}: seed {seed} of {decoder} is published", file=sys.stderr)
    if elsewhere:
        raise SystemExit(f"{'; '.join(elsewhere)}: publish it there")


def publish(world: str, decoder: str, seed: int) -> None:
    """Copy the record of a run into results/published."""
    if world == "circles":
        job, name = circles.Job("blog", decoder, seed), decoder
        config, images = job.config, make_sprites().images
        circles.run_of(job)
    else:
        [job] = [
            job
            for job in sprites.JOBS["sprites"]
            if (job.world, job.decoder, job.seed) == (world, decoder, seed)
        ]
        config, images = sprites.settings(job)
        name = f"{world}-{decoder}"
        train(config, images, RUNS, print_progress)
    record = RUNS / f"{run_id(config, images)}.safetensors"
    files.write(PUBLISHED / f"{name}.safetensors", record.read_bytes())


if __name__ == "__main__":
    main()
