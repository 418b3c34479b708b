"""`make publish`: the weights of the typical pair of runs, into results/published/."""

import sys

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform

from sbd_utils.settings import RUNS, TRAINING
from sbd_utils.studies import tables
from sbd_utils.studies.run import provenance
from sbd_utils.training import published
from sbd_utils.training.loop import TrainConfig, load_or_train, run_name
from sbd_utils.worlds.circles import make_sprites


def typical(rows: pd.DataFrame) -> int:
    """The seed whose runs of both decoders are the most like everybody's: the medoid.

    rows: of tables.read, all of one processor. Every score of tables.SCORES is standardized over
    the seeds of its decoder (one that never varies counts for nothing); the medoid is the seed with
    the least sum of Euclidean distances to the others.
    """
    pairs = rows[rows.decoder.isin(published.DECODERS)]
    table = pairs.pivot(index="seed", columns="decoder", values=list(tables.SCORES))
    missing = set(published.DECODERS) - set(pairs.decoder)
    if missing or len(table) < 3 or table.isna().any(axis=None):
        raise ValueError(f"rows must have all scores of both decoders for 3 seeds, got\\n{table}")
    spread = table.std()
    standard = (table - table.mean()) / spread.where(spread > 0, np.inf)
    return int(table.index[squareform(pdist(standard)).sum(axis=0).argmin()])


def main() -> None:
    """Publish the typical pair; its runs are loaded, or trained again where they are missing."""
    seed = typical(tables.read("seeds", "blog").dropna(subset="readout"))
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
