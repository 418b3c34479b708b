"""Cost of a model: parameters, multiply-adds, and the memory of a training step."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sbd_utils.training import loop
from sbd_utils.training.config import TrainConfig

# The profiler's library prints two lines at every start and stop; it reads this when it starts.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def count_parameters(module: torch.nn.Module) -> int:
    """Number of parameters, also of frozen ones."""
    return sum(weights.numel() for weights in module.parameters())


def resident_bytes(module: torch.nn.Module) -> int:
    """Bytes held between training steps: float32 weights and Adam's two moments."""
    return 3 * 4 * count_parameters(module)


def multiply_adds(function: Callable, *inputs: torch.Tensor) -> int:
    """Multiply-adds of one call, of convolutions and matrix products; two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(*inputs)
    return counter.get_total_flops() // 2


def peak_bytes(function: Callable, *inputs: object) -> int:
    """Most bytes that a call on the CPU holds at one time, beside what was there before.

    By torch's profiler, which sees what torch allocates and not what a library takes for itself.
    (On CUDA: torch.cuda.max_memory_allocated.)
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function(*inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak


def step_bytes(config: TrainConfig, images: Float[torch.Tensor, "N 3 size size"]) -> int:
    """Peak bytes of a training step on the CPU, weights and Adam's moments included."""
    cpu = torch.device("cpu")
    config = loop.resolve(config, cpu)
    vae, optimizer = loop.new_model(config, images.shape[-1], cpu)
    step, _ = loop.new_step(config, vae, optimizer, images)
    batch = next(loop.batches(len(images), config, torch.Generator(), cpu))
    step(*batch)  # Adam's moments come with the first step
    optimizer.zero_grad()
    return resident_bytes(vae) + peak_bytes(step, *batch)
