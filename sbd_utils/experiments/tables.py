"""Tables of scores, results/*.csv: read and written here only."""

from collections.abc import Sequence
from dataclasses import astuple, fields

import pandas as pd

from sbd_utils import checks, files
from sbd_utils.data.circles import COLORS
from sbd_utils.settings import RESULTS, RUNS

DIGITS = "%.5g"
# The columns that identify a row, together with its processor.
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
# The scores that claims on trained models rest on, with their labels.
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
    """The committed scores of a study, one row per run.

    The published run sbd-mixing counts as an sbd. These columns are added: `r2` and `folded`, the
    means over the three colors; `error`, the squared error per image; `weight`, decoder_variance
    times beta (2 decoder_variance times the loss is error + 2 weight KL).

    Raises:
        ValueError: there are no rows of this preset and loop.
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
    """All runs of the two decoders at the post's settings, as `read` gives them.

    These are the runs of `seeds`, and the SB runs of `followup`, which have no DeConv counterpart:
    two from an earlier version of the code, and the published one whose latents mix.
    """
    rows = pd.concat([read(study, "blog") for study in ("seeds", "followup")], ignore_index=True)
    return rows[rows.decoder.isin(("deconv", "sbd"))]


def read_all(study: str) -> pd.DataFrame:
    """The rows of results/STUDY.csv, unchanged.

    Raises:
        ValueError: there is no such study, or its file was damaged, by a merge or a spreadsheet.
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
    """Raise ValueError unless all rows identify their job and processor."""
    named = [name for name in ("cpu", *JOB) if name in rows]
    if len(named) < 2 or named[0] != "cpu" or rows[named].isna().any(axis=None):
        raise ValueError(f"{what}: every row must have cpu and the same of {', '.join(JOB)}")


def studies() -> list[str]:
    """The studies that have a table in results/."""
    return sorted(path.stem for path in RESULTS.glob("*.csv"))


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Numbers rounded as in a table."""
    return {name: float(DIGITS % value) for name, value in row.items()}


def missing(study: str, jobs: Sequence, cpu: str = "") -> list:
    """The jobs that have no row in a study's table.

    Args:
        jobs: dataclasses whose fields are columns of the table.
        cpu: count only rows of runs that were trained on this processor.
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
    """Add rows to a study's table; they replace those of the same job and processor.

    A kill leaves the old table whole.

    Raises:
        ValueError: a row lacks its cpu, or a column of JOB that others have.
    """
    table = pd.DataFrame(rows)
    RUNS.mkdir(parents=True, exist_ok=True)
    with files.lock(RUNS / "tables.lock"):  # two commands may end at once
        if study in studies():
            same = ["cpu", *(name for name in JOB if name in table)]
            table = pd.concat([read_all(study), table]).drop_duplicates(same, keep="last")
        _check(table, f"rows do not go into {study}.csv")
        text = table.to_csv(index=False, float_format=DIGITS, lineterminator="\n")
        files.write(RESULTS / f"{study}.csv", text.encode())


def by_seed(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """A score with one row per processor and seed, and one column per decoder.

    Rows where the score was not measured are left out.

    Raises:
        ValueError: there are none, or a decoder lacks a seed that another has.
    """
    table = rows.dropna(subset=score).pivot(index=["cpu", "seed"], columns="decoder", values=score)
    if table.empty or table.isna().any(axis=None):
        raise ValueError(f"rows must have {score} for the same seeds of all decoders, got\n{table}")
    return table


def difference(
    rows: pd.DataFrame, score: str, decoder: str = "sbd", base: str = "deconv"
) -> pd.Series:
    """The score of one decoder minus that of another, by processor and seed."""
    table = by_seed(rows[rows.decoder.isin((decoder, base))], score)
    if table.shape[1] < 2:
        raise ValueError(f"rows must have {decoder} and {base}, got {', '.join(table.columns)}")
    return table[decoder] - table[base]
