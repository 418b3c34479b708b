"""`make notebooks` and `make reproduce`: execute the notebooks, collect figures and claims."""

import json
import platform
import re
import subprocess
import sys
import time
from base64 import b64decode
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
import torch
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.filters import strip_ansi
from tqdm import tqdm

from sbd_utils import claims, files
from sbd_utils.experiments import circles
from sbd_utils.settings import RESULTS, ROOT, preset
from sbd_utils.training.machine import cpu_name
from sbd_utils.training.parallel import stop_on_sigterm
from tools import report
from tools.kernel import OwnKernel

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "pillow", "matplotlib")


def main(*only: str) -> int:
    """Execute notebooks under SBD_PRESET.

    Under `published` they are executed in place, and README and results/ are updated; a preset that
    trains writes to a folder of its own under results/, and compares its runs with the seeds'.

    Args:
        only: the sources to execute; by default all, and then the claims are collected.

    Returns:
        The exit code: 1 if a notebook failed, 130 if it was interrupted, else 0.
    """
    sys.stdout.reconfigure(errors="replace")  # for terminals without all characters
    start, name = time.time(), preset()
    target = RESULTS if name == "published" else RESULTS / name
    folder = NOTEBOOKS if name == "published" else target / "notebooks"
    sources = [Path(path) for path in only] or sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    rows, draws = [], []
    folder.mkdir(parents=True, exist_ok=True)  # fails now, not after an hour
    try:
        if name != "published":
            draws = circles.compare_with_seeds(name)
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
    text = report.claims_page(facts)
    files.write(target / "claims.md", text.encode())
    if name == "published":
        report.update_readme(README, rows)
    print(text)
    return 0


def run(source: Path, target: Path, label: str) -> nbformat.NotebookNode:
    """Execute a py:percent notebook, write it to target, and return it.

    Cells keep their ids. Where a cell raises, target stays as it was.

    Raises:
        CellExecutionError, DeadKernelError: a cell failed, or the kernel died.
        KeyboardInterrupt: it was interrupted.
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
    """The rich outputs of an executed notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output


def figures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The named pictures and movies among the outputs: file name to content."""
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
    """The rows of all claim reports among the outputs."""
    return [row for output in outputs(notebook) for row in output.data.get(claims.MIME, [])]


if __name__ == "__main__":
    stop_on_sigterm()
    sys.exit(main(*sys.argv[1:]))
