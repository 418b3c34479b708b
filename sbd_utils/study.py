"""Many runs, one CSV: `make study NAME=...` trains what is missing, writes results/NAME.csv."""

import csv
import platform
import statistics
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config

from sbd_utils.claims import format_value
from sbd_utils.data import make_sprites
from sbd_utils.metrics import interval
from sbd_utils.scores import COLORS, score
from sbd_utils.settings import RESULTS, RUNS, TRAINING
from sbd_utils.speed import hand_back_memory, pick_device
from sbd_utils.training import TrainConfig, load_or_train, progress
from sbd_utils.variants import PLACES, VARIANTS

STUDY_RUNS = RUNS / "seeds"  # not the notebooks' own: another number of threads, other roundings
# How a run is trained: as we do, or with a plain loop's arithmetic, which ours must agree with.
LOOPS = {"ours": {}, "plain": {"precision": "float32", "compiled": False}}
# How reconstruction is traded for the KL term, besides a variance of 0.3 and a beta of 1.
TRADES = (*({"decoder_variance": value} for value in (0.01, 1.0)),
          *({"beta": value} for value in (0.5, 16.0)))
DECODERS = ("deconv", "sbd")
# What each run of a study sets: an argument of train_and_score each.
STUDIES = {
    "seeds": [
        {"preset": preset, "loop": loop, "seed": seed, "decoder": decoder}
        for preset, loop in (("blog", "ours"), ("quick", "ours"), ("quick", "plain"))
        for seed in range(5) for decoder in DECODERS
    ],
    "ablation": [
        {"preset": "ablation", "seed": seed, "decoder": decoder, **setting}
        for seed in range(3) for decoder, setting in (
            *((name, {}) for name in VARIANTS),
            *((name, setting) for setting in TRADES for name in DECODERS if seed < 2),
        )
    ],
    "followup": [
        *({"preset": "blog", "seed": seed, "decoder": decoder} for decoder, seed in (
            *product(("resize", "broadcast8-deconv", "sbd-width22"), range(3)),
            ("sbd", 5), ("sbd", 6),  # on another processor than those of "seeds"
        )),
        *({"preset": "ablation", "seed": seed, "decoder": decoder}
          for seed in range(3) for decoder in PLACES),
    ],
}
TEXT = ("preset", "loop", "decoder", "precision", "torch", "cpu")  # columns that are not numbers
# What the claims on trained models rest on, with its label.
SCORES = {
    "reconstruction": "reconstruction term, nats an image", "kl": "KL term, nats an image",
    "explained": "explained share of the variance", "mixing": "share of mixing latents",
    "r2": "affine R²", "folded": "folded cells of 25", "readout": "readout R²",
}


def cpu_name() -> str:
    """The processor, by its model name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_scores(preset: str, loop: str = "ours", study: str = "seeds") -> list[dict]:
    """The committed scores of a preset and a loop, a dict a run; ValueError if there are none.

    Added are r2 and folded, the means over the three colors; error, the squared error an image; and
    weight, decoder_variance times beta (times 2 decoder_variance, the loss is error + 2 weight KL).
    """
    path = RESULTS / f"{study}.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file)
                if (row["preset"], row["loop"]) == (preset, loop)]
    if not rows:
        raise ValueError(f"{path.name} has no rows of the preset {preset!r}, loop {loop!r}")
    rows = [{k: v if k in TEXT else float(v) for k, v in row.items()} for row in rows]
    for row in rows:
        for name in ("r2", "folded"):
            row[name] = statistics.mean(row[f"{name}_{color}"] for color in COLORS)
        row["error"] = 2 * row["decoder_variance"] * row["reconstruction"]
        row["weight"] = round(row["decoder_variance"] * row["beta"], 6)  # 4.8, not 4.7999...
    return rows


def spread_table(rows: Sequence[dict], *names: str) -> str:
    """A markdown table of SCORES, all or those named: mean, 95% interval and range over the seeds.

    The last column is the interval of the difference, seed by seed.
    """
    lines = ["| mean (95% interval), range | DeConv | SBD | SBD less DeConv, 95% interval |",
             "|---" * 4 + "|"]
    for name in names or SCORES:
        values = {d: [row[name] for row in rows if row["decoder"] == d] for d in ("deconv", "sbd")}
        cells = [SCORES[name]]
        for found in values.values():
            mean, least, most, low, high = map(
                format_value, (statistics.mean(found), min(found), max(found), *interval(found))
            )
            cells.append(f"{mean} ({low} to {high}), {least} to {most}"
                         if least != most else f"{mean} in every seed")
        low, high = map(format_value, interval(difference(rows, name)))
        cells.append(f"{low} to {high}" if low != high else f"{low} in every seed")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(rows: Sequence[dict], name: str) -> list[float]:
    """A score of SBD less that of DeConv, seed by seed; ValueError where a seed has only one."""
    deconv, sbd = ({row["seed"]: row[name] for row in rows if row["decoder"] == decoder}
                   for decoder in ("deconv", "sbd"))
    if deconv.keys() != sbd.keys():
        raise ValueError(f"rows must have the same seeds of both, got {[*deconv]} and {[*sbd]}")
    return [sbd[seed] - deconv[seed] for seed in sbd]


def train_and_score(
    preset: str, decoder: str, seed: int, loop: str = "ours", **settings: float
) -> dict:
    """A row of the CSV, from the run where there is one, else trained."""
    sprites = make_sprites()
    config = TrainConfig(decoder, seed, **TRAINING[preset], **LOOPS[loop], **settings)
    run = load_or_train(
        config, sprites.images, STUDY_RUNS,
        lambda *state: print(progress(*state), file=sys.stderr),
    )
    row = {
        "preset": preset, "loop": loop, "seed": seed, "decoder": decoder,
        "decoder_variance": config.decoder_variance, "beta": config.beta, "epochs": config.epochs,
        **{name: f"{value:.5g}" for name, value in score(run, sprites).items()},
        "precision": config.precision, "torch": torch.__version__, "cpu": cpu_name(),
    }
    hand_back_memory()
    return row


def main(study: str) -> None:
    """Score every run of a study, training those that are missing, and write its CSV.

    On a CPU each run has a process and a core of its own, which makes more steps a second than all
    cores on one run after another; on a GPU they take turns.
    """
    if study not in STUDIES:
        raise SystemExit(f"NAME must be one of {', '.join(STUDIES)}, got {study!r}")
    with parallel_config("loky", inner_max_num_threads=1):
        workers = Parallel(n_jobs=-1 if pick_device().type == "cpu" else 1)
        rows = workers(delayed(train_and_score)(**job) for job in STUDIES[study])
    with (RESULTS / f"{study}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
