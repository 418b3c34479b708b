"""Jobs on a Dask cluster that runs already (`pip install .[cluster]`)."""

import asyncio
import hashlib
import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sbd_utils.settings import ROOT, RUNS
from sbd_utils.training.machine import pick_device, pick_precision

if TYPE_CHECKING:
    from distributed import Client

POLL_SECONDS = 10  # how often new workers and paused ones are looked for
PATIENCE = 900  # seconds; a job whose workers die sooner, time after time, is itself at fault
VERSIONS = ("torch", "numpy", "scipy", "scikit-learn")  # that scores depend on
LOG = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """A cluster that cannot do the work; the message says why."""


def on_cluster(
    address: str, row_of: Callable[[Callable, Any], dict], work: Callable[[Any], dict], jobs: list
) -> Iterator[dict]:
    """`row_of(work, job)` of every job on the workers of a scheduler; the rows, as they come.

    A job whose worker died goes on at its last epoch.

    Raises:
        ClusterError: the cluster cannot do the work. What a job raises is raised as it is.
    """
    from distributed import CancelledError, Client  # of the extra `cluster`
    from distributed.comm import CommClosedError
    from distributed.utils import LoopRunner

    try:
        LoopRunner().run_sync(_identify, address)
        client = Client(address, timeout="10s")
    except (MemoryError, OSError, TypeError, ValueError) as error:
        why = str(error) or "nothing that Dask would say comes within 10 s"
        raise ClusterError(f"no scheduler answers at {address}: {why}") from error
    with client, _marker() as marker:
        try:
            payloads = [pickle.dumps((row_of, work, job)) for job in jobs]
            yield from _hand_out(client, deque(payloads), facts(marker), marker)
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(
                f"the scheduler at {address} is gone; the same command goes on with what is done"
            ) from error


async def _identify(address: str) -> None:
    """Raise OSError unless a scheduler answers; a Client would wait forever for another server."""
    from distributed import Security
    from distributed.core import rpc

    secured = Security().get_connection_args("client")
    async with rpc(address, timeout=5, connection_args=secured) as server:
        kind = (await asyncio.wait_for(server.identity(), 10))["type"]
    if kind != "Scheduler":
        raise OSError(f"a {kind} does")


def facts(marker: str) -> dict:
    """What must be the same on all workers, and here.

    Args:
        marker: the name of a file that the client has made in its SBD_RUNS.
    """
    code = hashlib.blake2b(
        b"".join(path.read_bytes() for path in sorted((ROOT / "sbd_utils").rglob("*.py")))
    ).hexdigest()
    return {
        "code": code,
        **{name: version(name) for name in VERSIONS},
        "precision": pick_precision(pick_device()),
        "folder SBD_RUNS": str(RUNS) if (RUNS / marker).exists() else f"{RUNS}, not shared",
    }


@contextmanager
def _marker() -> Iterator[str]:
    """The name of a file in SBD_RUNS, there as long as the study runs."""
    path = RUNS / f"seen-{uuid4().hex}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _hand_out(client: "Client", waiting: deque[bytes], ours: dict, marker: str) -> Iterator[dict]:
    """The rows of pickled jobs.

    No more jobs are handed out than there are workers, since Dask counts a worker's death against
    every job that it had been given.
    """
    from distributed import KilledWorker, wait

    # A function in a function travels by its code, so that it runs where the package is missing.
    def run_job(payload: bytes, ours: dict) -> dict | str:
        import pickle

        try:
            from sbd_utils.experiments.cluster import facts
        except ImportError as error:
            return f"cannot import sbd_utils ({error})"
        for name, theirs in facts(marker).items():
            if theirs != ours[name]:
                return f"has another {name} than we have here: {theirs}, not {ours[name]}"
        row_of, work, job = pickle.loads(payload)
        return row_of(work, job)

    running, told = {}, set()
    while waiting or running:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        for name, worker in workers.items():
            if worker["nthreads"] != 1:
                raise ClusterError(f"{name} must be started with --nthreads 1")
            if worker["status"] == "paused" and name not in told:
                told.add(name)
                LOG.warning(
                    "%s is paused: it uses %.1f of %.1f GB of memory",
                    name,
                    worker["metrics"]["memory"] / 1e9,
                    worker["memory_limit"] / 1e9,
                )
        if not workers and "" not in told:
            told.add("")
            LOG.warning("the scheduler has no worker; waiting for one")
        while waiting and len(running) < len(workers):
            payload = waiting.popleft()
            running[client.submit(run_job, payload, ours, pure=False)] = payload, time.monotonic()
        if not running:
            time.sleep(POLL_SECONDS)
            continue
        try:
            wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            continue
        for future in [future for future in running if future.done()]:
            payload, since = running.pop(future)
            try:
                found = future.result()
            except KilledWorker as error:
                if (lived := time.monotonic() - since) < PATIENCE:
                    job = pickle.loads(payload)[-1]
                    raise ClusterError(
                        f"{job} ended several workers in {lived:.0f} s; have they memory enough?"
                    ) from error
                waiting.appendleft(payload)
                continue
            if isinstance(found, str):
                raise ClusterError(f"a worker {found}")
            yield found
