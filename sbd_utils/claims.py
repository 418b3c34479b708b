"""The ledger: what the post says, how it is measured, where the threshold lies, the verdict."""

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

from sbd_utils.settings import RESULTS

MIME = "application/vnd.sbd.claims+json"  # how reproduce.py finds a report among the outputs
VERDICTS = ("reproduced", "mixed", "not reproduced")
COMPARE = {"≤": operator.le, "<": operator.lt, "≥": operator.ge, ">": operator.gt,
           "=": operator.eq}


@dataclass(frozen=True)
class Claim:
    """One claim of the post.

    conditions: rows of value, comparison and bound, where a bound is a number or another value.
    recorded: the verdict that the full study reached.
    """

    id: str
    says: str
    source: str
    measure: str
    conditions: tuple[tuple[str, str, float | str], ...]
    recorded: str

    @property
    def threshold(self) -> str:
        return " and ".join(f"{name} {sign} {bound}" for name, sign, bound in self.conditions)


@dataclass(frozen=True)
class Result:
    """A claim with its measured values; measured_in is THIS_RUN or COMMITTED."""

    claim: Claim
    values: Mapping[str, float]
    measured_in: str

    @property
    def verdict(self) -> str:
        """Reproduced where every condition holds, not reproduced where none, else mixed."""
        held = [
            COMPARE[sign](self.values[name], self.values.get(bound, bound))
            for name, sign, bound in self.claim.conditions
        ]
        return VERDICTS[0] if all(held) else VERDICTS[1] if any(held) else VERDICTS[2]


THIS_RUN = "this run"
COMMITTED = "committed run"


def check(id: str, measured_in: str = THIS_RUN, **values: float) -> Result:
    """Hold measured values against the claim of that id.

    Raises ValueError for an unknown id, for values that are not the ones its conditions need, or
    for one that is not a finite number.
    """
    if id not in LEDGER:
        raise ValueError(f"id must be one of {', '.join(LEDGER)}, got {id!r}")
    claim = LEDGER[id]
    needed = {part for name, _, bound in claim.conditions for part in (name, bound)}
    needed = {name for name in needed if isinstance(name, str)}
    if needed != set(values):
        raise ValueError(
            f"{id} needs values for {', '.join(sorted(needed))}, got {', '.join(values)}"
        )
    values = {name: float(value) for name, value in values.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
    return Result(claim, values, measured_in)


def committed(id: str) -> dict[str, float]:
    """A claim's values in the committed run of the preset `blog`, which `quick` is too short for.

    ValueError where results/blog/claims.json has no row of that id, or several.
    """
    rows = json.loads((RESULTS / "blog" / "claims.json").read_text())["claims"]
    found = [row["values"] for row in rows if row["claim"] == id]
    if len(found) != 1:
        raise ValueError(f"id must be that of one row of claims.json, got {id!r}: {len(found)}")
    return found[0]


class Report:
    """The end of a notebook: its rows of the ledger, as a table and for `make reproduce`."""

    def __init__(self, *results: Result):
        self.rows = [
            {
                "claim": result.claim.id,
                "says": result.claim.says,
                "source": result.claim.source,
                "measure": result.claim.measure,
                "values": dict(result.values),
                "threshold": result.claim.threshold,
                "verdict": result.verdict,
                "recorded": result.claim.recorded,
                "measured_in": result.measured_in,
            }
            for result in results
        ]

    def verdicts(self) -> str:
        """A line a claim, the same under every preset, for a cell that nbval checks."""
        return "\n".join(
            f"{row['claim']}: {row['verdict']}"
            + ("" if row["verdict"] == row["recorded"] else f", recorded was {row['recorded']}")
            for row in self.rows
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/markdown": to_markdown(self.rows), "text/plain": self.verdicts(),
                MIME: self.rows}


def to_markdown(rows: list[dict]) -> str:
    """The claim table, of a notebook as of results/ and the README."""
    lines = ["| claim | verdict | what it says | measured | threshold | source |", "|---" * 6 + "|"]
    for row in rows:
        values = ", ".join(f"{name} {format_value(value)}" for name, value in row["values"].items())
        where = "" if row["measured_in"] == THIS_RUN else f" ({row['measured_in']})"
        cells = (f"`{row['claim']}`", f"**{row['verdict']}**", row["says"],
                 f"{row['measure']}: {values}{where}", row["threshold"], row["source"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_value(value: float) -> str:
    """Whole and large numbers with their commas, others to three digits, or more near one."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 0.99 < abs(value) < 1 else f"{value:.3g}"


LAST_EPOCH = (
    "its mean over the last of 150 epochs, nats an image; upper end of the 95% interval of SBD "
    "less DeConv over the committed seeds"
)
LEDGER = {
    claim.id: claim
    for claim in (
        Claim(
            "data-3675", "3675 images, 3 factors of variation", "post, data",
            "images, and factors that vary",
            (("images", "=", 3675), ("factors", "=", 3)), "reproduced",
        ),
        Claim(
            "fewer-parameters", "the SB decoder has fewer parameters", "post, models",
            "trainable numbers in the decoder",
            (("SBD", "<", "DeConv"),), "reproduced",
        ),
        Claim(
            "more-memory", "SBD needs about 50% more memory", "post, drawbacks",
            "peak of an eager float32 step of 16 images, weights and Adam's moments included, MB; "
            "how far off 1.5 their ratio is",
            (("SBD", ">", "DeConv"), ("off", "≤", 0.4)), "mixed",
        ),
        Claim(
            "better-reconstruction", "SBD improves the reconstruction term", "post, loss curves",
            LAST_EPOCH, (("SBD", "<", "DeConv"), ("upper", "<", 0)), "reproduced",
        ),
        Claim(
            "better-kl", "SBD improves the regularization term as well", "post, loss curves",
            LAST_EPOCH, (("SBD", "<", "DeConv"), ("upper", "<", 0)), "mixed",
        ),
        Claim(
            "slower", "SBD trains longer (1.48×)", "post, drawbacks",
            "seconds of the median epoch, SBD over DeConv",
            (("ratio", ">", 1.2),), "reproduced",
        ),
        Claim(
            "under-30-min", "both trainings take under 30 minutes on a K80", "post, drawbacks",
            "minutes of both trainings of 150 epochs, at the pace of the median epoch, on the "
            "processor named with the table and not on a K80",
            (("minutes", "<", 30),), "not reproduced",
        ),
        Claim(
            "good-reconstructions", "both reconstruct well", "post, traversals",
            "share of the images' variance in the reconstructions",
            (("SBD", "≥", 0.8), ("DeConv", "≥", 0.8)), "reproduced",
        ),
        Claim(
            "entangled-deconv", "the DeConv traversals are entangled", "post, traversals",
            "of the latents that move anything, the share that moves position and color both",
            (("DeConv", ">", 0.5),), "reproduced",
        ),
        Claim(
            "disentangled-sbd", 'the SBD traversals "seem quite disentangled"',
            "post, traversals",
            "of the latents that move anything, the share that moves position and color both; the "
            "highest share over the seeds of seeds.csv and followup.csv",
            (("SBD", "<", 0.5), ("seeds", "<", 0.5)), "mixed",
        ),
        Claim(
            "geometry-deconv", "the DeConv geometry is highly non-linear", "post, geometry",
            "best affine R² over the colors, and fewest folded cells of 25",
            (("R²", "<", 0.97), ("folded", "≥", 2)), "reproduced",
        ),
        Claim(
            "geometry-sbd", "the SBD geometry is close to an affine map of the true one",
            "post, geometry",
            "worst affine R² over the colors, and most folded cells of 25",
            (("R²", ">", 0.97), ("folded", "=", 0)), "reproduced",
        ),
        Claim(
            "informative-latents", "the two lowest-variance latents carry x and y",
            "post, geometry",
            "R² of the best affine readout of (x, y) from the two latents",
            (("SBD", "≥", 0.7), ("DeConv", "≥", 0.7)), "mixed",
        ),
        Claim(
            "checkerboard", "transposed convolutions leave a checkerboard",
            "post, from Odena et al.",
            "share of the residual's variance that is one pattern of 2×2 pixels, the same in every "
            "picture; 0.01 is what we call large",
            (("DeConv", ">", "SBD"), ("DeConv", "≥", 0.01)), "mixed",
        ),
        Claim(
            "coordconv",
            "CoordConv generalizes perfectly, with 10 times fewer parameters, 150 times faster",
            "post, from Liu et al.",
            "coordinate classification, three sizes each, one with half of the steps, too: right "
            "answers of CoordConv in the quadrant held out, at worst; uniform split, of those that "
            "had 95% right: parameters of the smallest plain network over those of the smallest "
            "CoordConv, seconds of the quickest over those of the quickest (where no plain one "
            "gets there, the least that one was given: a lower bound)",
            (("CoordConv", "=", 1), ("fewer", "≥", 10), ("faster", "≥", 150)), "mixed",
        ),
    )
}
