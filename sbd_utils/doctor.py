"""`make doctor`: what this machine has and how long training takes, to paste into a bug report."""

import locale
import logging
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

import torch
from joblib import cpu_count
from packaging.requirements import Requirement

from sbd_utils.data.circles import make_sprites
from sbd_utils.models.decoders import PAIR
from sbd_utils.settings import ROOT, RUNS, TRAINING
from sbd_utils.training import loop, machine
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.parallel import side_by_side


def first_line(*command: str) -> str:
    """What a command prints first."""
    printed = subprocess.check_output(command, encoding="utf-8", errors="replace", cwd=ROOT)
    return printed.partition("\n")[0]


def installed() -> Iterable[Distribution]:
    """The packages of this environment, without those that setuptools brings along in a folder."""
    return distributions(path=[sysconfig.get_path("purelib")])


def free_gigabytes() -> float:
    """Free space where the runs are, or will be."""
    folder = next(path for path in (RUNS, *RUNS.parents) if path.exists())
    return shutil.disk_usage(folder).free / 1e9


def unlike_pins() -> str:
    """The installed packages that have another version than constraints.txt wants."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        pin.name.lower(): pin.specifier
        for pin in map(Requirement, lines)
        if not pin.marker or pin.marker.evaluate()
    }
    found = [
        f"{package.name} {package.version}"
        for package in installed()
        if package.version not in pins.get(package.name.lower(), [package.version])
    ]
    return ", ".join(found) or "none"


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
    """The median training step of the post's setting over so many seconds."""
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
    """How long the trainings of `make reproduce` take: both at once where there are two cores."""
    times = list(side_by_side(step_milliseconds, [{"decoder": name} for name in PAIR]))
    at_once = machine.pick_device().type == "cpu" and cpu_count() > 1
    steps = TRAINING["blog"]["epochs"] * -(-len(make_sprites().images) // TrainConfig().batch_size)
    return (
        f"about {(max if at_once else sum)(times) * steps / 6e4:.0f} minutes of training, by "
        f"an estimate: {' and '.join(f'{time:.0f}' for time in times)} milliseconds per step"
    )


PARTS = {
    "clone": lambda: first_line("git", "describe", "--always", "--dirty"),
    "Python": lambda: f"{sys.version} in {sys.prefix}",
    "platform": platform.platform,
    "torch": lambda: torch.__version__,
    "not as pinned": unlike_pins,
    "locale": lambda: f"{locale.getlocale()}, terminal {sys.stdout.encoding}",
    "settings": lambda: ", ".join(
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(("SBD_", "OMP_", "MKL_", "TORCH", "CUDA_")) or name in ("CC", "CXX")
    ),
    "processor": lambda: f"{machine.cpu_name()}, {cpu_count()} of {os.cpu_count()} cores",
    "memory": lambda: f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
    "disk": lambda: f"{free_gigabytes():.1f} GB free at {RUNS}",
    "device": lambda: (
        f"{machine.describe().get('device', 'cpu')}, the first there is of CUDA, MPS and CPU"
    ),
    "compiler": lambda: first_line(os.environ.get("CXX") or "g++", "--version"),
    "torch.compile": compiles,
    "precision": lambda: machine.pick_precision(machine.pick_device()),
    "make reproduce": reproduction,
}


def main() -> None:
    """Print every part; whatever is wrong with a machine is what we want to read."""
    sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    for name, part in PARTS.items():
        try:
            print(f"{name}: {part()}", flush=True)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
