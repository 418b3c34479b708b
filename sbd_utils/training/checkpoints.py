"""Checkpoints that survive a kill at any moment, and what refuses one that is not the run's."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from sbd_utils import files

FORMAT = 3  # raise it when a change makes older runs incomparable
CURVES = ("reconstruction", "kl", "seconds")
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


def save(
    path: Path, run: str, vae: torch.nn.Module, optimizer: torch.optim.Optimizer,
    history: dict[str, Sequence[float]], machines: list[dict],
) -> None:
    """Write beside the old file, then swap: a kill leaves the old one or the new one, whole."""
    tensors = {f"model/{name}": value for name, value in vae.state_dict().items()}
    steps = set()
    for name, parameter in vae.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"{moment}/{name}": state[moment] for moment in MOMENTS}
        steps.add(int(state["step"]))
    [step] = steps
    facts = {"format": FORMAT, "run": run, "history": history, "step": step, "machines": machines}
    files.write_tensors(path, tensors, facts)


def load(
    path: Path, run: str, vae: torch.nn.Module, optimizer: torch.optim.Optimizer,
    epochs: int, steps: int,
) -> tuple[dict[str, list[float]], list[dict]]:
    """Read a checkpoint into vae and optimizer; its curves, and what it was trained on, if it says.

    epochs: of the whole run; steps: of an epoch. CheckpointError unless all that the file holds is
    what training could have left.
    """

    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f"{path}: {why}; move it away or delete it to train this run anew")

    try:
        tensors, facts = files.read_tensors(path)
    except files.DamagedFileError as error:
        raise refuse(str(error).removeprefix(f"{path}: ")) from error
    except OSError as error:
        raise CheckpointError(str(error)) from error
    machines = facts.pop("machines", [])  # older ones do not say
    if set(facts) != {"format", "run", "history", "step"} or facts["format"] != FORMAT:
        raise refuse(f"not a checkpoint of format {FORMAT} of this package")
    if facts["run"] != run:
        raise refuse(f"it belongs to the run {facts['run']}, not to {run}")
    history = facts["history"]
    if not _are_curves(history, epochs):
        raise refuse(f"its curves are not {', '.join(CURVES)} of 1 to {epochs} epochs")
    if not isinstance(machines, list) or not all(isinstance(one, dict) for one in machines):
        raise refuse("it does not say what machines it was trained on")
    done = len(history["kl"])
    if facts["step"] != done * steps:
        raise refuse(f"{done} epochs are {done * steps} steps, not {facts['step']}")
    parameters = dict(vae.named_parameters())
    wanted = {f"model/{name}": value for name, value in vae.state_dict().items()} | {
        f"{moment}/{name}": value for moment in MOMENTS for name, value in parameters.items()
    }
    for name in sorted(wanted.keys() | tensors.keys()):
        ours, its = wanted.get(name), tensors.get(name)
        if ours is None or its is None or (ours.shape, ours.dtype) != (its.shape, its.dtype):
            raise refuse(f"{name} does not fit the model")
        if not its.isfinite().all() or name.startswith(MOMENTS[1]) and its.min() < 0:
            raise refuse(f"{name} holds what training never leaves")
    vae.load_state_dict({name: tensors[f"model/{name}"] for name in vae.state_dict()})
    for name, parameter in parameters.items():
        # In the parameter's memory layout: the fused Adam takes both in the order of memory.
        optimizer.state[parameter] = {
            moment: torch.empty_like(parameter, requires_grad=False).copy_(
                tensors[f"{moment}/{name}"])
            for moment in MOMENTS
        } | {"step": torch.tensor(float(facts["step"]), device=parameter.device)}
    return history, machines


def epochs_done(path: Path) -> int:
    """How many epochs a checkpoint holds; 0 where there is none that can be read."""
    try:
        return len(files.read_tensors(path)[1]["history"]["kl"])
    except (files.DamagedFileError, OSError, KeyError, TypeError):
        return 0


def _are_curves(history: object, epochs: int) -> bool:
    """Whether a history holds the curves of 1 to so many epochs, all of one length."""
    if not isinstance(history, dict) or set(history) != set(CURVES):
        return False
    if not all(isinstance(curve, list) for curve in history.values()):
        return False
    lengths = {len(curve) for curve in history.values()}
    numbers = [value for curve in history.values() for value in curve]
    return len(lengths) == 1 and 1 <= lengths.pop() <= epochs and all(
        # Of a KL term that is 0, rounding may leave a little less.
        type(value) is float and -1e-3 < value < math.inf for value in numbers
    )
