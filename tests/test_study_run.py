"""A row of a study, what it is of, and the table that `make study` writes."""

import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from sbd_utils.measures.codes import encode
from sbd_utils.measures.geometry import LINES
from sbd_utils.settings import RESULTS, TRAINING
from sbd_utils.studies import run, store, tables
from sbd_utils.training import published
from sbd_utils.worlds.circles import COLORS, draw_sprite, make_sprites

QUICK = {**TRAINING["quick"], "epochs": 2}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two epochs over few pictures, in a folder of their own; scores are what is asked for."""
    asked = []
    monkeypatch.setattr(run, "TRAINING", {"quick": QUICK})
    monkeypatch.setattr(run, "RUNS", tmp_path)
    monkeypatch.setattr(run, "make_sprites", partial(make_sprites, 64, (16,), 4))
    monkeypatch.setattr(run, "score", lambda *given: asked.append(given) or {"kl": 1.5})
    return asked


def test_a_row_says_what_was_trained_and_scores_what_a_file_would_hold(small, tmp_path):
    job = {"preset": "quick", "decoder": "deconv", "seed": 4, "loop": "plain", "beta": 16.0}
    row = run.train_and_score(**job)
    expected = job | {"decoder_variance": 0.3, "epochs": 2, "kl": 1.5, "precision": "float32"}
    assert expected.items() <= row.items() and {"cpu", "threads", "torch"} <= set(row)
    assert run.train_and_score(**job) == row
    (scored, sprites), (again, _) = small
    assert scored.config.beta == 16 and not scored.config.compiled and len(scored.history) == 2
    assert scored.history == again.history, "trained twice"
    assert set(sprites.factors["color"]) == set(COLORS)
    weights = scored.vae.state_dict()
    assert all((value.half().float() == value).all() for value in weights.values())

    (kept,) = (np.load(path) for path in tmp_path.glob("deconv-seed4-*/lattice.npy"))
    assert kept.shape == (2, 11, 11, 5) and kept.dtype == np.float16
    red = draw_sprite(LINES[6], LINES[30])  # column 2 and row 10 of every third line
    assert kept[1, 10, 2] == pytest.approx(encode(scored.vae, red[None])[0][0], abs=5e-5)
    assert np.abs(kept[1] - kept[1, 10, 2]).max() > 1e-3, "all codes are the same"
    assert abs(kept[0] - kept[1]).max() > 0.02


def test_the_published_run_that_mixes_is_scored_as_it_is(small, tmp_path):
    row = run.train_and_score("blog", "sbd-mixing", 0)
    (scored, _), = small
    mixing = published.load("sbd-mixing")
    assert scored.history == mixing.history and not list(tmp_path.iterdir())
    committed = pd.read_csv(RESULTS / "followup.csv").query("decoder == 'sbd-mixing'").iloc[0]
    for name in ("preset", "loop", "seed", "decoder", "epochs", "precision", "threads", "cpu"):
        assert row[name] == committed[name], name
    assert committed.kl == pytest.approx(mixing.history.kl[-1], rel=1e-4)


def test_a_study_that_is_not_named_is_told():
    done = subprocess.run([sys.executable, "-m", "sbd_utils.studies.run"],
                          capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1 and "NAME must be one of seeds, " in done.stderr
    assert done.stderr.endswith("got ''\n")


ASKED = []


def times(factor: int) -> dict:
    ASKED.append(factor)
    return {"factor": factor, "threefold": 3 * factor, "cpu": "a"}


def test_the_table_has_a_row_per_job_in_their_order(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "RUNS", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "train_and_score", times)
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    monkeypatch.setattr(run, "side_by_side", lambda function, jobs: [function(**j) for j in jobs])
    monkeypatch.setattr(run, "on_cluster", lambda address, work, jobs: [
        store.done(work, {"factor": {"tcp://a": 5}[address]})] if work is times else None)
    jobs = [{"factor": factor} for factor in (9, 7, 5)]
    monkeypatch.setitem(run.STUDIES, "toy", jobs[:2])
    monkeypatch.setattr(tables, "JOB", ("factor",))
    store.done(times, jobs[1])
    run.main("toy")
    assert ASKED == [7, 9]
    assert tables.read_all("toy").to_numpy().tolist() == [[9, 27, "a"], [7, 21, "a"]]
    monkeypatch.setitem(run.STUDIES, "toy", jobs)
    run.main("toy", "tcp://a")
    assert tables.read_all("toy").to_numpy().tolist() == [
        [9, 27, "a"], [7, 21, "a"], [5, 15, "a"]]

    table = (tmp_path / "toy.csv").read_bytes()
    monkeypatch.setattr(store, "CODE", "new")
    monkeypatch.setattr(run, "side_by_side", lambda function, jobs: [])
    with pytest.raises(SystemExit, match="^the code has changed since .* command makes 3 anew"):
        run.main("toy")
    assert (tmp_path / "toy.csv").read_bytes() == table
    (tmp_path / "toy.csv").write_bytes(table.replace(b",", b";"))
    monkeypatch.setattr(run, "side_by_side", lambda function, jobs: pytest.fail("it trains"))
    with pytest.raises(ValueError, match="toy.csv is no table of runs"):
        run.main("toy")
