"""One training loop, with checkpoints that survive a kill at any moment."""

import hashlib
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from sbd_utils import checks, files
from sbd_utils.models.recipes import RECIPES, builder
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RUNS, TRAINING
from sbd_utils.training import checkpoints, speed
from sbd_utils.training.stream import Stream

PRECISIONS = ("bfloat16", "float32")


class TrainingDivergedError(RuntimeError):
    """A loss or weights that are not finite; the message says where."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; the defaults are the post's, its missing seed aside.

    decoder: "sbd", "deconv" or another of recipes.RECIPES.
    beta: the weight of the KL term (Higgins et al. 2017, beta-VAE).
    accumulate: in how many pieces a batch is taken, one after another, to need less memory.
    precision: "bfloat16" (autocast) or "float32"; left out, what this machine is fast at.
    compiled: whether torch.compile builds the loss; left out, wherever it can. A run goes on
        eagerly, with one line that says so, where it cannot after all.
    """

    decoder: str = "sbd"
    seed: int = 0
    epochs: int = TRAINING["blog"]["epochs"]
    batch_size: int = 16
    learning_rate: float = TRAINING["blog"]["learning_rate"]
    latent_dim: int = 5
    decoder_variance: float = 0.3
    beta: float = 1.0
    accumulate: int = 1
    precision: str = field(default_factory=lambda: speed.pick_precision(speed.pick_device()))
    compiled: bool = field(default_factory=lambda: speed.pick_compiled(speed.pick_device()))

    def __post_init__(self):
        builder(self.decoder)  # a wrong name raises
        checks.one_of("precision", self.precision, PRECISIONS)
        checks.one_of("compiled", self.compiled, (True, False))
        for name, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("latent_dim", 1),
                            ("accumulate", 1)):
            # NumPy's numbers become Python's, which go into JSON.
            object.__setattr__(self, name, checks.whole(name, getattr(self, name), least))
        if self.batch_size % self.accumulate:
            raise checks.refused("accumulate", f"a divisor of batch_size = {self.batch_size}",
                                 self.accumulate)
        for name in ("learning_rate", "decoder_variance", "beta"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))


@dataclass
class History:
    """What each epoch left: mean reconstruction and KL term in nats an image, and its seconds."""

    reconstruction: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def undisturbed_seconds(self) -> float:
        """What the epochs take at the pace of the median one: a pause does not count."""
        return len(self) * statistics.median(self.seconds)


@dataclass
class Run:
    """A trained VAE, in evaluation mode, with the settings and the curves that led to it.

    machines: what it was trained on, one after another, as `speed.machine` tells; none where that
        is not known.
    """

    config: TrainConfig
    vae: VAE
    history: History
    machines: list[dict] = field(default_factory=list)


Reporter = Callable[[Run], None]


def train(
    config: TrainConfig,
    images: torch.Tensor | Stream,
    checkpoint: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a VAE on images [N, 3, size, size], or on a stream of them.

    The global random state stays as it was.

    checkpoint: a file to save every epoch to and, where it is there, to go on from. Stopping and
        going on gives the same weights, bit for bit on a CPU, as never having stopped.
    reporter: called after every epoch with the run so far.
    Raises ValueError for images outside [0, 1] or of a wrong shape, CheckpointError for a file
    that is no checkpoint of this run, and TrainingDivergedError when a loss or weights are not
    finite.
    """
    name, stream = run_name(config, images), images if isinstance(images, Stream) else None
    if stream:
        images = stream.draw(config.seed, 0)
    image_size = checks.images("images", images)
    device = speed.pick_device()
    vae, optimizer = new_model(config, image_size, device)
    # One generator on the CPU draws order and noise, so that every device sees the same draws.
    generator = torch.Generator().manual_seed(config.seed)
    history, machines, here = History(), [], speed.machine()
    checkpoint = None if checkpoint is None else Path(checkpoint)
    if checkpoint is not None and os.path.lexists(checkpoint):  # be it a link that leads nowhere
        curves, machines = checkpoints.load(
            checkpoint, name, vae, optimizer, config.epochs, -(-len(images) // config.batch_size))
        history = History(**curves)
        for _ in range(len(history)):
            draw(len(images), config, generator)

    images, run = images.to(device), Run(config, vae, history, machines)
    if len(history) < config.epochs:
        if here not in machines and (machines or not len(history)):  # else it is not known
            machines.append(here)
        step = new_step(config, vae, optimizer, images)
    while len(history) < config.epochs:
        start = time.perf_counter()
        if stream:  # in place, since a captured graph and `step` read from there
            images.copy_(stream.draw(config.seed, len(history)))
        sums = train_epoch(step, len(images), config, generator, device)
        _check_finite(sums, vae, len(history) + 1, config)
        reconstruction, kl = (sums.double().sum(dim=0) / len(images)).tolist()
        history.reconstruction.append(reconstruction)
        history.kl.append(kl)
        history.seconds.append(time.perf_counter() - start)
        if checkpoint is not None:
            checkpoints.save(checkpoint, name, vae, optimizer, asdict(history), machines)
        if reporter is not None:
            reporter(run)
    vae.eval()
    return run


def new_model(
    config: TrainConfig, image_size: int, device: torch.device
) -> tuple[VAE, torch.optim.Optimizer]:
    """A VAE with its first weights from the seed, in the layout that is fast, and its Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, image_size)
    vae = vae.to(device, memory_format=speed.LAYOUT)
    return vae, torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True)


Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def new_step(
    config: TrainConfig, vae: VAE, optimizer: torch.optim.Optimizer, images: torch.Tensor,
    capture: bool = True,
) -> Step:
    """A training step as a function of which images, their noise and their weights.

    It takes rows [batch], noise [batch, latent_dim] and weights [batch], 0 where a row only fills
    the batch, and returns the two loss terms, each summed over the batch, [2]. On CUDA it is
    captured as one graph unless `capture` is off.
    """
    def gradients(
        loss_terms: Callable, rows: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        optimizer.zero_grad()
        sums = []
        pieces = (part.chunk(config.accumulate) for part in (rows, noise, weights))
        for piece_rows, piece_noise, piece_weights in zip(*pieces, strict=True):
            x = images[piece_rows].contiguous(memory_format=speed.LAYOUT)
            with torch.autocast(
                images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
            ):
                terms = torch.stack(loss_terms(x, piece_noise))  # [2, batch]
            terms = (terms * piece_weights).sum(dim=1)
            reconstruction, kl = terms
            ((reconstruction + config.beta * kl) / weights.sum()).backward()
            sums.append(terms.detach())
        return torch.stack(sums).sum(dim=0)

    first = next(batches(len(images), config, torch.Generator(), images.device))
    loss_terms = vae.loss_terms
    if config.compiled:  # all is compiled here, forward and backward; the steps are all alike
        loss_terms = speed.compiled_or_eager(
            loss_terms, lambda compiled: gradients(compiled, *first))

    def step(rows: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        sums = gradients(loss_terms, rows, noise, weights)
        optimizer.step()
        return sums

    if images.device.type == "cuda" and capture:
        return speed.CapturedStep(step, vae, optimizer, *first)
    speed.keep_freed_memory()
    return step


def draw(
    count: int, config: TrainConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """What chance decides in an epoch: the images' order [count] and noise [count, latent_dim]."""
    return (torch.randperm(count, generator=generator),
            torch.randn(count, config.latent_dim, generator=generator))


def batches(
    count: int, config: TrainConfig, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """One pass over the images in a new order: what a step takes, all of one shape.

    The last batch is filled up with images of weight 0, so that one compiled graph serves all.
    """
    order, noise = draw(count, config, generator)
    slots = torch.arange(-(-count // config.batch_size) * config.batch_size)
    weights = (slots < count).float()
    parts = order[slots % count], noise[slots % count], weights
    return zip(*(part.to(device).split(config.batch_size) for part in parts), strict=True)


def train_epoch(
    step: Step, count: int, config: TrainConfig, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """One pass over the images; the summed loss terms of every step, [steps, 2], on the CPU."""
    sums = [step(*batch) for batch in batches(count, config, generator, device)]
    return torch.stack(sums).cpu()  # one wait for the device an epoch, not a step


def _check_finite(sums: torch.Tensor, vae: VAE, epoch: int, config: TrainConfig) -> None:
    """Raise TrainingDivergedError unless the sums [steps, 2] and all weights are finite."""
    kept = "no epoch was whole"
    if epoch > 1:
        kept = f"the checkpoint of epoch {epoch - 1}, if there is one, is kept"
    bad = (~sums.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise TrainingDivergedError(
            f"the loss is not finite in epoch {epoch}, step {int(bad[0]) + 1}; {kept} "
            f"(a lower learning_rate than {config.learning_rate} may help)"
        )
    if not all(weights.isfinite().all() for weights in vae.parameters()):
        raise TrainingDivergedError(
            f"the last step of epoch {epoch} left weights that are not finite; {kept}"
        )


def load_or_train(
    config: TrainConfig,
    images: torch.Tensor | Stream,
    runs: str | Path = RUNS,
    reporter: Reporter | None = None,
) -> Run:
    """The finished run where there is one; else train it, from where an earlier call got to.

    The run's folder is named after a hash of config and images. A second process that wants the
    same run waits for the first and then loads what it saved. Raises as `train` does.
    """
    folder = Path(runs) / run_name(config, images)
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoints.epochs_done(checkpoint) == config.epochs:  # to read, no lock is needed
        return train(config, images, checkpoint)
    if not os.path.lexists(checkpoint):
        _tell_of_others(config, images, Path(runs))
    folder.mkdir(parents=True, exist_ok=True)

    def report(run: Run) -> None:
        (folder / "progress.txt").write_text(progress(run), encoding="utf-8")
        if reporter is not None:
            reporter(run)

    with files.lock(folder / "lock"):
        return train(config, images, checkpoint, report)


def _tell_of_others(config: TrainConfig, images: torch.Tensor | Stream, runs: Path) -> None:
    """Say where the same run lies, trained in another precision or compiled otherwise."""
    for precision, compiled in product(PRECISIONS, (True, False)):
        other = replace(config, precision=precision, compiled=compiled)
        folder = runs / run_name(other, images)
        done = checkpoints.epochs_done(folder / "checkpoint.safetensors")
        if done and other != config:
            logging.getLogger(__name__).warning(
                "%s has %d epochs of this run with precision=%r, compiled=%r, and is not taken: "
                "TrainConfig of these goes on with it, or TORCH_COMPILE_DISABLE=1 where it was not "
                "compiled", folder, done, precision, compiled)


# A setting that is added later renames no run of today if its value of today is listed here; these
# are literals, since a changed default must rename.
UNNAMED = {
    "decoder": "sbd", "seed": 0, "epochs": 150, "batch_size": 16, "learning_rate": 3e-4,
    "latent_dim": 5, "decoder_variance": 0.3, "beta": 1.0, "accumulate": 1,
}


def run_name(config: TrainConfig, images: torch.Tensor | Stream) -> str:
    """Decoder, seed and a hash of all that the run depends on; of a stream, what it says of itself.

    ValueError for what is neither images nor a stream.
    """
    if not isinstance(images, Stream):
        checks.images("images", images)
    settings = {name: value for name, value in asdict(config).items()
                if value != UNNAMED.get(name)}
    settings["recipe"] = RECIPES[config.decoder]  # what a name means may change
    what = images if isinstance(images, Stream) else images.shape
    digest = hashlib.blake2b(f"{checkpoints.FORMAT} {settings} {what}".encode(), digest_size=4)
    # A stream's pixels are rounded differently on every processor. Of images, a copy of all would
    # double a large data set's memory.
    for part in () if isinstance(images, Stream) else images.split(1024):
        digest.update(np.ascontiguousarray(part.numpy(force=True)))
    return f"{config.decoder}-seed{config.seed}-{digest.hexdigest()}"


def progress(run: Run) -> str:
    """Epochs done and time left, from the pace of the last ten epochs."""
    config, history = run.config, run.history
    left = round(statistics.median(history.seconds[-10:]) * (config.epochs - len(history)))
    return (
        f"{config.decoder} seed {config.seed}: epoch {len(history)}/{config.epochs}, "
        f"{left // 60}:{left % 60:02d} left"
    )
