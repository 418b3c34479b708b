"""`make bench`: what a training step costs, the plain loop and ours side by side in one run.

The plain loop is the reference, what one writes without a thought for machine. Every contestant has
a process of its own, for some of what makes ours fast concerns a whole process. They take turns,
so that a machine that slows down slows all: a ratio is that of neighbors, with its quartiles over
the rounds. Writes results/bench.json and results/bench.md. (On CUDA, float32 convolutions are
TF32, torch's default, and memory is what torch has reserved, our data set included.)
"""

import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sbd_utils import files
from sbd_utils.metrics import cost
from sbd_utils.models import layers
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RESULTS
from sbd_utils.training import loop, machine
from sbd_utils.training.config import PRECISIONS, TrainConfig
from tests.benchmarks import drawing

ROUNDS, GROWTH_ROUNDS, SECONDS = 40, 5, 0.5  # a round is as many steps as fill the seconds
DECODERS = ("deconv", "sbd", "sbd-width22")  # the last has DeConv's multiply-adds
BASE = {"image_size": 64, "batch_size": 16, "latent_dim": 5}  # the post's
GROWTH = {"image_size": (32, 64, 128, 256), "batch_size": (4, 16, 64), "latent_dim": (5, 20, 80)}
CONVOLUTIONS = "convolution"  # the contestant that is only the widest layer's convolution


def plain_steps(config: TrainConfig, images: torch.Tensor, device: torch.device) -> Iterator[None]:
    """The plain loop, step by step: DataLoader, float32, default layout, `.item()` every step."""
    vae = VAE(config.decoder, config.latent_dim, image_size=images.shape[-1]).to(device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate)
    loader = DataLoader(TensorDataset(images), config.batch_size, shuffle=True)
    totals = [0.0, 0.0]
    while True:
        for (batch,) in loader:
            x = batch.to(device)
            noise = torch.randn(len(x), config.latent_dim, device=device)
            reconstruction, kl = (term.mean() for term in vae.loss_terms(x, noise))
            optimizer.zero_grad()
            (reconstruction + kl).backward()
            optimizer.step()
            totals[0] += reconstruction.item()
            totals[1] += kl.item()
            yield


def our_steps(
    config: TrainConfig, images: torch.Tensor, device: torch.device, without: str
) -> Iterator[None]:
    """The collection's loop, step by step, without one of the pieces that make it fast."""
    if without == "channels_last":
        machine.LAYOUT = torch.contiguous_format
    elif without == "bias apart":
        layers.TransposedConv2d.forward = nn.ConvTranspose2d.forward
    elif without == "kept memory":
        machine.keep_freed_memory = lambda: None
    vae, optimizer = loop.new_model(config, images.shape[-1], device)
    if without == "fused Adam":
        optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate)
    images = images.to(device)
    step, _ = loop.new_step(config, vae, optimizer, images)
    generator = torch.Generator().manual_seed(0)
    while True:
        for batch in loop.batches(len(images), config, generator, device):
            step(*batch)
            yield


def convolutions(precision: str, device: torch.device) -> Iterator[None]:
    """The widest layer's convolution alone, forward: what this device reaches at its best."""
    kind = dict(dtype=getattr(torch, precision), device=device)
    x = torch.rand(16, 64, 64, 64, **kind).to(memory_format=torch.channels_last)
    weight = torch.rand(64, 64, 3, 3, **kind).to(memory_format=torch.channels_last)
    while True:
        conv2d(x, weight, padding=1)
        yield


def serve(pipe: Connection, name: str, config: TrainConfig, image_size: int, without: str) -> None:
    """A contestant's process: for a number of steps it answers seconds a step, for 0 its costs."""
    device = machine.pick_device()
    torch.manual_seed(0)
    if name == CONVOLUTIONS:
        machine.keep_freed_memory()
        steps = convolutions(config.precision, device)
    else:
        # At the post's size as many batches as the post's: an epoch has a cost of its own.
        batches = 230 if image_size == BASE["image_size"] else 4
        images = torch.rand(batches * config.batch_size, 3, image_size, image_size)
        steps = (
            plain_steps(config, images, device)
            if name == "plain"
            else our_steps(config, images, device, without)
        )
    for _ in range(3):
        next(steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    pipe.send("warm")
    while count := pipe.recv():
        start = time.perf_counter()
        for _ in itertools.islice(steps, count):
            pass
        if device.type == "cuda":
            torch.cuda.synchronize()
        pipe.send((time.perf_counter() - start) / count)
    if device.type == "cuda":
        pipe.send(torch.cuda.max_memory_reserved())
    else:  # and what a step finds: weights and Adam's two moments
        vae = VAE(config.decoder, config.latent_dim, image_size=image_size)
        pipe.send(cost.resident_bytes(vae) + cost.peak_bytes(next, steps))


@contextmanager
def contestants(entries: dict[str, tuple]) -> Iterator[dict[str, Connection]]:
    """A process an entry, started one after another; `serve` says what an entry holds."""
    context, pipes, processes = multiprocessing.get_context("spawn"), {}, []
    try:
        for key, arguments in entries.items():
            pipes[key], theirs = context.Pipe()
            processes.append(context.Process(target=serve, args=(theirs, *arguments), daemon=True))
            processes[-1].start()
            theirs.close()
            pipes[key].recv()
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()  # the end of the file ends a process that still listens
        for process in processes:
            process.join()


def ask(pipe: Connection, count: int) -> float:
    """Send a number of steps, or 0, and wait for the answer."""
    pipe.send(count)
    return pipe.recv()


def race(entries: dict[str, tuple], rounds: int) -> tuple[dict, dict]:
    """Milliseconds a step of every entry in every round, and the bytes that a step takes."""
    with contestants(entries) as pipes:
        counts = {key: max(1, round(SECONDS / ask(pipe, 1))) for key, pipe in pipes.items()}
        times = {key: [] for key in pipes}
        for _ in range(rounds):
            for key, pipe in pipes.items():
                times[key].append(1e3 * ask(pipe, counts[key]))
        return times, {key: ask(pipe, 0) for key, pipe in pipes.items()}


def pieces(decoder: str, native: TrainConfig) -> dict[str, TrainConfig]:
    """What makes a step of this decoder fast on this device, with the settings without it."""
    found = {"channels_last": native, "fused Adam": native}
    if decoder == "deconv":
        found["bias apart"] = native
    found["kept memory"] = native
    if native.compiled:
        found["torch.compile"] = replace(native, compiled=False)
    return found


def ratio(over: list[float], under: list[float]) -> dict:
    """The median of the ratios of neighbors, and their quartiles."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"ratio": median, "low": low, "high": high}


def measure_steps() -> tuple[list[dict], list[dict]]:
    """Both decoders at the post's settings: our step over the plain one, and without each piece."""
    rows, losses, both = [], [], {}
    for decoder in DECODERS:
        native = loop.resolve(TrainConfig(decoder), machine.pick_device())
        precisions = [p for p in PRECISIONS if p in (native.precision, "float32")]
        entries = {"plain": ("plain", replace(native, compiled=False), 64, "")}
        for p in precisions:
            entries[f"ceiling {p}"] = (CONVOLUTIONS, replace(native, precision=p), 64, "")
            entries[p] = ("ours", replace(native, precision=p), 64, "")
        entries |= {
            f"without {piece}": ("ours", config, 64, piece)
            for piece, config in pieces(decoder, native).items()
        }
        times, peaks = race(entries, ROUNDS)
        vae, _ = loop.new_model(native, 64, torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            terms = vae.loss_terms(torch.rand(16, 3, 64, 64), torch.randn(16, 5))
            torch.stack(terms).sum().backward()
        operations = counter.get_total_flops()
        wide = 2 * 16 * 64 * 64 * 9 * 64**2
        for p in precisions:
            rows.append(
                {
                    "decoder": decoder,
                    "precision": p,
                    "plain_ms": statistics.median(times["plain"]),
                    "ours_ms": statistics.median(times[p]),
                    **ratio(times["plain"], times[p]),
                    "tflops": operations / statistics.median(times[p]) / 1e9,
                    "ceiling_tflops": wide / statistics.median(times[f"ceiling {p}"]) / 1e9,
                    "plain_bytes": peaks["plain"],
                    "ours_bytes": peaks[p],
                }
            )
            if decoder in ("deconv", "sbd"):
                for name, key in (("plain", "plain"), ("ours", p)):
                    both.setdefault((name, p), []).append(times[key])
        rivals = {piece: f"without {piece}" for piece in pieces(decoder, native)}
        if native.precision != "float32":
            rivals[native.precision] = "float32"
        losses += [
            {
                "decoder": decoder,
                "piece": piece,
                **ratio(times[key], times[native.precision]),
                "bytes": peaks[key],
            }
            for piece, key in rivals.items()
        ]
    for p in precisions:  # the post's two trainings together, a step of each
        plain, ours = (
            [sum(pair) for pair in zip(*both[name, p], strict=True)] for name in ("plain", "ours")
        )
        rows.append(
            {
                "decoder": "both",
                "precision": p,
                "plain_ms": statistics.median(plain),
                "ours_ms": statistics.median(ours),
                **ratio(plain, ours),
            }
        )
    return rows, losses


def measure_growth() -> list[dict]:
    """Time and memory of a step as the image, the batch or the code grows, the rest the post's."""
    rows, measured = [], {}
    for what, value in [(what, value) for what, values in GROWTH.items() for value in values]:
        case = BASE | {what: value}
        image_size, batch_size, latent_dim = key = tuple(case.values())
        if key not in measured:  # the post's own case is part of every row of cases
            measured[key] = race(
                {
                    (decoder, way): (
                        way,
                        loop.resolve(
                            TrainConfig(decoder, batch_size=batch_size, latent_dim=latent_dim),
                            machine.pick_device(),
                        ),
                        image_size,
                        "",
                    )
                    for decoder in DECODERS[:2]
                    for way in ("plain", "ours")
                },
                GROWTH_ROUNDS,
            )
        times, peaks = measured[key]
        rows += [
            {
                "what": what,
                "value": value,
                "decoder": decoder,
                "loop": way,
                "ms": statistics.median(times[decoder, way]),
                "bytes": peaks[decoder, way],
            }
            for decoder, way in times
        ]
    return rows


def main() -> None:
    """Measure, print and save."""
    # To its processes: the profiler warns that a step frees gradients that it has not seen made.
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    rows, losses = measure_steps()
    on_gpu = machine.pick_device().type == "cuda"
    facts = {
        "device": torch.cuda.get_device_name() if on_gpu else machine.cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "rows": rows,
        "without": losses,
        "growth": measure_growth(),
        "drawing": drawing.measure(ratio),
    }
    text = to_text(facts)
    files.write(RESULTS / "bench.json", (json.dumps(facts, indent=1) + "\n").encode())
    files.write(RESULTS / "bench.md", text.encode())
    print(text)


def to_text(facts: dict) -> str:
    """The tables as results/bench.md holds them; bytes in MB."""

    def table(name: str, drop: tuple[str, ...] = ()) -> str:
        rows = pd.DataFrame(facts[name]).drop(columns=list(drop))
        sizes = rows.columns[rows.columns.str.endswith("bytes")]
        rows[sizes] /= 1e6
        rows.columns = rows.columns.str.replace("bytes", "MB")
        return rows.to_markdown(index=False, floatfmt=".3g")

    return (
        "# A training step of 16 images, the plain loop and ours\n\n"
        f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}; medians of "
        f"{facts['rounds']} rounds of about {facts['seconds']} seconds, taken in turns, each "
        "contestant in a process of its own. Plain: DataLoader, float32, default layout, `.item()` "
        "at every step. `ratio` is plain over ours, with its quartiles `low` and `high`; TFLOP/s "
        "are those of our step, and of the widest layer's convolution alone, forward. Memory is "
        f"the peak of a step, weights and Adam's moments included.\n\n{table('rows')}\n\n"
        "What each piece is worth: our step without it, over our step.\n\n"
        f"{table('without')}\n\n"
        "How a step grows, the post's settings but for the one that is named; "
        f"{GROWTH_ROUNDS} rounds each, so that the post's own may differ from above.\n\n"
        f"{table('growth')}\n\n{drawing.WORDS}\n\n{table('drawing')}\n"
    )


if __name__ == "__main__":
    main()
