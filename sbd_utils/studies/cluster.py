"""Jobs on a Dask cluster that runs already (`pip install .[cluster]`)."""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import torch
from tqdm import tqdm

from sbd_utils.settings import RUNS
from sbd_utils.studies import store
from sbd_utils.training.loop import TrainConfig

if TYPE_CHECKING:
    from distributed import Client

LOOK = 10  # seconds; how often new workers are looked for, and what the runs have got to is told
PATIENCE = 900  # seconds; a job whose workers die sooner, time after time, is itself at fault


class ClusterError(RuntimeError):
    """A cluster that cannot do the work; the message says why."""


def on_cluster(address: str, work: Callable[..., dict], jobs: list[Mapping]) -> Iterator[str]:
    """store.done of every job on the workers of a scheduler; the keys, as they come.

    No more jobs are handed out than there are workers: Dask suspects every job that a dead worker
    had been given, not only the one that ran. A job whose worker died goes on at its last epoch.
    Raises ClusterError where the cluster cannot do the work, and what a job raises.
    """
    from distributed import CancelledError, Client  # of the extra `cluster`
    from distributed.comm import CommClosedError
    from distributed.utils import LoopRunner

    try:
        # A client would wait forever for what takes its call and says nothing, as a dashboard does.
        if (kind := LoopRunner().run_sync(_identity, address)["type"]) != "Scheduler":
            raise ValueError(f"a {kind} does")
        client = Client(address, timeout="10s")
    except (MemoryError, OSError, TypeError, ValueError) as error:
        why = str(error) or "nothing that Dask would say comes within 10 s"
        raise ClusterError(f"no scheduler answers at {address}: {why}") from error
    with client, _seen_by_all() as seen:
        try:
            yield from _hand_out(client, seen, work, {store.key(work, job): job for job in jobs})
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(f"the scheduler at {address} is gone; the same command goes on with "
                               "what is done") from error


async def _identity(address: str) -> dict:
    """What Dask's process at an address says of itself; TimeoutError where nothing comes."""
    from distributed import Security
    from distributed.core import rpc

    secured = Security().get_connection_args("client")
    async with rpc(address, timeout=5, connection_args=secured) as there:
        return await asyncio.wait_for(there.identity(), 10)


@contextmanager
def _seen_by_all() -> Iterator[str]:
    """The name of a file in SBD_RUNS, there as long as the study runs."""
    path = RUNS / f"seen-{uuid4().hex}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _do(seen: str, precision: str, work: Callable[..., dict], job: Mapping) -> str:
    """store.done, on a worker that may have come since the others were asked."""
    if not os.path.exists(RUNS / seen):
        raise ClusterError(f"a worker has another SBD_RUNS than we have here: {RUNS}")
    if (own := TrainConfig(compiled=False).precision) != precision:
        raise ClusterError(f"a worker trains in {own}, the others in {precision}, and "
                           "a study compares runs of one precision: leave it out")
    return store.done(work, job)


def _hand_out(
    client: "Client", seen: str, work: Callable[..., dict], todo: Mapping[str, Mapping]
) -> Iterator[str]:
    """The keys of todo, key to job, as their jobs are done."""
    from distributed import KilledWorker, wait

    waiting, running, since, checked = deque(todo), {}, {}, {}
    told, looked = _progress(), time.monotonic()
    while waiting or running:
        if time.monotonic() > looked + LOOK:
            before, told, looked = told, _progress(), time.monotonic()
            for run, line in sorted(set(told.items()) - set(before.items())):
                tqdm.write(f"{run}: {line}", file=sys.stderr)
        workers = set(client.nthreads())  # more may have come
        if new := workers - set(checked):
            checked |= check(client, seen, new)
            if len(found := set(checked.values())) > 1:
                raise ClusterError(f"the workers train in {' and '.join(found)}, by processor, and "
                                   "a study compares runs of one precision: leave some out")
        while waiting and checked and len(running) < len(workers):
            name, precision = waiting.popleft(), next(iter(checked.values()))
            running[name] = client.submit(partial(_do, seen, precision, work), todo[name], key=name)
            since[name] = time.monotonic()
        try:
            if not workers or not running:  # none, or none that could be asked
                logging.getLogger(__name__).warning("the scheduler has no worker; waiting for one")
                client.wait_for_workers(1, timeout=LOOK)
                continue
            wait(list(running.values()), timeout=LOOK, return_when="FIRST_COMPLETED")
        except TimeoutError:
            continue
        for name in [name for name, future in running.items() if future.done()]:
            future = running.pop(name)
            try:
                found = future.result()
            except KilledWorker as error:
                lived = time.monotonic() - since[name]
                if lived < PATIENCE:
                    raise ClusterError(f"{todo[name]} ended several workers in {lived:.0f} s; "
                                       "have they memory enough?") from error
                waiting.appendleft(name)
                future.release()
                continue
            if found != name:
                raise ClusterError("the code of a worker has changed since it was asked")
            yield name


def _progress() -> dict[str, str]:
    """What each run in SBD_RUNS last said of itself, by its folder."""
    lines = {}
    for path in RUNS.glob("*/progress.txt"):
        with suppress(OSError, UnicodeDecodeError):  # gone, not ours to read, or being written
            lines[path.parent.name] = path.read_text(encoding="utf-8")
    return {run: line for run, line in lines.items() if line.endswith(" left")}


def check(client: "Client", seen: str, workers: set[str]) -> dict[str, str]:
    """At what precision each worker trains, by its address; one that has gone since is left out.

    seen: a file in our SBD_RUNS. Raises ClusterError unless scheduler and workers can do what
    on_cluster asks of them.
    """
    # A function in a function travels by its code, so it runs where the package is missing.
    def look(code: str, version: str, name: str = "") -> str:
        try:
            import torch

            from sbd_utils.settings import RUNS
            from sbd_utils.studies import store
        except ImportError as error:
            return f"cannot import sbd_utils ({error})"
        if code != store.CODE:
            return "has other code than we have here"
        if version != torch.__version__:
            return f"has torch {torch.__version__}, and we have {version} here"
        if name and not os.path.exists(RUNS / name):  # False also where it may not look
            return f"has another SBD_RUNS than we have here ({RUNS}), or does not share it"
        return ""

    ours = store.CODE, str(torch.__version__)  # its own type could not be read without torch
    told = {"the scheduler": client.run_on_scheduler(look, *ours),
            **client.run(look, *ours, seen, workers=list(workers), on_error="return")}
    told |= {name: "must be started with --nthreads 1"
             for name, threads in client.nthreads().items() if name in workers and threads != 1}
    told = {name: why for name, why in told.items() if not isinstance(why, OSError)}
    if wrong := [f"{name} {why}" for name, why in told.items() if why]:
        raise ClusterError("; ".join(wrong))
    found = client.run(lambda: TrainConfig(compiled=False).precision,
                       workers=[*workers & set(told)], on_error="return")
    return {name: precision for name, precision in found.items() if isinstance(precision, str)}
