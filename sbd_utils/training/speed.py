"""What makes a training step fast, a named piece each; `make bench` measures each alone."""

import ctypes
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from sbd_utils import files
from sbd_utils.models.vae import VAE
from sbd_utils.settings import RUNS

LAYOUT = torch.channels_last  # what the convolutions of oneDNN and cuDNN are fastest in
# How many times faster bfloat16 must be to be taken: where it gains less, rounding is not worth it.
LEAST_GAIN = 1.25  # measured: about 2 on AMD's Zen 5, above 2 with AMX, 0.55 on Intel without
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device() -> torch.device:
    """CUDA where there is one, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def machine() -> dict[str, str | int]:
    """What a training's numbers depend on besides its settings; `device` is that of a GPU only."""
    told = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cpu": cpu_name()}
    kind = pick_device().type
    if kind != "cpu":
        told["device"] = torch.cuda.get_device_name() if kind == "cuda" else kind
    return told


def pick_precision(device: torch.device) -> str:
    """"bfloat16" where it makes our convolutions faster, else "float32".

    On a CPU its flags do not tell: with AMX, and on AMD, bfloat16 is faster, with Intel's
    AVX512-BF16 alone it is slower. So the operation itself is timed, once for each machine and
    version of torch; the answer is kept beside the runs.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu" or not (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    ):
        return "float32"
    return "bfloat16" if kept_gain(RUNS / "bfloat16.json") >= LEAST_GAIN else "float32"


def kept_gain(path: Path) -> float:
    """`bfloat16_gain()`, from a file where it is kept for this machine; kept where it can be."""
    where = f"{cpu_name()}, torch {torch.__version__}"
    try:
        gains = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        gains = {}  # none yet, or damaged
    gain = gains.get(where)
    if isinstance(gain, float) and 0 < gain < float("inf"):
        return gain
    gains[where] = gain = round(bfloat16_gain(), 2)
    with suppress(OSError):  # nowhere to keep it: measure again next time
        files.write(path, json.dumps(gains).encode())
    return gain


def bfloat16_gain() -> float:
    """How many times faster than in float32 a convolution of ours is, forward and backward."""
    def seconds(dtype: torch.dtype) -> float:
        x, pull = (torch.ones(4, 64, 64, 64, dtype=dtype).to(memory_format=LAYOUT)
                   for _ in range(2))
        weight = torch.ones(64, 64, 3, 3, dtype=dtype, requires_grad=True)
        start = time.perf_counter()
        y = F.conv2d(x.requires_grad_(), weight, padding=1)
        torch.autograd.grad(y, (x, weight), pull)
        return time.perf_counter() - start

    with one_thread():  # a study's workers have one, and they must all agree
        times = [(seconds(torch.float32), seconds(torch.bfloat16)) for _ in range(6)]
    float32, bfloat16 = (min(column) for column in zip(*times[1:], strict=True))  # one to warm up
    return float32 / bfloat16


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def cpu_name() -> str:
    """The processor, by its model name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@cache
def pick_compiled(device: torch.device) -> bool:
    """Whether torch.compile works on this device, which a tiny one tells; if not, a line says why.

    The switch that turns it off is torch's own: the environment variable TORCH_COMPILE_DISABLE=1.
    """
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return False
    if device.type not in ("cpu", "cuda"):
        _tell_eager(f"torch.compile is not for {device.type}")
        return False
    layer, x = nn.Conv2d(3, 4, 3).to(device), torch.ones(1, 3, 8, 8, device=device)

    def loss() -> torch.Tensor:
        return layer(x).relu().sum()

    return compiled_or_eager(loss, lambda compiled: compiled().backward()) is not loss


def compiled_or_eager(function: Callable, use: Callable[[Callable], object]) -> Callable:
    """The function through torch.compile, or as it is where its use fails then; a line says why.

    The use must be all that will ever happen to it, forward and backward. It takes up to a minute;
    later processes find its results in torch's cache.
    """
    try:
        torch.compiler.reset()  # drop the models of before: from the ninth on, it gives up
        compiled = torch.compile(function, fullgraph=True, dynamic=False)
        use(compiled)
    except Exception as error:  # of the compiler, disk, cache: if it is not of these, eager fails
        error = getattr(error, "inner_exception", error)
        _tell_eager(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}")
        return function
    return compiled


def _tell_eager(why: str) -> None:
    logging.getLogger(__name__).warning("training runs eagerly, slower: %s", why)


@cache
def keep_freed_memory() -> None:
    """Have malloc keep what is freed, where it is glibc's.

    Left alone, it hands a large tensor back to the system as soon as it is freed, and the next
    step pays for the same pages again, one fault each.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)  # older ones refuse M_MMAP_THRESHOLD above 32 MiB
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def hand_back_memory() -> None:
    """Give the system what `keep_freed_memory` kept; joblib replaces workers that seem to leak."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers next to zero count as zero inside: a CPU takes many times as long for each of them.

    The gradients of a cross-entropy get there once a network is sure of its answers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class CapturedStep:
    """A training step recorded as one CUDA graph: hundreds of launches become one.

    step: reads tensors of fixed shapes and returns one; it may change vae and optimizer only.
    """

    def __init__(self, step: Callable, vae: VAE, optimizer: torch.optim.Optimizer, *inputs):
        self.step = step  # the graph reads its tensors: keep them alive
        self.inputs = [tensor.clone() for tensor in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), undone(vae, optimizer):
            for _ in range(3):  # compile, choose algorithms, allocate: not inside a capture
                step(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        for group in optimizer.param_groups:
            group["capturable"] = True  # not before: torch warns of a step outside of a capture
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = step(*self.inputs)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.output.clone()


@contextmanager
def undone(vae: VAE, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Training steps inside leave weights and moments as they were, in the same memory."""
    weights = [parameter.detach().clone() for parameter in vae.parameters()]
    moments = {
        parameter: {name: value.clone() for name, value in state.items()}
        for parameter, state in optimizer.state.items()
    }
    yield
    with torch.no_grad():
        for parameter, before in zip(vae.parameters(), weights, strict=True):
            parameter.copy_(before)
            for name, value in optimizer.state[parameter].items():
                value.copy_(moments.get(parameter, {}).get(name, torch.zeros_like(value)))
