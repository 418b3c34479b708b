"""Trainings side by side: each has a process and one thread of its own."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import get_context

from joblib import Parallel, cpu_count, delayed, parallel_config

from sbd_utils.training.machine import one_thread, pick_device


def side_by_side(function: Callable, jobs: Iterable[Mapping]) -> Iterator:
    """function(**job) of every job, in order; one job a core on a CPU, on a GPU one after another.

    On a CPU that makes more steps per second than all cores on one job after another. Where no
    process can be had (`/dev/shm` must be writable), or one core only, they take turns, with one
    thread all the same.
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
    """Let `kill` end this process as Ctrl-C does, with the trainings that it has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
