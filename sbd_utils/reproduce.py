"""`make notebooks` and `make reproduce`: run the notebooks in order, keep figures and claims."""

import json
import platform
import re
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import torch
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.filters import strip_ansi
from tqdm import tqdm

from sbd_utils import claims, files
from sbd_utils.data.circles import COLORS, make_sprites
from sbd_utils.experiments import circles, tables
from sbd_utils.kernel import OwnKernel
from sbd_utils.metrics.scores import score
from sbd_utils.settings import RESULTS, ROOT, preset
from sbd_utils.training.machine import cpu_name
from sbd_utils.training.parallel import stop_on_sigterm

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
MARKS = ("<!-- claims: written by make notebooks -->\n", "<!-- end of claims -->")
PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "pillow", "matplotlib")
POPULATIONS = {"blog": "seeds", "quick": "early"}  # preset to the study of the same training


def main(*only: str) -> int:
    """Run every notebook under SBD_PRESET; 0, or 1 where one fails, or 130 where one is stopped.

    only: sources that are all to be run, after which no claim is told.

    Under `published` the notebooks are executed in place, and README and results/ follow them; a
    preset that trains has a folder of its own under results/, and tells where its runs lie.
    """
    sys.stdout.reconfigure(errors="replace")  # what a terminal cannot show must not end an hour
    start, name = time.time(), preset()
    target = RESULTS if name == "published" else RESULTS / name
    folder = NOTEBOOKS if name == "published" else target / "notebooks"
    sources = [Path(path) for path in only] or sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    rows, draws = [], []
    folder.mkdir(parents=True, exist_ok=True)  # where it cannot be, not after an hour
    try:
        if name != "published":
            draws = compare_with_seeds(name)
        for i, source in enumerate(sources, start=1):
            notebook = run(
                source, folder / f"{source.stem}.ipynb", f"[{i}/{len(sources)}] {source.stem}"
            )
            for picture, content in figures(notebook).items():
                files.write(target / "figures" / picture, content)
            rows += claim_rows(notebook)
    except CellExecutionError as error:
        line = re.search(r"In\[\d+\], line \d+", strip_ansi(error.traceback))
        place = f" at {line[0]}" if line else ""
        print(f"{source.name} failed{place}: {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    except DeadKernelError as error:
        print(f"{source.name} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    if only:
        return 0
    facts = {
        "preset": name,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "wall_seconds": round(time.time() - start),
        "claims": rows,
        "draws": draws,
    }
    kept = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    files.write(target / "claims.json", kept.encode())
    text = to_text(facts)
    files.write(target / "claims.md", text.encode())
    if name == "published":
        update_readme(README, rows)
    print(text)
    return 0


def compare_with_seeds(name: str) -> list[dict]:
    """The runs of a preset, trained where they are missing, each score beside the seeds'.

    One row for each decoder and score: the new run's, the range over the committed seeds, and
    whether it lies "within" that range, "below" or "above". A range of ten runs holds the next one
    of its kind in 9 cases of 11. Scores are rounded as in the table, so that a run that is one of
    the seeds again lies within.
    """
    sprites, seeds = make_sprites(), tables.read(POPULATIONS[name], name)
    rows = []
    for decoder, run in circles.pair().items():
        known = seeds[seeds.decoder == decoder]
        new = tables.rounded(score(run, sprites))
        new |= {
            key: sum(new[f"{key}_{color}"] for color in COLORS) / len(COLORS)
            for key in ("r2", "folded")
        }
        for key, label in tables.SCORES.items():
            if key not in known or known[key].isna().all():
                continue  # not measured then
            found = {"new run": new[key], "lowest": known[key].min(), "highest": known[key].max()}
            value, low, high = tables.rounded(found).values()  # means of three colors, once more
            place = "below" if value < low else "above" if value > high else "within"
            rows.append(
                {
                    "decoder": decoder,
                    "score": label,
                    **found,
                    "seeds": int(known[key].count()),
                    "place": place,
                }
            )
    return rows


def run(source: Path, target: Path, label: str) -> nbformat.NotebookNode:
    """Execute a py:percent notebook, write it to target, and return it; the cells' ids stay.

    Where a cell fails, CellExecutionError or DeadKernelError, and target is as it was.
    """
    notebook = jupytext.read(source)
    if old := previous(target):
        notebook = combine_inputs_with_outputs(notebook, old, fmt="ipynb")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tqdm(total=len(notebook.cells), desc=label) as bar:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=None,
            record_timing=False,
            coalesce_streams=True,  # else the outputs hang on how fast they come
            resources={"metadata": {"path": str(NOTEBOOKS)}},
            # The kernel's notice on unencrypted TCP, to itself, would tear the progress lines.
            extra_arguments=["--log-level=ERROR"],
            on_cell_complete=lambda cell, cell_index: bar.update(),
        )
        client.create_kernel_manager().kernel_spec_manager = OwnKernel()
        try:
            client.execute()
        except Exception as error:
            # After Ctrl-C nbclient cleans up twice at once, and either may fail in many ways.
            stopping = getattr(client, "_async_cleanup_kernel_future", None)
            if stopping is None:
                raise
            if stopping.done():
                stopping.exception()  # or asyncio prints it in the end
            raise KeyboardInterrupt from error
    files.write(target, (nbformat.writes(notebook) + "\n").encode())
    return notebook


def previous(path: Path) -> nbformat.NotebookNode | None:
    """A notebook as it is on disk, or as last committed where a merge has left conflict marks."""
    committed = ["git", "show", f"HEAD:./{path.name}"]
    for read in (
        path.read_bytes,
        partial(subprocess.check_output, committed, cwd=path.parent, stderr=subprocess.DEVNULL),
    ):
        with suppress(OSError, ValueError, subprocess.CalledProcessError):
            return nbformat.reads(read().decode(), as_version=4)
    return None


def outputs(notebook: nbformat.NotebookNode):
    """Every rich output of an executed notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output


def figures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The named pictures among the outputs and those that move, file name to content."""
    found = {}
    for output in outputs(notebook):
        if "name" in output.metadata.get("image/png", {}):
            content = output.data["image/png"]
            found[f"{output.metadata['image/png']['name']}.png"] = b64decode(content)
        if "name" in output.metadata.get("text/html", {}):
            content = output.data["text/html"].partition("base64,")[2].partition('"')[0]
            found[f"{output.metadata['text/html']['name']}.webp"] = b64decode(content)
    return found


def claim_rows(notebook: nbformat.NotebookNode) -> list[dict]:
    """The rows of the claim reports among the outputs."""
    return [row for output in outputs(notebook) for row in output.data.get(claims.MIME, [])]


def to_text(facts: dict) -> str:
    """The claim table with what it was measured on, as claims.md holds it."""
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
    """The claims on models in four columns, as the README shows them."""
    table = claims.table(rows)
    table["from"] = table.source.str.split(",").str[0]  # without the place
    table["result"] = [claims.measured(row, unit=True) for row in rows]
    table = table[table.source != "post, data"]
    return table[["claim", "from", "result", "verdict"]].to_markdown(index=False)


def update_readme(path: Path, rows: list[dict]) -> None:
    """Put the table between its two marks; ValueError where they are missing."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise ValueError(f"{path.name} must have the lines {MARKS[0].strip()} and {MARKS[1]}")
    files.write(path, f"{before}{mark}{readme_table(rows)}\n{end}{after}".encode())


if __name__ == "__main__":
    stop_on_sigterm()
    sys.exit(main(*sys.argv[1:]))
