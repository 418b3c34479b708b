"""Rows that are kept by the hash of their job."""

import json

import pytest
import torch

from sbd_utils.studies import store

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
    names = [store.done(work, {"seed": 3}) for _ in range(2)]
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


def test_a_half_written_row_is_not_there(runs, monkeypatch):
    def stop(path, content):
        path.with_suffix(".json.part").write_bytes(content[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            store.done(work, {"seed": 0})
    name = store.done(work, {"seed": 0})
    text = (runs / "rows" / f"{name}.json").read_text(encoding="utf-8")
    assert CALLS == [0, 0] and json.loads(text)["seed"] == 0
