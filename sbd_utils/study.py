"""Many seeds, one small CSV: `make seeds` trains what is missing and writes results/seeds.csv."""

import csv
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config
from scipy.stats import ttest_1samp

from sbd_utils.data import make_sprites
from sbd_utils.scores import COLORS, score
from sbd_utils.settings import RESULTS, TRAINING
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
    """The committed scores of a preset, a dict a run; ValueError if there are none.

    r2 and folded are added, the means over the three colors.
    """
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["preset"] == preset]
    if not rows:
        raise ValueError(f"{path.name} has no rows of the preset {preset!r}")
    rows = [{k: v if k in TEXT else float(v) for k, v in row.items()} for row in rows]
    for row in rows:
        for name in ("r2", "folded"):
            row[name] = statistics.mean(row[f"{name}_{color}"] for color in COLORS)
    return rows


def mean_score(rows: Iterable[dict], decoder: str, name: str) -> float:
    """The mean of one score over the rows of one decoder."""
    return statistics.mean(row[name] for row in rows if row["decoder"] == decoder)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% confidence interval of the mean of values, one a seed (Student's t)."""
    return tuple(ttest_1samp(values, 0).confidence_interval())


def spread_table(rows: Sequence[dict], scores: Mapping[str, str]) -> str:
    """A markdown table of scores, column to label: mean, interval and range over the seeds.

    The last column is the interval of the difference, seed by seed.
    """
    lines = ["| mean (95% interval), range | DeConv | SBD | SBD less DeConv, 95% interval |",
             "|---" * 4 + "|"]
    for name, label in scores.items():
        values = {d: [row[name] for row in rows if row["decoder"] == d] for d in ("deconv", "sbd")}
        cells = [label]
        for of_decoder in values.values():
            low, high = interval(of_decoder)
            cells.append(f"{statistics.mean(of_decoder):.3g} ({low:.3g} to {high:.3g}), "
                         f"{min(of_decoder):.3g} to {max(of_decoder):.3g}")
        pairs = zip(values["sbd"], values["deconv"], strict=True)
        low, high = interval([s - d for s, d in pairs])
        lines.append("| " + " | ".join([*cells, f"{low:.3g} to {high:.3g}"]) + " |")
    return "\n".join(lines)


def train_and_score(preset: str, decoder: str, seed: int) -> dict:
    """A row of the CSV, from the run where there is one, else trained."""
    sprites = make_sprites()
    config = TrainConfig(decoder, seed, **TRAINING[preset])
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
