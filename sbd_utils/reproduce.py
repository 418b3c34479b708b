"""`make reproduce`: run the notebooks in order, keep their figures, their claims and themselves."""

import json
import platform
import sys
import threading
import time
from base64 import b64decode
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import papermill
import torch
from tqdm import tqdm

from sbd_utils import claims, study
from sbd_utils.settings import RESULTS, ROOT, RUNS, preset

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
MARKS = ("<!-- claims: written by make reproduce -->\n", "<!-- end of claims -->")
PACKAGES = ("torch", "numpy", "scipy", "pillow", "matplotlib")


def main() -> int:
    """Run every notebook under SBD_PRESET; 0, or 1 where one fails, or 130 where one is stopped."""
    start = time.time()
    target = RESULTS / preset()
    sources = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    rows = []
    for i, source in enumerate(sources, start=1):
        try:
            with _epochs_line():
                notebook = run(source, target / "notebooks", f"[{i}/{len(sources)}] {source.stem}")
        except papermill.PapermillExecutionError as error:
            print(f"{source.name} failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped. The same command goes on from here.", file=sys.stderr)
            return 130
        for name, picture in figures(notebook).items():
            write(target / "figures" / f"{name}.png", picture)
        rows += claim_rows(notebook)
    facts = {
        "preset": target.name,
        "seed": 0,
        "cpu": study.cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "wall_seconds": round(time.time() - start),
        "claims": rows,
    }
    write(target / "claims.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
    text = to_text(facts)
    write(target / "claims.md", text.encode())
    if target.name == "blog":
        update_readme(README, rows)
    print(text)
    return 0


def run(source: Path, folder: Path, label: str) -> nbformat.NotebookNode:
    """Execute a py:percent notebook into folder, saving as it goes, and return it."""
    target = folder / f"{source.stem}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(jupytext.read(source), target, fmt="ipynb")
    return papermill.execute_notebook(
        target, target, cwd=NOTEBOOKS, kernel_name="python3", progress_bar={"desc": label},
        # The kernel's notice on unencrypted TCP, to itself, would tear the progress lines.
        extra_arguments=["--log-level=ERROR"],
    )


class _epochs_line:
    """While a notebook runs, a second line with what its training writes to progress.txt."""

    def __enter__(self):
        self.bar = tqdm(bar_format="{desc}", position=1, leave=False)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(time.time(),), daemon=True)
        self.thread.start()

    def _watch(self, start: float) -> None:
        while not self.stop.wait(1):
            files = [(path.stat().st_mtime, path) for path in RUNS.glob("*/progress.txt")]
            if files and max(files)[0] > start:
                self.bar.set_description_str(max(files)[1].read_text())

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()
        self.bar.close()


def outputs(notebook: nbformat.NotebookNode):
    """Every rich output of an executed notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output


def figures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The named pictures among the outputs, name to PNG."""
    return {
        output.metadata["image/png"]["name"]: b64decode(output.data["image/png"])
        for output in outputs(notebook)
        if "name" in output.metadata.get("image/png", {})
    }


def claim_rows(notebook: nbformat.NotebookNode) -> list[dict]:
    """The rows of the claim reports among the outputs."""
    return [row for output in outputs(notebook) for row in output.data.get(claims.MIME, [])]


def to_text(facts: dict) -> str:
    """The claim table with what it was measured on, as claims.md holds it."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    minutes, seconds = divmod(facts["wall_seconds"], 60)
    return (
        f"# The claims under the preset `{facts['preset']}`\n\n"
        f"Python {facts['python']}, {versions}; {facts['cpu']}, {facts['threads']} threads; "
        f"seed {facts['seed']}; wall time {minutes} min {seconds} s, "
        f"which loads the training that earlier calls have finished.\n\n"
        f"{tables(facts['claims'])}\n"
    )


def tables(rows: list[dict]) -> str:
    """How many claims got which verdict, the claims, and the committed seeds behind them."""
    seeds = study.read_scores("blog")
    counts = Counter(row["verdict"] for row in rows)
    tally = ", ".join(f"{counts[verdict]} {verdict}" for verdict in claims.VERDICTS)
    return (
        f"Of {len(rows)} claims: {tally}.\n\n{claims.to_markdown(rows)}\n\n"
        f"What the claims on trained models rest on, over {len(study.difference(seeds, 'kl'))} "
        f"seeds at {seeds[0]['epochs']:.0f} epochs:\n\n{study.spread_table(seeds)}"
    )


def update_readme(path: Path, rows: list[dict]) -> None:
    """Put the tables between their two marks; ValueError where they are missing."""
    before, mark, rest = path.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise ValueError(f"{path.name} must have the lines {MARKS[0].strip()} and {MARKS[1]}")
    write(path, f"{before}{mark}{tables(rows)}\n{end}{after}".encode())


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders above it; a kill leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
