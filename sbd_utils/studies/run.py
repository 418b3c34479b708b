"""`make study NAME=...`: train what a study lacks, score it, write results/NAME.csv."""

import io
import os
import sys
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from sbd_utils import files
from sbd_utils.measures.codes import encode
from sbd_utils.measures.geometry import LINES
from sbd_utils.measures.scores import score
from sbd_utils.models.recipes import APART, PLACES, VARIANTS
from sbd_utils.settings import RUNS, TRAINING
from sbd_utils.studies import coordconv, sprites, store, tables
from sbd_utils.studies.cluster import on_cluster
from sbd_utils.studies.store import provenance
from sbd_utils.training import published
from sbd_utils.training.loop import Run, TrainConfig, load_or_train, progress, run_name
from sbd_utils.training.parallel import side_by_side, stop_on_sigterm
from sbd_utils.training.speed import hand_back_memory
from sbd_utils.worlds.circles import draw_sprite, make_sprites

# How a run is trained: as we do, or with a plain loop's arithmetic, which ours must agree with.
LOOPS = {"ours": {}, "plain": {"precision": "float32", "compiled": False}}
# How reconstruction is traded for the KL term, besides a variance of 0.3 and a beta of 1.
TRADES = (*({"decoder_variance": value} for value in (0.01, 1.0)),
          *({"beta": value} for value in (0.5, 16.0)))
# What each run of a study sets: an argument of train_and_score each.
STUDIES = {
    "seeds": [
        {"preset": "blog", "seed": seed, "decoder": decoder}
        for seed in range(10) for decoder in published.DECODERS
    ],
    "early": [
        {"preset": "quick", "loop": loop, "seed": seed, "decoder": decoder}
        for loop in LOOPS for seed in range(5) for decoder in published.DECODERS
    ],
    "ablation": [
        {"preset": "ablation", "seed": seed, "decoder": decoder, **setting}
        for seed in range(3) for decoder, setting in (
            *((name, {}) for name in VARIANTS),
            *((name, setting) for setting in TRADES for name in published.DECODERS if seed < 2),
        )
    ],
    "followup": [
        *({"preset": "blog", "seed": seed, "decoder": decoder}
          for decoder, seed in (
              *product(("resize", "broadcast8-deconv"), range(3)),
              *product(("sbd-width22",), range(10)),
              ("sbd", 5), ("sbd", 6), ("sbd-mixing", 0),
          )),
        *({"preset": "ablation", "seed": seed, "decoder": decoder}
          for seed in range(3) for decoder in PLACES),
    ],
    "apart": [
        {"preset": "blog", "seed": seed, "decoder": decoder}
        for seed in range(3) for decoder in ("resize-xy-every", *APART)
    ],
}


def train_and_score(
    preset: str, decoder: str, seed: int, loop: str = "ours", **settings: float
) -> dict:
    """A row of the table, from the run where there is one, else trained.

    Scored is what a published file would hold: the weights, rounded to 16 bits. Or what one does
    hold: of "sbd-mixing" there is no other run, since the code that trained it is gone.
    """
    sprites = make_sprites()
    if decoder == "sbd-mixing":
        run, trained_on = published.load(decoder), published.read(decoder)[1]["provenance"]
        config = run.config
    else:
        config = TrainConfig(decoder, seed, **TRAINING[preset], **LOOPS[loop], **settings)
        run = load_or_train(config, sprites.images, RUNS, watch(config, sprites.images))
        trained_on = provenance(run)
    row = {
        "preset": preset, "loop": loop, "seed": seed, "decoder": decoder,
        "decoder_variance": config.decoder_variance, "beta": config.beta, "epochs": config.epochs,
        **score(published.half(run), sprites), **trained_on,
    }
    hand_back_memory()
    return row


def watch(config: TrainConfig, images: torch.Tensor) -> Callable[[Run], None]:
    """A reporter that tells of each epoch, and keeps in lattice.npy where places are encoded.

    The file holds [epochs, 11, 11, latent_dim] of float16: red circles over the post's window,
    [0.2, 0.8]², as measure_geometry has them, after every epoch; 0 for one that it did not see.
    """
    path = RUNS / run_name(config, images) / "lattice.npy"
    circles = torch.stack([draw_sprite(x, y, image_size=images.shape[-1])
                           for y in LINES[::3] for x in LINES[::3]])

    def report(run: Run) -> None:
        print(progress(run), file=sys.stderr)
        shape = (config.epochs, 11, 11, config.latent_dim)
        kept = np.load(path) if path.exists() else np.zeros(shape, np.float16)
        kept[len(run.history) - 1] = encode(run.vae, circles)[0].reshape(shape[1:])
        content = io.BytesIO()
        np.save(content, kept)
        files.write(path, content.getvalue())

    return report


def main(study: str, cluster: str = "") -> None:
    """Score every run of a study, training those that are missing, and write its table.

    cluster: the address of a Dask scheduler whose workers do it, or "" for this machine.
    """
    works = {**{name: (train_and_score, jobs) for name, jobs in STUDIES.items()},
             "coordconv": (coordconv.train_and_score, coordconv.CASES),
             **{name: (sprites.train_and_score, jobs) for name, jobs in sprites.JOBS.items()}}
    if study not in works:
        raise SystemExit(f"NAME must be one of {', '.join(works)}, got {study!r}")
    work, jobs = works[study]
    if study in tables.studies():
        tables.read_all(study)  # what is damaged is told of before hours of training
    names = [store.key(work, job) for job in jobs]
    missing = [job for name, job in zip(names, jobs, strict=True) if store.read(name) is None]
    if cluster:
        done = on_cluster(cluster, work, missing)
    else:
        done = side_by_side(store.done, [{"work": work, "job": job} for job in missing])
    for _ in tqdm(done, f"make study NAME={study}", len(jobs), initial=len(jobs) - len(missing),
                  unit="run", smoothing=0):
        pass
    rows = [store.read(name) for name in names]
    if None in rows:
        raise SystemExit("the code has changed since this command began, and a row holds for the "
                         f"code that made it; the same command makes {rows.count(None)} anew")
    tables.write(study, rows)
    if study == "coordconv":
        coordconv.write_maps()


if __name__ == "__main__":
    stop_on_sigterm()
    main("".join(sys.argv[1:]), os.environ.get("CLUSTER", ""))
