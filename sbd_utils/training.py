"""One training loop, with checkpoints that survive a kill at any moment."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path

import torch
from filelock import FileLock

from sbd_utils.models import DECODERS, VAE, check_images
from sbd_utils.settings import EPOCHS, RUNS

FORMAT = 1  # of the checkpoint; raise it when a change makes older runs incomparable
PRECISIONS = ("bfloat16", "float32")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


class TrainingDivergedError(RuntimeError):
    """A loss that is not finite; the message names the epoch and the step."""


def pick_device() -> torch.device:
    """CUDA where there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_precision(device: torch.device) -> str:
    """bfloat16 where the hardware multiplies it natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and (
            torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        )
    return "bfloat16" if native else "float32"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on; the defaults are the post's, its missing seed aside.

    precision: "bfloat16" (autocast) or "float32"; left out, what this machine is fast at.
    """

    decoder: str = "sbd"
    seed: int = 0
    epochs: int = EPOCHS["blog"]
    batch_size: int = 16
    learning_rate: float = 3e-4
    latent_dim: int = 5
    decoder_variance: float = 0.3
    precision: str = field(default_factory=lambda: pick_precision(pick_device()))

    def __post_init__(self):
        if self.decoder not in list(DECODERS):
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {self.decoder!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        for name, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("latent_dim", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or not least <= value < 2**63:
                raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
            object.__setattr__(self, name, int(value))  # NumPy's numbers do not go into JSON
        for name in ("learning_rate", "decoder_variance"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, got {value!r}")
            object.__setattr__(self, name, float(value))


@dataclass
class History:
    """What each epoch left: mean reconstruction and KL term in nats an image, and its seconds."""

    reconstruction: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.kl)


@dataclass
class Run:
    """A trained VAE, in evaluation mode, with the settings and the curves that led to it."""

    config: TrainConfig
    vae: VAE
    history: History


Reporter = Callable[[TrainConfig, History], None]


def train(
    config: TrainConfig,
    images: torch.Tensor,
    checkpoint: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a VAE on images [N, 3, size, size]; the global random state stays as it was.

    checkpoint: a file to save every epoch to and, where it is there, to go on from. Stopping and
        going on gives the same weights, bit for bit, as never having stopped.
    reporter: called after every epoch with the config and the history so far.
    Raises ValueError for images outside [0, 1] or of a wrong shape, CheckpointError for a file
    that is no checkpoint of this run, and TrainingDivergedError when a loss is not finite.
    """
    image_size = _check_size(images)
    device = pick_device()
    name = run_name(config, images)
    vae, optimizer = new_model(config, image_size, device)
    # One generator on the CPU draws order and noise, so that every device sees the same draws.
    generator = torch.Generator().manual_seed(config.seed)
    history = History()
    checkpoint = None if checkpoint is None else Path(checkpoint)
    if checkpoint is not None and checkpoint.exists():
        history = _load(checkpoint, name, vae, optimizer, generator)

    images = images.to(device)
    while len(history) < config.epochs:
        start = time.perf_counter()
        reconstruction, kl = train_epoch(vae, optimizer, images, config, generator, len(history))
        history.reconstruction.append(reconstruction)
        history.kl.append(kl)
        history.seconds.append(time.perf_counter() - start)
        if checkpoint is not None:
            _save(checkpoint, name, vae, optimizer, generator, history)
        if reporter is not None:
            reporter(config, history)
    return Run(config, vae.eval(), history)


def _check_size(images: torch.Tensor) -> int:
    image_size = images.shape[-1] if getattr(images, "ndim", 0) else 0
    check_images(images, image_size)
    return image_size


def new_model(
    config: TrainConfig, image_size: int, device: torch.device
) -> tuple[VAE, torch.optim.Optimizer]:
    """A VAE with its first weights from the seed, in the layout that is fast, and its Adam."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, image_size)
    vae = vae.to(device, memory_format=torch.channels_last)
    return vae, torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True)


def train_epoch(
    vae: VAE,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    config: TrainConfig,
    generator: torch.Generator,
    epoch: int,
) -> tuple[float, float]:
    """One pass over the images in a new order; the mean of each loss term in nats an image."""
    order = torch.randperm(len(images), generator=generator).to(images.device)
    noise = torch.randn(len(images), config.latent_dim, generator=generator).to(images.device)
    sums = []
    for rows, step_noise in zip(
        order.split(config.batch_size), noise.split(config.batch_size), strict=True
    ):
        x = images[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
        ):
            reconstruction, kl = vae.loss_terms(x, step_noise)
        optimizer.zero_grad()
        (reconstruction + kl).mean().backward()
        optimizer.step()
        sums.append(torch.stack([reconstruction.detach().sum(), kl.detach().sum()]))
    sums = torch.stack(sums).cpu()  # [steps, 2]; one wait for the device an epoch, not a step
    bad = (~sums.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise TrainingDivergedError(
            f"the loss is not finite in epoch {epoch + 1}, step {int(bad[0]) + 1}; the checkpoint "
            f"of the epoch before is kept (a lower learning_rate than {config.learning_rate} "
            "may help)"
        )
    if not all(weights.isfinite().all() for weights in vae.parameters()):
        raise TrainingDivergedError(
            f"the last step of epoch {epoch + 1} left weights that are not finite; the checkpoint "
            "of the epoch before is kept"
        )
    reconstruction, kl = (sums.double().sum(dim=0) / len(images)).tolist()
    return reconstruction, kl


def load_or_train(
    config: TrainConfig,
    images: torch.Tensor,
    runs: str | Path = RUNS,
    reporter: Reporter | None = None,
) -> Run:
    """The finished run where there is one; else train it, from where an earlier call got to.

    The run's folder is named after a hash of config and images. A second process that wants the
    same run waits for the first and then loads what it saved. Raises as `train` does.
    """
    _check_size(images)
    folder = Path(runs) / run_name(config, images)
    folder.mkdir(parents=True, exist_ok=True)

    def report(config: TrainConfig, history: History) -> None:
        (folder / "progress.txt").write_text(progress(config, history))
        if reporter is not None:
            reporter(config, history)

    with FileLock(folder / "lock"):
        return train(config, images, folder / "checkpoint.pt", report)


def run_name(config: TrainConfig, images: torch.Tensor) -> str:
    """Decoder, seed and a hash of all that the run depends on."""
    digest = hashlib.blake2b(f"{FORMAT} {asdict(config)} {images.shape}".encode(), digest_size=4)
    digest.update(images.numpy(force=True).tobytes())
    return f"{config.decoder}-seed{config.seed}-{digest.hexdigest()}"


def progress(config: TrainConfig, history: History) -> str:
    """Epochs done and time left, from the pace of the last ten epochs."""
    recent = history.seconds[-10:]
    left = round(sum(recent) / len(recent) * (config.epochs - len(history)))
    return (
        f"{config.decoder} seed {config.seed}: epoch {len(history)}/{config.epochs}, "
        f"{left // 60}:{left % 60:02d} left"
    )


def _save(path, name, vae, optimizer, generator, history) -> None:
    """Write beside the old file, then swap: a kill leaves the old one or the new one, whole."""
    state = {
        "format": FORMAT,
        "run": name,
        "model": vae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "history": asdict(history),
    }
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _load(path, name, vae, optimizer, generator) -> History:
    """Read a checkpoint into vae, optimizer and generator, or raise CheckpointError."""

    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f"{path}: {why}; move it away or delete it to train this run anew")

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise refuse(f"not a readable checkpoint ({type(error).__name__})") from error
    parts = {"format", "run", "model", "optimizer", "generator", "history"}
    if not isinstance(state, dict) or set(state) != parts or str(state["format"]) != str(FORMAT):
        raise refuse(f"not a checkpoint of format {FORMAT} of this package")
    if str(state["run"]) != name:
        raise refuse(f"it belongs to the run {state['run']}, not to {name}")
    try:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        history = History(**{f.name: state["history"][f.name] for f in fields(History)})
        lengths = {len(getattr(history, f.name)) for f in fields(History)}
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise refuse(f"its contents do not fit the model ({error})") from error
    if len(lengths) != 1 or len(history) == 0:
        raise refuse("its curves have different lengths")
    return history
