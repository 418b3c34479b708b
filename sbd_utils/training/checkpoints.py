"""Checkpoints that survive a kill at any moment, and what refuses one that is not the run's."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

FORMAT = 3  # raise it when a change makes older runs incomparable
CURVES = ("reconstruction", "kl", "seconds")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


def save(
    path: Path, run: str, vae: torch.nn.Module, optimizer: torch.optim.Optimizer,
    generator: torch.Generator, history: dict[str, Sequence[float]],
) -> None:
    """Write beside the old file, then swap: a kill leaves the old one or the new one, whole."""
    state = {
        "format": FORMAT,
        "run": run,
        "model": vae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "history": history,
    }
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load(
    path: Path, run: str, vae: torch.nn.Module, optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, list[float]]:
    """Read a checkpoint into vae, optimizer and generator; its curves, or CheckpointError."""

    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f"{path}: {why}; move it away or delete it to train this run anew")

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):  # it may be whole
        raise
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise refuse(f"not a readable checkpoint ({type(error).__name__})") from error
    parts = {"format", "run", "model", "optimizer", "generator", "history"}
    if not isinstance(state, dict) or set(state) != parts or str(state["format"]) != str(FORMAT):
        raise refuse(f"not a checkpoint of format {FORMAT} of this package")
    if str(state["run"]) != run:
        raise refuse(f"it belongs to the run {state['run']}, not to {run}")
    try:
        vae.load_state_dict(state["model"])
        capturable = optimizer.param_groups[0]["capturable"]
        optimizer.load_state_dict(state["optimizer"])
        optimizer.param_groups[0]["capturable"] = capturable  # not that of an earlier graph
        generator.set_state(state["generator"])
        history = {name: state["history"][name] for name in CURVES}
        lengths = {len(curve) for curve in history.values()}
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise refuse(f"its contents do not fit the model ({error})") from error
    if len(lengths) != 1 or lengths == {0}:
        raise refuse("its curves have different lengths")
    return history
