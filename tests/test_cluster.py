"""Studies on a Dask cluster of this machine: each result once, whoever dies."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sbd_utils.experiments.cluster import ClusterError, on_cluster
from sbd_utils.experiments.run import row_of

TESTS = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None,
        reason="pip install .[cluster] for the cluster's tests",
    ),
]
# What `make study` does with CLUSTER, with jobs of the test's.
CLIENT = """
import json
import sys
import cluster_jobs
from sbd_utils.experiments import cluster
from sbd_utils.experiments.run import row_of
address, work, count, patience = sys.argv[1:]
cluster.PATIENCE, cluster.POLL_SECONDS = float(patience), 0.05
try:
    work, jobs = getattr(cluster_jobs, work), list(range(int(count)))
    for row in cluster.on_cluster(address, row_of, work, jobs):
        print(json.dumps(row, sort_keys=True), flush=True)
except cluster.ClusterError as error:
    sys.exit(f"ClusterError: {error}")
"""
LOCAL = """
import json
import os
import cluster_jobs
from sbd_utils.experiments.run import row_of
from sbd_utils.training.parallel import side_by_side
os.mkdir(os.environ["SBD_RUNS"])
jobs = [{"work": cluster_jobs.train_a_little, "job": seed} for seed in range(20)]
for row in side_by_side(row_of, jobs):
    print(json.dumps(row, sort_keys=True))
"""


class Cluster:
    """A scheduler and its workers, each a process, all on one folder of runs."""

    def __init__(self, folder: Path, before: str = ""):
        self.runs, self.processes = folder / "runs", []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start(
            "-m",
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(self.file),
            before=before,
        )
        # It is there before it is written.
        self.wait(lambda: self.file.exists() and self.file.read_text(encoding="utf-8"))
        self.address = json.loads(self.file.read_text(encoding="utf-8"))["address"]

    def start(self, *arguments: str, before: str = "", **changes: str) -> subprocess.Popen:
        path = os.pathsep.join(filter(None, [before, str(TESTS), os.environ.get("PYTHONPATH")]))
        env = {
            **os.environ,
            "SBD_RUNS": str(self.runs),
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "2",
            **changes,
        }  # a job is to take one all the same
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=env,
            encoding="utf-8",
            cwd=self.file.parent,  # no package of the test's own there
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    def worker(self, *arguments: str, **changes: str) -> subprocess.Popen:
        return self.start(
            "-m",
            "distributed.cli.dask_worker",
            self.address,
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            *(arguments or ("--nthreads", "1", "--no-nanny")),
            **changes,
        )

    def client(self, work: str, count: int, patience: int = 900) -> subprocess.Popen:
        return self.start("-c", CLIENT, self.address, work, str(count), str(patience))

    def log(self) -> list[list[str]]:
        path = self.runs / "log.txt"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [line.split() for line in text.splitlines()]

    def ends(self) -> Counter:
        return Counter(words[1] for words in self.log() if words[0] == "end")

    def wait(self, condition, seconds: float = 90) -> None:
        start = time.monotonic()
        while not condition():
            assert time.monotonic() < start + seconds, f"not within {seconds} s: {self.log()[-5:]}"
            time.sleep(0.02)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()


@pytest.fixture
def start(tmp_path):
    clusters = []

    def new(**settings: str) -> Cluster:
        clusters.append(Cluster(tmp_path, **settings))
        return clusters[-1]

    yield new
    for cluster in clusters:
        cluster.close()


def told(process: subprocess.Popen) -> str:
    """The last line of a client that ends with an error."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    return errors.strip().splitlines()[-1]


def test_each_run_is_trained_once_though_a_worker_and_the_client_are_killed(start, tmp_path):
    cluster = start()
    victim, _ = workers = [cluster.worker() for _ in range(2)]
    client = cluster.client("train_a_little", 20)
    cluster.wait(lambda: cluster.ends().total() >= 4)

    killed = ""
    while not killed:  # in the middle of a job
        cluster.wait(lambda: cluster.log()[-1][0] == "epoch")
        victim.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # a write that has begun still ends
        mine = [
            words[1]
            for words in cluster.log()
            if words[0] == "start" and words[2] == str(victim.pid)
        ]
        if mine[-1] not in cluster.ends() and ["epoch", mine[-1], "1"] in cluster.log():
            killed = mine[-1]
            victim.kill()
        victim.send_signal(signal.SIGCONT)
    victim.communicate()
    cluster.wait(lambda: cluster.ends().total() >= 10)
    client.kill()
    rows, errors = cluster.client("train_a_little", 20).communicate(timeout=120)

    assert workers[1].poll() is None, "the other worker has done the rest"
    epochs = Counter(tuple(words[1:]) for words in cluster.log() if words[0] == "epoch")
    assert set(epochs.values()) == {1} and len(epochs) == 40, "no epoch is trained again"
    local = subprocess.run(
        [sys.executable, "-c", LOCAL],
        check=True,
        capture_output=True,
        timeout=120,
        encoding="utf-8",
        env={**os.environ, "SBD_RUNS": str(tmp_path / "local"), "PYTHONPATH": str(TESTS)},
    )
    assert sorted(rows.splitlines()) == sorted(local.stdout.splitlines()), errors
    assert len(rows.splitlines()) == 20 and json.loads(rows.splitlines()[0])["threads"] == 1


@pytest.mark.parametrize(
    "arguments, changes, why",
    [
        (("--nthreads", "2", "--no-nanny"), {}, "must be started with --nthreads 1"),
        ((), {"SBD_RUNS": "elsewhere"}, "has another folder SBD_RUNS than we have here"),
    ],
    ids=["threads", "runs"],
)
def test_a_worker_that_cannot_do_the_work_is_told(start, tmp_path, arguments, changes, why):
    cluster = start()
    cluster.worker(*arguments, **{key: str(tmp_path / value) for key, value in changes.items()})
    assert why in told(cluster.client("fail", 1))
    assert not cluster.log()


METADATA = """
import importlib.metadata
real = importlib.metadata.version
importlib.metadata.version = lambda name: "0" if name == "scikit-learn" else real(name)
"""
# In the place of a processor that is fast at another precision.
PRECISION = "from sbd_utils.training import machine; machine.pick_precision = lambda device: 'int8'"
CODE = "from sbd_utils import settings; settings.ROOT = settings.ROOT / 'tests'"


@pytest.mark.parametrize(
    "module, text, why",
    [
        ("sitecustomize", METADATA, "has another scikit-learn than we have here: 0, not "),
        ("sitecustomize", PRECISION, "has another precision than we have here: int8, not "),
        ("sitecustomize", CODE, "has another code than we have here"),
        ("sbd_utils", "raise ImportError('not here')", "cannot import sbd_utils (not here)"),
    ],
    ids=["version", "precision", "code", "package"],
)
def test_a_worker_that_would_score_otherwise_is_told(start, tmp_path, module, text, why):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"{module}.py").write_text(text, "utf-8")
    cluster = start()
    cluster.worker(before=str(tmp_path / "other"))
    assert f" {why}" in told(cluster.client("fail", 1))


def test_a_worker_that_comes_later_is_asked_too(start, tmp_path):
    cluster = start()
    client = cluster.client("train_a_little", 20)
    first = cluster.worker()
    cluster.wait(lambda: cluster.ends())
    cluster.worker(SBD_RUNS=str(tmp_path / "elsewhere"))
    assert "has another folder SBD_RUNS than we have here" in told(client)
    assert {words[2] for words in cluster.log() if words[0] == "start"} == {str(first.pid)}


def test_a_paused_worker_and_the_lack_of_one_are_told(start):
    cluster = start()
    client = cluster.client("train_a_little", 1)
    assert "the scheduler has no worker; waiting for one" in client.stderr.readline()
    cluster.worker("--nthreads", "1", "--no-nanny", "--memory-limit", "200MB")
    line = next(line for line in client.stderr if "paused" in line)
    assert "is paused: it uses 0." in line and "of 0.2 GB of memory" in line


def test_a_job_whose_workers_die_late_is_handed_out_again(start):
    cluster = start()
    cluster.worker("--nthreads", "1")
    rows, errors = cluster.client("die_five_times", 1, patience=0).communicate(timeout=240)
    assert rows == '{"seed": 0}\n', errors
    assert [words[0] for words in cluster.log()] == ["start"] * 6


def test_no_scheduler_a_failing_job_and_a_deadly_one_are_told(start):
    cluster = start()
    cluster.worker("--nthreads", "1")  # its nanny starts it again
    assert told(cluster.client("fail", 2)) == "ZeroDivisionError: job 0"
    assert "0 ended several workers in" in told(cluster.client("die", 1))
    client = cluster.client("train_a_little", 20)
    cluster.wait(lambda: cluster.ends())
    cluster.scheduler.kill()
    assert "is gone; the same command goes on with what is done" in told(client)
    assert "no scheduler answers at" in told(cluster.client("fail", 1))


def test_what_is_no_scheduler_is_told():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as a dashboard is
        for address in (
            f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "tcp://127.0.0.1:1",
            "tls://127.0.0.1:1",
            "nowhere",
        ):
            with pytest.raises(ClusterError, match=f"^no scheduler answers at {address}: "):
                list(on_cluster(address, row_of, print, []))
