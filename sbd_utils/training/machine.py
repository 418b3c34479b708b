"""What training needs to know of this machine: device, precision, compiler, memory."""

import ctypes
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

LAYOUT = torch.channels_last  # what the convolutions of oneDNN and cuDNN are fastest in
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def describe() -> dict[str, str | int]:
    """What a training's numbers depend on besides its settings; `device` is that of a GPU only."""
    found = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cpu": cpu_name()}
    kind = pick_device().type
    if kind != "cpu":
        found["device"] = torch.cuda.get_device_name() if kind == "cuda" else kind
    return found


def pick_precision(device: torch.device) -> str:
    """ "bfloat16" where it makes our convolutions faster, else "float32".

    Measured on CPUs: bfloat16 takes half the time with AMX and on AMD's processors with
    AVX512-BF16, but nearly twice the time on Intel's with AVX512-BF16 alone.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and (
            torch.cpu._is_amx_tile_supported()
            or (torch.cpu._is_avx512_bf16_supported() and "AMD" in cpu_name())
        )
    return "bfloat16" if fast else "float32"


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def cpu_name() -> str:
    """The processor, by its model name where Linux gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def may_compile(device: torch.device) -> bool:
    """Whether to try torch.compile; TORCH_COMPILE_DISABLE=1 is torch's own switch against it."""
    return device.type in ("cpu", "cuda") and os.environ.get("TORCH_COMPILE_DISABLE") != "1"


def compiled_or_eager(function: Callable, use: Callable[[Callable], object]) -> Callable:
    """The function through torch.compile, or as it is, with one line of log, where that fails.

    Compiling takes up to a minute; later processes find the results in torch's cache.

    Args:
        use: calls the compiled function, forward and backward, as it will be called later.
    """
    try:
        torch.compiler.reset()  # drop earlier models: from the ninth on, it gives up
        compiled = torch.compile(function, fullgraph=True, dynamic=False)
        use(compiled)
    except Exception as error:  # of the compiler, disk, cache: if it is not of these, eager fails
        error = getattr(error, "inner_exception", error)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        logging.getLogger(__name__).warning("training runs eagerly, slower: %s", reason)
        return function
    return compiled


@cache
def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory.

    By default it returns a large tensor to the system as soon as it is freed, and the next step
    pays for the same pages again, one page fault each.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)  # older versions refuse M_MMAP_THRESHOLD above 32 MiB
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_memory() -> None:
    """Return to the system what `keep_freed_memory` kept; joblib replaces workers that grow."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat denormal numbers as zero inside; a CPU takes many times as long for each of them.

    The gradients of a cross-entropy become denormal once a network is sure of its answers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
