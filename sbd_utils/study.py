"""Many seeds, one small CSV: `make seeds` trains what is missing and writes results/seeds.csv."""

import csv
import platform
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config

from sbd_utils.data import make_sprites
from sbd_utils.scores import score
from sbd_utils.settings import EPOCHS, RESULTS
from sbd_utils.speed import pick_device
from sbd_utils.training import TrainConfig, load_or_train, progress

SEEDS_FILE = RESULTS / "seeds.csv"
SEEDS = {"quick": range(5), "blog": range(5)}
TEXT = ("preset", "decoder", "precision", "torch", "cpu")  # the columns that are not numbers


def cpu_name() -> str:
    """The processor, by its model name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_scores(preset: str, path: Path = SEEDS_FILE) -> list[dict]:
    """The committed scores of a preset, a dict a run; ValueError if there are none."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["preset"] == preset]
    if not rows:
        raise ValueError(f"{path.name} has no rows of the preset {preset!r}")
    return [{k: v if k in TEXT else float(v) for k, v in row.items()} for row in rows]


def mean_score(rows: Iterable[dict], decoder: str, name: str) -> float:
    """The mean of one score over the rows of one decoder."""
    return statistics.mean(row[name] for row in rows if row["decoder"] == decoder)


def train_and_score(preset: str, decoder: str, seed: int) -> dict:
    """A row of the CSV, from the run where there is one, else trained."""
    sprites = make_sprites()
    config = TrainConfig(decoder, seed, EPOCHS[preset])
    run = load_or_train(
        config, sprites.images, reporter=lambda *state: print(progress(*state), file=sys.stderr)
    )
    return {
        "preset": preset, "seed": seed, "decoder": decoder, "epochs": config.epochs,
        **{name: f"{value:.5g}" for name, value in score(run, sprites).items()},
        "precision": config.precision, "torch": torch.__version__, "cpu": cpu_name(),
    }


def main() -> None:
    """Score every run of SEEDS, training those that are missing, and write the CSV.

    On a CPU each run has a process and a core of its own, which makes more steps a second than all
    cores on one run after another; on a GPU they take turns.
    """
    jobs = [(preset, decoder, seed) for preset, seeds in SEEDS.items()
            for seed in seeds for decoder in ("deconv", "sbd")]
    with parallel_config("loky", inner_max_num_threads=1):
        workers = Parallel(n_jobs=-1 if pick_device().type == "cpu" else 1)
        rows = workers(delayed(train_and_score)(*job) for job in jobs)
    with SEEDS_FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
