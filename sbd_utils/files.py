"""Atomic writes, locks, and safetensors files with a digest of their contents."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors


class DamagedFileError(RuntimeError):
    """A file that cannot be read, or is not as it was written."""


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it, atomically: a kill leaves the old or the new file.

    Raises:
        OSError: it failed; the old file, if any, is unchanged.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if part.is_file():
            part.unlink()
        kept = "; the file of before is as it was" if path.exists() else ""
        raise OSError(error.errno, f"{error.strerror}: {path} was not written{kept}") from error


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Inter-process lock; the operating system frees it if its holder dies.

    Raises:
        OSError: the folder cannot be written, or its file system has no such locks (a file in
            their place would outlive a killed process).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path, fallback_to_soft=False)
        held.acquire()
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: {path.parent} cannot be written; set SBD_RUNS to a folder that can",
        ) from error
    try:
        yield
    finally:
        held.release()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping) -> None:
    """Write tensors, and facts that JSON can hold, to a safetensors file with a digest."""
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    metadata["digest"] = _digest(tensors, metadata)
    write(path, safetensors.save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the tensors and facts of a file that `write_tensors` wrote.

    Raises:
        DamagedFileError: a byte of what is read differs from what was written.
        OSError: the file cannot be read, but may be whole.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, FileNotFoundError) as error:
        raise DamagedFileError(f"{path}: not readable ({error})") from error
    except OSError as error:  # the file may be whole
        raise OSError(error.errno, f"{path} cannot be read: {error}") from error
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise DamagedFileError(f"{path}: not as it was written")
    return tensors, {key: json.loads(value) for key, value in metadata.items()}


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(dict(sorted(metadata.items()))).encode())
    return digest.hexdigest()
