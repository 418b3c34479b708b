"""The site: built without a warning, no link that is dead, nothing asked of another host, and both
decoders in the page drawing what torch draws. What needs a browser is skipped without one."""

import base64
import json
import os
import re
import runpy
import subprocess
import sys
import threading
import tomllib
from collections import defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup

from sbd_utils import claims
from sbd_utils.metrics.codes import decode
from sbd_utils.reproduce import NOTEBOOKS
from sbd_utils.settings import RESULTS, ROOT
from sbd_utils.training.records import load_run
from tests import chromium
from tests.test_results import NUMBER, executed

AXE = ROOT / "tests" / "node_modules" / "axe-core" / "axe.min.js"
MODELS = ("deconv", "sbd", "sbd-mixing")
KINDS = (
    "index",
    "play",
    "claims",
    "errata",
    "glossary",
    "api/sbd_utils.models",
    "notebooks/05_geometry",
    "notebooks/04_traversals",
    "search",
)
TERMS = (
    "latent",
    "latent code",
    "traversal",
    "KL term",
    "reconstruction term",
    "decoder variance",
    "beta",
    "affine R²",
    "R² of the sum",
    "folded cell",
    "mixing latent",
    "checkerboard",
    "broadcast",
    "coordinate channels",
    "FactorVAE score",
    "InfoM",
)
MEGABYTE = 2**20
WAIT = "new Promise(done => setTimeout(done, {}))"

pytestmark = pytest.mark.skipif(
    not find_spec("sphinx_book_theme"), reason="`make site` has not installed what builds the site"
)
browser = pytest.mark.skipif(not chromium.find(), reason="no Chromium to look at the pages with")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built anew with a proxy that answers nothing, as of a repository with an address.

    Without one it is built by `make site` in .ci/run.
    """
    folder = tmp_path_factory.mktemp("built") / "site"
    nowhere = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    env = os.environ | nowhere | {"GITHUB_REPOSITORY": "someone/a-name"}
    done = subprocess.run(
        [sys.executable, "tools/build_site.py", folder],
        cwd=ROOT,
        env=env,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stderr  # a warning is an error
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path in the site, parsed."""
    found = {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_bytes(), "html.parser")
        for path in sorted(site.rglob("*.html"))
    }
    assert len(found) > 20
    return found


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    page = chromium.Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def play(site, window):
    """The page to play with, just opened, in a window of the usual size."""
    window.look(1280, 900)
    window.errors.clear()
    window.visit(f"{site.as_uri()}/play.html")
    window.wait(DRAWN)
    return window


DRAWN = "document.querySelectorAll('#play .decoder[aria-busy=false]').length == 2"
PICTURES = """[...document.querySelectorAll('#play canvas')].map(canvas =>
    [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data].filter((_, i) => i % 4 < 3))"""
CAPTIONS = "[...document.querySelectorAll('#play .caption')].map(p => p.textContent)"
VALUES = "[...document.querySelectorAll('#play output')].map(output => Number(output.textContent))"


def settled(page):
    """Both pictures and ten sliders, once all is drawn."""
    page.run(WAIT.format(50))
    page.wait("!document.querySelector('#play [aria-busy=true]')")
    return page.run(PICTURES), page.run(VALUES)


def addresses(soup):
    """What a page links to or loads: address, and whether it is loaded with the page."""
    for tag in soup.find_all(True):
        for attribute in ("href", "src", "srcset", "poster"):
            if address := tag.get(attribute):
                loads = tag.name != "a" and tag.get("rel") not in (["canonical"], ["search"])
                yield address.split()[0] if attribute == "srcset" else address, loads


def dead_links(page, soup, site, anchors):
    """Addresses of a page that lead to no file or anchor of the site, or load from elsewhere."""
    for address, loads in addresses(soup):
        parts = urlsplit(address)
        if parts.scheme == "data":
            continue
        if parts.scheme or parts.netloc:
            if loads or parts.scheme not in ("http", "https", "mailto"):
                yield address
            continue
        path = ((site / page).parent / unquote(parts.path)).resolve() if parts.path else site / page
        known = anchors.get(os.path.relpath(path, site), ())
        if not path.is_file() or parts.fragment and unquote(parts.fragment) not in known:
            yield address


def test_a_folder_of_something_else_is_left_alone(site, tmp_path):
    (tmp_path / "thesis.tex").touch()
    done = subprocess.run(
        [sys.executable, "tools/build_site.py", tmp_path],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1 and "holds something else than a site" in done.stderr
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_every_link_and_anchor_resolves_and_nothing_is_loaded_from_elsewhere(site, pages):
    anchors = {
        page: {tag["id"] for tag in soup.find_all(id=True)} | {""} for page, soup in pages.items()
    }
    found = {
        page: list(dead_links(page, soup, site.resolve(), anchors)) for page, soup in pages.items()
    }
    assert {page: dead for page, dead in found.items() if dead} == {}
    soup = BeautifulSoup(
        '<a href="no.html"></a><a href="#no"></a><img src="https://a.b/c.png"><a href="https://a.b">'
        '</a><a href="play.html#what-you-see"></a>',
        "html.parser",
    )
    assert list(dead_links("index.html", soup, site.resolve(), anchors)) == [
        "no.html",
        "#no",
        "https://a.b/c.png",
    ]


def test_no_page_is_over_two_megabytes(site, pages):
    sizes = {page: (site / page).stat().st_size for page in pages}
    assert max(sizes.values()) < 2 * MEGABYTE
    own = [
        address
        for address, loads in addresses(pages["play.html"])
        if loads and re.search(r"play|decoder", address)
    ]
    assert len(own) == 3
    assert sizes["play.html"] + sum((site / path).stat().st_size for path in own) < 2 * MEGABYTE


def test_ids_are_there_once_and_every_picture_has_a_text(pages):
    for page, soup in pages.items():
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(ids) == len(set(ids)), page
        assert not [tag for tag in soup.find_all("img") if tag.get("alt") is None], page


def words(text):
    return " ".join(re.findall(r"\w+", text))


def test_the_landing_page_tells_what_the_readme_tells(pages):
    pictures = r"<picture>.*?</picture>|!\[.*?\]\(.*?\)"
    text = re.sub(
        rf"<!-- claims.*?end of claims -->|```.*?```|{pictures}",
        "",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        flags=re.S,
    )
    told = words(
        "".join(pages[name].find("article").get_text() for name in ("index.html", "claims.html"))
    )
    text = text.partition("## Changing a notebook")[0]
    sentences = [
        words(re.sub(r"\]\([^)]*\)", "", sentence)) for sentence in re.split(r"[.|:]\s|\n\n", text)
    ]
    assert len(sentences) > 60
    assert not [sentence for sentence in sentences if sentence not in told]


def test_notebooks_are_in_the_side_bar_with_a_way_to_the_next(pages):
    names = [f"notebooks/{path.stem}.html" for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]
    bar = pages["index.html"].find("nav", class_="bd-docs-nav")
    assert [a["href"] for a in bar.find_all("a") if "notebooks/" in a["href"]] == names
    assert [p.get_text() for p in bar.find_all("p")][-1] == "Reference"
    for name, following in zip(names, names[1:], strict=False):
        link = pages[name].find("a", class_="right-next")["href"]
        assert link == following.removeprefix("notebooks/")


def test_the_table_of_claims_is_that_of_the_results(pages):
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))["claims"]
    rows = pages["claims.html"].select(".claims tbody tr")
    assert [row["id"] for row in rows] == [fact["claim"] for fact in facts]
    for row, fact in zip(rows, facts, strict=True):
        claim, result, verdict, threshold, source, _ = (td.get_text() for td in row.find_all("td"))
        assert (claim, result, verdict) == (
            fact["says"] + fact["measure"],
            claims.measured(fact, unit=True),
            fact["verdict"],
        )
        assert (threshold, source) == (fact["threshold"], fact["source"])
    assert len(pages["index.html"].select(".tally a")) == len(facts)


def test_terms_link_to_the_glossary(pages):
    known = {dt.find(string=True).strip() for dt in pages["glossary.html"].find_all("dt")}
    assert set(TERMS) <= known
    for name, soup in pages.items():
        links = [a["href"].partition("#")[2] for a in soup.select("a.term")]
        assert len(links) == len(set(links)), "the first time only"
        assert links or not name.startswith("notebooks/")
        assert not soup.select("a a, code a.term, h1 a.term, h2 a.term")
    assert any("\n" in a.get_text() for soup in pages.values() for a in soup.select("a.term")), (
        "also where a line ends within a term"
    )


def test_errata_say_what_a_notebook_shows(pages):
    article = pages["errata.html"].find("article")
    for formula in article.find_all("math"):
        formula.extract()
    printed = set(NUMBER.findall((RESULTS / "claims.md").read_text(encoding="utf-8")))
    for notebook in executed().values():
        for cell in notebook.cells:
            texts = [cell.source]
            for output in cell.get("outputs", []):
                texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            printed |= {number.replace(",", "") for number in NUMBER.findall(" ".join(texts))}
    told = {number.strip(",").replace(",", "") for number in NUMBER.findall(article.get_text())}
    assert told and not told - printed
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))["claims"]
    verdicts = {fact["claim"]: fact["verdict"] for fact in facts}
    linked = {
        a["href"].partition("#")[2]: verdicts[a["href"].partition("#")[2]]
        for a in article.find_all("a")
        if a["href"].startswith("claims.html#")
    }
    assert linked == {
        "better-kl": "reproduced",
        "disentangled-sbd": "reproduced",
        "informative-deconv": "not reproduced",
        "checkerboard-visible": "not reproduced",
        "more-memory": "larger than claimed",
        "slower": "larger than claimed",
        "coordconv-generalizes": "not reproduced",
        "coordconv-faster": "smaller than claimed",
    }


def test_every_public_docstring_is_on_a_page(pages):
    documented = {
        tag["id"]
        for name, soup in pages.items()
        if name.startswith("api/")
        for tag in soup.select("dt[id]")
    }
    assert {
        "sbd_utils.models.vae.VAE.loss_terms",
        "sbd_utils.claims.Claim.verdict",
        "sbd_utils.metrics.geometry.affine_fit",
        "sbd_utils.files.write",
    } <= documented
    text = pages["api/sbd_utils.models.html"].get_text()
    assert "to [batch, channels + 2, height, width]" in text and "\\" not in text
    arguments = pages["api/sbd_utils.models.html"].find(
        id="sbd_utils.models.decoders.DecoderConfig"
    )
    assert [li.strong.get_text() for li in arguments.parent.dd.find("ul").find_all("li")][:3] == [
        "start",
        "side",
        "up",
    ]


def test_sliders_of_a_notebook_lead_to_the_page_to_play_with(pages):
    assert pages["notebooks/04_traversals.html"].find("a", href="../play.html", class_=None)
    formulas = pages["notebooks/02_models.html"].find_all("math")
    assert len(formulas) > 10 and not [m for m in formulas if "\\" in m.get_text()]


def test_a_page_tells_a_search_engine_and_a_chat_what_it_is(site, pages):
    for name in ("index.html", "notebooks/07_checkerboard.html"):
        tags = {tag["property"]: tag["content"] for tag in pages[name].select("meta[property]")}
        assert len(tags["og:title"]) > 5 and 60 < len(tags["og:description"]) <= 202
        assert tags["og:image"] == "https://someone.github.io/a-name/_static/card.png"
    assert int.from_bytes((site / "_static/card.png").read_bytes()[16:20], "big") == 1200


@pytest.mark.parametrize("address", [None, "someone/a-name"])
def test_an_address_is_needed_for_buttons_to_binder_and_colab(address, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    if address:
        monkeypatch.setenv("GITHUB_REPOSITORY", address)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = runpy.run_path(str(ROOT / "site_src" / "conf.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = bool(address) or "Repository" in project.get("urls", {})
    assert ("launch_buttons" in found["html_theme_options"]) == known == ("html_baseurl" in found)


def test_buttons_of_a_notebook_open_it_on_binder_and_in_colab(pages):
    for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"):
        links = [a["href"] for a in pages[f"notebooks/{path.stem}.html"].find_all("a")]
        binder = "https://mybinder.org/v2/gh/someone/a-name/main?"
        assert [a for a in links if a.startswith(binder) and a.endswith(path.name)]
        colab = "https://colab.research.google.com/github/someone/a-name/blob/main/notebooks/"
        assert colab + path.name in links
    landing = pages["index.html"].get_text()
    assert "git clone --depth 1 https://github.com/someone/a-name" in landing


def test_workflows_call_make():
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
    }
    jobs = {name: yaml.safe_load(text)["jobs"] for name, text in texts.items()}
    steps = [
        step.get("run", "")
        for found in jobs.values()
        for job in found.values()
        for step in job["steps"]
    ]
    assert sum(step.startswith("make ") for step in steps) == 2
    python = jobs["test.yml"]["test"]["strategy"]["matrix"]["python"]
    taken = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f">={python[0]}," in taken["requires-python"] and "<3.15" in taken["requires-python"]
    assert python[-1] == "3.14" and "cron" in texts["test.yml"]


EXCERPTS = "document.querySelectorAll('.search li .context').length"


def search(window, address):
    """Search the site at this address for a word of many pages, until all are listed."""
    window.visit(f"{address}/search.html?q=broadcast")
    window.wait("document.querySelector('.search-summary')?.textContent.match(/found \\d/)")
    assert window.run("document.querySelectorAll('.search li a').length") > 5


@browser
def test_every_page_opens_from_the_disk_and_asks_nothing_of_another_host(site, pages, window):
    window.requests.clear()
    window.errors.clear()
    window.look(400, 800)
    wide = {}
    for page in pages:
        window.visit(f"{site.as_uri()}/{page}")
        wide[page] = window.run("document.documentElement.scrollWidth - innerWidth")
    search(window, site.as_uri())
    window.run(WAIT.format(500))
    assert window.run(EXCERPTS) == 0
    asked = {urlsplit(address).scheme for address in window.requests}
    assert len(window.requests) > len(pages) and asked <= {"file", "data", "blob"}
    assert window.errors == []
    assert {page: more for page, more in wide.items() if more > 0} == {}


@browser
@pytest.mark.parametrize("name", MODELS)
def test_a_decoder_in_the_page_draws_what_torch_draws(play, name):
    codes = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    text = play.run(f"""(() => {{
        const decode = makeDecoder(PLAY.models["{name}"]), all = new Float32Array(50 * 64 * 64 * 3);
        {json.dumps(codes.tolist())}.forEach((code, i) => all.set(decode(code), i * 64 * 64 * 3));
        let text = "";
        for (const byte of new Uint8Array(all.buffer)) text += String.fromCharCode(byte);
        return btoa(text);
    }})()""")
    drawn = np.frombuffer(base64.b64decode(text), np.float32).reshape(50, 64, 64, 3)
    expected = decode(load_run(name).vae, codes, clamp=False).transpose(0, 2, 3, 1)
    assert np.ptp(expected) > 0.9 and np.abs(drawn - expected).max() < 1e-4


def moved(before, after):
    """Which of both decoders' pictures have changed."""
    return [a != b for a, b in zip(before, after, strict=True)]


@browser
def test_a_slider_changes_its_decoders_picture_to_what_torch_draws(play):
    before, values = settled(play)
    play.run("""(() => { const slider = document.querySelectorAll('#play .sbd input')[2];
        slider.value = 1.1; slider.dispatchEvent(new Event('input', {bubbles: true})); })()""")
    after, moved_values = settled(play)
    assert moved(before, after) == [False, True] and moved_values[5:][2] == 1.1
    assert [a for i, a in enumerate(moved_values) if i != 7] == [
        a for i, a in enumerate(values) if i != 7
    ]
    code = play.run("[...PLAY.images[0].codes.sbd]")
    expected = 255 * decode(load_run("sbd").vae, np.array([*code[:2], 1.1, *code[3:]]))
    difference = np.reshape(after[1], (64, 64, 3)) - expected.transpose(1, 2, 0)
    assert np.abs(difference).max() < 1.01


@browser
@pytest.mark.parametrize("way", ["mouse", "touch", "keys"])
def test_the_dot_of_both_planes_moves_by_mouse_touch_and_keys(play, way):
    before, values = settled(play)
    box = "const box = document.querySelector('#play .sbd .pad').getBoundingClientRect();"
    x, y, side = play.run(f"(() => {{ {box} return [box.x, box.y, box.width]; }})()")
    path = [(x + side * (0.5 + 0.05 * k), y + side * 0.5) for k in range(5)]
    if way == "mouse":
        for k, (left, top) in enumerate([*path, path[-1]]):
            kind = "mousePressed" if k == 0 else "mouseReleased" if k == 5 else "mouseMoved"
            play.send(
                "Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left", clickCount=1
            )
            settled(play)  # a picture for each step, for a path without jumps
    elif way == "touch":
        for k, (left, top) in enumerate(path):
            play.send(
                "Input.dispatchTouchEvent",
                type="touchMove" if k else "touchStart",
                touchPoints=[{"x": left, "y": top}],
            )
            settled(play)
        play.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    else:
        play.run("document.querySelector('#play .sbd .pad').focus()")
        for _ in range(4):
            for kind in ("keyDown", "keyUp"):
                play.send(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key="ArrowRight",
                    code="ArrowRight",
                    modifiers=8,
                )  # Shift: steps of 0.25
            settled(play)
    after, now = settled(play)
    assert moved(before, after) == [True, True]
    assert sum(a != b for a, b in zip(values, now, strict=True)) in (2, 3, 4)
    way = play.run("document.querySelector('#play .sbd .picture path').getAttribute('d')")
    assert way.count("L") >= 3


@browser
def test_a_drag_that_goes_on_ends_a_walk(play):
    x, y = play.run("""(() => { const box = document.querySelector('#play .pad')
        .getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()""")
    mouse = partial(play.send, "Input.dispatchMouseEvent", button="left", y=y)
    mouse(type="mousePressed", x=x, clickCount=1)
    play.run("document.querySelector('#line').click()")
    mouse(type="mouseMoved", x=x + 20)
    values = play.run(VALUES)
    play.run(WAIT.format(300))
    assert play.run(VALUES) == values
    mouse(type="mouseReleased", x=x + 20)


@browser
@pytest.mark.parametrize("presses, turn", [(8, False), (1, True)])
def test_the_last_code_is_shown_when_the_page_says_it_is_done(play, presses, turn):
    names = list(MODELS[:2])
    codes, pairs = play.run(f"""[{names}.map(name => PLAY.images[0].codes[name]),
        {names}.map(name => PLAY.models[name].informative.slice(0, 2))]""")
    pictures, captions = play.run(f"""(async () => {{
        const pad = document.querySelector('#play .sbd .pad');
        for (let press = 0; press < {presses}; press++) pad.dispatchEvent(
            new KeyboardEvent('keydown', {{key: 'ArrowLeft', shiftKey: true}}));
        if ({json.dumps(turn)}) document.querySelector('#turned').click();  // builds new planes
        while (!({DRAWN})) await {WAIT.format(0)};
        return [{PICTURES}, {CAPTIONS}];
    }})()""")
    for name, code, pair, drawn, caption in zip(
        names, codes, pairs, pictures, captions, strict=True
    ):
        code[pair[0]] = max(code[pair[0]] - presses * 0.25, -2.2)
        expected = decode(load_run(name).vae, np.array(code))
        difference = np.reshape(drawn, (64, 64, 3)) - 255 * expected.transpose(1, 2, 0)
        assert np.abs(difference).max() < 1.01
        rows, columns = np.nonzero(expected.max(axis=0) >= 0.25)
        told = [int(number) for number in re.findall(r"[xy] (\d+)", caption)]
        assert np.allclose(told, [columns.mean(), rows.mean()], atol=0.6)


@browser
def test_buttons_of_the_page_do_what_they_say(play):
    def press(*selectors):
        play.run(f"{list(selectors)}.forEach(each => document.querySelector(each).click())")
        return settled(play)

    first, _ = settled(play)
    random, values = press("#random")
    assert moved(first, random) == [True, True] and values[:5] == values[5:]
    green, _ = press("#line", "#images button:nth-of-type(2)")
    assert play.run(
        "[...document.querySelectorAll('#play .picture path:first-child')]"
        ".map(line => line.getAttribute('d').match(/[ML]/g).length)"
    ) == [1, 1], "the path begins without the walk's disc"
    assert "a green disc" in play.run("document.querySelector('#play .sbd canvas').ariaLabel")
    mixing, _ = press("#mixing")
    assert moved(green, mixing)[0] is False
    assert play.run("document.querySelectorAll('#play .sbd-mixing canvas').length") == 1
    turned, along = press("#turned")
    assert moved(mixing, turned) == [False, False], "the same code, along other axes"
    axes, code = play.run(
        "(() => { const name = 'sbd-mixing'; return "
        "[PLAY.models[name].axes, PLAY.images[1].codes[name]]; })()"
    )
    assert np.allclose(np.array(axes) @ code, along[5:], atol=0.006)
    assert np.allclose(np.array(axes) @ np.transpose(axes), np.eye(5), atol=1e-4)
    press("#turned")
    press("#mixing")
    assert play.run("document.querySelectorAll('#play .sbd canvas').length") == 1


@browser
def test_sb_walks_a_square_and_deconv_does_not(play):
    def walked():
        play.wait("document.querySelector('#told').textContent", 60)
        return play.run("document.querySelector('#told').textContent")

    play.run("document.querySelector('#line').click()")
    told = walked()
    deconv, sbd = map(float, re.findall(r"(\d+\.\d) pixels", told))
    assert sbd < 2 < 4 < deconv
    play.run("document.querySelector('#line').click()")
    play.run(WAIT.format(1500))  # half way, a second walk begins while a picture is being drawn
    play.wait(
        "document.querySelector('#play .sbd[aria-busy=true]')"
        " && !document.querySelector('#line').click()"
    )
    assert walked() == told
    assert play.errors == []


@browser
def test_where_scripts_are_off_the_page_says_so(site, window):
    window.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.visit(f"{site.as_uri()}/play.html")
    finally:
        window.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "JavaScript, which is off" in window.run("document.querySelector('article').innerText")


@browser
def test_the_page_opens_from_a_web_server_as_well(site, window):
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    handler.func.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        window.visit(f"http://127.0.0.1:{server.server_port}/play.html")
        window.wait(DRAWN)
        search(window, f"http://127.0.0.1:{server.server_port}")
        window.wait(f"{EXCERPTS} > 5")
        server.shutdown()


@browser
def test_columns_of_the_claims_sort(site, window):
    window.visit(f"{site.as_uri()}/claims.html")
    column = (
        "[...document.querySelectorAll('.claims tbody tr')].map(row => row.cells[{}].textContent)"
    )
    for number, key in ((2, claims.VERDICTS.index), (1, None), (5, str)):
        window.run(f"document.querySelectorAll('.claims th button')[{number}].click()")
        rising = window.run(column.format(number))
        window.run(f"document.querySelectorAll('.claims th button')[{number}].click()")
        assert window.run(column.format(number)) == rising[::-1] and len(set(rising)) > 3
        assert key is None or rising == sorted(rising, key=key)
        assert window.run("document.querySelectorAll('[aria-sort=descending]').length") == 1


@browser
@pytest.mark.parametrize("page", ["index", "notebooks/05_geometry"])
def test_the_geometry_moves_with_its_slider(site, window, page):
    window.look(1280, 900, reduced=True)
    window.visit(f"{site.as_uri()}/{page}.html")
    lines = (
        "[...document.querySelectorAll('.epochs polyline')]"
        ".map(line => line.getAttribute('points'))"
    )
    last, told = window.run(lines), window.run("document.querySelector('.epochs').innerText")
    assert len(last) == 36 and told.count("cells folded") == 2
    window.run("""(() => { const slider = document.querySelector('.epochs input');
        slider.value = 0; slider.dispatchEvent(new Event('input')); })()""")
    first = window.run(lines)
    assert first[:12] == last[:12] and not set(first[12:]) & set(last[12:])
    assert window.run("document.querySelector('.epochs output').textContent") == "1"


@browser
def test_pause_also_stops_a_movie_that_was_started_before_it_came_into_view(site, window):
    window.look(1280, 900)
    window.visit(f"{site.as_uri()}/notebooks/05_geometry.html")
    press = "document.querySelector('.epochs button').click()"
    window.run(f"{press}; document.querySelector('.epochs').scrollIntoView()")
    window.run(WAIT.format(500))
    window.run(press)
    paused = window.run("document.querySelector('.epochs output').textContent")
    window.run(WAIT.format(500))
    assert window.run("document.querySelector('.epochs output').textContent") == paused


@browser
@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: npm install --prefix tests")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault(site, window, dark):
    window.look(1280, 900, dark=dark, reduced=True)
    found = defaultdict(list)
    for page in KINDS:
        window.visit(f"{site.as_uri()}/{page}.html")
        window.run(f"{AXE.read_text(encoding='utf-8')}; true")
        for fault in window.run(
            "axe.run(document, {resultTypes: ['violations']}).then(found =>"
            "found.violations.map(v => [v.impact, v.id, v.nodes[0].html]))"
        ):
            if fault[0] in ("serious", "critical"):
                found[page].append(fault)
    assert found == {}
