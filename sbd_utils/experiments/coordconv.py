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
from torch import nn

from sbd_utils import checks, files
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
# What is timed on the uniform split. The first seed alone trains what is too slow for more, what it
# left short of 95% there, and most of what draws.
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
# For each end, whichever of TRIED left the least training loss on the uniform split of one seed
# that is not used again; what differs from an end in one thing takes that end's rate.
TRIED, PILOT_SEED = (1e-3, 2e-3, 5e-3, 1e-2), 100
RATES = {
    "classification": {"plain": 1e-2, "coordconv": 1e-2},
    "regression": {"plain": 2e-3, "coordconv": 1e-2},
    "rendering": {"plain": 1e-2, "coordconv": 1e-2},
}
SEEDS = (0, 1, 2)
DRAWN = ((20, 44), (38, 38), (52, 52))  # centers that are drawn after training: one seen, two not


@dataclass(frozen=True)
class Fit:
    """A training: the seconds and the mean score in the test after some steps, the last included.

    seconds: of the processor, not of the clock. scores: of each center, as the network was left,
    [3136]; train: their mean over those shown; train_loss: the loss there.
    """

    network: nn.Module
    steps: list[int]
    seconds: list[float]
    test: list[float]
    train: float
    train_loss: float
    scores: torch.Tensor

    def until(self, share: float) -> tuple[float, float]:
        """Steps and seconds until the test score first reached a share; nan if it never did."""
        for steps, seconds, score in zip(self.steps, self.seconds, self.test, strict=True):
            if score >= share:
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
    """Train a network with Adam for so many steps, whatever the test says.

    The learning rate falls to 0 by the last step: held up, it keeps plain networks from settling.
    Looks at the test come after first_look steps and then a fifth later each time, so that the step
    at which a score is reached is found late by a fifth at most. They count no seconds. Raises
    ValueError for an unknown task, network or split, and TrainingDivergedError for a loss at the
    end that is not finite.
    """
    checks.check_int("steps", steps)
    checks.check_int("first_look", first_look)
    checks.check_positive("learning_rate", learning_rate)
    keep_freed_memory()
    places, test = centers(), held_out(split, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = new_network(task, network).to(memory_format=LAYOUT)
    given, wanted = TASKS[task].given(places), TASKS[task].wanted(places)
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
                tested, _ = _judge(task, model, given[test], wanted[test])
                test_scores.append(tested.mean().item())
                look *= 1.2
        trained, train_loss = _judge(task, model, given[~test], wanted[~test])
    if not math.isfinite(train_loss):
        raise TrainingDivergedError(
            f"the loss of {network} is {train_loss} after {steps} steps; a lower learning_rate "
            f"than {learning_rate} may help"
        )
    scores = torch.empty(len(places))
    scores[test], scores[~test] = tested, trained
    release_memory()
    return Fit(model, at_steps, at_seconds, test_scores, trained.mean().item(), train_loss, scores)


@torch.inference_mode()
def _judge(
    task: str, model: nn.Module, given: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """The score of each example, [N], and the mean loss."""
    scores, losses = [], []
    for x, y in zip(given.split(32), wanted.split(32), strict=True):
        told = model(x)
        scores.append(TASKS[task].score(told, y))
        losses.append(TASKS[task].loss(told, y).item() * len(x))
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
        """The network that this one is, or differs from."""
        return self.network.partition("-")[0]


def _cases() -> list[Case]:
    """The pilots, then seed by seed what is trained under each task and split."""
    cases = [
        Case(task, "uniform", end, PILOT_SEED, rate)
        for task in TASKS
        for end in ENDS
        for rate in TRIED
    ]
    for seed in SEEDS:
        trained = {
            ("classification", "quadrant"): [n for n in DECODERS if not (seed and n in SLOW)],
            ("classification", "uniform"): TIMED_AGAIN if seed else TIMED,
            ("regression", "quadrant"): ENDS,
            ("regression", "uniform"): ENDS,
            ("rendering", "quadrant"): DRAWING if seed else DECODERS,
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
    """The path of what is kept of a training, by all that it depends on."""
    facts = [
        VERSION,
        named_fields(case),
        STEPS[case.task],
        named_fields(DECODERS.get(case.network, case.network)),
    ]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=6).hexdigest()
    return RUNS / "coordconv" / f"{case.network}-{case.task}-{digest}.safetensors"


def train_and_score(case: Case) -> dict:
    """The row of a training that is kept, else done now.

    It says when the test score first reached 95% and 100%, in steps and seconds; NaN where it
    never did.
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
                fitted.until(share / 100) if timed else (float("nan"), float("nan"))
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
    """Put what the figures show of seed 0 into one small file, out of what is kept of trainings.

    By "task/split/network/what": "scores" [56, 56] of all that were shown no quadrant, and of the
    ends; "drawn" [3, 64, 64] of the centers DRAWN, by what was shown no quadrant; both in bytes.
    "curve" [2, looks], steps and the score in the test, of classification.
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


def read_maps() -> dict[str, np.ndarray]:
    """What write_maps wrote, bytes from 0 to 1."""
    return {
        name: values.numpy() / 255 if values.dtype == torch.uint8 else values.numpy()
        for name, values in files.read_tensors(MAPS)[0].items()
    }


def read_rows() -> pd.DataFrame:
    """The committed rows, one per training, and `end`, the network that each is or differs from.

    The pilots are those of the seed PILOT_SEED.
    """
    rows = tables.read_all("coordconv")
    return rows.assign(end=rows.network.str.partition("-")[0])
