"""The claims of post and paper, and the rule by which a measurement judges them."""

import math
import operator
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from sbd_utils import checks
from sbd_utils.metrics.intervals import Estimate

MIME = "application/vnd.sbd.claims+json"  # of a report among a notebook's outputs
VERDICTS = (
    "reproduced",
    "smaller than claimed",
    "larger than claimed",
    "not reproduced",
    "not testable here",
)
SIDES = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge, "=": operator.eq}
TOLERANCE = 0.25  # relative deviation from a claimed size that still counts as that size


@dataclass(frozen=True)
class Claim:
    """A number lies on one side of a bound, and perhaps has a certain size.

    Attributes:
        id: its name in claims.toml.
        says: the claim in words.
        source: who makes it, and where.
        measure: what the number is.
        unit: the few words that follow the number.
        side: "<", "≤", ">", "≥" or "=".
        expected_verdict: one of VERDICTS.
        size: the claimed size, from and to.
        untestable: why it cannot be judged here; "" if it can.
        over: what an interval's count is of.
    """

    id: str
    says: str
    source: str
    measure: str
    unit: str
    side: str
    bound: float
    expected_verdict: str
    size: Sequence[float] | None = None
    untestable: str = ""
    over: str = "seeds"

    def __post_init__(self):
        checks.check_one_of("side", self.side, SIDES)
        checks.check_one_of("expected_verdict", self.expected_verdict, VERDICTS)
        if self.size is not None and not 0 < self.size[0] <= self.size[1]:
            raise checks.argument_error("size", "from and to, above 0", self.size)

    @property
    def threshold(self) -> str:
        """The bound and the size, as a table shows them."""
        if self.untestable:
            return "–"
        side = f"{self.side} {format_value(self.bound)}"
        if not self.size:
            return side
        low, high = map(format_value, self.size)
        return f"{side}; claimed {low}" + ("" if low == high else f" to {high}")

    def verdict(self, measured: Estimate) -> str:
        """Judge a measurement by the one rule for all claims.

        "reproduced" where the whole interval lies on the claimed side and, if a size is claimed,
        within a quarter of it; "larger" or "smaller than claimed" where it lies on the side only;
        else "not reproduced".
        """
        if self.untestable:
            return "not testable here"
        ends = measured.low, measured.high
        if not all(SIDES[self.side](end, self.bound) for end in ends):
            return "not reproduced"
        least, most = self.size or (-math.inf, math.inf)
        if least * (1 - TOLERANCE) <= measured.low and measured.high <= most * (1 + TOLERANCE):
            return "reproduced"
        middle = (least + most) / 2
        return f"{'smaller' if measured.value < middle else 'larger'} than claimed"


def read_claims() -> dict[str, Claim]:
    """The claims of claims.toml by their ids."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {id: Claim(id, **fields) for id, fields in tomllib.loads(text).items()}


CLAIMS = read_claims()


def check(id: str, measured: Estimate) -> dict:
    """The row of the claims' table for the claim with this id."""
    checks.check_one_of("id", id, CLAIMS)
    claim = CLAIMS[id]
    # Four digits: what is computed from published weights agrees that far on every processor.
    shown = {name: float(f"{value:.4g}") for name, value in asdict(measured).items()}
    return {
        "claim": id,
        "says": claim.says,
        "source": claim.source,
        "measure": claim.measure,
        **shown,
        "count": measured.count,
        "threshold": claim.threshold,
        "verdict": claim.verdict(measured),
        "expected_verdict": claim.expected_verdict,
    }


class Report:
    """A notebook's rows of the claims' table, shown at its end and collected from there."""

    def __init__(self, *rows: dict):
        self.rows = list(rows)

    def verdicts(self) -> str:
        """One line per claim, for a cell that nbval checks."""
        lines = []
        for row in self.rows:
            lines.append(f"{row['claim']}: {row['verdict']}, {measured(row)}")
            if row["verdict"] != row["expected_verdict"]:
                lines[-1] += f"; expected was {row['expected_verdict']}"
        return "\n".join(lines)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        shown = table(self.rows).to_html(index=False)
        return {"text/html": shown, "text/plain": self.verdicts(), MIME: self.rows}


def table(rows: Sequence[dict]) -> pd.DataFrame:
    """The rows of `check` as a reader sees them."""
    return pd.DataFrame(
        {
            "claim": row["says"],
            "result": f"{row['measure']}: {measured(row)}",
            "verdict": row["verdict"],
            "threshold": row["threshold"],
            "source": row["source"],
            "id": row["claim"],
        }
        for row in rows
    )


def measured(row: dict, unit: bool = False) -> str:
    """A row's number, with its unit if asked for, and its interval and count if it has them."""
    claim = CLAIMS[row["claim"]]
    if row["verdict"] == "not testable here":
        return claim.untestable
    value, low, high = (format_value(row[name]) for name in ("value", "low", "high"))
    value = f"{value} {claim.unit}" if unit else value
    if row["count"] == 1:
        return value
    return f"{value} ({low} to {high}, {row['count']} {claim.over})"


def format_value(value: float) -> str:
    """Whole and large numbers with their commas, others to three digits, or more near one."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 0.99 < abs(value) < 1 else f"{value:.3g}"
