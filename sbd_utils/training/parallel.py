"""Trainings side by side: each has a process and one thread of its own."""

import logging
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import get_context

from joblib import Parallel, cpu_count, delayed, parallel_config

from sbd_utils.training.speed import one_thread, pick_device


def side_by_side(function: Callable, jobs: Iterable[Mapping]) -> list:
    """function(**job) of every job, in order; one job a core on a CPU, on a GPU one after another.

    On a CPU that makes more steps per second than all cores on one job after another. Where no
    process can be had (`/dev/shm` must be writable), they take turns, with one thread all the same.
    """
    if pick_device().type != "cpu":
        return [function(**job) for job in jobs]
    try:
        get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        logging.getLogger(__name__).warning("one training after another, slower: %s", error)
        with one_thread():
            return [function(**job) for job in jobs]
    with parallel_config("loky", inner_max_num_threads=1):
        return Parallel(n_jobs=cpu_count())(delayed(function)(**job) for job in jobs)
