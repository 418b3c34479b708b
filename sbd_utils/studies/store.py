"""The rows of studies, one file each, by the hash of the job: what is done is not done again."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sbd_utils import files
from sbd_utils.settings import ROOT, RUNS
from sbd_utils.training.loop import Run
from sbd_utils.training.speed import machine, one_thread

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
        with files.lock(path.with_suffix(".lock")):
            if read(name) is None:
                with one_thread():
                    row = work(**job)
                files.write(path, _sealed(name, json.dumps(row)).encode())
    return name


def read(name: str) -> dict | None:
    """The row of a key; None where there is none, or a damaged one, which is then made anew."""
    path = _path(name)
    if not path.exists():
        return None
    content = path.read_text(encoding="utf-8", errors="replace")
    text = content.rpartition("\n")[0]
    if content != _sealed(name, text):
        logging.getLogger(__name__).warning("%s is not as it was written, and made anew", path)
        return None
    return json.loads(text)


def _sealed(name: str, text: str) -> str:
    """A row with a digest of all that it says and of what it is of."""
    return f"{text}\n{hashlib.blake2b(f'{name} {text}'.encode(), digest_size=16).hexdigest()}"


def provenance(run: Run) -> dict:
    """What a run was trained on; this machine where its checkpoint does not say."""
    machines = run.machines or [machine()]
    told = {}
    for name in dict.fromkeys(name for one in machines for name in one):
        values = list(dict.fromkeys(one.get(name) for one in machines))
        told[name] = values[0] if len(values) == 1 else " and ".join(map(str, values))
    return {"precision": run.config.precision, **told}


def _path(name: str) -> Path:
    return RUNS / "rows" / f"{name}.json"
