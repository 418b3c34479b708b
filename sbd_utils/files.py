"""Files that are whole or not there: an atomic write, and tensors with a digest of all they say."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors

from sbd_utils.settings import PRESETS, RESULTS, RUNS

# What the commands wrote to results/ last, so that a test can tell what else has changed there;
# `sha256sum --check` reads it, too.
SUMS = RESULTS / "SHA256SUMS"


class DamagedFileError(RuntimeError):
    """A file that cannot be read, or is not as it was written."""


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it: a kill leaves the old file whole, or the new one.

    Where it fails, nothing but the old file is left, and the OSError says so.
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
    if path.is_relative_to(RESULTS) and path != SUMS:
        _note(path.relative_to(RESULTS), content)


def lock(path: Path) -> FileLock:
    """What one process has at a time; one that is killed leaves nothing behind.

    OSError where the file system has no such locks: a file in their place would outlive a kill.
    """
    return FileLock(path, fallback_to_soft=False)


def _note(name: Path, content: bytes) -> None:
    """Keep the sum of a file in results/, and drop those of files that are gone."""
    if name.parts[0] in PRESETS:  # of a reader's own trainings
        return
    RUNS.mkdir(parents=True, exist_ok=True)
    with lock(RUNS / "sums.lock"):  # of two commands that end together, neither is forgotten
        sums = read_sums() if SUMS.exists() else {}
        sums[name.as_posix()] = hashlib.sha256(content).hexdigest()
        lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())
                 if (RESULTS / name).exists()]
        write(SUMS, "".join(lines).encode())


def read_sums() -> dict[str, str]:
    """SHA-256 of the files in results/ by their name there, as the commands wrote them.

    DamagedFileError for a line that is none of `sha256sum`, as a merge may leave.
    """
    lines = SUMS.read_text(encoding="utf-8").splitlines()
    if wrong := [line for line in lines if not re.fullmatch("[0-9a-f]{64}  .+", line)]:
        raise DamagedFileError(f"{SUMS}: not lines of sha256sum: {wrong[0]!r}")
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping) -> None:
    """Write tensors and facts that JSON can hold to a safetensors file, as `write` does."""
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    metadata["digest"] = _digest(tensors, metadata)
    write(path, safetensors.save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and facts of a file; DamagedFileError unless every byte read is as written.

    The format has no checksum, so the file carries one of all that is read.
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
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(dict(sorted(metadata.items()))).encode())
    return digest.hexdigest()
