"""nbval and `make reproduce` on tiny notebooks: what is wrong must be seen."""

import json
import re
import subprocess
import sys
from base64 import b64encode

import pytest
from nbformat import v4, write

from sbd_utils import claims, reproduce

PNG = b"stands for a picture"
CLAIM = """from sbd_utils import claims
print(claims.Report(claims.check("data-3675", images={}, factors=3)).verdicts())"""
GOOD = f"""# %%
from IPython.display import display
from sbd_utils import claims
display({{"image/png": "{b64encode(PNG).decode()}"}}, raw=True,
        metadata={{"image/png": {{"name": "dot"}}}})

# %%
claims.Report(claims.check("data-3675", images=3675, factors=3))
"""


def test_nbval_passes_what_was_recorded_and_fails_what_differs(tmp_path):
    notebooks = {  # source, stored output
        "same": ("print(1 + 1)", "2\n"), "differs": ("print(1 + 1)", "3\n"),
        "claim": (CLAIM.format(3675), "data-3675: reproduced\n"),
        "broken_claim": (CLAIM.format(3674), "data-3675: reproduced\n"),
    }
    for name, (source, text) in notebooks.items():
        output = v4.new_output("stream", text=text)
        cell = v4.new_code_cell(source, execution_count=1, outputs=[output])
        cell.metadata["tags"] = ["nbval-check-output"]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        write(v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env"]
    command += ["-p", "no:cacheprovider", "-rA", *[f"{name}.ipynb" for name in notebooks]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = re.findall(r"^(PASSED|FAILED) (?:\S*/)?(\w+)\.ipynb::", done.stdout, re.M)
    assert sorted(found) == [
        ("FAILED", "broken_claim"), ("FAILED", "differs"), ("PASSED", "claim"), ("PASSED", "same"),
    ], done.stdout
    assert done.returncode == 1 and "data-3675: mixed, recorded was reproduced" in done.stdout


def test_figures_and_claim_rows_are_found_among_other_outputs():
    named = {"image/png": {"name": "dot", "alt": "a dot"}}
    data, rows = {"image/png": b64encode(PNG).decode()}, [{"claim": "a"}, {"claim": "b"}]
    outputs = [
        v4.new_output("stream", text="1"), v4.new_output("error", ename="E", evalue="e"),
        v4.new_output("display_data", data, metadata=named), v4.new_output("display_data", data),
        v4.new_output("execute_result", {"text/plain": "1", claims.MIME: rows}, execution_count=1),
    ]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(), v4.new_code_cell(outputs=outputs)])
    assert reproduce.figures(notebook) == {"dot": PNG}
    assert reproduce.claim_rows(notebook) == rows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("NOTEBOOKS", "RESULTS", "RUNS"):
        monkeypatch.setattr(reproduce, name, tmp_path / name.lower())
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("SBD_PRESET", "quick")
    monkeypatch.setenv("PYTHONPATH", str(reproduce.ROOT))  # for the kernel
    return tmp_path


def test_reproduce_writes_claims_and_figures(folder, capsys):
    (folder / "notebooks" / "01_good.py").write_text(GOOD)
    (folder / "notebooks" / "helper.py").write_text("1 / 0")  # no number, no notebook
    assert reproduce.main() == 0
    target = folder / "results" / "quick"
    assert (target / "figures" / "dot.png").read_bytes() == PNG
    facts = json.loads((target / "claims.json").read_text())
    [row] = facts["claims"]
    assert (row["claim"], row["verdict"], facts["preset"]) == ("data-3675", "reproduced", "quick")
    text = (target / "claims.md").read_text()
    assert text == reproduce.to_text(facts) and text in capsys.readouterr().out


def test_reproduce_fails_with_the_cells_error(folder, capsys):
    (folder / "notebooks" / "01_bad.py").write_text("# %%\nvalue = {}['no such key']\n")
    assert reproduce.main() == 1
    seen = capsys.readouterr().err
    assert "01_bad.py failed" in seen and "KeyError: 'no such key'" in seen
    assert not list(folder.rglob("claims.*"))
