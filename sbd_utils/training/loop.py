"""The training loop."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from sbd_utils import checks, files
from sbd_utils.models.vae import VAE
from sbd_utils.training import machine, records
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.records import History, Run
from sbd_utils.training.stream import Stream


class TrainingDivergedError(RuntimeError):
    """A loss or weights that are not finite; the message says where."""


Reporter = Callable[[Run], None]


def train(
    config: TrainConfig,
    images: torch.Tensor | Stream,
    runs: str | Path | None = None,
    reporter: Reporter | None = None,
    grid: torch.Tensor | None = None,
) -> Run:
    """Train a VAE, or load the run where it is finished already.

    A finished run has its weights rounded to 16 bits, as its record keeps them. The global random
    state stays as it was.

    Args:
        images: float32 in [0, 1], [N, 3, size, size], or a stream of them.
        runs: a folder in which the run has a record. It is saved after every epoch and continued
            from there: a run that was stopped ends with the same weights, bit for bit on a CPU. A
            second process that wants the same run waits for the first.
        reporter: called after every epoch with the run so far.
        grid: images [rows, columns, 3, size, size] to encode after every epoch, for
            `History.codes`.

    Raises:
        ValueError: images outside [0, 1], or of a wrong shape.
        RecordError: the record is damaged or no record of this run.
        TrainingDivergedError: a loss or weights are not finite.
    """
    stream = images if isinstance(images, Stream) else None
    if stream is None:
        checks.images("images", images)
    name = records.run_id(config, images)
    path = None if runs is None else Path(runs) / f"{name}.safetensors"
    if path is not None and records.epochs_done(path, name) == config.epochs:
        return records.load_run(path)  # to read a finished run needs no lock
    if stream is not None:
        images = stream.draw(config.seed, 0)
    device = machine.pick_device()
    # Before anything is written: it refuses what cannot be trained.
    vae, optimizer = new_model(config, images.shape[-1], device)
    run = Run(resolve(config, device), vae, History())
    with nullcontext() if path is None else files.lock(path.parent / "locks" / name):
        if path is not None and path.exists():
            if records.epochs_done(path, name) == config.epochs:
                return records.load_run(path)
            records.resume(path, run, optimizer)
        _train(
            run,
            optimizer,
            images.to(device),
            stream,
            reporter,
            grid,
            lambda: path and records.save(path, name, run, optimizer),
        )
    return run


def _train(
    run: Run,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    stream: Stream | None,
    reporter: Reporter | None,
    grid: torch.Tensor | None,
    save: Callable[[], None],
) -> None:
    """The epochs that a run lacks."""
    config, vae, history, count = run.config, run.vae, run.history, len(images)
    # One generator on the CPU draws order and noise, so that every device sees the same draws.
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(len(history)):
        draw(count, config, generator)
    if (here := machine.describe()) not in run.machines:
        run.machines.append(here)
    step, compiled = new_step(config, vae, optimizer, images)
    if not len(history):
        run.config = replace(config, compiled=compiled)
    while len(history) < config.epochs:
        start = time.perf_counter()
        if stream is not None:
            images.copy_(stream.draw(config.seed, len(history)))  # in place: `step` reads there
        sums = train_epoch(step, count, config, generator, images.device)
        _check_finite(sums, vae, len(history) + 1, config)
        reconstruction, kl = (sums.double().sum(dim=0) / count).tolist()
        history.reconstruction.append(reconstruction)
        history.kl.append(kl)
        if len(history) == config.epochs:
            vae.eval()
            records.round_to_float16(vae)
        if grid is not None:
            _append_codes(history, vae, grid)
        history.seconds.append(time.perf_counter() - start)
        save()
        if reporter is not None:
            reporter(run)


def resolve(config: TrainConfig, device: torch.device) -> TrainConfig:
    """The settings with what "auto" stands for on this device."""
    found = {}
    if config.precision == "auto":
        found["precision"] = machine.pick_precision(device)
    if config.compiled == "auto":
        found["compiled"] = machine.may_compile(device)
    return replace(config, **found)


def new_model(
    config: TrainConfig, image_size: int, device: torch.device
) -> tuple[VAE, torch.optim.Optimizer]:
    """A VAE with its first weights from the seed, in the memory layout that is fast, and Adam."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        vae = VAE(config.decoder, config.latent_dim, config.decoder_variance, image_size)
    vae = vae.to(device, memory_format=machine.LAYOUT)
    return vae, torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True)


Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def new_step(
    config: TrainConfig, vae: VAE, optimizer: torch.optim.Optimizer, images: torch.Tensor
) -> tuple[Step, bool]:
    """A training step, and whether it is compiled.

    The step takes rows of `images` [batch], noise [batch, latent_dim] and weights [batch], 0 where
    a row only fills the batch. It returns both loss terms, each summed over the batch, [2].
    """

    def gradients(
        loss_terms: Callable, rows: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        optimizer.zero_grad()
        sums = []
        pieces = (part.chunk(config.gradient_accumulation_steps) for part in (rows, noise, weights))
        for piece_rows, piece_noise, piece_weights in zip(*pieces, strict=True):
            x = images[piece_rows].contiguous(memory_format=machine.LAYOUT)
            with torch.autocast(
                images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
            ):
                terms = torch.stack(loss_terms(x, piece_noise))  # [2, batch]
            terms = (terms * piece_weights).sum(dim=1)
            reconstruction, kl = terms
            ((reconstruction + config.beta * kl) / weights.sum()).backward()
            sums.append(terms.detach())
        return torch.stack(sums).sum(dim=0)

    machine.keep_freed_memory()
    loss_terms = eager = vae.loss_terms
    if config.compiled:  # everything is compiled here, forward and backward: all steps are alike
        first = next(batches(len(images), config, torch.Generator(), images.device))
        before = [buffer.clone() for buffer in vae.buffers()]
        loss_terms = machine.compiled_or_eager(eager, lambda compiled: gradients(compiled, *first))
        for buffer, value in zip(vae.buffers(), before, strict=True):
            buffer.copy_(value)  # as before this step that is none

    def step(rows: torch.Tensor, noise: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        sums = gradients(loss_terms, rows, noise, weights)
        optimizer.step()
        return sums

    return step, loss_terms is not eager


def draw(
    count: int, config: TrainConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The random numbers of an epoch: the images' order [count], noise [count, latent_dim]."""
    return (
        torch.randperm(count, generator=generator),
        torch.randn(count, config.latent_dim, generator=generator),
    )


def batches(
    count: int, config: TrainConfig, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """One pass over the images in a new order: the arguments of every step, all of one shape.

    The last batch is filled up with images of weight 0, so that one compiled graph serves all. A
    batch is never larger than the data.
    """
    order, noise = draw(count, config, generator)
    size = min(config.batch_size, count)
    slots = torch.arange(-(-count // size) * size)
    weights = (slots < count).float()
    parts = order[slots % count], noise[slots % count], weights
    return zip(*(part.to(device).split(size) for part in parts), strict=True)


def train_epoch(
    step: Step, count: int, config: TrainConfig, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """One pass over the images; the summed loss terms of every step, [steps, 2], on the CPU."""
    sums = [step(*batch) for batch in batches(count, config, generator, device)]
    return torch.stack(sums).cpu()  # one wait for the device an epoch, not a step


def _append_codes(history: History, vae: VAE, grid: torch.Tensor) -> None:
    with torch.inference_mode():
        batch = grid.flatten(0, 1).to(next(vae.parameters()).device)
        codes = vae.encoder(batch)[0].unflatten(0, grid.shape[:2]).half().cpu()[None]
    if len(history) > 1 and (history.codes is None or len(history.codes) < len(history) - 1):
        raise ValueError("grid must be given from a run's first epoch on, or not at all")
    history.codes = codes if history.codes is None else torch.cat([history.codes, codes])


def _check_finite(sums: torch.Tensor, vae: VAE, epoch: int, config: TrainConfig) -> None:
    """Raise TrainingDivergedError unless the sums [steps, 2] and all weights are finite."""
    kept = f"the record of epoch {epoch - 1}, if any, is kept" if epoch > 1 else "nothing is kept"
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


def progress(run: Run) -> str:
    """Epochs done and time left, from the pace of the last ten epochs."""
    config, history = run.config, run.history
    left = round(statistics.median(history.seconds[-10:]) * (config.epochs - len(history)))
    return (
        f"{config.decoder} seed {config.seed}: epoch {len(history)}/{config.epochs}, "
        f"{left // 60}:{left % 60:02d} left"
    )


def print_progress(run: Run) -> None:
    """A reporter: one line of progress for every tenth epoch, on stderr."""
    if len(run.history) % 10 in (0, 1):
        print(progress(run), file=sys.stderr, flush=True)
