"""nbval and `make reproduce` on tiny notebooks: what is wrong must be seen."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode

import pandas as pd
import pytest
from nbformat import read, v4, write

from sbd_utils import claims
from sbd_utils.data.circles import COLORS
from sbd_utils.experiments import circles
from sbd_utils.experiments.tables import SCORES
from sbd_utils.plots.style import Movie
from sbd_utils.settings import ROOT
from tools import notebooks, report

PNG = b"stands for a picture"
CLAIM = """from sbd_utils import claims
from sbd_utils.metrics import intervals
print(claims.Report(claims.check("images", intervals.exactly({}))).verdicts())"""
GOOD = f"""# %%
from IPython.display import display
from sbd_utils import claims
from sbd_utils.metrics import intervals
display({{"image/png": "{b64encode(PNG).decode()}"}}, raw=True,
        metadata={{"image/png": {{"name": "dot"}}}})

# %%
claims.Report(claims.check("images", intervals.exactly(3675)))
"""
# What the settings of `unlike_ours` would change, and what it prints without them.
SETTINGS = """import sys
from matplotlib import pyplot
"shown where every value is"
print(pyplot.rcParams["lines.linewidth"], pyplot.rcParams["figure.max_open_warning"],
      pyplot.get_backend().rpartition(".")[2], [name for name in dir() if name.startswith("my_")],
      "" in sys.path)"""
PLAIN = "1.5 20 backend_inline [] False\n"


def unlike_ours(folder, notebooks):
    """The environment of a reader with settings of IPython, Jupyter and matplotlib."""
    texts = {
        folder
        / "ipython"
        / "profile_default"
        / "ipython_config.py": "get_config().InteractiveShell.ast_node_interactivity = 'all'",
        folder / "ipython" / "profile_default" / "startup" / "a.py": "my_startup = 1",
        folder / "startup.py": "my_python = 1",
        folder
        / "jupyter"
        / "kernels"
        / "python3"
        / "kernel.json": '{"argv": ["another-python"], "display_name": "a", "language": "python"}',
        notebooks / "matplotlibrc": "lines.linewidth: 7\nfigure.max_open_warning: 1",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "PYTHONSTARTUP": str(folder / "startup.py"),
        "MPLBACKEND": "svg",
    }


def test_nbval_passes_what_was_recorded_and_fails_what_differs(tmp_path):
    notebooks = {  # source, stored output
        "settings": (SETTINGS, PLAIN),
        "same": ("print(1 + 1)", "2\n"),
        "differs": ("print(1 + 1)", "3\n"),
        "claim": (CLAIM.format(3675), "images: reproduced, 3,675\n"),
        "broken_claim": (CLAIM.format(3674), "images: reproduced, 3,675\n"),
    }
    for name, (source, text) in notebooks.items():
        output = v4.new_output("stream", text=text)
        cell = v4.new_code_cell(source, execution_count=1, outputs=[output])
        cell.metadata["tags"] = ["nbval-check-output"]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        write(v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / f"{name}.ipynb")
    (tmp_path / "test_settings.py").write_text(
        "from matplotlib import rcParams\n\n\n"
        "def test_width():\n    assert rcParams['lines.linewidth'] == 1.5\n",
        encoding="utf-8",
    )
    # With -p, since our conftest.py does not lie above these.
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "--nbval-lax"]
    command += ["-p", "no:cacheprovider", "-rA", "test_settings.py"]
    command += [f"{name}.ipynb" for name in notebooks]
    environ = unlike_ours(tmp_path / "reader", tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | environ,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    found = re.findall(r"^(PASSED|FAILED) (?:\S*/)?(\w+)\.(?:ipynb|py)::", done.stdout, re.M)
    assert sorted(found) == [
        ("FAILED", "broken_claim"),
        ("FAILED", "differs"),
        ("PASSED", "claim"),
        ("PASSED", "same"),
        ("PASSED", "settings"),
        ("PASSED", "test_settings"),
    ], done.stdout
    assert done.returncode == 1
    assert "images: not reproduced, 3,674; expected was reproduced" in done.stdout


def test_figures_and_claim_rows_are_found_among_other_outputs():
    named = {"image/png": {"name": "dot", "alt": "a dot"}}
    data, rows = {"image/png": b64encode(PNG).decode()}, [{"claim": "a"}, {"claim": "b"}]
    movie = Movie(b"moves", "film", "a film", 8)._repr_mimebundle_()
    outputs = [
        v4.new_output("display_data", movie[0], metadata=movie[1]),
        v4.new_output("display_data", {"text/html": "<p>"}),
        v4.new_output("stream", text="1"),
        v4.new_output("error", ename="E", evalue="e"),
        v4.new_output("display_data", data, metadata=named),
        v4.new_output("display_data", data),
        v4.new_output("execute_result", {"text/plain": "1", claims.MIME: rows}, execution_count=1),
    ]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(), v4.new_code_cell(outputs=outputs)])
    assert notebooks.figures(notebook) == {"dot.png": PNG, "film.webp": b"moves"}
    assert notebooks.claim_rows(notebook) == rows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("NOTEBOOKS", "RESULTS"):
        monkeypatch.setattr(notebooks, name, tmp_path / name.lower())
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "README", tmp_path / "README.md")
    monkeypatch.setattr(
        notebooks.circles,
        "compare_with_seeds",
        lambda preset: [{"score": preset, "place": "within"}],
    )
    readme = f"a\n{report.MARKS[0]}old\n{report.MARKS[1]}\nz\n"
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    monkeypatch.setenv("SBD_PRESET", "quick")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the kernel
    return tmp_path


def test_the_published_notebooks_are_executed_in_place_and_the_readme_follows(folder, monkeypatch):
    monkeypatch.setenv("SBD_PRESET", "published")
    (folder / "notebooks" / "01_good.py").write_text(GOOD, encoding="utf-8")
    seen = []
    for _ in range(2):
        assert notebooks.main() == 0
        notebook = read(folder / "notebooks" / "01_good.ipynb", as_version=4)
        assert [cell.execution_count for cell in notebook.cells] == [1, 2]
        seen.append([cell.id for cell in notebook.cells])
    assert seen[0] == seen[1], "an unchanged cell keeps its id"
    facts = json.loads((folder / "results" / "claims.json").read_bytes())
    assert facts["draws"] == [] and (folder / "results" / "figures" / "dot.png").exists()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        text
        == (f"a\n{report.MARKS[0]}{report.readme_table(facts['claims'])}\n{report.MARKS[1]}\nz\n")
        and "| claim" in text
    )


def test_one_notebook_is_executed_with_its_figures_and_no_claims(folder, monkeypatch):
    monkeypatch.setenv("SBD_PRESET", "published")
    for name in ("01_good", "02_good"):
        (folder / "notebooks" / f"{name}.py").write_text(GOOD, encoding="utf-8")
    assert notebooks.main(str(folder / "notebooks" / "02_good.py")) == 0
    assert [path.name for path in (folder / "notebooks").glob("*.ipynb")] == ["02_good.ipynb"]
    assert (folder / "results" / "figures" / "dot.png").read_bytes() == PNG
    assert not list(folder.rglob("claims.*"))


def test_no_setting_of_the_reader_changes_an_output(folder, monkeypatch):
    monkeypatch.setenv("SBD_PRESET", "published")
    for name, value in unlike_ours(folder / "reader", folder / "notebooks").items():
        monkeypatch.setenv(name, value)
    source = folder / "notebooks" / "01_settings.py"
    source.write_text(f"# %%\n{SETTINGS}\n", encoding="utf-8")
    assert notebooks.main(str(source)) == 0
    [cell] = read(source.with_suffix(".ipynb"), as_version=4).cells
    assert [output.get("text") for output in cell.outputs] == [PLAIN]


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_a_conflict_in_a_notebook_leaves_the_ids_of_the_committed_one(tmp_path):
    path = tmp_path / "a.ipynb"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a"]
    write(v4.new_notebook(cells=[v4.new_code_cell("1", id="kept")]), path)
    torn = path.read_text(encoding="utf-8").replace('"1"', '<<<<<<< HEAD\n"1"')
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        assert notebooks.previous(path).cells[0].id == "kept"
        subprocess.check_call(git + words)
    write(v4.new_notebook(cells=[v4.new_code_cell("1", id="newer")]), path)
    assert notebooks.previous(path).cells[0].id == "newer", "what is on disk comes first"
    path.write_text(torn, encoding="utf-8")
    assert notebooks.previous(path).cells[0].id == "kept"
    path.with_name("b.ipynb").write_text(torn, encoding="utf-8")
    assert notebooks.previous(path.with_name("b.ipynb")) is None, "never committed"


@pytest.mark.parametrize(
    "code, status, says",
    [
        (
            "os.kill(os.getppid(), signal.SIGINT)",
            130,
            "Stopped. The same command goes on from here.",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "01_ends.py failed: Kernel died"),
    ],
)
def test_a_notebook_that_is_stopped_or_dies_is_told_in_a_line(
    code, status, says, folder, monkeypatch, capsys
):
    monkeypatch.setenv("SBD_PRESET", "published")
    source = f"# %%\nimport os, signal, time\n{code}\ntime.sleep(99)\n"
    (folder / "notebooks" / "01_ends.py").write_text(source, encoding="utf-8")
    old = folder / "notebooks" / "01_ends.ipynb"
    old.write_text("{", encoding="utf-8")  # torn
    assert notebooks.main() == status
    assert says in capsys.readouterr().err and old.read_bytes() == b"{"


@pytest.mark.parametrize("preset", ["quick", "blog"])
def test_reproduce_writes_claims_figures_and_where_its_runs_lie(
    folder, capsys, monkeypatch, preset
):
    monkeypatch.setenv("SBD_PRESET", preset)
    (folder / "notebooks" / "01_good.py").write_text(GOOD, encoding="utf-8")
    (folder / "notebooks" / "helper.py").write_text("1 / 0", encoding="utf-8")  # no number
    assert notebooks.main() == 0
    target = folder / "results" / preset
    assert (target / "figures" / "dot.png").read_bytes() == PNG
    facts = json.loads((target / "claims.json").read_bytes())
    [row] = facts["claims"]
    assert (row["claim"], row["verdict"], facts["preset"]) == ("images", "reproduced", preset)
    text = (target / "claims.md").read_text(encoding="utf-8")
    assert text == report.claims_page(facts) and text in capsys.readouterr().out
    assert f"\n| {preset:7} | within  |" in text
    assert [path.name for path in (folder / "notebooks").glob("*.ipynb")] == []
    assert "old" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["a\n", *(f"a\n{mark}b\n" for mark in report.MARKS)])
def test_a_readme_without_both_marks_is_left_as_it_is(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as told:
        report.update_readme(path, [])
    assert all(mark.strip() in str(told.value) for mark in report.MARKS)
    assert path.read_text(encoding="utf-8") == text


def test_a_new_run_is_compared_with_the_seeds(monkeypatch):
    seeds = pd.DataFrame({"decoder": ["sbd"] * 3, **dict.fromkeys(SCORES, [1.0, 2.0, 3.0])})
    seeds["readout"] = [float("nan"), 2.0, 3.0]
    # The table's five digits of the readout are those of its highest.
    new = dict.fromkeys(SCORES, 2.0) | {"kl": 0.9, "mixing": 3.1, "readout": 3.00004}
    new |= {f"{name}_{color}": 2.0 for name in ("r2", "folded") for color in COLORS}
    monkeypatch.setattr(circles.tables, "read", lambda study, preset: seeds)
    monkeypatch.setattr(circles, "pair", lambda: {"sbd": "run"})
    monkeypatch.setattr(circles, "score", lambda run, sprites: new)
    rows = {row["score"]: row["place"] for row in circles.compare_with_seeds("quick")}
    beyond = {SCORES["kl"]: "below", SCORES["mixing"]: "above"}
    assert rows == dict.fromkeys(SCORES.values(), "within") | beyond
    counts = {row["score"]: row["seeds"] for row in circles.compare_with_seeds("quick")}
    assert counts == dict.fromkeys(SCORES.values(), 3) | {SCORES["readout"]: 2}
    seeds = seeds.drop(columns="kl").assign(mixing=float("nan"))  # not measured in these runs
    rows = {row["score"]: row["place"] for row in circles.compare_with_seeds("quick")}
    assert set(rows) == set(SCORES.values()) - set(beyond)


def test_reproduce_fails_with_the_cells_error(folder, capsys):
    source = "# %%\nvalue = {}['such key']\n\n# %%\nprint('after it')\n"
    path = folder / "notebooks" / "01_bad.py"
    path.write_text(source.replace("{}", "{'such key': 1}"), encoding="utf-8")
    assert notebooks.main() == 0
    path.write_text(source, encoding="utf-8")
    for old in folder.rglob("claims.*"):
        old.unlink()
    (notebook,) = folder.rglob("01_bad.ipynb")
    before = notebook.read_bytes()
    assert notebooks.main() == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "01_bad.py failed at In[1], line 1: KeyError: 'such key'"
    assert not list(folder.rglob("claims.*")) and notebook.read_bytes() == before
