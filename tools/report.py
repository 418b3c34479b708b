"""The claims as text: results/claims.md and the table in the README."""

from collections import Counter
from pathlib import Path

import pandas as pd

from sbd_utils import claims, files

MARKS = ("<!-- claims: written by make notebooks -->\n", "<!-- end of claims -->")


def claims_page(facts: dict) -> str:
    """The text of claims.md: all claims, and what they were computed with."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    counts = Counter(row["verdict"] for row in facts["claims"])
    tally = ", ".join(f"{counts[verdict]} {verdict}" for verdict in claims.VERDICTS)
    text = (
        "# The claims\n\nThey are judged on the committed runs, whose tables say where each was "
        f"trained. Computed with Python {facts['python']}, {versions}.\n\n"
        f"Of {len(facts['claims'])} claims: {tally}.\n\n"
        f"{claims.table(facts['claims']).to_markdown(index=False)}\n"
    )
    if facts["draws"]:
        text += (
            f"\n# The runs of the preset `{facts['preset']}`\n\n"
            f"{facts['wall_seconds'] // 60} minutes in all on {facts['cpu']}, less what earlier "
            "calls had trained. `place` says where a new run lies in the range of the committed "
            "seeds. A few scores of so many lie outside by chance, one in six or so.\n\n"
            f"{pd.DataFrame(facts['draws']).to_markdown(index=False)}\n"
        )
    return text


def readme_table(rows: list[dict]) -> str:
    """The table of claims that the README shows."""
    table = claims.table(rows)
    table["from"] = table.source.str.split(",").str[0]  # without the place
    table["result"] = [claims.measured(row, unit=True) for row in rows]
    table = table[table.source != "post, data"]
    return table[["claim", "from", "result", "verdict"]].to_markdown(index=False)


def update_readme(path: Path, rows: list[dict]) -> None:
    """Replace the table between the two marks; ValueError where they are missing."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise ValueError(f"{path.name} must have the lines {MARKS[0].strip()} and {MARKS[1]}")
    files.write(path, f"{before}{mark}{readme_table(rows)}\n{end}{after}".encode())
