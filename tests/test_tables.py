"""Tables of scores: what is written is what is read, and nothing is missing from a comparison."""

import math
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from sbd_utils.experiments import circles, tables
from sbd_utils.settings import RESULTS, TRAINING

LATER = ["readout", "gray_levels"]  # scores that runs whose weights are gone do not have
SCORED = ("reconstruction", "kl", "right_blob", "mixing", "additive", "readout_affine")


def row(seed=0, decoder="sbd", preset="quick", loop="ours", **scores):
    kinds = {"preset": preset, "loop": loop, "seed": seed, "decoder": decoder}
    settings = {"decoder_variance": 0.3, "beta": 16.0, "epochs": 20, "cpu": "a"}
    colors = {
        f"{name}_{color}": value + (color == "red")
        for name, value in (("r2", 0.25), ("folded", 2))
        for color in tables.COLORS
    }
    return kinds | settings | {"reconstruction": 1 / 3, "kl": 12345.678} | colors | scores


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "RUNS", tmp_path / "runs")
    return tmp_path


def test_what_is_written_is_read_to_five_digits(results):
    rows = [
        row(seed, decoder, cpu="Intel, of 2 cores", precision="bfloat16")
        for seed in (0, 1)
        for decoder in ("deconv", "sbd")
    ]
    tables.write("toy", rows)
    found = tables.read("toy", "quick")
    added = ["r2", "folded", "error", "weight"]
    assert list(found.columns) == [*rows[0], *added]
    for written, read in zip(rows, found.to_dict("records"), strict=True):
        for name, value in written.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=5e-5)
            assert read[name] == near, name
        assert {name: read[name] for name in added} == pytest.approx(
            {"r2": 0.25 + 1 / 3, "folded": 2 + 1 / 3, "error": 0.2, "weight": 4.8}, rel=5e-5
        )
        assert read["weight"] == 4.8, "exactly, for a label"
    assert found.seed.dtype == "int64"
    text = (results / "toy.csv").read_bytes()
    assert b"\r" not in text and b"0.33333," in text and b"12346," in text
    assert tables.studies() == ["toy"] == [path.stem for path in results.glob("*.*")]


def test_rows_of_other_jobs_and_processors_stay(results):
    tables.write("toy", [row(0, kl=1.0, cpu="a"), row(1, kl=2.0, cpu="b"), row(2, kl=3.0, cpu="b")])
    tables.write("toy", [row(1, kl=4.0, cpu="b"), row(1, kl=5.0, cpu="c")])
    found = tables.read("toy", "quick")
    assert list(zip(found.cpu, found.seed, found.kl, strict=True)) == [
        ("a", 0, 1.0),
        ("b", 2, 3.0),
        ("b", 1, 4.0),
        ("c", 1, 5.0),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "<<<<<<< ours\n" + text,
        lambda text: text.rpartition('"Intel')[0],
        lambda text: text.replace("\n", "\n=======\n", 2),
        lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1),
    ],
    ids=["empty", "semicolons", "tabs", "conflict", "cut", "conflict inside", "commas"],
)
def test_a_damaged_table_is_told_and_nothing_is_merged_into_it(results, damage):
    tables.write("toy", [row(seed, cpu="Intel, of 2 cores") for seed in (0, 1)])
    path = results / "toy.csv"
    path.write_text(damaged := damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    for call in (lambda: tables.read_all("toy"), lambda: tables.write("toy", [row(2, cpu="a")])):
        with pytest.raises(ValueError, match="toy.csv is no table of runs"):
            call()
    assert path.read_text(encoding="utf-8") == damaged


def test_rows_of_another_kind_do_not_go_into_a_table(results):
    tables.write("toy", [row(0)])
    for wrong in ({"seed": 1, "world": "large", "cpu": "a"}, {"seed": 1}):
        with pytest.raises(ValueError, match="^rows do not go into toy.csv: every row must have"):
            tables.write("toy", [wrong])
    assert len(tables.read_all("toy")) == 1


def test_of_two_who_write_at_once_no_row_is_lost(results):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: tables.write("toy", [row(seed, cpu="a")]), range(20)))
    assert sorted(tables.read("toy", "quick").seed) == list(range(20))


@pytest.mark.parametrize("study", tables.studies())
def test_a_row_is_told_by_its_job_and_processor(study):
    rows = tables.read_all(study)
    assert not rows.duplicated(["cpu", *(name for name in tables.JOB if name in rows)]).any()


def test_read_takes_the_rows_of_one_preset_and_loop(results):
    tables.write("toy", [row(0), row(1, loop="plain"), row(2, preset="blog"), row(3)])
    assert list(tables.read("toy", "quick").seed) == [0, 3]
    assert list(tables.read("toy", "quick", "plain").seed) == [1]
    assert list(tables.read("toy", "blog").index) == [0]


def test_what_is_not_there_is_told(results):
    tables.write("toy", [row()])
    with pytest.raises(ValueError, match="^study must be one of toy, got 'seeds'"):
        tables.read("seeds", "quick")
    for wrong in (("blog",), ("quick", "plain")):
        with pytest.raises(ValueError, match=f"^toy.csv has no rows of the preset {wrong[0]!r}"):
            tables.read("toy", *wrong)


def frame(**kinds):
    return pd.DataFrame(
        [
            {"cpu": "a", "seed": seed, "decoder": decoder, "kl": value}
            for decoder, values in kinds.items()
            for seed, value in values.items()
        ]
    )


def test_by_seed_and_difference_pair_the_seeds():
    rows = frame(
        sbd={2: 1.0, 0: 5.0, 1: 3.0},
        deconv={0: 50.0, 1: 30.0, 2: 10.0},
        resize={0: 7.0, 1: 8.0, 2: 9.0},
    )
    found = tables.by_seed(rows.sample(frac=1, random_state=0), "kl")
    assert list(found.index) == [("a", 0), ("a", 1), ("a", 2)]
    assert set(found) == {"sbd", "deconv", "resize"}
    assert list(found["sbd"]) == [5, 3, 1]
    assert list(tables.difference(rows, "kl")) == [-45, -27, -9]
    assert list(tables.difference(rows, "kl", "deconv", "resize")) == [43, 22, 1]


def test_the_same_seed_on_two_processors_is_two_pairs_and_what_was_not_measured_is_none():
    rows = frame(sbd={0: 5.0, 1: 3.0}, deconv={0: 50.0, 1: 30.0})
    both = pd.concat([rows, rows.assign(cpu="b", kl=rows.kl + (rows.decoder == "deconv"))])
    assert list(tables.difference(both, "kl")) == [-45, -27, -46, -28]
    both.loc[both.cpu == "b", "kl"] = math.nan
    assert list(tables.difference(both, "kl")) == [-45, -27]
    with pytest.raises(ValueError, match="^rows must have kl for the same seeds"):
        tables.by_seed(rows.assign(kl=math.nan), "kl")


def test_a_missing_seed_is_refused_unless_its_decoder_is_not_asked_for():
    rows = frame(sbd={0: 5.0, 1: 3.0}, deconv={0: 50.0, 1: 30.0}, resize={0: 7.0})
    with pytest.raises(ValueError, match="^rows must have kl for the same seeds of all decoders"):
        tables.by_seed(rows, "kl")
    with pytest.raises(ValueError, match="^rows must have kl"):
        tables.difference(rows, "kl", "resize")
    with pytest.raises(ValueError, match="^rows must have resize2 and deconv, got deconv"):
        tables.difference(rows, "kl", "resize2")
    assert list(tables.difference(rows, "kl")) == [-45, -27]


@pytest.mark.parametrize(
    "rows",
    [
        frame(sbd={0: 5.0, 1: math.nan}, deconv={0: 50.0, 1: 30.0}),
        pd.concat([frame(sbd={0: 5.0}, deconv={0: 6.0}), frame(sbd={0: 4.0})]),
    ],
    ids=["NaN", "twice"],
)
def test_no_number_and_two_numbers_of_a_seed_are_refused(rows):
    with pytest.raises(ValueError):
        tables.difference(rows, "kl")


def test_the_pair_has_every_run_of_both_decoders():
    rows, seeds = tables.pair(), tables.read("seeds", "blog")
    more = tables.read("followup", "blog").query("decoder == 'sbd'")
    assert len(more) == 3 and more.mixing.max() == 1, "the run that mixes is one of them"
    assert sorted(rows.decoder) == ["deconv"] * 15 + ["sbd"] * 18
    assert sorted(rows.kl) == sorted([*seeds.kl, *more.kl]) and rows.index.is_unique


def test_the_ablation_is_read():
    found = tables.read("ablation", "ablation")
    assert {"deconv", "sbd", "resize", "sbd-width22"} <= set(found.decoder)
    assert found[[*SCORED, "r2", "folded", "error", "weight"]].notna().all(axis=None)
    mean = (found.r2_red + found.r2_green + found.r2_blue) / 3
    pd.testing.assert_series_equal(found.r2, mean, check_names=False)
    assert found.right_blob.between(0, 1).all() and found.r2.between(0, 1).all()


@pytest.mark.parametrize("study", circles.JOBS)
def test_committed_scores_are_whole(study):
    found = pd.read_csv(RESULTS / f"{study}.csv")
    epochs = {preset: settings["epochs"] for preset, settings in TRAINING.items()}
    assert (found.epochs == found.preset.map(epochs)).all()
    numbers = found.select_dtypes("number").drop(columns=LATER, errors="ignore")
    assert set(SCORED) <= set(numbers) and numbers.abs().max(axis=None) < math.inf
    assert numbers.notna().all(axis=None)
