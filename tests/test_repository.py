"""Pairs, outputs, pins, the README and CONTRIBUTING.md: what a reader opens is what was run."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import closing

import jupytext
import nbformat
import pytest
import yaml
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.compare import NotebookDifference, compare_notebooks
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sbd_utils import claims
from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics import intervals
from sbd_utils.metrics.geometry import affine_fit, draw_lattice, lattice_places
from sbd_utils.metrics.pictures import find_blobs
from sbd_utils.settings import RESULTS, ROOT
from sbd_utils.training.records import PUBLISHED
from tools.notebooks import NOTEBOOKS
from tools.report import MARKS, claims_page, readme_table

SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
START, END = (mark.strip() for mark in MARKS)
TABLE = re.compile(f"^{START}\n(.*?)^{END}$", re.S | re.M)
MACHINE_PATH = re.compile(r"/(home|root|tmp|work)/")
MEGABYTE = 2**20
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
# In which order the parts of the package import each other, as sbd_utils/__init__.py says.
ORDER = ("data", "models", "training", "metrics", "plots", "claims", "experiments")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def project():
    return tomllib.loads(text_of("pyproject.toml"))["project"]


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


def numbers(text):
    """The decimal numbers of a text, and its counts, as `8 of 10`."""
    return set(re.findall(r"\d+(?:\.\d+)+|\b\d+ of \d+\b", text))


def printed_counts():
    """The counts, as `8 of 10`, that the cells of all notebooks print."""
    found = set()
    for path in SOURCES:
        for cell in code_cells(nbformat.read(path.with_suffix(".ipynb"), as_version=4)):
            for output in cell.outputs:
                found |= {word for word in numbers(output.get("text", "")) if " of " in word}
    return found


def ceiling():
    """The affine R² of the discs themselves, which stand in whole pixels."""
    drawn = find_blobs(draw_lattice(make_sprites(), "red").numpy()).centroid
    return f"{affine_fit(lattice_places().reshape(-1, 2), drawn).r2:.4f}"


def readme_problem(text, facts, known):
    """What the README says that neither results/claims.json nor the known numbers say, or None."""
    table = TABLE.search(text)
    if table is None or table[1].strip() != readme_table(facts["claims"]):
        return "its table is not that of results/claims.json"
    prose = re.sub(r"^```.*?^```", "", TABLE.sub("", text), flags=re.S | re.M)
    prose = re.sub(r"(?i)arxiv(:|\.org/(abs|pdf)/| )\d+\.\d+", "", prose)
    unknown = numbers(" ".join(prose.split())) - numbers(claims_page(facts)) - known
    return f"no result says {', '.join(sorted(unknown))}" if unknown else None


def pythons():
    """The Pythons that pyproject.toml takes, as 3.11."""
    taken = SpecifierSet(project()["requires-python"])
    return [f"3.{minor}" for minor in range(99) if f"3.{minor}.0" in taken]


def test_readme_and_workflow_name_the_pythons_that_pyproject_takes():
    first, *_, last = pythons()
    assert f"Python {first} to {last}" in text_of("README.md")
    jobs = yaml.safe_load(text_of(".github/workflows/test.yml"))["jobs"]
    for job in jobs.values():
        assert job["strategy"]["matrix"]["python"] == [first, last]


def test_pins_of_environment_yml_and_constraints_are_those_of_pyproject():
    extras = project()["optional-dependencies"]
    wanted = {*project()["dependencies"], *sum(extras.values(), [])}
    assert wanted <= set(text_of("constraints.txt").splitlines())
    *packages, pip = yaml.safe_load(text_of("environment.yml"))["dependencies"]
    found = dict(re.split("=+", line) for line in packages + pip["pip"] if "=" in line)
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    pins = {pin.name: str(pin.specifier)[2:] for pin in map(Requirement, wanted)}
    pins = {names.get(name, name): version for name, version in pins.items()} | {"python": "3.11"}
    assert found == {name: pins[name] for name in found}
    needed = [Requirement(line).name for line in project()["dependencies"]]
    needed += ["pytest", "pytest-xdist", "nbval", "beartype"]
    assert {names.get(name, name) for name in needed} <= set(found)


def test_citation_names_this_version():
    cited = yaml.safe_load(text_of("CITATION.cff"))
    assert (str(cited["version"]), cited["license"]) == (project()["version"], project()["license"])


def test_both_forms_of_every_notebook_are_there():
    names = [path.stem for path in SOURCES]
    assert names and names == sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


@each
def test_pair_agrees(source):
    assert pair_problem(source, source.with_suffix(".ipynb")) is None


def test_a_drifted_pair_is_reported(tmp_path):
    source, notebook = tmp_path / "01_a.py", tmp_path / "01_a.ipynb"
    text = '# %% [markdown]\n# Text\n\n# %% tags=["nbval-check-output"]\nprint(1)\n'
    source.write_text(text, encoding="utf-8")
    jupytext.write(jupytext.read(source), notebook)
    assert pair_problem(source, notebook) is None
    source.write_text(text.replace("print(1)", "print(2)"), encoding="utf-8")
    assert "print(2)" in pair_problem(source, notebook)


@pytest.mark.parametrize("newer", [".py", ".ipynb"])
def test_jupyterlab_opens_a_pair_whichever_file_was_written_last(newer, tmp_path):
    source = SOURCES[0]
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


def test_an_unexecuted_checked_cell_is_reported():
    v4 = nbformat.v4
    output = v4.new_output("stream", text="1\n")
    tags = {"tags": ["nbval-check-output"]}
    run = v4.new_code_cell("1", metadata=tags, execution_count=1, outputs=[output])
    no_count = v4.new_code_cell("2", metadata=tags, outputs=[output])
    no_output = v4.new_code_cell("3", metadata=tags, execution_count=3)
    cells = [v4.new_markdown_cell("text"), run, no_count, no_output, v4.new_code_cell("4")]
    assert unexecuted(v4.new_notebook(cells=cells)) == ["2", "3"]


def test_readme_says_what_the_results_say():
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == claims_page(facts)
    known = printed_counts() | set(pythons()) | {ceiling()}
    assert readme_problem(text_of("README.md"), facts, known) is None


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("", "", None),
        ("0.998 in 8 of 10", "0.989 in 8 of 10", "no result says 0.989"),
        ("0.998 in 8 of 10", "0.998 in 9 of 10", "no result says 9 of 10"),
        ("fewer parameters", "more parameters", "its table"),
        (END, "", "its table"),
        ("```\n9.9", "9.9", "no result says 9.9"),
        ("arXiv ", "version ", "no result says 1901.07017"),
    ],
)
def test_a_changed_number_of_the_readme_is_reported(old, new, problem):
    row = claims.check("fewer-parameters", intervals.exactly(0.16)) | {"count": 1}
    facts = {"preset": "published", "python": "3.11.7", "versions": {}, "claims": [row]}
    facts["draws"] = []
    text = (
        "# Title\nr2 is 0.998 in 8 of 10, after arXiv 1901.07017 "
        f"(https://arxiv.org/abs/1901.07017).\n\n{START}\n{readme_table([row])}\n{END}\n\n"
        "```\n9.9 seconds\n```\nThe end.\n"
    ).replace(old, new)
    assert str(readme_problem(text, facts, {"0.998", "8 of 10"})).startswith(str(problem))


@pytest.mark.parametrize("page, count", [("README.md", 1), ("CONTRIBUTING.md", 3)])
def test_the_code_of_a_page_runs(page, count, tmp_path):
    blocks = re.findall(r"^```(python|toml)\n(.*?)^```", text_of(page), re.M | re.S)
    code = [text for kind, text in blocks if kind == "python"]
    new_claims = "".join(text for kind, text in blocks if kind == "toml")
    assert len(code) == count
    lines = f"""import tomllib
from sbd_utils.claims import CLAIMS, Claim
CLAIMS |= {{id: Claim(id, **fields) for id, fields in tomllib.loads({new_claims!r}).items()}}
{"".join(code)}"""
    for long, short in (("epochs=50", "epochs=1"), ("300, 3, 64, 64", "9, 3, 32, 32")):
        lines = lines.replace(long, short)
    env = os.environ | {"SBD_RUNS": str(tmp_path / "runs"), "TORCH_COMPILE_DISABLE": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", lines], cwd=tmp_path, env=env, check=True)


def test_no_large_file_is_tracked():
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        pytest.skip(done.stderr)
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
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


def imported(source):
    """The parts of the package that a module's text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name.split(".")[1] for name in names if name.startswith("sbd_utils."))


def test_imports_of_the_package_go_one_way():
    assert tuple(re.findall(r"\w+", text_of("sbd_utils/__init__.py").split("way:")[1])) == ORDER
    for path in (ROOT / "sbd_utils").rglob("*.py"):
        part = path.relative_to(ROOT / "sbd_utils").parts[0].removesuffix(".py")
        found = set(imported(path.read_text(encoding="utf-8"))) & set(ORDER)
        if part in ORDER:
            assert not found & set(ORDER[ORDER.index(part) + 1 :]), path
