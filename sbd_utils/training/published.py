"""Runs whose weights are committed: what the notebooks open on."""

from collections.abc import Mapping
from dataclasses import asdict

import torch

from sbd_utils import files
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RESULTS, TRAINING, preset
from sbd_utils.training.loop import History, Run, TrainConfig, load_or_train
from sbd_utils.training.parallel import side_by_side
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
    tensors = {name: value.half() for name, value in run.vae.state_dict().items()}
    if lattice is not None:
        tensors[LATTICE] = lattice.half()
    files.write_tensors(FOLDER / f"{name}.safetensors", tensors, {
        "config": asdict(run.config), "history": asdict(run.history),
        "image_size": run.vae.image_size, "provenance": dict(provenance),
    })


def read(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and facts of a published file; PublishedError unless every byte is its own."""
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        found = ", ".join(sorted(p.stem for p in FOLDER.glob("*.safetensors")))
        raise PublishedError(f"name must be one of {found}, got {name!r}")
    try:
        return files.read_tensors(path)
    except files.DamagedFileError as error:
        raise PublishedError(f"{error}; take it from git again") from error


def load(name: str) -> Run:
    """A published run, on the device that training would take. PublishedError as in read."""
    weights, facts = read(name)
    weights.pop(LATTICE, None)
    return _rebuild(TrainConfig(**facts["config"]), History(**facts["history"]),
                    facts["image_size"], weights)


def runs(images: torch.Tensor) -> dict[str, Run]:
    """A run of each decoder under the preset: the published, or one trained on this machine.

    They are trained side by side, as in the studies.
    """
    if preset() == "published":
        return {name: load(name) for name in DECODERS}
    configs = [TrainConfig(name, **TRAINING[preset()]) for name in DECODERS]
    trained = side_by_side(load_or_train, [{"config": c, "images": images} for c in configs])
    return dict(zip(DECODERS, trained, strict=True))


def _rebuild(config: TrainConfig, history: History, image_size: int, weights: Mapping) -> Run:
    vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, image_size)
    vae.load_state_dict({name: value.float() for name, value in weights.items()})
    return Run(config, vae.to(pick_device()).eval(), history)
