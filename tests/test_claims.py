"""The rule of the verdicts, and every committed verdict against its committed numbers."""

import json
from dataclasses import replace

import pytest

from sbd_utils import claims
from sbd_utils.claims import CLAIMS, VERDICTS, Claim, Report, check
from sbd_utils.metrics.intervals import Estimate, exactly
from sbd_utils.settings import RESULTS

TOY = Claim(
    "toy", "a beats b", "here", "a over b", "times b", ">", 1, "larger than claimed", size=(2, 4)
)
COMMITTED = RESULTS / "claims.json"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(claims, "CLAIMS", CLAIMS | {"toy": TOY})


@pytest.mark.parametrize(
    "side, below, at, above",
    [
        ("<", True, False, False),
        ("≤", True, True, False),
        ("=", False, True, False),
        ("≥", False, True, True),
        (">", False, False, True),
    ],
)
def test_sides(side, below, at, above):
    claim = replace(TOY, side=side, size=None)
    assert claim.verdict(exactly(1)) == ("reproduced" if at else "not reproduced")
    for value, held in ((0.5, below), (1.5, above)):
        assert claim.verdict(exactly(value)) == ("reproduced" if held else "not reproduced")
        # An interval that reaches the bound, and one that goes beyond it.
        inner = Estimate(value, *sorted((value, 1.0)), count=10)
        wide = Estimate(value, 0.4, 1.6, count=10)
        assert claim.verdict(inner) == ("reproduced" if held and at else "not reproduced")
        assert claim.verdict(wide) == "not reproduced"


@pytest.mark.parametrize(
    "value, low, high, verdict",
    [
        (3, 2.5, 3.5, "reproduced"),
        (3, 1.5, 5.0, "reproduced"),  # a quarter below 2 and above 4, exactly
        (2, 1.49, 2.5, "smaller than claimed"),
        (4, 3.5, 5.01, "larger than claimed"),
        (1.2, 1.1, 1.3, "smaller than claimed"),
        (9, 8, 10, "larger than claimed"),
        (2.9, 1.1, 9, "smaller than claimed"),
        (3.1, 1.1, 9, "larger than claimed"),  # too wide
        (3, 1.0, 3.5, "not reproduced"),
        (3, -9, 99, "not reproduced"),
        (0, -1, 0.5, "not reproduced"),
    ],
)
def test_a_size_is_met_within_a_quarter(value, low, high, verdict):
    assert TOY.verdict(Estimate(value, low, high, 10)) == verdict


@pytest.mark.parametrize(
    "value, verdict",
    [
        (1.125, "reproduced"),
        (1.875, "reproduced"),
        (1.12, "smaller than claimed"),
        (1.88, "larger than claimed"),
        (1.0, "not reproduced"),
    ],
)
def test_a_single_size_is_met_within_a_quarter(value, verdict):
    assert replace(TOY, size=(1.5, 1.5)).verdict(exactly(value)) == verdict


def test_what_cannot_be_judged_is_not_whatever_its_number():
    claim = replace(TOY, untestable="no K80 here")
    assert {claim.verdict(exactly(value)) for value in (0, 1, 3, 99)} == {"not testable here"}
    assert claim.threshold == "–"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, "> 1; claimed 2 to 4"),
        ({"size": (1.48, 1.48)}, "> 1; claimed 1.48"),
        ({"size": None, "side": "≤", "bound": 0.97}, "≤ 0.97"),
    ],
)
def test_thresholds_are_said_in_words(changes, said):
    assert replace(TOY, **changes).threshold == said


def test_an_unknown_claim_is_told_which_there_are():
    with pytest.raises(ValueError, match="^id must be one of images, "):
        check("no-such-id", exactly(1))


@pytest.mark.parametrize(
    "value, said",
    [
        (3.0, "3"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (0.99801, "0.9980"),
        (-0.9912, "-0.9912"),
        (0.9876, "0.988"),
        (99.6, "99.6"),
        (999.7, "1,000"),
        (1234.6, "1,235"),
        (-3675, "-3,675"),
    ],
)
def test_numbers_are_said_in_three_digits_or_more_near_one(value, said):
    assert claims.format_value(value) == said


def test_report_marks_a_surprise_and_carries_its_rows():
    report = Report(
        check("toy", Estimate(9, 8.1234, 1234.5, 10)),
        check("toy", exactly(2.5)),
        check("under-30-min", exactly(44)),
    )
    lines = (
        "toy: larger than claimed, 9 (8.12 to 1,234, 10 seeds)\n"
        "toy: reproduced, 2.5; expected was larger than claimed\n"
        "under-30-min: not testable here, it needs a K80 GPU"
    )
    assert report.verdicts() == lines
    bundle = report._repr_mimebundle_()
    assert bundle[claims.MIME] == report.rows and bundle["text/plain"] == lines
    assert json.loads(json.dumps(report.rows[0])) == {
        "claim": "toy",
        "says": "a beats b",
        "source": "here",
        "measure": "a over b",
        "value": 9,
        "low": 8.123,
        "high": 1234.0,
        "count": 10,
        "threshold": "> 1; claimed 2 to 4",
        "verdict": "larger than claimed",
        "expected_verdict": "larger than claimed",
    }
    table = claims.table(report.rows)
    assert table.iloc[0].to_dict() == {
        "claim": "a beats b",
        "result": "a over b: 9 (8.12 to 1,234, 10 seeds)",
        "verdict": "larger than claimed",
        "threshold": "> 1; claimed 2 to 4",
        "source": "here",
        "id": "toy",
    }
    assert list(table["id"]) == ["toy", "toy", "under-30-min"]
    assert table.iloc[2]["result"] == "minutes: it needs a K80 GPU" and len(table) == 3
    assert bundle["text/html"] == table.to_html(index=False)


def test_an_empty_report():
    report = Report()
    assert report.rows == [] and report.verdicts() == "" and claims.table([]).empty


@pytest.mark.parametrize("id", CLAIMS)
def test_a_claim_could_come_out_otherwise(id):
    claim = CLAIMS[id]
    assert claim.id == id and claim.expected_verdict in VERDICTS and claim.side in claims.SIDES
    assert bool(claim.untestable) == (claim.expected_verdict == "not testable here")
    if claim.size:
        low, high = claim.size
        assert 0 < low <= high and claims.SIDES[claim.side](low, claim.bound)
        assert claims.SIDES[claim.side](high, claim.bound)
    verdicts = {claim.verdict(exactly(claim.bound + step)) for step in (-9e9, -1, 0, 1, 9e9)}
    assert len(verdicts) > 1 or claim.untestable
    assert not claim.expected_verdict.endswith("than claimed") or claim.size


def test_every_claim_has_one_committed_row_whose_verdict_is_that_of_its_numbers():
    rows = json.loads(COMMITTED.read_text(encoding="utf-8"))["claims"]
    assert sorted(row["claim"] for row in rows) == sorted(CLAIMS)
    for row in rows:
        measured = Estimate(*(row[name] for name in ("value", "low", "high", "count")))
        assert row == check(row["claim"], measured)
        assert row["verdict"] == CLAIMS[row["claim"]].expected_verdict, row["claim"]
