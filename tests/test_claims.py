"""The rule of the verdicts, and every committed verdict against its committed values."""

import json
import math
from dataclasses import replace

import pytest

from sbd_utils import claims
from sbd_utils.claims import LEDGER, Claim, Report, Result, check
from sbd_utils.metrics import interval
from sbd_utils.settings import RESULTS, TRAINING
from sbd_utils.study import STUDIES, difference, main, read_scores, spread_table

TOY = Claim("toy", "a beats b", "here", "two numbers", (("a", ">", "b"), ("a", "≤", 2.5)), "mixed")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(claims, "LEDGER", LEDGER | {"toy": TOY})


@pytest.fixture(scope="module")
def rows():
    """The committed rows of the ledger under the preset blog."""
    return json.loads((RESULTS / "blog" / "claims.json").read_text())["claims"]


@pytest.mark.parametrize("a, b, verdict", [
    (2, 1, "reproduced"), (2.5, 2.4, "reproduced"), (3, 1, "mixed"), (1, 2, "mixed"),
    (2, 2, "mixed"), (3, 3, "not reproduced"), (3, 4, "not reproduced"),
])
def test_all_some_or_none_of_the_conditions(a, b, verdict):
    assert check("toy", a=a, b=b).verdict == verdict


@pytest.mark.parametrize("sign, below, at, above", [
    ("<", True, False, False), ("≤", True, True, False), ("=", False, True, False),
    ("≥", False, True, True), (">", False, False, True),
])
def test_signs(sign, below, at, above):
    claim = replace(TOY, conditions=(("a", sign, 1),))
    held = [Result(claim, {"a": a}, "here").verdict == "reproduced" for a in (0.5, 1, 1.5)]
    assert held == [below, at, above]


@pytest.mark.parametrize("id, values, named", [
    ("no-such-id", {"a": 1}, "no-such-id"), ("toy", {"a": 1}, "b"), ("toy", {"b": 1}, "a"),
    ("toy", {"a": 1, "b": math.nan}, "b"), ("toy", {"a": math.inf, "b": 1}, "a"),
])
def test_check_names_what_is_wrong(id, values, named):
    with pytest.raises(ValueError, match=rf"(^|\W){named}\b"):
        check(id, **values)


@pytest.mark.parametrize("value, said", [
    (3.0, "3"), (0.12345, "0.123"), (12.345, "12.3"), (0.99801, "0.9980"), (-0.9951, "-0.9951"),
    (1234.6, "1,235"), (-3675, "-3,675"),
])
def test_numbers_are_said_in_three_digits_or_more_near_one(value, said):
    assert claims.format_value(value) == said


def test_report_marks_a_surprise_and_carries_its_rows():
    report = Report(check("toy", a=3, b=1), check("toy", "committed scores", a=0.123456, b=-2000))
    lines = "toy: mixed\ntoy: reproduced, recorded was mixed"
    assert report.verdicts() == lines
    bundle = report._repr_mimebundle_()
    assert bundle[claims.MIME] == report.rows and bundle["text/plain"] == lines
    assert json.loads(json.dumps(report.rows[1])) == {
        "claim": "toy", "says": "a beats b", "source": "here", "measure": "two numbers",
        "values": {"a": 0.123456, "b": -2000}, "threshold": "a > b and a ≤ 2.5",
        "verdict": "reproduced", "recorded": "mixed", "measured_in": "committed scores",
    }
    first, second = bundle["text/markdown"].splitlines()[2:]
    for line, said, verdict in (
        (first, "two numbers: a 3, b 1", "**mixed**"),
        (second, "two numbers: a 0.123, b -2,000 (committed scores)", "**reproduced**"),
    ):
        cells = line.strip("| ").split(" | ")
        assert {"`toy`", "a beats b", "here", said, "a > b and a ≤ 2.5", verdict} == set(cells)


def test_every_claim_has_one_committed_row(rows):
    assert sorted(row["claim"] for row in rows) == sorted(LEDGER)


@pytest.mark.parametrize("id", LEDGER)
def test_committed_verdict_is_that_of_its_values_and_every_condition_counts(id, rows):
    [row] = [row for row in rows if row["claim"] == id]
    claim, values = LEDGER[id], row["values"]
    assert [row] == Report(check(id, row["measured_in"], **values)).rows
    assert row["verdict"] == claim.recorded
    for condition in claim.conditions:
        name, sign, bound = condition
        alone, limit = replace(claim, conditions=(condition,)), values.get(bound, bound)
        before = Result(alone, values, "here").verdict
        held = before == "reproduced"
        inside, outside = {"<": (-1, 1), "≤": (-1, 1), "=": (0, 1)}.get(sign, (1, -1))
        moved = values | {name: limit + (outside if held else inside) * (1 + abs(limit))}
        assert Result(alone, moved, "here").verdict != before, condition
        if claim.recorded == "reproduced":
            assert check(id, **moved).verdict != "reproduced", condition


def test_committed_values_are_those_of_the_row(rows):
    for row in rows:
        assert claims.committed(row["claim"]) == row["values"]
    with pytest.raises(ValueError, match="^id must be that of one row of claims.json, got 'toy'"):
        claims.committed("toy")


@pytest.mark.parametrize("study", STUDIES)
def test_committed_scores_are_of_the_runs_of_their_study(study):
    kinds = {(job["preset"], job.get("loop", "ours")): None for job in STUDIES[study]}
    rows = [row for kind in kinds for row in read_scores(*kind, study)]
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    defaults = {"loop": "ours", "decoder_variance": 0.3, "beta": 1.0}
    jobs = [defaults | job for job in STUDIES[study]]
    assert [{name: row[name] for name in jobs[0]} for row in rows] == jobs
    for row in rows:
        assert row["epochs"] == TRAINING[row["preset"]]["epochs"]


def test_no_scores_of_a_preset_and_no_such_study():
    with pytest.raises(ValueError, match="^seeds.csv has no rows of the preset 'slow'"):
        read_scores("slow")
    with pytest.raises(SystemExit, match="^NAME must be one of seeds, .*, followup, got 'x'"):
        main("x")


def test_spread_of_seeds_against_students_t_by_hand():
    half = 2.776445 * math.sqrt(2.5 / 5)  # t of 4 degrees of freedom; the variance of 1 to 5 is 2.5
    assert interval([1, 2, 3, 4, 5]) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert interval([1, 1, 1]) == (1, 1)
    rows = [{"decoder": d, "seed": k, "kl": k + 10 * (d == "deconv") * k} for k in (1, 2, 3, 4, 5)
            for d in ("deconv", "sbd")]
    [_, _, row] = spread_table(rows, "kl").splitlines()
    assert row == ("| KL term, nats an image | 33 (11.4 to 54.6), 11 to 55 | "
                   "3 (1.04 to 4.96), 1 to 5 | -49.6 to -10.4 |")
    assert difference(rows[::-1], "kl") == [-50, -40, -30, -20, -10]
    with pytest.raises(ValueError, match="^rows must have the same seeds"):
        spread_table(rows[1:], "kl")
