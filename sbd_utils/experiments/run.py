"""`make study NAME=...`: train what a study lacks, score it, and write results/NAME.csv."""

import os
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from sbd_utils.experiments import circles, coordconv, sprites, tables
from sbd_utils.experiments.cluster import on_cluster
from sbd_utils.training.machine import cpu_name, one_thread
from sbd_utils.training.parallel import side_by_side, stop_on_sigterm

Work = Callable[[Any], dict]
# For each study, the function that makes a row of a job, and the jobs.
STUDIES: dict[str, tuple[Work, list]] = {
    **{name: (circles.train_and_score, jobs) for name, jobs in circles.JOBS.items()},
    **{name: (sprites.train_and_score, jobs) for name, jobs in sprites.JOBS.items()},
    "coordconv": (coordconv.train_and_score, coordconv.CASES),
}


def row_of(work: Work, job: Any) -> dict:
    """The row of a job, computed on one thread."""
    with one_thread():
        return work(job)


def main(study: str, cluster: str = "") -> None:
    """Train and score the jobs that a study's table lacks.

    A job is done if the table has its row from a processor of this kind; delete rows to compute
    them again, from the records in SBD_RUNS where there are any.

    Args:
        cluster: the address of a Dask scheduler whose workers do it, or "" for this machine.
    """
    if study not in STUDIES:
        raise SystemExit(f"NAME must be one of {', '.join(STUDIES)}, got {study!r}")
    work, jobs = STUDIES[study]
    if cluster:
        missing = tables.missing(study, jobs)
        rows = on_cluster(cluster, row_of, work, missing)
    else:
        missing = tables.missing(study, jobs, cpu_name())
        rows = side_by_side(row_of, [{"work": work, "job": job} for job in missing])
    done = len(jobs) - len(missing)
    print(f"results/{study}.csv has {done} of {len(jobs)} rows", file=sys.stderr)
    for row in tqdm(
        rows, f"make study NAME={study}", len(jobs), initial=done, unit="run", smoothing=0
    ):
        tables.write(study, [row])
    if study == "coordconv" and missing:
        coordconv.write_maps()


if __name__ == "__main__":
    stop_on_sigterm()
    main("".join(sys.argv[1:]), os.environ.get("CLUSTER", ""))
