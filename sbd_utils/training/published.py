"""Runs whose weights are committed: what the notebooks open on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sbd_utils.models.vae import VAE
from sbd_utils.settings import RESULTS, TRAINING, preset
from sbd_utils.training.loop import History, Run, TrainConfig, load_or_train
from sbd_utils.training.speed import pick_device

FOLDER = RESULTS / "published"
DECODERS = ("deconv", "sbd")
LATTICE = "lattice"  # the one tensor that is no weight


class PublishedError(RuntimeError):
    """A published file that is missing or is not what was published."""


def half(run: Run) -> Run:
    """The run as its file holds it, with weights of 16 bits in float32: what scores are of."""
    weights = {name: value.half().float() for name, value in run.vae.state_dict().items()}
    return _rebuild(run.config, run.history, run.vae.image_size, weights)


def save(name: str, run: Run, provenance: Mapping, lattice: torch.Tensor | None = None) -> None:
    """Write a finished run to results/published/NAME.safetensors.

    provenance: what it was trained on, for who wants to know. lattice: where a lattice of places
    was encoded after every epoch, [epochs, rows, columns, latent_dim].
    """
    tensors = {k: v.half().contiguous().cpu() for k, v in run.vae.state_dict().items()}
    if lattice is not None:
        tensors[LATTICE] = lattice.half().contiguous()
    facts = {
        "config": asdict(run.config), "history": asdict(run.history),
        "image_size": run.vae.image_size, "provenance": dict(provenance),
    }
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    save_file(tensors, path, metadata | {"digest": _digest(tensors, metadata)})
    path.chmod(0o644)  # safetensors leaves it to its owner alone


def read(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and the facts of a published file; PublishedError unless every byte is its own.

    The format has no checksum, so the file carries one of all that is read.
    """
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        found = ", ".join(sorted(p.stem for p in FOLDER.glob("*.safetensors")))
        raise PublishedError(f"name must be one of {found}, got {name!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PublishedError(f"{path}: not readable ({error}); take it from git again") from error
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise PublishedError(f"{path}: not the file that was published; take it from git again")
    return tensors, {key: json.loads(value) for key, value in metadata.items()}


def load(name: str) -> Run:
    """A published run, on the device that training would take. PublishedError as in read."""
    weights, facts = read(name)
    weights.pop(LATTICE, None)
    return _rebuild(TrainConfig(**facts["config"]), History(**facts["history"]),
                    facts["image_size"], weights)


def runs(images: torch.Tensor) -> dict[str, Run]:
    """A run of each decoder under the preset: the published, or one trained on this machine.

    On a CPU of two cores or more they are trained at once, on a thread each, as in the studies.
    """
    if preset() == "published":
        return {name: load(name) for name in DECODERS}
    configs = [TrainConfig(name, **TRAINING[preset()]) for name in DECODERS]
    with parallel_config("loky", inner_max_num_threads=1):
        workers = Parallel(n_jobs=min(cpu_count(), 2) if pick_device().type == "cpu" else 1)
        trained = workers(delayed(load_or_train)(config, images) for config in configs)
    return dict(zip(DECODERS, trained, strict=True))


def _rebuild(config: TrainConfig, history: History, image_size: int, weights: Mapping) -> Run:
    vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, image_size)
    vae.load_state_dict({name: value.float() for name, value in weights.items()})
    return Run(config, vae.to(pick_device()).eval(), history)


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(dict(sorted(metadata.items()))).encode())
    return digest.hexdigest()
