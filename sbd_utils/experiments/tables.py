"""The scores of many runs as one DataFrame: the only place that reads or writes results/*.csv."""

from collections.abc import Sequence
from dataclasses import astuple, fields

import pandas as pd

from sbd_utils import checks, files
from sbd_utils.data.circles import COLORS
from sbd_utils.settings import RESULTS, RUNS

DIGITS = "%.5g"
# The columns that say what a run was asked to be. With its processor, they are what a row is of.
JOB = (
    "preset",
    "loop",
    "task",
    "split",
    "world",
    "network",
    "decoder",
    "seed",
    "rate",
    "decoder_variance",
    "beta",
    "epochs",
)
# What the claims on trained models rest on, with its label.
SCORES = {
    "reconstruction": "reconstruction term, nats per image",
    "kl": "KL term, nats per image",
    "right_blob": "share of right reconstructions",
    "mixing": "share of mixing latents",
    "additive": "R² of the sum",
    "r2": "affine R²",
    "folded": "folded cells of 25",
    "readout": "readout R²",
    "readout_affine": "affine readout R²",
    "gray_levels": "checkerboard, gray levels of 255",
}


def read(study: str, preset: str, loop: str = "ours") -> pd.DataFrame:
    """The committed scores of a study's runs under a preset and a loop, one row per run.

    Added are r2 and folded, the means over the three colors; error, the squared error per image;
    and weight, decoder_variance times beta (times 2 decoder_variance, the loss is error + 2 weight
    KL). The published run sbd-mixing counts as what it is, an sbd. ValueError where there are none.
    """
    rows = read_all(study).replace({"decoder": {"sbd-mixing": "sbd"}})
    rows = rows[(rows.preset == preset) & (rows.loop == loop)].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"{study}.csv has no rows of the preset {preset!r}, loop {loop!r}")
    return rows.assign(
        **{
            name: rows[[f"{name}_{color}" for color in COLORS]].mean(axis=1)
            for name in ("r2", "folded")
        },
        error=2 * rows.decoder_variance * rows.reconstruction,
        weight=(rows.decoder_variance * rows.beta).round(6),  # 4.8, not 4.7999...
    )


def pair() -> pd.DataFrame:
    """Every run of the two decoders at the post's settings, as read has them.

    The seeds', and the SB runs of the followup, which have no DeConv run beside them: two of an
    earlier version of the code, and the published one that mixes.
    """
    rows = pd.concat([read(study, "blog") for study in ("seeds", "followup")], ignore_index=True)
    return rows[rows.decoder.isin(("deconv", "sbd"))]


def read_all(study: str) -> pd.DataFrame:
    """The committed rows of a study as they stand.

    ValueError where there is no such study, or its file is no table of runs, as a merge or a
    spreadsheet may leave it.
    """
    checks.check_one_of("study", study, studies())
    path = RESULTS / f"{study}.csv"
    try:
        rows = pd.read_csv(path, encoding="utf-8")
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is no table of runs: {error}") from error
    if not isinstance(rows.index, pd.RangeIndex):  # the first line lacks a column
        raise ValueError(f"{path} is no table of runs: its rows are longer than its first line")
    _check(rows, f"{path} is no table of runs")
    return rows


def _check(rows: pd.DataFrame, what: str) -> None:
    """ValueError unless all rows say of what job they are, and on which processor."""
    named = [name for name in ("cpu", *JOB) if name in rows]
    if len(named) < 2 or named[0] != "cpu" or rows[named].isna().any(axis=None):
        raise ValueError(f"{what}: every row must have cpu and the same of {', '.join(JOB)}")


def studies() -> list[str]:
    """The names that results/ has scores of."""
    return sorted(path.stem for path in RESULTS.glob("*.csv"))


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Numbers as a table keeps them."""
    return {name: float(DIGITS % value) for name, value in row.items()}


def missing(study: str, jobs: Sequence, cpu: str = "") -> list:
    """The jobs, each a dataclass, that a study's table has no row of.

    Args:
        cpu: count only rows that were trained on this processor, or on it and another.
    """
    if study not in studies():
        return list(jobs)
    rows = read_all(study)
    here = [cpu in name.split(" and ") for name in rows.cpu] if cpu else rows.cpu.notna()
    names = [one.name for one in fields(jobs[0])]
    found = {tuple(map(_as_kept, row)) for row in rows.loc[here, names].itertuples(index=False)}
    return [job for job in jobs if tuple(map(_as_kept, astuple(job))) not in found]


def _as_kept(value: object) -> object:
    return float(DIGITS % value) if isinstance(value, float) else value


def write(study: str, rows: list[dict]) -> None:
    """Put scores into a study's table, in place of those of the same job on the same processor.

    rows: each with its cpu. All other rows stay. A kill leaves the old table whole. ValueError
    where a row lacks a column that says what the others are of.
    """
    table = pd.DataFrame(rows)
    RUNS.mkdir(parents=True, exist_ok=True)
    with files.lock(RUNS / "tables.lock"):  # of two commands that end together, no row is lost
        if study in studies():
            same = ["cpu", *(name for name in JOB if name in table)]
            table = pd.concat([read_all(study), table]).drop_duplicates(same, keep="last")
        _check(table, f"rows do not go into {study}.csv")
        text = table.to_csv(index=False, float_format=DIGITS, lineterminator="\n")
        files.write(RESULTS / f"{study}.csv", text.encode())


def by_seed(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """A score with one row per processor and seed, and one column per decoder.

    Rows where the score was not measured are left out. ValueError where a decoder lacks a seed that
    another has, or where there are none.
    """
    table = rows.dropna(subset=score).pivot(index=["cpu", "seed"], columns="decoder", values=score)
    if table.empty or table.isna().any(axis=None):
        raise ValueError(f"rows must have {score} for the same seeds of all decoders, got\n{table}")
    return table


def difference(
    rows: pd.DataFrame, score: str, decoder: str = "sbd", base: str = "deconv"
) -> pd.Series:
    """A score of one decoder less that of another, one value per processor and seed."""
    table = by_seed(rows[rows.decoder.isin((decoder, base))], score)
    if table.shape[1] < 2:
        raise ValueError(f"rows must have {decoder} and {base}, got {', '.join(table.columns)}")
    return table[decoder] - table[base]
