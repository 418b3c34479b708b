"""Rows that are kept by the hash of their job."""

import pytest
import torch

from sbd_utils.studies import store
from sbd_utils.training import speed
from sbd_utils.training.loop import Run, TrainConfig

CALLS = []


def work(seed: int, rate: float = 1.0) -> dict:
    CALLS.append(seed)
    return {"seed": seed, "rate": rate, "nothing": float("nan"),
            "threads": torch.get_num_threads()}


def fail(seed: int) -> dict:
    raise ZeroDivisionError


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    CALLS.clear()
    monkeypatch.setattr(store, "RUNS", tmp_path)
    return tmp_path


def test_a_job_is_done_once_on_one_thread_and_its_row_read_as_written(runs):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        names = [store.done(work, {"seed": 3}) for _ in range(2)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert CALLS == [3] and names == [store.key(work, {"seed": 3})] * 2
    row = store.read(names[0])
    assert row["nothing"] != row.pop("nothing")
    assert row == {"seed": 3, "rate": 1.0, "threads": 1}
    assert [path.name for path in (runs / "rows").glob("*.json")] == [f"{names[0]}.json"]


def test_another_job_work_code_or_torch_has_another_key(monkeypatch):
    keys = [store.key(work, {"seed": 3}), store.key(work, {"seed": 4}),
            store.key(work, {"seed": 3, "rate": 2.0}), store.key(fail, {"seed": 3})]
    for module, name in ((store, "CODE"), (torch, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, "another")
            keys.append(store.key(work, {"seed": 3}))
    assert len(set(keys)) == len(keys)
    assert store.key(work, {"seed": 3, "rate": 2.0}) == store.key(work, {"rate": 2.0, "seed": 3})


def test_a_job_that_fails_leaves_no_row_and_is_done_again():
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            store.done(fail, {"seed": 0})
    assert store.read(store.key(fail, {"seed": 0})) is None


def test_a_damaged_row_and_that_of_another_job_are_made_anew(runs, caplog):
    one, other = (runs / "rows" / f"{store.done(work, {'seed': seed})}.json" for seed in (0, 1))
    whole = one.read_bytes()
    for content in (b"", whole[:-9], whole.replace(b"rate", b"late"), b"{}", b"\xff\n",
                    whole.replace(b"1.0", b"1.5"), whole.splitlines()[0], other.read_bytes()):
        one.write_bytes(content)
        assert store.read(one.stem) is None and str(one) in caplog.text
        caplog.clear()
    store.done(work, {"seed": 0})
    assert CALLS == [0, 1, 0] and one.read_bytes() == whole


def test_provenance_is_of_the_machines_that_trained():
    config = TrainConfig("deconv", precision="float32")
    old = {"threads": 1, "torch": "2.6.0", "cpu": "8086"}
    of = [store.provenance(Run(config, None, None, machines))
          for machines in ([old], [old, old | {"cpu": "68000"}], [])]
    assert of[0] == {"precision": "float32", **old}
    assert of[1] == {"precision": "float32", **old, "cpu": "8086 and 68000"}
    assert of[2] == {"precision": "float32", **speed.machine()}


def test_a_half_written_row_is_not_there(runs, monkeypatch):
    def stop(path, content):
        path.with_suffix(".json.part").write_bytes(content[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            store.done(work, {"seed": 0})
    name = store.done(work, {"seed": 0})
    assert CALLS == [0, 0] and store.read(name)["seed"] == 0
