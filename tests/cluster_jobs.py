"""Work for the tests of studies, where a worker of another process can import it."""

import os
from pathlib import Path

import torch

from sbd_utils.data.circles import make_sprites
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import train


def train_a_little(seed: int, epochs: int = 2) -> dict:
    """A row of a tiny training; each start and each end leaves a line in the folder LOG."""
    images = make_sprites(image_size=32, sizes=(8,), positions=2).images
    config = TrainConfig("deconv", seed, epochs, precision="float32", compiled=False)
    _note(f"start {seed} {os.getpid()}")
    runs = Path(os.environ["SBD_RUNS"])
    run = train(config, images, runs, lambda run: _note(f"epoch {seed} {len(run.history)}"))
    weights = torch.cat([value.flatten() for value in run.vae.state_dict().values()])
    _note(f"end {seed} {os.getpid()}")
    return {
        "seed": seed,
        "kl": run.history.kl[-1],
        "weights": weights.double().sum().item(),
        "threads": torch.get_num_threads(),
    }


def fail(seed: int) -> dict:
    raise ZeroDivisionError(f"job {seed}")


def die(seed: int) -> dict:
    os._exit(9)


def die_five_times(seed: int) -> dict:
    """As a training does whose workers run out of walltime, again and again."""
    _note(f"start {seed} {os.getpid()}")
    log = (Path(os.environ["SBD_RUNS"]) / "log.txt").read_text(encoding="utf-8")
    if log.count(f"start {seed} ") <= 5:
        os._exit(9)
    return {"seed": seed}


def _note(line: str) -> None:
    with open(Path(os.environ["SBD_RUNS"]) / "log.txt", "a", encoding="utf-8") as file:
        file.write(line + "\n")
