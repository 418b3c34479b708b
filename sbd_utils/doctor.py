"""`make doctor`: what this machine has and how long training takes, to paste into a bug report."""

import logging
import os
import shutil
import statistics
import subprocess
import sys
import time

import torch
from joblib import cpu_count
from torch.utils.collect_env import get_pretty_env_info

from sbd_utils.data.circles import make_sprites
from sbd_utils.models.decoders import PAIR
from sbd_utils.settings import ROOT, RUNS, TRAINING
from sbd_utils.training import loop, machine
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.parallel import side_by_side

SETTINGS = ("SBD_", "OMP_", "MKL_", "TORCH", "CUDA_", "CC", "CXX")


def free_space() -> str:
    """Free space where the runs are, or will be."""
    folder = next(path for path in (RUNS, *RUNS.parents) if path.exists())
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB at {RUNS}"


def compiles() -> bool:
    """Whether torch.compile works here, by a small function; a line of log says why not."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        return x.relu().sum()

    x = torch.ones(2, requires_grad=True, device=machine.pick_device())
    return (
        machine.may_compile(x.device)
        and machine.compiled_or_eager(loss, lambda compiled: compiled(x).backward()) is not loss
    )


def step_milliseconds(decoder: str, seconds: float = 5) -> float:
    """Median time of a training step at the post's settings, measured for so many seconds."""
    device = machine.pick_device()
    config = loop.resolve(TrainConfig(decoder), device)
    images, times = make_sprites().images.to(device), []
    step, _ = loop.new_step(config, *loop.new_model(config, images.shape[-1], device), images)
    for batch in loop.batches(len(images), config, torch.Generator(), device):
        start = time.perf_counter()
        step(*batch).tolist()  # waits for a GPU
        times.append(1e3 * (time.perf_counter() - start))
        if len(times) > 3 and sum(times) > 1e3 * seconds:
            break
    return statistics.median(times[1:])


def reproduction() -> str:
    """Estimated training time of `make reproduce`, both runs at once on two cores or more."""
    times = list(side_by_side(step_milliseconds, [{"decoder": name} for name in PAIR]))
    at_once = machine.pick_device().type == "cpu" and cpu_count() > 1
    steps = TRAINING["blog"]["epochs"] * -(-len(make_sprites().images) // TrainConfig().batch_size)
    minutes = (max if at_once else sum)(times) * steps / 6e4
    each = " and ".join(f"{time:.0f}" for time in times)
    return f"about {minutes:.0f} minutes of training; {each} milliseconds per step"


PARTS = {
    "torch and machine": get_pretty_env_info,
    "clone": lambda: subprocess.check_output(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, encoding="utf-8"
    ).strip(),
    "settings": lambda: {k: v for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS)},
    "free disk": free_space,
    "cores": cpu_count,
    "precision": lambda: machine.pick_precision(machine.pick_device()),
    "torch.compile": compiles,
    "make reproduce": reproduction,
}


def main() -> None:
    """Print every part; a part that fails prints its error, and the others follow."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    for name, part in PARTS.items():
        try:
            print(f"{name}: {part()}", flush=True)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
