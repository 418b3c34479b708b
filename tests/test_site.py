"""The site: built without a warning, no dead link, nothing asked of another host, and both decoders
in the page draw what torch draws. What needs a browser is skipped where there is no Chromium."""

import base64
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from sbd_utils import claims
from sbd_utils.metrics.codes import decode
from sbd_utils.settings import RESULTS, ROOT
from sbd_utils.training.records import load_run
from tests.test_results import NUMBER, executed
from tools.notebooks import NOTEBOOKS

pytest.importorskip("sphinx_book_theme", reason="`make site` installs what builds the site")
from bs4 import BeautifulSoup  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

AXE = ROOT / "tests" / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
KINDS = ("index", "play", "claims", "errata", "glossary", "api/sbd_utils.models", "search")
KINDS += ("notebooks/05_geometry", "notebooks/04_traversals")
PAIR = ["deconv", "sbd"]
MEGABYTE = 2**20

pytestmark = pytest.mark.slow
in_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium to look at the pages with")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as of a repository with an address, built with a proxy that answers nothing."""
    folder = tmp_path_factory.mktemp("built") / "site"
    nowhere = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    env = os.environ | nowhere | {"GITHUB_REPOSITORY": "someone/a-name"}
    build = [sys.executable, "-m", "tools.build_site", folder]
    done = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, encoding="utf-8")
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


def test_every_link_and_anchor_resolves_and_nothing_is_loaded_from_elsewhere(site, pages):
    ids = {page: [tag["id"] for tag in soup.find_all(id=True)] for page, soup in pages.items()}
    assert [page for page, found in ids.items() if len(found) != len(set(found))] == []
    anchors = {page: {"", *found} for page, found in ids.items()}
    dead = {page: list(dead_links(page, soup, site, anchors)) for page, soup in pages.items()}
    assert {page: links for page, links in dead.items() if links} == {}
    wrong = ["no.html", "#no", "https://a.b/c.png"]
    text = '<a href="no.html"></a><a href="#no"></a><img src="https://a.b/c.png">'
    text += '<a href="https://a.b"></a><a href="play.html#what-you-see"></a>'
    soup = BeautifulSoup(text, "html.parser")
    assert list(dead_links("index.html", soup, site, anchors)) == wrong


def test_no_page_is_over_two_megabytes(site, pages):
    sizes = {page: (site / page).stat().st_size for page in pages}
    assert max(sizes.values()) < 2 * MEGABYTE
    loads = [path for path, loads in addresses(pages["play.html"]) if loads]
    own = [path for path in loads if re.search("play|decoder", path)]
    assert len(own) == 3
    assert sizes["play.html"] + sum((site / path).stat().st_size for path in own) < 2 * MEGABYTE


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    build = [sys.executable, "-m", "tools.build_site", tmp_path]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "holds something else than a site" in done.stderr
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_every_section_of_the_readme_is_on_a_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "site_src").glob("*.md"))
    for title in re.findall("^## (.*)$", readme, re.M):
        assert "made/" + "-".join(re.findall(r"\w+", title.lower())) + ".md" in sources


def test_notebooks_are_in_the_side_bar_with_a_way_to_the_next(pages):
    names = [f"notebooks/{path.stem}.html" for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]
    bar = pages["index.html"].find("nav", class_="bd-docs-nav")
    assert [a["href"] for a in bar.find_all("a") if "notebooks/" in a["href"]] == names
    for name, following in zip(names, names[1:], strict=False):
        assert pages[name].find("a", class_="right-next")["href"] == following.rpartition("/")[2]


def test_the_table_of_claims_is_that_of_the_results(pages):
    facts = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))["claims"]
    rows = pages["claims.html"].select(".claims tbody tr")
    assert [row["id"] for row in rows] == [fact["claim"] for fact in facts]
    for row, fact in zip(rows, facts, strict=True):
        result = claims.measured(fact, unit=True)
        expected = [result, fact["verdict"], fact["threshold"], fact["source"]]
        assert [cell.get_text() for cell in row.find_all("td")][1:5] == expected
    assert len(pages["index.html"].select(".tally a")) == len(facts)


def test_terms_link_to_the_glossary_the_first_time_only(pages):
    for name, soup in pages.items():
        links = [a["href"].partition("#")[2] for a in soup.select("a.term")]
        assert len(links) == len(set(links)) and (links or not name.startswith("notebooks/"))
        assert not soup.select("a a, code a.term, h1 a.term, h2 a.term")


def test_numbers_of_the_errata_are_those_of_a_notebook_or_a_claim(pages):
    article = pages["errata.html"].find("article")
    for formula in article.find_all("math"):
        formula.extract()
    printed = (RESULTS / "claims.md").read_text(encoding="utf-8")
    for cell in (cell for notebook in executed().values() for cell in notebook.cells):
        printed += f" {cell.source} "
        for output in cell.get("outputs", []):
            printed += output.get("text", "") + output.get("data", {}).get("text/plain", "")
    said, known = (
        {number.strip(",").replace(",", "") for number in NUMBER.findall(text)}
        for text in (article.get_text(), printed)
    )
    assert said and not said - known


def test_docstrings_are_on_pages_and_formulas_are_drawn(pages):
    text = pages["api/sbd_utils.models.html"].get_text()
    assert "VAE" in text and "loss_terms" in text and "\\" not in text and "Args:" not in text
    config = pages["api/sbd_utils.models.html"].find(id="sbd_utils.models.decoders.DecoderConfig")
    fields = [name.get_text() for name in config.parent.dd.select("dl.field-list strong")]
    assert fields[:2] == ["start", "base_size"]
    formulas = pages["notebooks/02_models.html"].find_all("math")
    assert len(formulas) > 10 and not [m for m in formulas if "\\" in m.get_text()]


@pytest.mark.parametrize("address", [None, "someone/a-name"])
def test_buttons_to_binder_and_colab_need_an_address(address, monkeypatch, pages):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    if address:
        monkeypatch.setenv("GITHUB_REPOSITORY", address)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = runpy.run_path(str(ROOT / "site_src" / "conf.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = bool(address) or "Repository" in project.get("urls", {})
    assert ("launch_buttons" in found["html_theme_options"]) == known == ("html_baseurl" in found)
    links = [a["href"] for a in pages["notebooks/07_checkerboard.html"].find_all("a")]
    assert any(a.startswith("https://mybinder.org/v2/gh/someone/a-name/main?") for a in links)
    colab = "https://colab.research.google.com/github/someone/a-name/blob/main/notebooks/"
    assert f"{colab}07_checkerboard.ipynb" in links
    [card] = pages["index.html"].select("meta[property='og:image']")
    assert card["content"] == "https://someone.github.io/a-name/_static/card.png"


@pytest.fixture(scope="module")
def chromium():
    """A Chromium that reaches no host but this one."""
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", offline]
        )
        yield browser
        browser.close()


@pytest.fixture
def window(chromium, request):
    """A new page, with the settings of the test's marker `window`; it must meet no error."""
    marker = request.node.get_closest_marker("window")
    page = chromium.new_page(**(marker.kwargs if marker else {}), has_touch=True)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    yield page
    page.close()
    # The theme takes it for an error that nobody has chosen between dark and light yet.
    assert not [error for error in errors if "invalid theme mode" not in error]


DRAWN = "document.querySelectorAll('#play .decoder[aria-busy=false]').length == 2"
PICTURES = """[...document.querySelectorAll('#play canvas')].map(canvas =>
    [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data].filter((_, i) => i % 4 < 3))"""
CAPTIONS = "[...document.querySelectorAll('#play .caption')].map(p => p.textContent)"
VALUES = "[...document.querySelectorAll('#play output')].map(output => Number(output.textContent))"


@pytest.fixture
def play(site, window):
    """The page to play with, just opened."""
    window.goto(f"{site.as_uri()}/play.html")
    window.wait_for_function(DRAWN)
    return window


def settled(page):
    """Both pictures and ten sliders, once all is drawn."""
    page.wait_for_timeout(50)
    page.wait_for_function("!document.querySelector('#play [aria-busy=true]')")
    return page.evaluate(PICTURES), page.evaluate(VALUES)


def moved(before, after):
    """Which of both decoders' pictures have changed."""
    return [a != b for a, b in zip(before, after, strict=True)]


def is_drawn(picture, name, code):
    """Whether a canvas shows what torch draws, to the rounding of a pixel."""
    expected = 255 * decode(load_run(name).vae, np.array(code)).transpose(1, 2, 0)
    return np.abs(np.reshape(picture, (64, 64, 3)) - expected).max() < 1.01


def press(page, *selectors):
    for selector in selectors:
        page.locator(selector).click()
    return settled(page)


def search(page, address):
    """Search the site for a word of many pages, until all are listed."""
    page.goto(f"{address}/search.html?q=broadcast")
    page.wait_for_function(
        "document.querySelector('.search-summary')?.textContent.match(/found \\d/)"
    )
    assert page.locator(".search li a").count() > 5


@in_browser
@pytest.mark.window(viewport={"width": 400, "height": 800})
def test_every_page_opens_from_the_disk_and_asks_nothing_of_another_host(site, pages, window):
    asked, wide = [], {}
    window.on("request", lambda request: asked.append(urlsplit(request.url).scheme))
    for page in pages:
        window.goto(f"{site.as_uri()}/{page}")
        wide[page] = window.evaluate("document.documentElement.scrollWidth - innerWidth")
    search(window, site.as_uri())
    window.wait_for_timeout(500)
    assert window.locator(".search li .context").count() == 0
    assert len(asked) > len(pages) and set(asked) <= {"file", "data", "blob"}
    assert {page: more for page, more in wide.items() if more > 0} == {}


@in_browser
def test_the_site_works_from_a_web_server_as_well(site, window):
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    handler.func.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        window.goto(f"{address}/play.html")
        window.wait_for_function(DRAWN)
        search(window, address)
        window.locator(".search li .context").nth(5).wait_for()  # excerpts of what was found
        server.shutdown()


@in_browser
@pytest.mark.parametrize("name", [*PAIR, "sbd-mixing"])
def test_a_decoder_in_the_page_draws_what_torch_draws(play, name):
    codes = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    text = play.evaluate(
        """([name, codes]) => {
            const decode = makeDecoder(PLAY.models[name]), size = 64 * 64 * 3;
            const all = new Float32Array(codes.length * size);
            codes.forEach((code, i) => all.set(decode(code), i * size));
            let text = "";
            for (const byte of new Uint8Array(all.buffer)) text += String.fromCharCode(byte);
            return btoa(text);
        }""",
        [name, codes.tolist()],
    )
    drawn = np.frombuffer(base64.b64decode(text), np.float32).reshape(50, 64, 64, 3)
    expected = decode(load_run(name).vae, codes, clamp=False).transpose(0, 2, 3, 1)
    assert np.ptp(expected) > 0.9 and np.abs(drawn - expected).max() < 1e-4


@in_browser
def test_a_slider_changes_its_decoders_picture_only(play):
    before, values = settled(play)
    play.locator("#play .sbd input").nth(2).fill("1.1")
    after, now = settled(play)
    assert moved(before, after) == [False, True]
    assert now == [*values[:7], 1.1, *values[8:]]
    code = play.evaluate("PLAY.images[0].codes.sbd")
    assert is_drawn(after[1], "sbd", [*code[:2], 1.1, *code[3:]])


@in_browser
@pytest.mark.parametrize("way", ["mouse", "touch", "keys"])
def test_the_dot_of_both_planes_moves_by_mouse_touch_and_keys(play, way):
    before, values = settled(play)
    pad = play.locator("#play .sbd .pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    y = box["y"] + box["height"] / 2
    path = [box["x"] + box["width"] * (0.5 + 0.05 * k) for k in range(5)]
    if way == "mouse":
        play.mouse.move(path[0], y)
        play.mouse.down()
        for x in path:
            play.mouse.move(x, y)
            settled(play)  # a picture for each step, for a path without jumps
        play.mouse.up()
    elif way == "touch":
        touch = partial(play.context.new_cdp_session(play).send, "Input.dispatchTouchEvent")
        for k, x in enumerate(path):
            kind = "touchMove" if k else "touchStart"
            touch({"type": kind, "touchPoints": [{"x": x, "y": y}]})
            settled(play)
        touch({"type": "touchEnd", "touchPoints": []})
    else:
        for _ in path[1:]:
            pad.press("Shift+ArrowRight")
            settled(play)
    after, now = settled(play)
    assert moved(before, after) == [True, True]
    assert sum(a != b for a, b in zip(values, now, strict=True)) in (2, 3, 4)
    line = play.locator("#play .sbd .picture path").first.get_attribute("d")
    assert line.count("L") >= 3


@in_browser
def test_a_drag_that_goes_on_ends_a_walk(play):
    box = play.locator("#play .pad").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    play.mouse.move(x, y)
    play.mouse.down()
    play.evaluate("document.querySelector('#line').click()")
    play.mouse.move(x + 20, y)
    values = play.evaluate(VALUES)
    play.wait_for_timeout(300)
    assert play.evaluate(VALUES) == values


@in_browser
@pytest.mark.parametrize("presses, turn", [(8, False), (1, True)])
def test_after_a_burst_the_last_code_is_shown_once_the_page_is_done(play, presses, turn):
    codes, pairs = play.evaluate(
        """names => [names.map(name => PLAY.images[0].codes[name]),
                     names.map(name => PLAY.models[name].informative.slice(0, 2))]""",
        PAIR,
    )
    pictures, captions = play.evaluate(
        f"""async ([presses, turn]) => {{
            const pad = document.querySelector('#play .sbd .pad');
            for (let press = 0; press < presses; press++) pad.dispatchEvent(
                new KeyboardEvent('keydown', {{key: 'ArrowLeft', shiftKey: true}}));
            if (turn) document.querySelector('#turned').click();  // builds new planes
            for (const start = Date.now(); !({DRAWN}) && Date.now() < start + 30_000;)
                await new Promise(done => setTimeout(done, 0));
            return [{PICTURES}, {CAPTIONS}];
        }}""",
        [presses, turn],
    )
    for name, code, pair, drawn, caption in zip(
        PAIR, codes, pairs, pictures, captions, strict=True
    ):
        code[pair[0]] = max(code[pair[0]] - presses * 0.25, -2.2)
        assert is_drawn(drawn, name, code)
        rows, columns = np.nonzero(np.reshape(drawn, (64, 64, 3)).max(axis=2) >= 0.25 * 255)
        told = [int(number) for number in re.findall(r"[xy] (\d+)", caption)]
        assert np.allclose(told, [columns.mean(), rows.mean()], atol=0.6)


@in_browser
def test_buttons_of_the_page_do_what_they_say(play):
    first, _ = settled(play)
    random, values = press(play, "#random")
    assert moved(first, random) == [True, True] and values[:5] == values[5:]
    green, _ = press(play, "#images button:nth-of-type(2)")
    assert "a green disc" in play.locator("#play .sbd canvas").get_attribute("aria-label")
    mixing, _ = press(play, "#mixing")
    assert moved(green, mixing)[0] is False and play.locator("#play .sbd-mixing").count() == 1
    turned, along = press(play, "#turned")
    assert moved(mixing, turned) == [False, False], "the same code, along other axes"
    axes = np.array(play.evaluate("PLAY.models['sbd-mixing'].axes"))
    code = play.evaluate("PLAY.images[1].codes['sbd-mixing']")
    assert np.allclose(axes @ code, along[5:], atol=0.006)
    assert np.allclose(axes @ axes.T, np.eye(5), atol=1e-4)
    press(play, "#turned", "#mixing")
    assert play.locator("#play .sbd canvas").count() == 1


@in_browser
def test_sb_walks_a_square_and_deconv_does_not(play):
    def walked():
        play.wait_for_function("document.querySelector('#told').textContent", timeout=60_000)
        return play.locator("#told").text_content()

    play.locator("#line").click()
    told = walked()
    deconv, sbd = map(float, re.findall(r"(\d+\.\d) pixels", told))
    assert sbd < 2 < 4 < deconv
    play.locator("#line").click()
    play.wait_for_timeout(1500)  # half way, a second walk begins while a picture is being drawn
    play.wait_for_function(
        "document.querySelector('#play .sbd[aria-busy=true]')"
        " && !document.querySelector('#line').click()"
    )
    assert walked() == told


@in_browser
@pytest.mark.window(java_script_enabled=False)
def test_where_scripts_are_off_the_page_says_so(site, window):
    window.goto(f"{site.as_uri()}/play.html")
    assert "JavaScript, which is off" in window.locator("article").inner_text()


@in_browser
def test_columns_of_the_claims_sort(site, window):
    window.goto(f"{site.as_uri()}/claims.html")
    for number, key in ((2, claims.VERDICTS.index), (1, None), (5, str)):
        column, head = (
            window.locator(f".claims tbody td:nth-child({number + 1})"),
            window.locator(".claims th button").nth(number),
        )
        head.click()
        rising = column.all_text_contents()
        head.click()
        assert column.all_text_contents() == rising[::-1] and len(set(rising)) > 3
        assert key is None or rising == sorted(rising, key=key)
        assert window.locator("[aria-sort=descending]").count() == 1


@in_browser
@pytest.mark.window(reduced_motion="reduce")
@pytest.mark.parametrize("page", ["index", "notebooks/05_geometry"])
def test_the_geometry_moves_with_its_slider(site, window, page):
    window.goto(f"{site.as_uri()}/{page}.html")
    lines = "all => all.map(line => line.getAttribute('points'))"
    last = window.locator(".epochs polyline").evaluate_all(lines)
    assert len(last) == 36
    window.locator(".epochs input").fill("0")
    first = window.locator(".epochs polyline").evaluate_all(lines)
    assert first[:12] == last[:12] and not set(first[12:]) & set(last[12:])
    assert window.locator(".epochs output").text_content() == "1"


@in_browser
def test_pause_also_stops_a_movie_that_was_started_before_it_came_into_view(site, window):
    window.goto(f"{site.as_uri()}/notebooks/05_geometry.html")
    press = "document.querySelector('.epochs button').click()"
    window.evaluate(f"{press}; document.querySelector('.epochs').scrollIntoView()")
    window.wait_for_timeout(500)
    window.evaluate(press)
    paused = window.locator(".epochs output").text_content()
    window.wait_for_timeout(500)
    assert window.locator(".epochs output").text_content() == paused


@in_browser
@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: npm install --prefix tests")
@pytest.mark.window(reduced_motion="reduce")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(site, window, scheme):
    window.emulate_media(color_scheme=scheme)
    found = {}
    for page in KINDS:
        window.goto(f"{site.as_uri()}/{page}.html")
        window.add_script_tag(path=AXE)
        faults = window.evaluate(
            """axe.run(document, {preload: false, resultTypes: ['violations']})
                .then(found => found.violations
                    .filter(v => ['serious', 'critical'].includes(v.impact))
                    .map(v => [v.id, v.nodes[0].html]))"""
        )
        found |= {page: faults} if faults else {}
    assert found == {}
