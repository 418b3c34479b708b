"""Pairs, outputs, pins and the README: what a reader opens is what was run."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from contextlib import closing

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.compare import NotebookDifference, compare_notebooks
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from packaging.specifiers import SpecifierSet

from sbd_utils import claims
from sbd_utils.data.circles import COLORS, make_sprites
from sbd_utils.experiments import sprites, tables
from sbd_utils.metrics import cost, intervals
from sbd_utils.metrics.geometry import affine_fit, draw_lattice, lattice_places
from sbd_utils.metrics.pictures import find_blobs
from sbd_utils.models.decoders import DECODERS, builder
from sbd_utils.reproduce import MARKS, NOTEBOOKS, readme_table, to_text
from sbd_utils.settings import RESULTS, ROOT
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.records import PUBLISHED, load_run
from tests.test_dsprites import layout

SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
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
        cell.source
        for cell in code_cells(notebook)
        if "nbval-check-output" in cell.metadata.get("tags", [])
        and not (cell.execution_count and cell.outputs)
    ]


def tracked():
    """The files that git tracks; where it refuses, as in another user's clone, the test skips."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout, or no git")
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[0])
    return [ROOT / name for name in done.stdout.split("\0") if name]


def decimals(text):
    return set(re.findall(r"\d+(?:\.\d+)+", text))


def readme_problem(text, facts):
    """What the README says that the facts of results/claims.json do not, or None."""
    table = TABLE.search(text)
    if table is None or table[1].strip() != readme_table(facts["claims"]):
        return "its table is not that of results/claims.json"
    prose = re.sub(r"^```.*?^```", "", TABLE.sub("", text), flags=re.S | re.M)
    prose = re.sub(r"(?i)arxiv(:|\.org/(abs|pdf)/| )\d+\.\d+", "", prose)
    known = decimals(to_text(facts)) | set(conda_pins().values()) | pythons() | {ceiling()}
    unknown = decimals(prose) - known
    return f"no result says {', '.join(sorted(unknown))}" if unknown else None


def ceiling():
    """The affine R² of the discs themselves, which stand in whole pixels."""
    drawn = find_blobs(draw_lattice(make_sprites(), "red").numpy()).centroid
    return f"{affine_fit(lattice_places().reshape(-1, 2), drawn).r2:.4f}"


def pythons():
    """The Pythons that pyproject.toml takes, as 3.11."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    taken = SpecifierSet(project["requires-python"])
    return {f"3.{minor}" for minor in range(99) if f"3.{minor}.0" in taken}


def test_readme_names_the_pythons_that_pyproject_takes():
    first, *_, last = sorted(pythons())
    assert f"Python {first} to {last}" in (ROOT / "README.md").read_text(encoding="utf-8")


def conda_pins():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    *packages, pip = yaml.safe_load(text)["dependencies"]
    return dict(re.split("=+", line) for line in packages + pip["pip"] if "=" in line)


def test_pins_of_environment_yml_and_constraints_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    extras = sum(project["optional-dependencies"].values(), [])  # not for conda
    assert {*project["dependencies"], *extras} <= set(constraints.splitlines())
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    pins = dict(line.split("==") for line in project["dependencies"])
    expected = {names.get(name, name): version for name, version in pins.items()}
    assert conda_pins() == expected | {"python": "3.11"}


def test_both_forms_of_every_notebook_are_there():
    names = [path.stem for path in SOURCES]
    assert names and names == sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


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
    with closing(manager.notary):  # its database; Python 3.13 warns of an open one
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
    assert readme_problem((ROOT / "README.md").read_text(encoding="utf-8"), facts) is None


def test_counts_of_the_readme_are_a_notebooks():
    prose = " ".join(TABLE.sub("", (ROOT / "README.md").read_text(encoding="utf-8")).split())
    printed = " ".join(
        output.text
        for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")
        for cell in code_cells(nbformat.read(path, as_version=4))
        for output in cell.outputs
        if output.output_type == "stream"
    )
    counts = re.findall(r"\d+ of \d+", prose)
    assert counts and not [count for count in counts if not re.search(rf"\b{count}\b", printed)]


def test_numbers_that_the_readme_writes_as_words_are_those_of_the_results():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    counts = {
        name: cost.count_parameters(builder(name)(5, 64)) for name in ("deconv", "sbd-width22")
    }
    long = pd.concat([tables.read(study, "blog") for study in ("seeds", "followup", "apart")])
    recipes = [DECODERS[name] for name in long.decoder]
    long["broadcast"] = [recipe.start == "broadcast" for recipe in recipes]
    long["upsamples"] = [recipe.base_size is not None for recipe in recipes]
    long["straight"] = (long[[f"r2_{color}" for color in COLORS]].min(axis=1) > 0.97) & (
        long[[f"folded_{color}" for color in COLORS]].max(axis=1) == 0
    )
    words = {2: "two", 3: "three", 4: "four", 5: "five", 10: "ten", 40: "a fortieth"}
    for sentence in (
        f"{words[long.decoder.nunique()].title()} decoders differ in how they start",
        f"with {words[round(counts['deconv'] / counts['sbd-width22'], -1)]} of DeConv's parameters",
        "start from a linear layer are bent, even where they are told coordinates",
        "broadcast with coordinates are straight in all runs but one",
        "every run of the SB decoder is sharper than any run that upsamples",
        f"a code of {words[TrainConfig.latent_dim]} numbers becomes",
    ):
        assert sentence in text
    assert not long[~long.broadcast].straight.any()
    assert (~long[long.broadcast].straight).sum() == 1
    assert long[long.decoder == "sbd"].reconstruction.max() < (
        long[long.upsamples].reconstruction.min()
    )
    assert "compute fast in bfloat16, ours took half an hour to an hour" in text
    ours = tables.read("seeds", "blog").query("decoder == 'sbd'")
    assert ours.seconds.between(1800, 3600).all() and (ours.precision == "bfloat16").all()
    assert "its SB run has the lowest reconstruction term of all" in text
    assert load_run("sbd").history.reconstruction[-1] == pytest.approx(
        tables.pair().reconstruction.min(), abs=1e-4
    )
    assert "its DeConv run is worse than the mean of DeConv's runs in most scores" in text
    deconv = tables.read("seeds", "blog").query("decoder == 'deconv'")
    shown = deconv[(deconv.seed == load_run("deconv").config.seed) & deconv.readout.notna()]
    better = {"right_blob", "additive", "r2", "readout"}  # where they are high
    worse = [
        (shown[name].item() > deconv[name].mean()) != (name in better)
        for name in tables.SCORES
        if name != "readout_affine"
    ]
    assert sum(worse) > len(worse) / 2
    plane = tables.read_all("sprites").query("world == 'sprites' and decoder == 'sbd'")
    assert f"a straight grid, in each of {words[len(plane)]} seeds" in text
    assert (plane.flat > 0.9).all()
    assert "Of large discs they are SB's with every seed in three worlds, and DeConv's in a" in text
    terms = tables.read_all("sprites").pivot(
        index=["world", "seed"], columns="decoder", values="reconstruction"
    )
    lower = (terms.sbd < terms.deconv).groupby("world").sum()
    assert sorted(lower[lower == 5].index) == ["large", "quadrant", "triangle"]
    assert lower["hue-of-place"] == 0 and 0 < lower["sprites"] < 5
    assert sprites.SHORT_EPOCHS == sprites.EPOCHS / 5
    small = tables.read_all("sprites").query("world == 'small'").set_index("decoder").active > 0
    sbd, runs = words[small["sbd"].sum()], words[len(small["deconv"])]
    assert f"one of DeConv's {runs} does, and {sbd} of SB's do, but not its color" in text
    assert small["deconv"].sum() == 1
    corner = tables.read_all("sprites").query("world == 'quadrant'")
    right = corner[corner.decoder == "sbd"].drawn_right
    assert f"of the last quarter where it belongs, in each of {words[len(right)]} seeds" in text
    assert (right == 1).all()
    errors = corner.pivot_table("picture_unseen", "seed", "decoder")
    better = int((errors.sbd < errors.deconv).sum())
    assert f"the better ones in {words[better]} of the {words[len(errors)]} seeds only" in text
    assert f"follows them exactly has an affine R² of {ceiling()}" in text


def test_minutes_to_read_are_those_of_150_words_each():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| \[(\w+)\]\(notebooks/\1.ipynb\) \|.*\| (\d+) \|$", text, re.M))
    for source in SOURCES:
        words = sum(
            len(cell.source.split())
            for cell in jupytext.read(source).cells
            if cell.cell_type == "markdown"
        )
        assert abs(int(told.pop(source.stem)) - words / 150) <= 1
    assert not told


def test_the_lines_of_the_readme_for_ones_own_images_run(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines, *_ = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    for long, short in (("epochs=50", "epochs=1"), ("300, 3, 64, 64", "20, 3, 32, 32")):
        assert long in lines
        lines = lines.replace(long, short)
    env = os.environ | {"SBD_RUNS": str(tmp_path / "runs"), "TORCH_COMPILE_DISABLE": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", lines], cwd=tmp_path, env=env, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "traversals.png"}


def test_the_lines_of_the_readme_for_streams_run(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, lines, *_ = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    for long, short in (("epochs=50", "epochs=1"), ("4096", "32")):
        assert long in lines
        lines = lines.replace(long, short)
    [name] = re.findall(r"dsprites_\w+\.npz", lines)
    np.savez(tmp_path / name, **layout())
    env = os.environ | {"SBD_RUNS": str(tmp_path / "runs"), "TORCH_COMPILE_DISABLE": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", lines], cwd=tmp_path, env=env, check=True)
    assert len(list((tmp_path / "runs").glob("sbd-seed0-*"))) == 2


def test_citation_names_the_paper_the_post_and_the_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert str(cited["version"]) == project["version"] and cited["license"] == project["license"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(reference["url"] in readme for reference in cited["references"])


def test_ci_runs_the_make_target_test():
    assert re.search(r"^make\b.*\btest\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)


def test_nothing_large_is_tracked():
    paths = tracked()
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}
    weights = {path for path in sizes if path.parent == PUBLISHED}
    large = {path for path, size in sizes.items() if size > MEGABYTE}
    assert sizes and not {path for path in large - weights if path.suffix != ".ipynb"}
    assert 0 < sum(sizes[path] for path in weights) < 12e6


def test_package_imports_without_a_display_and_without_pyplot():
    code = """
import importlib, pkgutil, sys, sbd_utils, sbd_utils.training.loop
assert not {"matplotlib", "livelossplot"} & set(sys.modules)
for module in pkgutil.walk_packages(sbd_utils.__path__, "sbd_utils."):
    importlib.import_module(module.name)
assert "sbd_utils.plots.charts" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, check=True)


def test_a_drifted_pair_is_reported(tmp_path):
    source, notebook = tmp_path / "01_a.py", tmp_path / "01_a.ipynb"
    text = '# %% [markdown]\n# Text\n\n# %% tags=["nbval-check-output"]\nprint(1)\n'
    source.write_text(text, encoding="utf-8")
    jupytext.write(jupytext.read(source), notebook)
    assert pair_problem(source, notebook) is None
    source.write_text(text.replace("print(1)", "print(2)"), encoding="utf-8")
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


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("", "", None),
        ("r2 is 0.998", "r2 is 0.989", "no result says 0.9890"),
        ("fewer parameters", "more parameters", "its table"),
        (END, "", "its table"),
        ("2.13.0", "2.12.0", "no result says 2.12.0"),
        ("```\n9.9", "9.9", "no result says 9.9"),
        ("arXiv ", "version ", "no result says 1901.07017"),
    ],
)
def test_a_changed_number_of_the_readme_is_reported(old, new, problem):
    row = claims.check("fewer-parameters", intervals.exactly(0.16)) | {"value": 0.99801, "count": 1}
    facts = {
        "preset": "published",
        "cpu": "a",
        "python": "3.11.7",
        "versions": {},
        "wall_seconds": 99,
        "threads": 2,
        "claims": [row],
        "draws": [],
    }
    text = (
        "# Title\nr2 is 0.9980, on torch 2.13.0, after arXiv 1901.07017 "
        f"(https://arxiv.org/abs/1901.07017).\n\n{START}\n{readme_table([row])}\n{END}\n\n"
        "```\n9.9 seconds\n```\nThe end.\n"
    ).replace(old, new)
    assert str(readme_problem(text, facts)).startswith(str(problem))
