"""Jobs in parallel, each in a process of its own with one thread."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import get_context

from joblib import Parallel, cpu_count, delayed, parallel_config

from sbd_utils.training.machine import one_thread, pick_device


def side_by_side(function: Callable, jobs: Iterable[Mapping]) -> Iterator:
    """`function(**job)` of every job, in order: one job per core on a CPU, one at a time on a GPU.

    Two trainings with a thread each make more steps per second than one with two threads. Jobs run
    one after another, still with one thread, where there is only one core, or no process can be
    started because `/dev/shm` is not writable.
    """
    if pick_device().type != "cpu":
        yield from (function(**job) for job in jobs)
        return
    alone = cpu_count() == 1
    try:
        get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        logging.getLogger(__name__).warning("one training after another, slower: %s", error)
        alone = True
    if alone:
        with one_thread():
            yield from (function(**job) for job in jobs)
        return
    with parallel_config("loky", inner_max_num_threads=1):
        # One job a task: after quick ones, joblib would give a process two, and leave another idle.
        yield from Parallel(n_jobs=cpu_count(), batch_size=1, return_as="generator")(
            delayed(function)(**job) for job in jobs
        )


def stop_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does, with the jobs that it has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
