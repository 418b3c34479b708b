"""Run records: one safetensors file per run, which holds all that is kept of it.

The tensors of a finished run are the VAE's state_dict in float16, and `lattice`, the codes of
`History.codes`, if there are any; an unfinished run has float32 weights and Adam's moments,
`exp_avg/NAME` and `exp_avg_sq/NAME`. The metadata hold JSON: format, run (the id), config, history,
image_size, machines, and a digest of all this. To load weights without this package::

    weights = safetensors.torch.load_file("results/published/sbd.safetensors")
    weights.pop("lattice", None)
    vae.load_state_dict(weights)
"""

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path

import numpy as np
import torch

from sbd_utils import checks, files
from sbd_utils.models.decoders import DECODERS
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RESULTS
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.machine import LAYOUT, pick_device
from sbd_utils.training.stream import Stream

PUBLISHED = RESULTS / "published"
FORMAT = 4  # of records and ids; raise it when a default changes, or what a field means
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's
GRID = "lattice"  # the tensor that holds History.codes
OLD_NAMES = {"accumulate": "gradient_accumulation_steps"}  # of settings, in published records


class RecordError(RuntimeError):
    """A run record that cannot be used; the message names the file and what to do."""


@dataclass
class History:
    """What each epoch left.

    Attributes:
        reconstruction: mean reconstruction term, nats per image.
        kl: mean KL term, nats per image.
        seconds: the epoch's duration.
        codes: posterior means of the images that `train` was given as `grid`, float16
            [epochs, rows, columns, latent_dim]; None where it was given none.
    """

    reconstruction: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    codes: torch.Tensor | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def undisturbed_seconds(self) -> float:
        """Duration of all epochs at the pace of the median one, so that a pause does not count."""
        return len(self) * float(np.median(self.seconds))


@dataclass
class Run:
    """A trained VAE, in evaluation mode, with its settings and its history.

    Attributes:
        config: the settings, with `precision` and `compiled` as they were resolved.
        machines: what it was trained on, one after another, as `machine.describe` gives it.
    """

    config: TrainConfig
    vae: VAE
    history: History
    machines: list[dict] = field(default_factory=list)


def load_run(source: str | Path) -> Run:
    """Read a run; nothing is ever trained.

    Args:
        source: the name of a published run, such as "sbd", or the path of a record.

    Raises:
        RecordError: the file is missing, damaged, or not a record.
    """
    path = Path(source)
    if path.suffix != ".safetensors":
        path = PUBLISHED / f"{source}.safetensors"
        if not path.exists():
            found = ", ".join(sorted(p.stem for p in PUBLISHED.glob("*.safetensors")))
            raise RecordError(
                f"source must be the path of a run record or one of {found}, got {source!r}"
            )
    tensors, facts = _read(path)
    config = _config(facts)
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and then replaced
        vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, facts["image_size"])
    # In the memory layout of training, so that it computes the same, bit for bit.
    vae = vae.to(pick_device(), memory_format=LAYOUT)
    run = Run(config, vae.eval(), History())
    _fill(path, run, tensors, facts)
    return run


def save(path: Path, name: str, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Write the record of a run called `name`; a kill leaves the old file or the new one, whole.

    An unfinished run's record holds what Adam needs to go on, a finished one's has weights of 16
    bits.
    """
    unfinished = len(run.history) < run.config.epochs
    tensors = dict(run.vae.state_dict())
    if not unfinished:
        tensors = {weight: _half(value) for weight, value in tensors.items()}
    if run.history.codes is not None:
        tensors[GRID] = run.history.codes
    facts = {
        "format": FORMAT,
        "run": name,
        "config": asdict(run.config),
        "history": {curve: getattr(run.history, curve) for curve in _CURVES},
        "image_size": run.vae.image_size,
        "machines": run.machines,
    }
    if unfinished:
        for weight, parameter in run.vae.named_parameters():
            state = optimizer.state[parameter]
            tensors |= {f"{moment}/{weight}": state[moment] for moment in MOMENTS}
            facts["step"] = int(state["step"])
    files.write_tensors(path, tensors, facts)


def resume(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Read the record of an unfinished run into `run`, which has its shape, and `optimizer`."""
    tensors, facts = _read(path)
    run.config = _config(facts)
    _fill(path, run, tensors, facts)
    for weight, parameter in run.vae.named_parameters():
        # In the parameter's memory layout: the fused Adam takes both in the order of memory.
        optimizer.state[parameter] = {
            moment: torch.empty_like(parameter, requires_grad=False).copy_(
                tensors[f"{moment}/{weight}"]
            )
            for moment in MOMENTS
        } | {"step": torch.tensor(float(facts["step"]), device=parameter.device)}


def epochs_done(path: Path, name: str) -> int:
    """Number of epochs in the record of a run called `name`; 0 where there is no file.

    Raises:
        RecordError: the file is damaged, or of another run.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is there, and damaged
        return 0
    facts = _read(path)[1]
    if facts.get("run") != name:
        raise _refusal(path, f"it belongs to the run {facts.get('run')}, not to {name}")
    return len(facts["history"]["kl"])


def round_to_float16(vae: VAE) -> None:
    """Round the weights to 16 bits in place: what a finished run's record holds."""
    with torch.no_grad():
        for value in vae.state_dict().values():
            value.copy_(_half(value))


def _half(value: torch.Tensor) -> torch.Tensor:
    """A tensor in 16 bits, where it is of floats that fit."""
    half = value.half() if value.is_floating_point() else value
    return half if half.isfinite().all() else value


_CURVES = ("reconstruction", "kl", "seconds")


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    try:
        tensors, facts = files.read_tensors(path)
    except files.DamagedFileError as error:
        raise _refusal(path, str(error).removeprefix(f"{path}: ")) from error
    if facts.get("format", FORMAT) != FORMAT or not {"config", "history", "image_size"} <= (
        facts.keys()
    ):  # published records of before name no format
        raise _refusal(path, f"not a run record of format {FORMAT} of this package")
    return tensors, facts


def _refusal(path: Path, why: str) -> RecordError:
    remedy = (
        "take it from git again"
        if path.parent == PUBLISHED
        else "move it away or delete it to train this run anew"
    )
    return RecordError(f"{path}: {why}; {remedy}")


def _config(facts: dict) -> TrainConfig:
    return TrainConfig(**{OLD_NAMES.get(k, k): v for k, v in facts["config"].items()})


def _fill(path: Path, run: Run, tensors: dict[str, torch.Tensor], facts: dict) -> None:
    """Put what a record holds into a run of the same shape."""
    weights = {name: tensors[name] for name in run.vae.state_dict() if name in tensors}
    try:
        run.vae.load_state_dict(weights)
    except RuntimeError as error:  # torch's list of what does not fit
        raise _refusal(path, f"its weights do not fit: {str(error).splitlines()[-1]}") from error
    for name, value in facts["history"].items():
        setattr(run.history, name, value)
    run.history.codes = tensors.get(GRID)
    run.machines = facts.get("machines") or [
        {k: v for k, v in facts["provenance"].items() if k != "precision"}
    ]


def run_id(config: TrainConfig, images: torch.Tensor | Stream) -> str:
    """The name of a run: decoder, seed, and a hash of all settings and data.

    Only settings that are not at their defaults enter the hash, by their names, so that a field
    that is added later renames no run.
    """
    facts = {
        "format": FORMAT,
        "config": named_fields(config),
        "decoder": named_fields(DECODERS[config.decoder]),
    }
    if isinstance(images, Stream):  # whose pixels are rounded differently on every processor
        facts["images"] = named_fields(images)
    else:
        digest = hashlib.blake2b(digest_size=16)
        for part in images.split(1024):  # a copy of all would double a large data set's memory
            digest.update(np.ascontiguousarray(part.numpy(force=True)))
        facts["images"] = [list(images.shape), digest.hexdigest()]
    text = json.dumps(facts, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    return f"{config.decoder}-seed{config.seed}-{digest}"


def named_fields(value: object) -> object:
    """A value as JSON can hold it; of a dataclass, its class and the fields not at defaults."""
    if hasattr(value, "id_fields"):
        return value.id_fields()
    if is_dataclass(value):
        given = {
            one.name: getattr(value, one.name)
            for one in fields(value)
            if one.compare and getattr(value, one.name) != one.default
        }
        return {"class": type(value).__name__} | {k: named_fields(v) for k, v in given.items()}
    if isinstance(value, (tuple, list)):
        return [named_fields(item) for item in value]
    if callable(value):  # a decoder of the reader's own
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    checks.check_type("a field", value, (str, int, float, bool, type(None)))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a field must be finite, got {value}")
    return value


def provenance(run: Run) -> dict:
    """What a run was trained on, as a row of a table holds it."""
    found = {"precision": run.config.precision}
    for name in dict.fromkeys(name for one in run.machines for name in one):
        values = dict.fromkeys(one.get(name) for one in run.machines)
        found[name] = next(iter(values)) if len(values) == 1 else " and ".join(map(str, values))
    return found
