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
from contextlib import nullcontext
from pathlib import Path

import pytest

from sbd_utils.studies.cluster import ClusterError, _do, on_cluster
from sbd_utils.training.loop import TrainConfig

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(importlib.util.find_spec("distributed") is None,
                                reason="pip install .[cluster] for the cluster's tests")
# What `make study` does with CLUSTER, with jobs of the test's.
CLIENT = """
import sys
import cluster_jobs
from sbd_utils.studies import cluster
address, work, count, patience = sys.argv[1:]
cluster.PATIENCE, cluster.LOOK = float(patience), 0.05
jobs = [{"seed": seed} for seed in range(int(count))]
try:
    for name in cluster.on_cluster(address, getattr(cluster_jobs, work), jobs):
        print(name, flush=True)
except cluster.ClusterError as error:
    sys.exit(f"ClusterError: {error}")
"""
LOCAL = """
import sys
import cluster_jobs
from sbd_utils.studies import store
from sbd_utils.training.parallel import side_by_side
jobs = [{"work": cluster_jobs.train_a_little, "job": {"seed": seed}} for seed in range(40)]
print(*side_by_side(store.done, jobs))
"""


class Cluster:
    """A scheduler and its workers, each a process, all on one folder of runs."""

    def __init__(self, folder: Path, before: str = ""):
        self.runs, self.processes = folder / "runs", []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start(
            "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
            "--no-dashboard", "--scheduler-file", str(self.file), before=before)
        # It is there before it is written.
        self.wait(lambda: self.file.exists() and self.file.read_text(encoding="utf-8"))
        self.address = json.loads(self.file.read_text(encoding="utf-8"))["address"]

    def start(self, *arguments: str, before: str = "", **changes: str) -> subprocess.Popen:
        path = os.pathsep.join(filter(None, [before, str(TESTS), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "SBD_RUNS": str(self.runs), "PYTHONPATH": path,
               "OMP_NUM_THREADS": "2", **changes}  # a job is to take one all the same
        process = subprocess.Popen([sys.executable, *arguments], env=env, encoding="utf-8",
                                   cwd=self.file.parent,  # no package of the test's own there
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str, **changes: str) -> subprocess.Popen:
        return self.start("-m", "distributed.cli.dask_worker", self.address, "--no-dashboard",
                          "--host", "127.0.0.1", *(arguments or ("--nthreads", "1", "--no-nanny")),
                          **changes)

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


def test_each_result_comes_once_though_a_worker_and_the_client_are_killed(start, tmp_path):
    cluster = start()
    victim, _ = workers = [cluster.worker() for _ in range(2)]
    client = cluster.client("train_a_little", 40)
    cluster.wait(lambda: cluster.ends().total() >= 8)

    killed = ""
    while not killed:  # in the middle of a job
        cluster.wait(lambda: cluster.log()[-1][0] == "epoch")
        victim.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # a write that has begun still ends
        mine = [words[1] for words in cluster.log()
                if words[0] == "start" and words[2] == str(victim.pid)]
        if mine[-1] not in cluster.ends() and ["epoch", mine[-1], "1"] in cluster.log():
            killed = mine[-1]
            victim.kill()
        victim.send_signal(signal.SIGCONT)
    victim.communicate()
    cluster.wait(lambda: cluster.ends().total() >= 20)
    client.kill()
    names, errors = cluster.client("train_a_little", 40).communicate(timeout=120)

    assert workers[1].poll() is None, "the other worker has done the rest"
    assert cluster.ends() == Counter(map(str, range(40))), errors
    starts = Counter(words[1] for words in cluster.log() if words[0] == "start")
    assert starts == Counter({**{str(seed): 1 for seed in range(40)}, killed: 2})
    epochs = Counter(words[1] for words in cluster.log() if words[0] == "epoch")
    assert set(epochs.values()) == {2}, "what was trained before the kill is not trained again"

    assert len(names.split()) == 40 == len(set(names.split()))
    assert "/2, 0:0" in errors, "how far a run has got, and what is left of it"
    local = subprocess.run(
        [sys.executable, "-c", LOCAL], check=True, capture_output=True, timeout=120,
        encoding="utf-8",
        env={**os.environ, "SBD_RUNS": str(tmp_path / "local"), "PYTHONPATH": str(TESTS)})
    assert sorted(local.stdout.split()) == sorted(names.split())
    for name in names.split():
        there, here = (folder / "rows" / f"{name}.json" for folder in
                       (cluster.runs, tmp_path / "local"))
        assert there.read_bytes() == here.read_bytes()
        assert json.loads(here.read_text(encoding="utf-8").splitlines()[0])["threads"] == 1


def test_a_scheduler_that_cannot_import_the_package_is_told(start, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sbd_utils.py").write_text("raise ImportError('not here')", "utf-8")
    cluster = start(before=str(tmp_path / "broken"))
    cluster.worker()
    assert "the scheduler cannot import sbd_utils (not here)" in told(cluster.client("fail", 1))


@pytest.mark.parametrize("arguments, changes, why", [
    (("--nthreads", "2", "--no-nanny"), {}, "must be started with --nthreads 1"),
    ((), {"SBD_RUNS": "elsewhere"}, "has another SBD_RUNS than we have here"),
], ids=["threads", "runs"])
def test_a_worker_that_cannot_do_the_work_is_told(start, tmp_path, arguments, changes, why):
    cluster = start()
    cluster.worker(*arguments, **{key: str(tmp_path / value) for key, value in changes.items()})
    assert why in told(cluster.client("fail", 1))
    assert not cluster.log()


@pytest.mark.parametrize("module, text, why", [
    ("sitecustomize", "import torch; torch.__version__ = '0'", "has torch 0, and we have"),
    ("sitecustomize", "from sbd_utils.studies import store; store.CODE = ''", "has other code"),
    ("sbd_utils", "raise ImportError('not here')", "cannot import sbd_utils (not here)"),
], ids=["torch", "code", "package"])
def test_a_worker_with_another_torch_or_package_is_told(start, tmp_path, module, text, why):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"{module}.py").write_text(text, "utf-8")
    cluster = start()
    cluster.worker(before=str(tmp_path / "other"))
    assert f" {why}" in told(cluster.client("fail", 1))


# In the place of a processor that is fast at the other precision.
OTHER = """
from sbd_utils.training import speed
pick, others = speed.pick_precision, {"float32": "bfloat16", "bfloat16": "float32"}
speed.pick_precision = lambda device: others[pick(device)]
"""


@pytest.mark.parametrize("change, why", [
    ("SBD_RUNS", "has another SBD_RUNS than we have here"),
    ("before", "a study compares runs of one precision"),
], ids=["runs", "precision"])
def test_a_worker_that_comes_later_is_asked_too(start, tmp_path, change, why):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(OTHER, "utf-8")
    cluster = start()
    client = cluster.client("train_a_little", 40)
    first = cluster.worker()
    cluster.wait(lambda: cluster.ends())
    cluster.worker(**{change: str(elsewhere)})
    assert why in told(client)
    assert {words[2] for words in cluster.log() if words[0] == "start"} == {str(first.pid)}
    assert not (elsewhere / "rows").exists()


def test_a_job_asks_its_worker_once_more(tmp_path, monkeypatch):
    """Since a worker can come between the check and the job."""
    monkeypatch.setattr("sbd_utils.studies.cluster.RUNS", tmp_path)
    (tmp_path / "seen").touch()
    own = TrainConfig(compiled=False).precision
    with pytest.raises(ClusterError, match="^a worker has another SBD_RUNS than we have here"):
        _do("other", own, dict, {})
    with pytest.raises(ClusterError, match=f"^a worker trains in {own}, the others in float8, and"):
        _do("seen", "float8", dict, {})
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_a_job_whose_workers_die_late_is_handed_out_again(start):
    cluster = start()
    cluster.worker("--nthreads", "1")
    names, errors = cluster.client("die_five_times", 1, patience=0).communicate(timeout=240)
    assert len(names.split()) == 1, errors
    assert [words[0] for words in cluster.log()] == ["start"] * 6


def test_no_scheduler_a_failing_job_and_a_deadly_one_are_told(start):
    cluster = start()
    cluster.worker("--nthreads", "1")  # its nanny starts it again
    assert told(cluster.client("fail", 2)) == "ZeroDivisionError: job 0"
    assert "'seed': 0} ended several workers in" in told(cluster.client("die", 1))
    client = cluster.client("train_a_little", 40)
    cluster.wait(lambda: cluster.ends())
    cluster.scheduler.kill()
    assert "is gone; the same command goes on with what is done" in told(client)
    assert "no scheduler answers at" in told(cluster.client("fail", 1))


def test_what_is_no_scheduler_is_told(start):
    cluster = start()
    worker = cluster.worker()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as a dashboard is
        addresses = {f"tcp://127.0.0.1:{silent.getsockname()[1]}": "nothing that Dask would say",
                     "tcp://127.0.0.1:1": "Timed out trying to connect",
                     "tls://127.0.0.1:1": "TLS expects", "nowhere": "missing port"}
        for address, why in addresses.items():
            with pytest.raises(ClusterError, match=f"^no scheduler answers at {address}: {why}"):
                list(on_cluster(address, dict, []))
    line = next(line for line in worker.stderr if "Start worker at" in line)
    address = line.split("'")[1] if "'" in line else line.split()[-1]
    with pytest.raises(ClusterError, match=f"^no scheduler answers at {address}: a Worker does"):
        list(on_cluster(address, dict, []))


def test_a_scheduler_that_goes_while_it_is_asked_is_told(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def gone(*given):
        raise distributed.comm.CommClosedError("reset by peer")

    async def scheduler(address):
        return {"type": "Scheduler"}

    monkeypatch.setattr("sbd_utils.studies.cluster._identity", scheduler)
    monkeypatch.setattr(distributed, "Client", lambda *given, **named: nullcontext())
    monkeypatch.setattr("sbd_utils.studies.cluster._hand_out", gone)
    with pytest.raises(ClusterError, match="^the scheduler at tcp://a is gone; the same"):
        list(on_cluster("tcp://a", dict, []))
