"""`make bench`: what a training step costs, the plain loop and ours side by side in one run.

The plain loop is the reference, what one writes without a thought for speed. The two take turns, so
that a machine that slows down slows both: a ratio is that of neighbors, and its range is over the
rounds. Writes results/bench.json and results/bench.md.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import conv2d
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sbd_utils.data import make_sprites
from sbd_utils.models import VAE
from sbd_utils.settings import RESULTS
from sbd_utils.study import cpu_name
from sbd_utils.training import PRECISIONS, TrainConfig, new_model, pick_device, train_epoch

ROUNDS, STEPS = 15, 20
DECODERS = ("deconv", "sbd")


def plain_loop(config: TrainConfig, images: torch.Tensor, device: torch.device) -> Iterator[None]:
    """A step of the plain loop: DataLoader, float32, default layout, `.item()` at every step."""
    vae = VAE(config.decoder, config.latent_dim, config.decoder_variance).to(device)
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


def plain_steps(config: TrainConfig, images: torch.Tensor, device: torch.device) -> Callable:
    """Runs STEPS steps of the plain loop."""
    steps = plain_loop(config, images, device)
    return lambda: list(itertools.islice(steps, STEPS))


def our_steps(config: TrainConfig, images: torch.Tensor, device: torch.device) -> Callable:
    """Runs STEPS steps of the collection's loop, as an epoch of STEPS batches."""
    vae, optimizer = new_model(config, images.shape[-1], device)
    generator = torch.Generator().manual_seed(config.seed)
    images = images[: STEPS * config.batch_size].to(device)
    return lambda: train_epoch(vae, optimizer, images, config, generator, 0)


def ceiling(precision: str, device: torch.device) -> Callable:
    """The widest layer's convolution alone, forward: what this device reaches at its best."""
    kind = dict(dtype=getattr(torch, precision), device=device)
    x = torch.rand(16, 64, 64, 64, **kind).to(memory_format=torch.channels_last)
    weight = torch.rand(64, 64, 3, 3, **kind).to(memory_format=torch.channels_last)
    return lambda: [conv2d(x, weight, padding=1) for _ in range(STEPS)]


def flops(run: Callable) -> float:
    """Floating-point operations a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / STEPS


def seconds(run: Callable, device: torch.device) -> float:
    """Seconds a step of a run of STEPS steps."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def measure() -> dict:
    """Time every contestant in turn, ROUNDS times after one round to warm up."""
    device, images = pick_device(), make_sprites().images
    native = TrainConfig().precision
    precisions = [p for p in PRECISIONS if p in (native, "float32")]
    runs = {f"ceiling {p}": ceiling(p, device) for p in precisions}
    for decoder in DECODERS:
        runs[f"{decoder} plain"] = plain_steps(TrainConfig(decoder), images, device)
        for p in precisions:
            runs[f"{decoder} {p}"] = our_steps(TrainConfig(decoder, precision=p), images, device)
    operations = {name: flops(run) for name, run in runs.items()}
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    for name in ("plain", *precisions):  # the two trainings together, a step of each
        pairs = zip(*(times[f"{decoder} {name}"] for decoder in DECODERS), strict=True)
        times[f"both {name}"] = [sum(pair) for pair in pairs]
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    return {
        "device": device_name, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "rounds": ROUNDS, "steps": STEPS,
        "rows": [row(decoder, precision, times, operations)
                 for decoder in (*DECODERS, "both") for precision in precisions],
    }


def row(decoder: str, precision: str, times: dict, operations: dict) -> dict:
    """One line of the table, from medians; the ratio is that of each round's neighbors."""
    plain, ours = times[f"{decoder} plain"], times[f"{decoder} {precision}"]
    ratios = sorted(p / o for p, o in zip(plain, ours, strict=True))
    names = [f"{d} {precision}" for d in (DECODERS if decoder == "both" else (decoder,))]
    best = f"ceiling {precision}"
    return {
        "decoder": decoder, "precision": precision,
        "plain_ms": 1e3 * statistics.median(plain), "ours_ms": 1e3 * statistics.median(ours),
        "ratio": statistics.median(ratios), "ratio_min": ratios[0], "ratio_max": ratios[-1],
        "tflops": sum(operations[n] for n in names) / statistics.median(ours) / 1e12,
        "ceiling_tflops": operations[best] / statistics.median(times[best]) / 1e12,
    }


def to_text(facts: dict) -> str:
    """The table as results/bench.md holds it."""
    lines = [
        "# A training step of 16 images, the plain loop and ours", "",
        f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}; medians of "
        f"{facts['rounds']} rounds of {facts['steps']} steps, taken in turns. Plain: DataLoader, "
        "float32, default layout, `.item()` at every step. The ceiling is the widest layer's "
        "convolution alone, forward.", "",
        "| decoder | precision | plain, ms | ours, ms | plain / ours (range) | TFLOP/s | ceiling |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['decoder']} | {r['precision']} | {r['plain_ms']:.1f} | {r['ours_ms']:.1f} | "
        f"{r['ratio']:.2f} ({r['ratio_min']:.2f} to {r['ratio_max']:.2f}) | {r['tflops']:.2f} | "
        f"{r['ceiling_tflops']:.2f} |" for r in facts["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and save."""
    facts = measure()
    (RESULTS / "bench.json").write_text(json.dumps(facts, indent=1) + "\n")
    text = to_text(facts)
    (RESULTS / "bench.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
