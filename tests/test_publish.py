"""The rule by which a seed is typical."""

from types import SimpleNamespace

import pandas as pd
import pytest

from sbd_utils.experiments import publish, tables
from sbd_utils.experiments.publish import typical
from sbd_utils.models.decoders import PAIR
from sbd_utils.training import records
from sbd_utils.training.records import PUBLISHED, RecordError, load_run, run_id


def rows(**deconv_kl):
    """Seeds that differ in DeConv's KL term and, by a little, in SB's."""
    return pd.DataFrame(
        [
            dict.fromkeys(tables.SCORES, 1.0)
            | {"cpu": "a", "decoder": decoder, "seed": int(seed[1:]), "kl": kl}
            for seed, value in deconv_kl.items()
            for decoder, kl in (("deconv", value), ("sbd", 10 + value / 100), ("sbd-width22", 99.0))
        ]
    )


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


@pytest.mark.parametrize(
    "drop",
    [
        lambda t: t[t.seed < 2],
        lambda t: t[t.decoder == "sbd"],
        lambda t: t.assign(readout=float("nan")),
    ],
)
def test_too_few_seeds_or_scores_are_refused(drop):
    with pytest.raises(ValueError, match="^rows must have all scores of both decoders"):
        typical(drop(rows(s0=1.0, s1=2.0, s2=3.0)))


def test_a_seed_is_typical_by_the_scores_that_are_asked_for():
    table = rows(s0=1.0, s3=2.0, s5=9.0)
    table["readout"] = table.seed.map({0: 1.0, 3: 9.0, 5: 2.0})
    assert typical(table, ["kl"]) == ("a", 3) and typical(table, ["readout"]) == ("a", 5)


@pytest.fixture
def publishing(monkeypatch):
    """What publish would publish, where three pairs of runs are known of each world."""
    published = []
    every = pd.concat(
        [
            rows(s0=1.0, s1=9.0, s2=2.0).assign(world="sprites"),
            rows(s0=9.0, s1=2.0, s2=1.0).assign(world="quadrant"),
            rows(s0=1.0, s1=2.0, s2=9.0).assign(world="large"),
        ]
    ).assign(**{name: 1.0 for name in set(publish.SCORES) - {"kl"}})
    monkeypatch.setattr(tables, "read", lambda study, preset: rows(s0=1.0, s3=2.0, s5=9.0))
    monkeypatch.setattr(tables, "read_all", lambda study: every)
    monkeypatch.setattr(publish, "torch", SimpleNamespace(set_num_threads=lambda count: None))
    monkeypatch.setattr(publish, "cpu_name", lambda: "a")
    monkeypatch.setattr(publish, "publish", lambda *given: published.append(given))
    return published


@pytest.mark.parametrize(
    "studies, worlds",
    [(["sprites"], [("circles", 3), ("quadrant", 1), ("sprites", 2)]), ([], [("circles", 3)])],
)
def test_the_typical_pair_of_each_world_that_is_shown_is_published(
    publishing, studies, worlds, monkeypatch
):
    monkeypatch.setattr(tables, "studies", lambda: studies)
    publish.main()
    assert publishing == [
        (world, decoder, seed) for world, seed in worlds for decoder in ("deconv", "sbd")
    ]


def test_a_pair_is_published_where_it_was_trained(publishing, monkeypatch):
    monkeypatch.setattr(tables, "studies", lambda: [])
    monkeypatch.setattr(publish, "cpu_name", lambda: "here")
    with pytest.raises(SystemExit, match="^seed 3 of circles is typical as it was trained on a: "):
        publish.main()
    assert publishing == []


@pytest.mark.parametrize("world, name", [("circles", "sbd"), ("quadrant", "quadrant-sbd")])
def test_publishing_copies_the_record(world, name, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path / "published")
    made = {}

    def train(config, images, *rest):
        made[world] = tmp_path / f"{run_id(config, images)}.safetensors"
        made[world].write_bytes(f"{config.decoder}, seed {config.seed}".encode())
        return load_run("sbd")

    for module in (publish, publish.circles):
        monkeypatch.setattr(module, "train", train)
        monkeypatch.setattr(module, "RUNS", tmp_path)
    publish.publish(world, "sbd", 3)
    assert made and (tmp_path / "published" / f"{name}.safetensors").read_bytes() == b"sbd, seed 3"


def test_the_committed_runs_are_whole_and_small():
    pairs = {f"{world}-{decoder}" for world in publish.SHOWN for decoder in PAIR}
    committed = sorted(PUBLISHED.glob("*.safetensors"))
    assert {path.stem for path in committed} == {"deconv", "sbd", "sbd-mixing"} | pairs
    for path in committed:
        run = load_run(path.stem)
        world, _, decoder = path.stem.removesuffix("-mixing").rpartition("-")
        assert run.config.decoder == decoder
        assert len(run.history) == run.config.epochs == (30 if world == "hue-of-place" else 150)
        assert {"cpu", "torch", "threads"} == set(run.machines[0])
        if path.stem in PAIR:
            assert run.history.codes.shape == (150, 11, 11, 5)
    assert sum(path.stat().st_size for path in committed) < 12e6


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(RecordError, match="or one of deconv, hue.*, sprites-sbd, got 'mine'$"):
        load_run("mine")


def test_a_published_file_that_was_changed_is_to_be_taken_from_git(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PUBLISHED", tmp_path)
    good = (PUBLISHED / "sbd.safetensors").read_bytes()
    (tmp_path / "sbd.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RecordError, match="not as it was written; take it from git again"):
        load_run("sbd")
