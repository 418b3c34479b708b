"""The rule by which a seed is typical."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sbd_utils.studies import publish, tables
from sbd_utils.studies.publish import typical


def rows(**deconv_kl):
    """Seeds that differ in DeConv's KL term and, by a little, in SB's."""
    return pd.DataFrame([
        dict.fromkeys(tables.SCORES, 1.0)
        | {"cpu": "a", "decoder": decoder, "seed": int(seed[1:]), "kl": kl}
        for seed, value in deconv_kl.items()
        for decoder, kl in (("deconv", value), ("sbd", 10 + value / 100), ("sbd-width22", 99.0))
    ])


def test_the_typical_seed_is_the_one_nearest_to_all_others():
    assert typical(rows(s0=1.0, s3=2.0, s5=9.0)) == ("a", 3)
    assert typical(rows(s0=8.0, s3=2.0, s5=9.0)) == ("a", 0)


def test_every_score_weighs_the_same_whatever_its_unit():
    table = rows(s0=1.0, s1=2.0, s2=3.0)
    table["folded"] = 1e6 * (table.seed == 1)  # far out in one score, in the middle of another
    table["mixing"] = 1e-6 * (table.seed == 1)
    assert typical(table) == ("a", 0)
    assert typical(rows(s0=0.01, s3=0.02, s5=0.09), ["kl"]) == ("a", 3)


def test_of_the_seeds_whose_weights_were_kept_the_one_nearest_to_all():
    table = rows(s0=1.0, s3=2.0, s5=9.0)
    lost = rows(s0=8.0, s1=8.5, s2=9.0).assign(cpu="b", readout=float("nan"))
    assert typical(pd.concat([table, lost])) == ("a", 5)


@pytest.mark.parametrize("drop", [lambda t: t[t.seed < 2], lambda t: t[t.decoder == "sbd"],
                                  lambda t: t.assign(readout=float("nan"))])
def test_too_few_seeds_or_scores_are_refused(drop):
    with pytest.raises(ValueError, match="^rows must have all scores of both decoders"):
        typical(drop(rows(s0=1.0, s1=2.0, s2=3.0)))


def test_a_seed_is_typical_by_the_scores_that_are_asked_for():
    table = rows(s0=1.0, s3=2.0, s5=9.0)
    table["readout"] = table.seed.map({0: 1.0, 3: 9.0, 5: 2.0})
    assert typical(table, ["kl"]) == ("a", 3) and typical(table, ["readout"]) == ("a", 5)


def test_a_pair_is_published_where_it_was_trained(monkeypatch):
    saved = []
    monkeypatch.setattr(tables, "read", lambda study, preset: rows(s0=1.0, s3=2.0, s5=9.0))
    monkeypatch.setattr(tables, "studies", lambda: ["sprites"])
    monkeypatch.setattr(tables, "read_all", lambda study: rows(s0=1.0, s1=2.0, s2=9.0).assign(
        world="quadrant", cpu="here", **dict.fromkeys(set(publish.SCORES) - {"kl"}, 1.0)))
    monkeypatch.setattr(publish, "torch", SimpleNamespace(set_num_threads=lambda count: None))
    monkeypatch.setattr(publish, "cpu_name", lambda: "here")
    monkeypatch.setattr(publish, "provenance", lambda run: {})
    monkeypatch.setattr(publish.sprites, "trained", lambda *job: job)
    monkeypatch.setattr(publish.published, "save", lambda name, run, facts: saved.append(run))
    with pytest.raises(SystemExit, match="^seed 3 of circles is typical as it was trained on a: "):
        publish.main()
    assert saved == [("quadrant", "deconv", 1), ("quadrant", "sbd", 1)]


@pytest.mark.parametrize("studies", [["sprites"], []])
def test_the_typical_pair_is_published_and_one_of_each_world_that_is_shown(
    monkeypatch, tmp_path, studies
):
    every = pd.concat([
        rows(s0=1.0, s1=9.0, s2=2.0).assign(world="sprites"),
        rows(s0=9.0, s1=2.0, s2=1.0).assign(world="quadrant"),
        rows(s0=1.0, s1=2.0, s2=9.0).assign(world="large"),
    ]).assign(**{name: 1.0 for name in set(publish.SCORES) - {"kl"}})
    trained, saved, threads = [], {}, []
    # Only as publish sees it: anybody may call torch's own meanwhile.
    monkeypatch.setattr(publish, "torch", SimpleNamespace(
        set_num_threads=threads.append, from_numpy=torch.from_numpy))
    monkeypatch.setattr(publish, "RUNS", tmp_path)
    monkeypatch.setattr(publish, "cpu_name", lambda: "a")
    monkeypatch.setattr(tables, "read", lambda study, preset: rows(s0=1.0, s3=2.0, s5=9.0))
    monkeypatch.setattr(tables, "read_all", lambda study: every)
    monkeypatch.setattr(tables, "studies", lambda: studies)
    monkeypatch.setattr(publish, "load_or_train", lambda config, images, runs, reporter: config)
    monkeypatch.setattr(publish, "run_name", lambda config, images: config.decoder)
    monkeypatch.setattr(publish, "provenance", lambda run: {"of": run})
    monkeypatch.setattr(publish.sprites, "trained", lambda *job: trained.append(job) or job)
    monkeypatch.setattr(publish.published, "save", lambda name, run, facts, lattice=None:
                        saved.update({name: (run, facts, lattice)}))
    for decoder in ("deconv", "sbd"):
        (tmp_path / decoder).mkdir()
        np.save(tmp_path / decoder / "lattice.npy", np.full(3, len(decoder)))
    publish.main()
    np.save(tmp_path / "sbd" / "lattice.npy", np.array([0, 1, 1]))  # began without the study
    for remove in (False, True):
        with pytest.raises(SystemExit, match="lattice.npy lacks epochs: move .*sbd away"):
            publish.publish_circles("sbd", 3)
        if not remove:
            (tmp_path / "sbd" / "lattice.npy").unlink()
    for decoder in ("deconv", "sbd"):
        run, facts, lattice = saved.pop(decoder)
        assert (run.decoder, run.seed, run.epochs) == (decoder, 3, 150)
        assert facts == {"of": run} and lattice.tolist() == [len(decoder)] * 3
    jobs = [(world, decoder, seed) for world, seed in (("quadrant", 1), ("sprites", 2))
            for decoder in ("deconv", "sbd") if studies]
    assert saved == {f"{job[0]}-{job[1]}": (job, {"of": job}, None) for job in jobs}
    assert trained == jobs and threads == [1]
