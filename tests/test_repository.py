"""Pairs, outputs, pins and the README: what a reader opens is what was run."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib

import jupytext
import nbformat
import pytest
import yaml
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.compare import NotebookDifference, compare_notebooks
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

from sbd_utils import claims
from sbd_utils.measures import intervals
from sbd_utils.reproduce import MARKS, NOTEBOOKS, readme_table, to_text
from sbd_utils.settings import RESULTS, ROOT
from sbd_utils.training.published import FOLDER

SOURCES = sorted(NOTEBOOKS.glob("*.py"))
START, END = (mark.strip() for mark in MARKS)
TABLE = re.compile(f"^{START}\n(.*?)^{END}$", re.S | re.M)
MACHINE_PATH = re.compile(r"/(home|root|tmp|work)/")
MEGABYTE = 2**20
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def pair_problem(source, notebook):
    """How a .py and its .ipynb differ, or None."""
    try:
        compare_notebooks(jupytext.read(source), jupytext.read(notebook), compare_outputs=False)
    except NotebookDifference as difference:
        return str(difference)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def unexecuted(notebook):
    """The checked cells that nbval would pass over, for want of a count or an output."""
    return [
        cell.source for cell in code_cells(notebook)
        if "nbval-check-output" in cell.metadata.get("tags", [])
        and not (cell.execution_count and cell.outputs)
    ]


def decimals(text):
    return set(re.findall(r"\d+(?:\.\d+)+", text))


def readme_problem(text, facts):
    """What the README says that the facts of results/claims.json do not, or None."""
    table = TABLE.search(text)
    if table is None or table[1].strip() != readme_table(facts["claims"]):
        return "its table is not that of results/claims.json"
    prose = re.sub(r"^```.*?^```", "", TABLE.sub("", text), flags=re.S | re.M)
    prose = re.sub(r"(?i)arxiv(:|\.org/(abs|pdf)/| )\d+\.\d+", "", prose)
    unknown = decimals(prose) - decimals(to_text(facts)) - set(conda_pins().values())
    return f"no result says {', '.join(sorted(unknown))}" if unknown else None


def conda_pins():
    *packages, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return dict(re.split("=+", line) for line in packages + pip["pip"] if "=" in line)


def test_pins_of_environment_yml_and_constraints_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) <= set((ROOT / "constraints.txt").read_text().split())
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    pins = dict(line.split("==") for line in project["dependencies"])
    expected = {names.get(name, name): version for name, version in pins.items()}
    assert conda_pins() == expected | {"python": "3.11"}


def test_both_forms_of_every_notebook_are_there():
    names = [path.stem for path in SOURCES]
    assert names and names == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@each
def test_pair_agrees(source):
    assert pair_problem(source, source.with_suffix(".ipynb")) is None


@each
@pytest.mark.parametrize("newer", [".py", ".ipynb"])
def test_jupyterlab_opens_the_pair_whichever_file_was_written_last(source, newer, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for path in (source, source.with_suffix(".ipynb")):
        copy = shutil.copy(path, tmp_path / "notebooks")
        os.utime(copy, (0, 60 if path.suffix == newer else 0))
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)()
    manager.root_dir = str(tmp_path / "notebooks")
    opened = manager.get(source.with_suffix(".ipynb").name)["content"]
    assert any(cell.get("outputs") for cell in opened["cells"])


@each
def test_notebook_is_executed_in_order_and_clean(source):
    path = source.with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert not unexecuted(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    for output in outputs:
        output.get("data", {}).pop("image/png", None)  # base64 has slashes too
    assert not MACHINE_PATH.search(json.dumps(outputs))
    assert path.stat().st_size < 2 * MEGABYTE


@each
def test_code_cells_are_short(source):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(jupytext.read(source))]
    assert max(lengths) <= 40 and statistics.median(lengths) <= 10


def test_readme_says_what_the_results_say():
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == to_text(facts)
    assert readme_problem((ROOT / "README.md").read_text(), facts) is None


def test_counts_of_the_readme_are_a_notebooks():
    prose = " ".join(TABLE.sub("", (ROOT / "README.md").read_text()).split())
    printed = " ".join(
        output.text for path in NOTEBOOKS.glob("*.ipynb")
        for cell in code_cells(nbformat.read(path, as_version=4)) for output in cell.outputs
        if output.output_type == "stream"
    )
    counts = re.findall(r"\d+ of \d+", prose)
    assert counts and not [count for count in counts if f" {count} " not in printed]


def test_ci_runs_the_make_target_test():
    assert re.search(r"^make\b.*\btest\b", (ROOT / ".ci" / "run").read_text(), re.M)


def test_nothing_large_is_tracked():
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    weights = {path for path in sizes if path.parent == FOLDER}
    large = {path for path, size in sizes.items() if size > MEGABYTE}
    assert sizes and not {path for path in large - weights if path.suffix != ".ipynb"}
    assert 0 < sum(sizes[path] for path in weights) < 12e6


def test_package_imports_without_a_display_and_without_pyplot():
    code = """
import importlib, pkgutil, sys, sbd_utils, sbd_utils.training.loop
assert not {"matplotlib", "livelossplot"} & set(sys.modules)
for module in pkgutil.walk_packages(sbd_utils.__path__, "sbd_utils."):
    importlib.import_module(module.name)
assert "sbd_utils.figures.charts" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, check=True)


def test_a_drifted_pair_is_reported(tmp_path):
    source, notebook = tmp_path / "01_a.py", tmp_path / "01_a.ipynb"
    source.write_text('# %% [markdown]\n# Text\n\n# %% tags=["nbval-check-output"]\nprint(1)\n')
    jupytext.write(jupytext.read(source), notebook)
    assert pair_problem(source, notebook) is None
    source.write_text(source.read_text().replace("print(1)", "print(2)"))
    assert "print(2)" in pair_problem(source, notebook)


def test_an_unexecuted_checked_cell_is_reported():
    v4 = nbformat.v4
    output = v4.new_output("stream", text="1\n")
    tags = {"tags": ["nbval-check-output"]}
    run = v4.new_code_cell("1", metadata=tags, execution_count=1, outputs=[output])
    no_count = v4.new_code_cell("2", metadata=tags, outputs=[output])
    no_output = v4.new_code_cell("3", metadata=tags, execution_count=3)
    cells = [v4.new_markdown_cell("text"), run, no_count, no_output, v4.new_code_cell("4")]
    assert unexecuted(v4.new_notebook(cells=cells)) == ["2", "3"]


@pytest.mark.parametrize("old, new, problem", [
    ("", "", None), ("r2 is 0.998", "r2 is 0.989", "no result says 0.9890"),
    ("3675 images", "3674 images", "its table"), (END, "", "its table"),
    ("2.13.0", "2.12.0", "no result says 2.12.0"), ("```\n9.9", "9.9", "no result says 9.9"),
    ("arXiv ", "version ", "no result says 1901.07017"),
])
def test_a_changed_number_of_the_readme_is_reported(old, new, problem):
    row = claims.check("images", intervals.exactly(3675)) | {"value": 0.99801, "count": 1}
    facts = {
        "preset": "published", "cpu": "a", "python": "3.11.7", "versions": {},
        "wall_seconds": 99, "threads": 2, "claims": [row], "draws": [],
    }
    text = (
        "# Title\nr2 is 0.9980, on torch 2.13.0, after arXiv 1901.07017 "
        f"(https://arxiv.org/abs/1901.07017).\n\n{START}\n{readme_table([row])}\n{END}\n\n"
        "```\n9.9 seconds\n```\nThe end.\n"
    ).replace(old, new)
    assert str(readme_problem(text, facts)).startswith(str(problem))
