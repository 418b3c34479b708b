"""`make publish`: the weights of typical pairs of runs, into results/published/."""

import sys
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform

from sbd_utils.settings import RUNS, TRAINING
from sbd_utils.studies import sprites, tables
from sbd_utils.studies.run import watch
from sbd_utils.studies.store import provenance
from sbd_utils.training import published
from sbd_utils.training.loop import TrainConfig, load_or_train, run_name
from sbd_utils.training.speed import cpu_name
from sbd_utils.worlds.circles import make_sprites

# The worlds of which a pair is published, and the scores that it is chosen by.
SHOWN = ("sprites", "quadrant", "hue-of-place")
SCORES = ("reconstruction", "kl", "explained", "MIG", "flat", "sheet", "folded", "code_unseen",
          "picture_unseen", "drawn_unseen")


def typical(rows: pd.DataFrame, scores: Iterable[str] = tables.SCORES) -> tuple[str, int]:
    """The processor and the seed whose runs of both decoders are the most like everybody's.

    rows: one per run, such as those of tables.read. Every score that all runs have is standardized
    over its decoder's runs (one that never varies counts for nothing). Of the pairs whose weights
    were kept, which have all scores, the typical one has the least sum of Euclidean distances to
    all pairs; where all were kept, that is the medoid.
    """
    pairs = rows[rows.decoder.isin(published.DECODERS)]
    table = pairs.pivot(index=["cpu", "seed"], columns="decoder", values=list(scores))
    kept, shared = table.notna().all(axis=1), table.dropna(axis=1)
    missing = set(published.DECODERS) - set(pairs.decoder)
    if missing or len(table) < 3 or not kept.any() or shared.empty:
        raise ValueError(f"rows must have all scores of both decoders for 3 seeds, got\n{table}")
    spread = shared.std()
    standard = (shared - shared.mean()) / spread.where(spread > 0, np.inf)
    distances = pd.Series(squareform(pdist(standard)).sum(axis=0), index=table.index)
    return distances[kept].idxmin()


def main() -> None:
    """Publish the typical pairs; runs are loaded, or trained again where they are missing.

    A pair that is typical as it was trained on another processor would be another one here, and
    stays as it is: SystemExit says so when the others are published.
    """
    torch.set_num_threads(1)  # as the studies have them
    populations = {"circles": (tables.read("seeds", "blog"), tables.SCORES)}
    if "sprites" in tables.studies():  # else `make study NAME=sprites` comes first
        populations |= {world: (rows, SCORES) for world, rows in
                        tables.read_all("sprites").groupby("world") if world in SHOWN}
    elsewhere = []
    for world, (rows, scores) in populations.items():
        cpu, seed = typical(rows, scores)
        if cpu != cpu_name():
            elsewhere.append(f"seed {seed} of {world} is typical as it was trained on {cpu}")
            continue
        for decoder in published.DECODERS:
            if world == "circles":
                publish_circles(decoder, seed)
            else:
                run = sprites.trained(world, decoder, seed)
                published.save(f"{world}-{decoder}", run, provenance(run))
            print(f"{world}: seed {seed} of {decoder} is published", file=sys.stderr)
    if elsewhere:
        raise SystemExit(f"{'; '.join(elsewhere)}: publish it there")


def publish_circles(decoder: str, seed: int) -> None:
    """Publish a run of the study `seeds` with the way of its lattice.

    SystemExit where only a part of the way was kept, as where `make reproduce` began the run.
    """
    images = make_sprites().images
    config = TrainConfig(decoder, seed, **TRAINING["blog"])
    run = load_or_train(config, images, RUNS, watch(config, images))
    folder = RUNS / run_name(config, images)
    path = folder / "lattice.npy"
    lattice = np.load(path) if path.exists() else np.zeros((1, 1))
    if not lattice.reshape(len(lattice), -1).any(axis=1).all():
        raise SystemExit(f"{path} lacks epochs: move {folder} away, and the run is trained anew")
    published.save(decoder, run, provenance(run), torch.from_numpy(lattice))


if __name__ == "__main__":
    main()
