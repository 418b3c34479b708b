"""The ledger: what the post says, how it is measured, where the threshold lies, the verdict."""

import math
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from sbd_utils import checks
from sbd_utils.metrics.intervals import Estimate

MIME = "application/vnd.sbd.claims+json"  # how reproduce.py finds a report among the outputs
VERDICTS = (
    "reproduced",
    "smaller than claimed",
    "larger than claimed",
    "not reproduced",
    "not testable here",
)
SIDES = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge, "=": operator.eq}
NEAR = 0.25  # how far from a size that the post gives still is that size, as a share of it


@dataclass(frozen=True)
class Claim:
    """One assertion: a number lies on one side of a bound.

    says: the assertion, in words. source: who says it, and where. measure: what the number is, and
    unit: the few words that follow it. side: "<", "≤", ">", "≥" or "=". size: how large the source
    says that the number is, from and to, if it does. untestable: why it cannot be judged here, if
    so. over: what the interval's count is of. recorded: the verdict that is expected.
    """

    id: str
    says: str
    source: str
    measure: str
    unit: str
    side: str
    bound: float
    recorded: str
    size: tuple[float, float] | None = None
    untestable: str = ""
    over: str = "seeds"

    def __post_init__(self):
        for name in ("id", "says", "source", "measure", "unit", "untestable", "over"):
            checks.check_type(name, getattr(self, name), str)
        checks.check_one_of("side", self.side, SIDES)
        checks.check_float("bound", self.bound)
        checks.check_one_of("recorded", self.recorded, VERDICTS)
        if self.size is not None:
            ((low, high),) = checks.arrays(size=(self.size, "2"))
            if not 0 < low <= high:
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
        """One of VERDICTS, by the one rule for all claims.

        Reproduced where the whole interval lies on the claimed side and, if a size is claimed,
        within a quarter of it. If it lies on the side but not within the quarter, the claim is
        larger or smaller than claimed; in all other cases it is not reproduced.
        """
        if self.untestable:
            return "not testable here"
        ends = measured.low, measured.high
        if not all(SIDES[self.side](end, self.bound) for end in ends):
            return "not reproduced"
        least, most = self.size or (-math.inf, math.inf)
        if least * (1 - NEAR) <= measured.low and measured.high <= most * (1 + NEAR):
            return "reproduced"
        middle = (least + most) / 2
        return f"{'smaller' if measured.value < middle else 'larger'} than claimed"


def check(id: str, measured: Estimate) -> dict:
    """A row of the table of claims, of the claim with this id."""
    checks.check_one_of("id", id, CLAIMS)
    checks.check_type("measured", measured, Estimate)
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
        "recorded": claim.recorded,
    }


class Report:
    """The end of a notebook: its rows of the ledger, as a table and for `make reproduce`."""

    def __init__(self, *rows: dict):
        self.rows = _checked(rows)

    def verdicts(self) -> str:
        """One line per claim, for a cell that nbval checks: its numbers are of committed runs."""
        return "\n".join(
            f"{row['claim']}: {row['verdict']}, {measured(row)}"
            + ("" if row["verdict"] == row["recorded"] else f"; recorded was {row['recorded']}")
            for row in self.rows
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/html": table(self.rows).to_html(index=False),
            "text/plain": self.verdicts(),
            MIME: self.rows,
        }


def table(rows: Sequence[dict]) -> pd.DataFrame:
    """The rows of `check` as a reader sees them, one claim per line."""
    return pd.DataFrame(
        [
            {
                "claim": row["says"],
                "result": f"{row['measure']}: {measured(row)}",
                "verdict": row["verdict"],
                "threshold": row["threshold"],
                "source": row["source"],
                "id": row["claim"],
            }
            for row in _checked(rows)
        ]
    )


def _checked(rows: Sequence[dict]) -> list[dict]:
    checks.check_type("rows", rows, Sequence)
    for row in rows:
        checks.mapping("row", row, ("claim", "value", "verdict"))
    return list(rows)


def measured(row: dict, unit: bool = False) -> str:
    """A row's number with its unit, if asked for, and its interval and count, where it has them."""
    _checked([row])
    if row["verdict"] == "not testable here":
        return CLAIMS[row["claim"]].untestable
    value, low, high = (format_value(row[name]) for name in ("value", "low", "high"))
    value = f"{value} {CLAIMS[row['claim']].unit}" if unit else value
    if row["count"] == 1:
        return value
    return f"{value} ({low} to {high}, {row['count']} {CLAIMS[row['claim']].over})"


def format_value(value: float) -> str:
    """Whole and large numbers with their commas, others to three digits, or more near one."""
    checks.check_float("value", value)
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 0.99 < abs(value) < 1 else f"{value:.3g}"


BETTER = "its mean over the last of 150 epochs, SB minus DeConv of the same seed, nats per image"
RIGHT = "share of images that are drawn as one disc of their color within a pixel of its place"
AFFINE = "affine R² of the plane of the two most precise latents, mean of three colors"
FOLDED = "cells of 25 that are turned over, mean of three colors"
DIFFERENCE, MIX = "nats per image, SB minus DeConv", "of the latents in use mix"
MIXING = "of the latents that move anything, the share that moves position and color both"
CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "images",
            "the data set has 3675 images",
            "post, data",
            "different images",
            "different images",
            "=",
            3675,
            "reproduced",
        ),
        Claim(
            "factors",
            "three factors of variation make them",
            "post, data",
            "factors that take more than one value",
            "factors",
            "=",
            3,
            "reproduced",
        ),
        Claim(
            "fewer-parameters",
            "the SB decoder has fewer parameters",
            "post, models",
            "trainable numbers, SB over DeConv",
            "of DeConv's",
            "<",
            1,
            "reproduced",
        ),
        Claim(
            "better-reconstruction",
            "SB improves the reconstruction term",
            "post, loss curves",
            BETTER,
            DIFFERENCE,
            "<",
            0,
            "reproduced",
        ),
        Claim(
            "better-kl",
            "SB improves the KL term as well",
            "post, loss curves",
            BETTER,
            DIFFERENCE,
            "<",
            0,
            "reproduced",
        ),
        Claim(
            "reconstructs-deconv",
            "the DeConv VAE reconstructs well",
            "post, traversals",
            RIGHT,
            "of the images right",
            "≥",
            0.95,
            "reproduced",
        ),
        Claim(
            "reconstructs-sbd",
            "the SB VAE reconstructs well",
            "post, traversals",
            RIGHT,
            "of the images right",
            "≥",
            0.95,
            "reproduced",
        ),
        Claim(
            "entangled-deconv",
            "the DeConv traversals are entangled",
            "post, traversals",
            MIXING,
            MIX,
            ">",
            0.5,
            "reproduced",
        ),
        Claim(
            "disentangled-sbd",
            'the SB traversals "seem quite disentangled"',
            "post, traversals",
            MIXING,
            MIX,
            "<",
            0.5,
            "reproduced",
        ),
        Claim(
            "geometry-deconv",
            "the DeConv geometry is highly non-linear",
            "post, geometry",
            AFFINE,
            "affine R²",
            "<",
            0.97,
            "reproduced",
        ),
        Claim(
            "folds-deconv",
            "the DeConv geometry folds over itself",
            "post, geometry figure",
            FOLDED,
            "of 25 cells folded",
            "≥",
            2,
            "reproduced",
        ),
        Claim(
            "geometry-sbd",
            "the SB geometry is close to an affine map of the true one",
            "post, geometry",
            AFFINE,
            "affine R²",
            ">",
            0.97,
            "reproduced",
        ),
        Claim(
            "folds-sbd",
            "the SB geometry does not fold",
            "post, geometry figure",
            FOLDED,
            "of 25 cells folded",
            "<",
            1,
            "reproduced",
        ),
        Claim(
            "informative-deconv",
            "DeConv's two most precise latents carry x and y",
            "post, geometry",
            "R² of (x, y) read from them by nearest neighbors, cross-validated",
            "readout R²",
            "≥",
            0.7,
            "not reproduced",
        ),
        Claim(
            "informative-sbd",
            "SB's two most precise latents carry x and y",
            "post, geometry",
            "R² of (x, y) read from them by nearest neighbors, cross-validated",
            "readout R²",
            "≥",
            0.7,
            "reproduced",
        ),
        Claim(
            "more-memory",
            "SB needs about 50% more memory",
            "post, drawbacks",
            "peak of a plain float32 step of 16 images, weights and Adam's moments included, SB "
            "over DeConv, in results/bench.md",
            "times DeConv's",
            ">",
            1,
            "larger than claimed",
            size=(1.5, 1.5),
        ),
        Claim(
            "slower",
            "SB trains 1.48 times as long",
            "post, drawbacks",
            "seconds of a plain float32 step, SB over DeConv, on results/bench.md's processor",
            "times DeConv's, on a CPU",
            ">",
            1,
            "larger than claimed",
            size=(1.48, 1.48),
        ),
        Claim(
            "under-30-min",
            "both trainings take under 30 minutes on a K80",
            "post, drawbacks",
            "minutes",
            "minutes",
            "<",
            30,
            "not testable here",
            untestable="it needs a K80 GPU",
        ),
        Claim(
            "checkerboard-more",
            "transposed convolutions leave a checkerboard",
            "post, from Odena et al.",
            "pattern of 2×2 pixels that all residuals share, gray "
            "levels of 255, DeConv minus SB of the same seed",
            "gray levels more than SB",
            ">",
            0,
            "reproduced",
        ),
        Claim(
            "checkerboard-visible",
            "the checkerboard is an artifact that one sees",
            "post, from Odena et al.",
            "pattern of 2×2 pixels that all of DeConv's residuals "
            "share, gray levels of 255; two neighboring levels in turn, the least that a screen "
            "shows, have 0.5",
            "gray levels, where 0.5 is the least that a screen shows",
            "≥",
            0.5,
            "not reproduced",
        ),
        Claim(
            "narrow-sharper",
            "an SB decoder with DeConv's multiply-adds draws sharper",
            "ours, notebook 09",
            "reconstruction term over the last of 150 epochs, SB of 22 "
            "channels minus DeConv of the same seed, nats per image",
            DIFFERENCE,
            "<",
            0,
            "reproduced",
        ),
        Claim(
            "narrow-straight",
            "the plane of that narrow SB decoder is close to affine",
            "ours, notebook 09",
            AFFINE,
            "affine R²",
            ">",
            0.97,
            "reproduced",
        ),
        Claim(
            "narrow-unmixed",
            "the latents of that decoder keep position and color apart",
            "ours, notebook 09",
            MIXING,
            MIX,
            "<",
            0.5,
            "reproduced",
        ),
        Claim(
            "sprites-pictures",
            "SB improves the reconstruction of sprites",
            "paper, abstract",
            "reconstruction term in the last of 150 epochs, world sprites, SB minus DeConv of "
            "the same seed, nats per image",
            DIFFERENCE,
            "<",
            0,
            "not reproduced",
        ),
        Claim(
            "sprites-mig",
            "SB improves the disentangling of sprites",
            "paper, abstract",
            "MIG with 20 bins, mean over eight factors, world sprites, SB minus DeConv of the "
            "same seed",
            "MIG, SB minus DeConv",
            ">",
            0,
            "reproduced",
        ),
        Claim(
            "small-objects",
            "SB gains most with small objects",
            "paper, abstract",
            "unexplained share of the pictures' variance, SB over DeConv of the same seed, world "
            "small over world large",
            "times the ratio of large",
            "<",
            1,
            "not testable here",
            untestable="few runs begin to draw them",
        ),
        Claim(
            "held-out",
            "SB generalizes better to places never seen",
            "paper, abstract",
            "error of the reconstructions at places held out, SB over DeConv of the same seed, "
            "world quadrant",
            "times DeConv's error",
            "<",
            1,
            "not reproduced",
        ),
        Claim(
            "coordconv-generalizes",
            "CoordConv solves tasks of coordinates perfectly",
            "post, from Liu et al.",
            "share of right places in a quadrant held out, "
            "classification, over all sizes, depths, kernels and seeds of CoordConv",
            "of the places right",
            "≥",
            0.99,
            "not reproduced",
            over="runs",
        ),
        Claim(
            "coordconv-fewer",
            "CoordConv needs 10 to 100 times fewer parameters",
            "post, from Liu et al.",
            "parameters of the smallest network without coordinates, "
            "over those of the smallest CoordConv, that come to 95% in classification, uniform "
            "split, with the most seeds",
            "times fewer",
            ">",
            1,
            "reproduced",
            size=(10, 100),
        ),
        Claim(
            "coordconv-faster",
            "CoordConv trains 150 times faster",
            "post, from Liu et al.",
            "seconds to 95% in classification, uniform split, of the quickest network without "
            "coordinates over the quickest CoordConv, of those that come there with the most "
            "seeds, same seed",
            "times faster",
            ">",
            1,
            "smaller than claimed",
            size=(150, 150),
        ),
    )
}
