"""What is committed in results/ and shown in pages is what a command wrote, and nothing else."""

import json
import re
from inspect import signature

import jupytext
import nbformat

from sbd_utils.data.circles import make_sprites
from sbd_utils.data.not_so_clevr import centers
from sbd_utils.metrics.geometry import LINES
from sbd_utils.settings import RESULTS, ROOT, TRAINING
from tests.benchmarks import bench
from tests.test_repository import TABLE, each
from tools.notebooks import NOTEBOOKS, claim_rows, figures, outputs

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)|<(?:img|source)[^>]* (?:src|srcset)=\"([^\"]+)\"")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
# Numbers of the text that need no cell: what defines the world and its measures, taken from them,
# and what has a name or a definition of its own.
SIDE, POSITIONS = (
    signature(make_sprites).parameters[name].default for name in ("image_size", "positions")
)
GIVEN = {
    *map(
        str,
        (
            POSITIONS,
            3 * POSITIONS**2,
            len(range(0, 3 * POSITIONS**2, 101)),
            len(LINES),
            len(LINES) ** 2,
            SIDE**2,
            len(centers().unique()),
            *(training["epochs"] for training in TRAINING.values()),
        ),
    ),
    "1.44",
    "90",
    "95",
    "100",
    "512",  # bits per nat, a right angle, per cent, AVX512
}


def executed():
    return {
        path.stem: nbformat.read(path, as_version=4)
        for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")
    }


def prose(notebook):
    """The text of a notebook without formulas, code, addresses of links and years."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    text = " ".join("\n\n".join(cells).split())
    noise = r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|arXiv[: ]+\S+|<[^>]+>|\b(19|20)\d\d\b"
    return re.sub(noise, " ", text)


def unknown_numbers(notebook):
    """Numbers of two digits or more in the text that neither code nor outputs of the notebook say.

    Chapters of this collection are written with a leading 0.
    """
    said = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            said.append(output.get("text", ""))
            said += [
                str(value)
                for kind, value in output.get("data", {}).items()
                if kind.startswith("text/") and "base64" not in value
            ]
    known = {number.replace(",", "") for number in NUMBER.findall(" ".join(said))} | GIVEN
    found = [number.strip(",").replace(",", "") for number in NUMBER.findall(prose(notebook))]
    return {n for n in found if n not in known and not re.fullmatch(r"\d|0\d", n)}


def broken_links(text, folder):
    """Links and pictures of a page that lead nowhere, and pictures without a text."""
    found = []
    for picture, label, target, source in LINK.findall(text):
        target = target or source
        path = folder / target.partition("#")[0]
        if not re.match(r"https?://|#|attachment:|data:", target) and not path.exists():
            found.append(target)
        if picture and not label.strip():
            found.append(f"{target} has no text")
    return found


def test_figures_and_claims_are_the_notebooks_and_no_others():
    made, rows = {}, []
    for _, notebook in sorted(executed().items()):
        made |= figures(notebook)
        rows += claim_rows(notebook)
    kept = {path.name: path.read_bytes() for path in (RESULTS / "figures").iterdir()}
    assert set(made) == set(kept) and made == kept
    assert rows == json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))["claims"]


def test_the_benchmark_page_is_its_numbers():
    facts = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))
    assert (RESULTS / "bench.md").read_text(encoding="utf-8") == bench.to_text(facts)
    _, pillow, _ = facts["drawing"]
    assert pillow["ratio"] > 10


@each
def test_a_notebook_checks_what_it_claims_and_shows_every_picture_with_its_text(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "Report(" in cell.source:
            assert "nbval-check-output" in tags
        for output in outputs(nbformat.v4.new_notebook(cells=[cell])):
            if "nbval-ignore-output" not in tags and "image/png" in output.data:
                assert (
                    output.data["text/plain"].strip() and "<Figure" not in output.data["text/plain"]
                )


@each
def test_numbers_in_a_notebooks_text_are_in_its_code_or_outputs(source):
    assert not unknown_numbers(nbformat.read(source.with_suffix(".ipynb"), as_version=4))


@each
def test_links_of_a_notebook_lead_somewhere(source):
    text = "\n".join(
        cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown"
    )
    assert not broken_links(text, NOTEBOOKS)


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not broken_links(TABLE.sub("", text), ROOT)


def test_a_broken_link_a_picture_without_text_and_a_wrong_number_are_seen():
    assert broken_links("[a](no.md), ![](README.md), [b](README.md#x), [c](https://x.y)", ROOT) == [
        "no.md",
        "README.md has no text",
    ]
    v4 = nbformat.v4
    output = v4.new_output("stream", text="the share is 0.98 of 3,675")
    cells = [
        v4.new_markdown_cell("In 02, 0.97 of 3675 in $12$ (2019)"),
        v4.new_code_cell("1", outputs=[output]),
    ]
    assert unknown_numbers(v4.new_notebook(cells=cells)) == {"0.97"}
