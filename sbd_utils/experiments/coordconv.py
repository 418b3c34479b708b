"""The study `coordconv`: networks with coordinates and without, side by side (Liu et al. 2018)."""

import hashlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Num
from torch import nn

from sbd_utils import files
from sbd_utils.data.not_so_clevr import TASKS, centers, coordinates, held_out
from sbd_utils.experiments import tables
from sbd_utils.models.coordconv import DECODERS, ENDS, new_network
from sbd_utils.settings import RESULTS, RUNS
from sbd_utils.training.loop import TrainingDivergedError
from sbd_utils.training.machine import (
    LAYOUT,
    cpu_name,
    flushed_denormals,
    keep_freed_memory,
    release_memory,
)
from sbd_utils.training.records import named_fields

VERSION = 1  # raise it when a change in the code makes earlier trainings incomparable
# Every network, from "plain" to "coordconv", in the order of the tables.
NETWORKS = (
    "plain",
    "plain-xy-every",
    "plain-kernel2",
    "plain-width16",
    "plain-broadcast",
    "plain-broadcast-xy-every",
    "plain-side8",
    "plain-side8-xy-first",
    "plain-side8-broadcast-xy-first",
    "coordconv-linear",
    "coordconv-depth6",
    "coordconv-kernel3",
    "coordconv-width32",
    "coordconv-width8",
    "coordconv",
)
# Timed on the uniform split by the first seed, and by the others what had reached 95% there and is
# not too slow. Most of what draws, and SLOW, is trained with the first seed alone, too.
TIMED = (
    "plain",
    "plain-kernel2",
    "plain-width16",
    "plain-broadcast",
    "plain-side8",
    "plain-side8-broadcast-xy-first",
    "coordconv-depth6",
    "coordconv-width8",
    "coordconv",
)
TIMED_AGAIN = ("plain", "plain-kernel2", "coordconv-depth6", "coordconv-width8", "coordconv")
SLOW = ("coordconv-width32",)
DRAWING = ("plain", "plain-side8-broadcast-xy-first", "coordconv")
STEPS = {"classification": 2000, "regression": 4000, "rendering": 2000}
# Learning rates. For both ends, whichever of TRIED left the least training loss on the uniform
# split of one seed that is not used again; the other networks take the rate of their end.
TRIED, PILOT_SEED = (1e-3, 2e-3, 5e-3, 1e-2), 100
RATES = {
    "classification": {"plain": 1e-2, "coordconv": 1e-2},
    "regression": {"plain": 2e-3, "coordconv": 1e-2},
    "rendering": {"plain": 1e-2, "coordconv": 1e-2},
}
SEEDS = (0, 1, 2)
DRAWN = ((20, 44), (38, 38), (52, 52))  # centers to draw after training: one seen, two held out


@dataclass(frozen=True)
class Fit:
    """A trained network and how it got there.

    Attributes:
        steps: at which the test was looked at, the last included.
        seconds: of the processor, not of the clock, until then.
        test: the mean score in the test then.
        train: the mean score over the centers shown, at the end.
        train_loss: the loss there.
        scores: of every center, at the end.
    """

    network: nn.Module
    steps: list[int]
    seconds: list[float]
    test: list[float]
    train: float
    train_loss: float
    scores: Float[torch.Tensor, " center"]

    def first_reached(self, score: float) -> tuple[float, float]:
        """Steps and seconds until the test first reached a score; NaN if it never did."""
        for steps, seconds, reached in zip(self.steps, self.seconds, self.test, strict=True):
            if reached >= score:
                return steps, seconds
        return float("nan"), float("nan")


def fit(
    task: str,
    network: str,
    split: str,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    batch_size: int = 16,
    first_look: int = 25,
) -> Fit:
    """Train a network with Adam, whatever the test says.

    The learning rate falls linearly to 0: at a constant one, plain networks do not settle.

    Args:
        first_look: step of the first look at the test. Each next one is a fifth later, so the step
            at which a score is reached is too late by a fifth at most. Looks count no seconds.

    Raises:
        TrainingDivergedError: the loss at the end is not finite.
    """
    keep_freed_memory()
    pixels, test = centers(), held_out(split, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = new_network(task, network).to(memory_format=LAYOUT)
    given, wanted = TASKS[task].given(pixels), TASKS[task].wanted(pixels)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps)
    known = (~test).nonzero()[:, 0]
    at_steps, at_seconds, test_scores = [], [], []
    look, seconds = first_look, 0.0
    with flushed_denormals():
        for step in range(1, steps + 1):
            start = time.process_time()
            rows = known[torch.randint(len(known), (batch_size,), generator=generator)]
            optimizer.zero_grad()
            TASKS[task].loss(model(given[rows]), wanted[rows]).backward()
            optimizer.step()
            schedule.step()
            seconds += time.process_time() - start
            if step >= look or step == steps:
                at_steps.append(step)
                at_seconds.append(seconds)
                tested, _ = _evaluate(task, model, given[test], wanted[test])
                test_scores.append(tested.mean().item())
                look *= 1.2
        trained, train_loss = _evaluate(task, model, given[~test], wanted[~test])
    if not math.isfinite(train_loss):
        raise TrainingDivergedError(
            f"the loss of {network} is {train_loss} after {steps} steps; a lower learning_rate "
            f"than {learning_rate} may help"
        )
    scores = torch.empty(len(pixels))
    scores[test], scores[~test] = tested, trained
    release_memory()
    return Fit(model, at_steps, at_seconds, test_scores, trained.mean().item(), train_loss, scores)


@torch.inference_mode()
def _evaluate(
    task: str, model: nn.Module, given: torch.Tensor, wanted: torch.Tensor
) -> tuple[Float[torch.Tensor, " N"], float]:
    """The score of each example, and the mean loss."""
    scores, losses = [], []
    for x, y in zip(given.split(32), wanted.split(32), strict=True):
        output = model(x)
        scores.append(TASKS[task].score(output, y))
        losses.append(TASKS[task].loss(output, y).item() * len(x))
    return torch.cat(scores), sum(losses) / len(given)


@dataclass(frozen=True)
class Case:
    """One training of the study."""

    task: str
    split: str
    network: str
    seed: int
    rate: float

    @property
    def end(self) -> str:
        """The network, "plain" or "coordconv", that this one is or differs from."""
        return self.network.partition("-")[0]


def _cases() -> list[Case]:
    """The pilots, then seed by seed the trainings of each task and split."""
    cases = [
        Case(task, "uniform", end, PILOT_SEED, rate)
        for task in RATES
        for end in ENDS
        for rate in TRIED
    ]
    for seed in SEEDS:
        trained = {
            ("classification", "quadrant"): [n for n in NETWORKS if not (seed and n in SLOW)],
            ("classification", "uniform"): TIMED_AGAIN if seed else TIMED,
            ("regression", "quadrant"): ENDS,
            ("regression", "uniform"): ENDS,
            ("rendering", "quadrant"): DRAWING if seed else NETWORKS,
            ("rendering", "uniform"): () if seed else ENDS,
        }
        cases += [
            Case(task, split, network, seed, RATES[task][network.partition("-")[0]])
            for (task, split), networks in trained.items()
            for network in networks
        ]
    return cases


CASES = _cases()


def _record(case: Case) -> Path:
    """The path of a training's record, named by all that it depends on."""
    facts = [
        VERSION,
        named_fields(case),
        STEPS[case.task],
        named_fields(DECODERS.get(case.network, case.network)),
    ]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=6).hexdigest()
    return RUNS / "coordconv" / f"{case.network}-{case.task}-{digest}.safetensors"


def train_and_score(case: Case) -> dict:
    """Train a case, or read its record, and return its row.

    `steps_to_95` and the like say when the test first reached that score; NaN where it never did.
    """
    path = _record(case)
    if not path.exists():
        steps = STEPS[case.task]
        timed = case.split == "uniform" or not case.seed  # else only the end is needed
        fitted = fit(
            case.task,
            case.network,
            case.split,
            steps,
            case.rate,
            case.seed,
            first_look=25 if timed else steps,
        )
        row = {
            **asdict(case),
            "parameters": sum(p.numel() for p in fitted.network.parameters()),
            "steps": fitted.steps[-1],
            "seconds": fitted.seconds[-1],
            "train": fitted.train,
            "train_loss": fitted.train_loss,
            "test": fitted.test[-1],
        }
        for share in (95, 100):
            row[f"steps_to_{share}"], row[f"seconds_to_{share}"] = (
                fitted.first_reached(share / 100) if timed else (float("nan"), float("nan"))
            )
        row |= {"torch": torch.__version__, "cpu": cpu_name()}
        kept = {
            "scores": fitted.scores.view(56, 56).half(),
            "curve": torch.tensor([fitted.steps, fitted.test]),
        }
        if case.task == "rendering":
            with torch.inference_mode():
                drawn = fitted.network(coordinates(torch.tensor(DRAWN))).sigmoid()
            kept["drawn"] = (255 * drawn[:, 0]).round().byte()  # [3, 64, 64]
        files.write_tensors(path, kept, {"row": row})
        print(
            f"{case}: {fitted.train:.3f}, {fitted.test[-1]:.3f}, {fitted.seconds[-1]:.0f} s",
            file=sys.stderr,
        )
    return files.read_tensors(path)[1]["row"]


MAPS = RESULTS / "coordconv_maps.safetensors"


def write_maps() -> None:
    """Collect what the figures show of seed 0 from the records into one small file.

    Its tensors are named "task/split/network/what", where what is one of:
        scores: [56, 56] in bytes, for the quadrant split, and for both ends;
        drawn: [3, 64, 64] in bytes, images of the centers DRAWN, for the quadrant split;
        curve: [2, looks], steps and test score, for classification.
    """
    found = {}
    for case in CASES:
        if case.seed:
            continue
        kept, _ = files.read_tensors(_record(case))
        name = f"{case.task}/{case.split}/{case.network}"
        if case.split == "quadrant" or case.network in ENDS:
            found[f"{name}/scores"] = (255 * kept["scores"].double()).round().byte()
        if "drawn" in kept and case.split == "quadrant" and "width" not in case.network:
            found[f"{name}/drawn"] = kept["drawn"]
        if case.task == "classification":
            found[f"{name}/curve"] = kept["curve"]
    files.write_tensors(MAPS, found, {})


def read_maps() -> dict[str, Num[np.ndarray, "..."]]:
    """Read what `write_maps` wrote, bytes scaled to [0, 1]."""
    return {
        name: values.numpy() / 255 if values.dtype == torch.uint8 else values.numpy()
        for name, values in files.read_tensors(MAPS)[0].items()
    }


def read_rows() -> pd.DataFrame:
    """Read the committed rows, one per training, with the column `end`, as in `Case`.

    Those of the seed PILOT_SEED are the pilots.
    """
    rows = tables.read_all("coordconv")
    return rows.assign(end=rows.network.str.partition("-")[0])
