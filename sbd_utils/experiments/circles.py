"""Experiments on the post's circles: lists of jobs, and the row of a table that a job gives."""

from dataclasses import asdict, dataclass
from itertools import product

import torch

from sbd_utils.data.circles import COLORS, Sprites, draw_sprite, make_sprites
from sbd_utils.experiments import tables
from sbd_utils.metrics.geometry import LINES
from sbd_utils.metrics.scores import score
from sbd_utils.models.decoders import PAIR
from sbd_utils.settings import RUNS, TRAINING, preset
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import print_progress, train
from sbd_utils.training.machine import release_memory
from sbd_utils.training.parallel import side_by_side
from sbd_utils.training.records import Run, load_run, provenance

# How a run is trained: as we do, or with the arithmetic of a plain loop, which must agree.
POPULATIONS = {"blog": "seeds", "quick": "early"}  # preset to the study of the same training
LOOPS = {"ours": {}, "plain": {"precision": "float32", "compiled": False}}


@dataclass(frozen=True)
class Job:
    """One run to train and to score.

    Attributes:
        preset: a key of settings.TRAINING.
        decoder: a name in DECODERS, or "sbd-mixing", a published run that no code of today trains.
        loop: a key of LOOPS.
    """

    preset: str
    decoder: str
    seed: int
    loop: str = "ours"
    decoder_variance: float = 0.3
    beta: float = 1.0

    @property
    def config(self) -> TrainConfig:
        """The settings of the run."""
        return TrainConfig(
            self.decoder,
            self.seed,
            decoder_variance=self.decoder_variance,
            beta=self.beta,
            **TRAINING[self.preset],
            **LOOPS[self.loop],
        )


# One change at a time from one of the two decoders, in notebook 09.
VARIANTS = (
    "deconv",
    "deconv-xy-first",
    "deconv-xy-every",
    "deconv-width25",
    "resize",
    "resize-xy-every",
    "broadcast8-deconv",
    "sbd",
    "sbd-no-xy",
    "sbd-xy-every",
    "sbd-kernel5",
    "sbd-unpadded",
    "sbd-depth2",
    "sbd-depth4",
    "sbd-depth5",
    "sbd-width16",
    "sbd-width22",
    "sbd-width128",
)
# Small first maps with coordinates, or without, and transposed convolutions behind them.
PLACES = (
    "linear2-deconv",
    "linear4-deconv",
    "linear8-deconv",
    "linear16-deconv",
    "broadcast2-deconv",
    "broadcast4-deconv",
    "broadcast8-deconv",
    "broadcast16-deconv",
    "broadcast4-no-xy",
    "broadcast8-no-xy",
)
APART = (
    "resize-xy-every",
    "broadcast8-resize",
    "linear64-width22",
    "deconv-kernel3",
    "deconv-kernel5",
)
# How reconstruction is traded for the KL term, besides a variance of 0.3 and a beta of 1.
TRADES = ({"decoder_variance": 0.01}, {"decoder_variance": 1.0}, {"beta": 0.5}, {"beta": 16.0})
JOBS = {
    "seeds": [Job("blog", decoder, seed) for seed in range(10) for decoder in PAIR],
    "early": [
        Job("quick", decoder, seed, loop) for loop in LOOPS for seed in range(5) for decoder in PAIR
    ],
    "ablation": [
        *(Job("ablation", decoder, seed) for seed in range(3) for decoder in VARIANTS),
        *(
            Job("ablation", decoder, seed, **trade)
            for seed in range(2)
            for trade in TRADES
            for decoder in PAIR
        ),
    ],
    "followup": [
        *(
            Job("blog", decoder, seed)
            for decoder, seed in (
                *product(("resize", "broadcast8-deconv"), range(3)),
                *product(("sbd-width22",), range(10)),
                ("sbd", 5),
                ("sbd", 6),
                ("sbd-mixing", 0),
            )
        ),
        *(Job("ablation", decoder, seed) for seed in range(3) for decoder in PLACES),
    ],
    "apart": [Job("blog", decoder, seed) for seed in range(3) for decoder in APART],
}


def grid_images() -> torch.Tensor:
    """Red circles over the post's window, [0.2, 0.8]², [11, 11, 3, 64, 64], y outermost."""
    return torch.stack([torch.stack([draw_sprite(x, y) for x in LINES[::3]]) for y in LINES[::3]])


def run_of(job: Job, sprites: Sprites | None = None) -> Run:
    """The run of a job, from its record, else trained.

    Args:
        sprites: the images to train on; by default the post's.
    """
    if job.decoder == "sbd-mixing":
        return load_run(job.decoder)
    images = (sprites or make_sprites()).images
    return train(job.config, images, RUNS, print_progress, grid_images())


def pair() -> dict[str, Run]:
    """A run of each decoder under SBD_PRESET: the published ones, or trained on this machine."""
    if preset() == "published":
        return {decoder: load_run(decoder) for decoder in PAIR}
    jobs = [{"job": Job(preset(), decoder, 0)} for decoder in PAIR]
    return dict(zip(PAIR, side_by_side(run_of, jobs), strict=True))


def train_and_score(job: Job) -> dict:
    """The row of a job."""
    run, sprites = run_of(job), make_sprites()
    row = {**asdict(job), "epochs": run.config.epochs, **score(run, sprites), **provenance(run)}
    release_memory()
    return row


def compare_with_seeds(name: str) -> list[dict]:
    """Compare the runs of a preset with the committed seeds, training what is missing.

    A range of ten runs holds the next one of its kind in 9 cases of 11. Scores are rounded as in
    the table, so that a run that repeats one of the seeds lies within.

    Returns:
        A row per decoder and score: the new run's score, the seeds' range, and whether the new run
        lies "within", "below" or "above" it.
    """
    sprites, seeds = make_sprites(), tables.read(POPULATIONS[name], name)
    rows = []
    for decoder, run in pair().items():
        known = seeds[seeds.decoder == decoder]
        new = tables.rounded(score(run, sprites))
        new |= {
            key: sum(new[f"{key}_{color}"] for color in COLORS) / len(COLORS)
            for key in ("r2", "folded")
        }
        for key, label in tables.SCORES.items():
            if key not in known or known[key].isna().all():
                continue  # not measured then
            found = {"new run": new[key], "lowest": known[key].min(), "highest": known[key].max()}
            value, low, high = tables.rounded(found).values()  # means of three colors, once more
            place = "below" if value < low else "above" if value > high else "within"
            rows.append(
                {
                    "decoder": decoder,
                    "score": label,
                    **found,
                    "seeds": int(known[key].count()),
                    "place": place,
                }
            )
    return rows
