"""A row of a study, what it is of, and the table that `make study` writes."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest

from sbd_utils.data.circles import COLORS, draw_sprite, make_sprites
from sbd_utils.experiments import circles, run, tables
from sbd_utils.experiments.circles import Job
from sbd_utils.metrics.codes import encode
from sbd_utils.metrics.geometry import LINES
from sbd_utils.settings import RESULTS, TRAINING
from sbd_utils.training.records import load_run

QUICK = {**TRAINING["quick"], "epochs": 2}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two epochs on few images, in a folder of their own; what is to be scored is kept."""
    asked = []
    monkeypatch.setattr(circles, "TRAINING", {"quick": QUICK, "blog": TRAINING["blog"]})
    monkeypatch.setattr(circles, "RUNS", tmp_path)
    monkeypatch.setattr(circles, "make_sprites", partial(make_sprites, 64, (16,), 4))
    monkeypatch.setattr(circles, "score", lambda *given: asked.append(given) or {"kl": 1.5})
    return asked


def test_a_row_says_what_was_trained_and_scores_what_the_record_holds(small, tmp_path):
    job = Job("quick", "deconv", 4, "plain", beta=16.0)
    row = circles.train_and_score(job)
    assert (asdict(job) | {"epochs": 2, "kl": 1.5, "precision": "float32"}).items() <= row.items()
    assert {"cpu", "threads", "torch"} <= set(row)
    assert circles.train_and_score(job) == row
    (scored, sprites), (again, _) = small
    assert scored.config.beta == 16 and not scored.config.compiled and len(scored.history) == 2
    assert scored.history == again.history, "trained twice"
    assert set(sprites.factors["color"]) == set(COLORS)
    [path] = tmp_path.glob("deconv-seed4-*.safetensors")
    kept = load_run(path).history.codes
    assert kept.shape == (2, 11, 11, 5)
    red = draw_sprite(LINES[6], LINES[30])  # column 2 and row 10 of every third line
    code = encode(scored.vae, red[None])[0][0]
    assert kept[1, 10, 2].numpy() == pytest.approx(code, abs=5e-5)
    assert (kept[1] - kept[1, 10, 2]).abs().max() > 1e-3, "all codes are the same"
    assert (kept[0] - kept[1]).abs().max() > 0.02


def test_the_published_run_that_mixes_is_scored_as_it_is(small, tmp_path):
    row = circles.train_and_score(Job("blog", "sbd-mixing", 0))
    ((scored, _),) = small
    mixing = load_run("sbd-mixing")
    assert scored.history == mixing.history and not list(tmp_path.iterdir())
    committed = pd.read_csv(RESULTS / "followup.csv").query("decoder == 'sbd-mixing'").iloc[0]
    for name in ("preset", "loop", "seed", "decoder", "epochs", "precision", "threads", "cpu"):
        assert row[name] == committed[name], name
    assert committed.kl == pytest.approx(mixing.history.kl[-1], rel=1e-4)


def test_a_pair_is_published_or_trained_by_the_preset_and_found_again(small, monkeypatch):
    monkeypatch.delenv("SBD_PRESET", raising=False)
    monkeypatch.setattr(
        circles, "side_by_side", lambda function, jobs: [function(**job) for job in jobs]
    )
    monkeypatch.setattr(circles, "train", lambda *given: pytest.fail("it trains"))
    assert {name: run.config for name, run in circles.pair().items()} == {
        name: load_run(name).config for name in ("deconv", "sbd")
    }
    monkeypatch.undo()


def test_under_a_preset_that_trains_both_are_trained_and_found_again(small, monkeypatch):
    monkeypatch.setenv("SBD_PRESET", "quick")
    monkeypatch.setattr(
        circles, "side_by_side", lambda function, jobs: [function(**job) for job in jobs]
    )
    found = circles.pair()
    assert {name: (run.config.decoder, len(run.history)) for name, run in found.items()} == {
        name: (name, 2) for name in ("deconv", "sbd")
    }
    monkeypatch.setattr("sbd_utils.training.loop.new_step", lambda *given: pytest.fail("again"))
    assert circles.pair()["sbd"].history == found["sbd"].history


@pytest.mark.parametrize("study", [*circles.JOBS, *run.sprites.JOBS, "coordconv"])
def test_every_job_of_a_study_has_a_row_in_its_table_and_every_row_is_of_a_job(study):
    _, jobs = run.STUDIES[study]
    assert tables.missing(study, jobs) == [] and len(set(jobs)) == len(jobs)
    names = list(asdict(jobs[0]))
    rows = tables.read_all(study)[names].drop_duplicates()
    assert len(rows) == len(jobs)


def test_a_study_that_is_not_named_is_told():
    done = subprocess.run(
        [sys.executable, "-m", "sbd_utils.experiments.run"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 1 and "NAME must be one of seeds, " in done.stderr
    assert done.stderr.endswith("got ''\n")


ASKED = []


@dataclass(frozen=True)
class Toy:
    factor: int


def times(job: Toy) -> dict:
    ASKED.append(job.factor)
    if job.factor == 7 and len(ASKED) == 2:
        raise ZeroDivisionError
    return {"factor": job.factor, "threefold": 3 * job.factor, "cpu": "a"}


def test_a_study_computes_the_rows_that_its_table_lacks_on_this_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RUNS", tmp_path)
    monkeypatch.setattr(tables, "JOB", ("factor",))
    monkeypatch.setattr(run, "cpu_name", lambda: "a")
    monkeypatch.setattr(
        run, "side_by_side", lambda function, jobs: (function(**job) for job in jobs)
    )
    monkeypatch.setattr(
        run,
        "on_cluster",
        lambda address, row_of, work, jobs: (
            row_of(work, job) for job in jobs if address == "tcp://a"
        ),
    )
    monkeypatch.setitem(run.STUDIES, "toy", (times, [Toy(9), Toy(7)]))
    with pytest.raises(ZeroDivisionError):
        run.main("toy")
    assert tables.read_all("toy").to_numpy().tolist() == [[9, 27, "a"]], "what is done is kept"
    run.main("toy")
    assert ASKED == [9, 7, 7]
    monkeypatch.setitem(run.STUDIES, "toy", (times, [Toy(9), Toy(7), Toy(5)]))
    run.main("toy", "tcp://a")
    assert ASKED == [9, 7, 7, 5]
    assert tables.read_all("toy").to_numpy().tolist() == [[9, 27, "a"], [7, 21, "a"], [5, 15, "a"]]
    monkeypatch.setattr(run, "cpu_name", lambda: "b")
    run.main("toy")
    assert ASKED == [9, 7, 7, 5, 9, 7, 5]
    (tmp_path / "toy.csv").write_text("factor;cpu\n9;a\n", "utf-8")
    with pytest.raises(ValueError, match="toy.csv is no table of runs"):
        run.main("toy")


def test_jobs_are_told_apart_as_a_table_rounds_them(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    kept = Job("blog", "sbd", 0, beta=1 / 3)
    pd.DataFrame([{**asdict(kept), "epochs": 150, "cpu": "a and b"}]).to_csv(
        tmp_path / "toy.csv", index=False, float_format=tables.DIGITS
    )
    other = Job("blog", "sbd", 0, beta=0.3334)
    assert tables.missing("toy", [kept, other]) == [other]
    assert tables.missing("toy", [kept], "a") == tables.missing("toy", [kept], "b") == []
    assert tables.missing("toy", [kept], "c") == tables.missing("none", [kept]) == [kept]
    assert np.isclose(tables.read_all("toy").beta[0], 1 / 3, rtol=1e-4)
