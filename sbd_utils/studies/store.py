"""The rows of studies, one file each, by the hash of the job: what is done is not done again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock

from sbd_utils import files
from sbd_utils.settings import ROOT, RUNS
from sbd_utils.training.loop import Run
from sbd_utils.training.speed import cpu_name, one_thread

# A row holds for the code that made it, as far as it can change a number.
ROOMS = ("worlds", "models", "training", "measures", "studies")
FILES = [ROOT / "sbd_utils" / "settings.py",
         *(path for room in ROOMS for path in sorted((ROOT / "sbd_utils" / room).glob("*.py")))]
CODE = hashlib.blake2b(b"".join(path.read_bytes() for path in FILES)).hexdigest()


def key(work: Callable[..., dict], job: Mapping) -> str:
    """A hash of the job, the code and torch's version; the row says on what machine it was made."""
    facts = work.__module__, work.__qualname__, sorted(job.items()), CODE, torch.__version__
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def done(work: Callable[..., dict], job: Mapping) -> str:
    """Do a job on one thread unless its row is there, keep the row, and return its key.

    Two that do the same job wait for each other; one that is killed leaves no row, or a whole one.
    """
    name = key(work, job)
    if read(name) is None:
        path = _path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if read(name) is None:
                with one_thread():
                    row = work(**job)
                files.write(path, json.dumps(row).encode())
    return name


def read(name: str) -> dict | None:
    """The row of a key; None where there is none."""
    path = _path(name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def provenance(run: Run) -> dict:
    """What a run was trained on."""
    return {"precision": run.config.precision, "threads": torch.get_num_threads(),
            "torch": torch.__version__, "cpu": cpu_name()}


def _path(name: str) -> Path:
    return RUNS / "rows" / f"{name}.json"
