"""Build the static site: `make site` runs this. Nothing is executed, nothing is fetched.

    python -m tools.build_site [FOLDER]    # into FOLDER; without it, into site/

The pages are those of site_src/, the executed notebooks, and parts of the README. They are put
together in a temporary folder as Sphinx wants them, with what site_data.py computes from the
published runs and the results, and the old site is replaced when all has gone well.
"""

import json
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import ziamath
from fontTools import subset

import sbd_utils
from sbd_utils.settings import RESULTS, ROOT
from tools import site_data
from tools.notebooks import NOTEBOOKS

SOURCE = ROOT / "site_src"
# The characters of a formula, for the font that all pages load: Latin, Greek, accents, operators,
# and the letters that a browser takes for italic, script and double-struck ones.
FORMULA = (
    (0x20, 0x7E),
    (0xA0, 0xF7),
    (0x300, 0x338),
    (0x391, 0x3F6),
    (0x2010, 0x2044),
    (0x2061, 0x2064),
    (0x2100, 0x214F),
    (0x2190, 0x21D4),
    (0x2200, 0x22FF),
    (0x1D434, 0x1D467),
    (0x1D49C, 0x1D4B5),
    (0x1D538, 0x1D56B),
    (0x1D6E2, 0x1D71B),
)
SLIDERS = """<p class="admonition">The sliders of this cell need a running notebook.
<a href="../play.html">The page to play with</a> has sliders for all three decoders.</p>"""

SCRIPTS = {
    "geometry_training": """<script src="../_static/geometry-data.js" defer></script>
<script src="../_static/geometry.js" defer></script>"""
}

# What the theme and myst-nb leave out, or say otherwise than it is written: for screen readers.
NAMED = {
    'pst-js-only" title="Search" aria-label="Search"': 'pst-js-only"',
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<summary><span class="toctree-toggle"': '<summary aria-label="pages of this part">'
    '<span class="toctree-toggle"',
}


def page(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook as the site shows it: pictures with their width and text, no part that is not
    for a page, the movie in a file of its own."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data, facts = output.get("data", {}), output.get("metadata", {})
            picture = facts.get("image/png", {})
            if "image/png" in data:
                text = picture.get("alt") or " ".join(data["text/plain"].split())
                image = {"alt": text, "width": f"{picture['width']}px"}
                cell.metadata["mystnb"] = {"image": image}
            if name := facts.get("text/html", {}).get("name"):
                file = f'src="../results/figures/{name}.webp"'
                data["text/html"] = re.sub('src="data:[^"]+"', file, data["text/html"])
                data["text/html"] += SCRIPTS.get(name, "")
            data.pop("application/vnd.sbd.claims+json", None)
            if data.pop("application/vnd.jupyter.widget-view+json", None):
                data["text/html"] = SLIDERS
    notebook.metadata.pop("widgets", None)
    return notebook


def api(folder: Path) -> None:
    """A page per room of the package, with a section per module."""
    folder.mkdir()
    rooms = {"sbd_utils": []}
    for module in pkgutil.walk_packages(sbd_utils.__path__, "sbd_utils."):
        parent = module.name.rpartition(".")[0]
        rooms.setdefault(module.name if module.ispkg else parent, []).append(module.name)
    for room, modules in rooms.items():
        text = f"# {room}\n\n"
        for name in modules:
            options = "" if name == room else "   :members:\n"
            title = "" if name == room else f"## {name.removeprefix('sbd_utils.')}\n\n"
            text += f"{title}```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n\n"
        (folder / f"{room}.md").write_text(text, encoding="utf-8")


def parts() -> str:
    """The side bar's lists of notebooks, those that there are."""
    titles = (
        ("Part I: the experiment", "0[1-5]"),
        ("Part II: why, and at what cost", "0[6-9]"),
        ("", "10"),
        ("Part III: other worlds", "1[1-9]"),
    )
    lists = {}
    for title, numbers in titles:
        found = [f"notebooks/{path.stem}" for path in sorted(NOTEBOOKS.glob(f"{numbers}_*.ipynb"))]
        lists.setdefault(title or list(lists)[-1], []).extend(found)
    return "\n\n".join(
        f'```{{toctree}}\n:hidden:\n:caption: "{title}"\n\n' + "\n".join(names) + "\n```"
        for title, names in lists.items()
        if names
    )


def readme(folder: Path) -> None:
    """The README's title, its introduction and its sections, a file each, named as they are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("(results/claims.md)", "(claims.md)")  # the same table, as a page
    head, *sections = re.split("^## ", text, flags=re.M)
    title, _, introduction = head.partition("\n")
    named = {"title": title, "introduction": introduction}
    for section in sections:
        name = section.partition("\n")[0]
        named["-".join(re.findall(r"\w+", name.lower()))] = "## " + section
    for name, part in named.items():
        (folder / f"{name}.md").write_text(part, encoding="utf-8")


def launch() -> str:
    """How to open a notebook elsewhere, once the repository has a public address."""
    repository = runpy.run_path(str(SOURCE / "conf.py"))["REPOSITORY"]
    return (
        repository
        and f"""The rocket above each notebook opens it on Binder, where it runs as it
is, or in Colab, where this cell must run before all others:

```ipython3
!git clone --depth 1 {repository} /content/sbd && pip install --quiet livelossplot
import sys; sys.path.insert(0, "/content/sbd")
```
"""
    )


def formula_font(path: Path) -> None:
    """STIX Two Math without what no formula here has: a seventh of its bytes."""
    options = subset.Options(
        flavor="woff", layout_features=["math", "ssty", "kern", "dtls", "flac"], name_IDs=["*"]
    )  # its license is one of the names
    whole = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    font = subset.load_font(str(whole), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[c for first, last in FORMULA for c in range(first, last + 1)])
    subsetter.subset(font)
    subset.save_font(font, str(path), options)


def gather(tree: Path) -> None:
    """All that Sphinx reads, in one folder that is laid out like the repository."""
    shutil.copytree(SOURCE, tree, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(
        RESULTS,
        tree / "results",
        ignore=shutil.ignore_patterns("blog", "quick", "published", "*.json", "*.safetensors"),
    )
    figures = tree / "extra" / "results" / "figures"  # what raw HTML links to
    figures.mkdir(parents=True)
    for path in RESULTS.glob("figures/geometry_*"):
        shutil.copy(path, figures)
    (tree / "notebooks").mkdir()
    for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"):
        nbformat.write(page(nbformat.read(path, as_version=4)), tree / "notebooks" / path.name)
    api(tree / "api")
    made, static = tree / "made", tree / "_static"
    made.mkdir()
    readme(made)
    (made / "parts.md").write_text(parts(), encoding="utf-8")
    (made / "launch.md").write_text(launch() or "", encoding="utf-8")
    (made / "claims.html").write_text(site_data.claims_table(), encoding="utf-8")
    (made / "tally.html").write_text(site_data.tally(), encoding="utf-8")
    for name, content in (("GEOMETRY", site_data.geometry()), ("PLAY", site_data.play())):
        text = f"const {name} = {json.dumps(content, separators=(',', ':'))};\n"
        (static / f"{name.lower()}-data.js").write_text(text, encoding="utf-8")
    site_data.card().savefig(static / "card.png", dpi=100)
    formula_font(static / "formula.woff")


def build(target: Path) -> None:
    """The whole site; an error or a warning leaves the old one as it is.

    SystemExit for a folder that holds something else than a site of ours.
    """
    target = target.resolve()
    if target.exists() and any(target.iterdir()) and not (target / ".nojekyll").exists():
        sys.exit(f"{target} holds something else than a site: name a new folder, or an empty one.")
    with TemporaryDirectory() as folder:
        tree, out = Path(folder) / "source", Path(folder) / "site"
        gather(tree)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "sphinx",
                "-W",
                "--keep-going",
                "-q",
                "-E",
                "-b",
                "html",
                "-d",
                str(Path(folder) / "doctrees"),
                str(tree),
                str(out),
            ],
            cwd=ROOT,
        )
        if done.returncode:
            sys.exit(done.returncode)
        for path in out.glob("_static/*-macros.html"):  # templates, which the theme leaves there
            path.unlink()
        for path in out.rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            for before, after in NAMED.items():
                text = text.replace(before, after)
            path.write_text(text, encoding="utf-8")
        (out / ".nojekyll").touch()  # or GitHub Pages leaves out what begins with _
        if target.exists():
            shutil.rmtree(target)
        shutil.move(out, target)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
