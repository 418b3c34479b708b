"""`make publish`: the weights of the typical pair of runs, into results/published/."""

import sys

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform

from sbd_utils.settings import RUNS, TRAINING
from sbd_utils.studies import tables
from sbd_utils.studies.store import provenance
from sbd_utils.training import published
from sbd_utils.training.loop import TrainConfig, load_or_train, run_name
from sbd_utils.worlds.circles import make_sprites


def typical(rows: pd.DataFrame) -> int:
    """The seed whose runs of both decoders are the most like everybody's.

    rows: of tables.read. Every score of tables.SCORES that all runs have is standardized over its
    decoder's runs (one that never varies counts for nothing). Of the pairs whose weights were kept,
    which have all scores, the typical one has the least sum of Euclidean distances to all pairs;
    where all were kept, that is the medoid.
    """
    pairs = rows[rows.decoder.isin(published.DECODERS)]
    table = pairs.pivot(index=["cpu", "seed"], columns="decoder", values=list(tables.SCORES))
    kept, shared = table.notna().all(axis=1), table.dropna(axis=1)
    missing = set(published.DECODERS) - set(pairs.decoder)
    if missing or len(table) < 3 or not kept.any() or shared.empty:
        raise ValueError(f"rows must have all scores of both decoders for 3 seeds, got\n{table}")
    spread = shared.std()
    standard = (shared - shared.mean()) / spread.where(spread > 0, np.inf)
    distances = pd.Series(squareform(pdist(standard)).sum(axis=0), index=table.index)
    _, seed = distances[kept].idxmin()
    return int(seed)


def main() -> None:
    """Publish the typical pair; its runs are loaded, or trained again where they are missing."""
    seed = typical(tables.read("seeds", "blog"))
    images = make_sprites().images
    torch.set_num_threads(1)  # as the study has them
    for decoder in published.DECODERS:
        config = TrainConfig(decoder, seed, **TRAINING["blog"])
        run = load_or_train(config, images)
        lattice = np.load(RUNS / run_name(config, images) / "lattice.npy")
        published.save(decoder, run, provenance(run), torch.from_numpy(lattice))
        print(f"seed {seed} of {decoder} is published", file=sys.stderr)


if __name__ == "__main__":
    main()
