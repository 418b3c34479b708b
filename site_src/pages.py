"""What the site's pages need beyond Sphinx: formulas, docstrings, terms, and words for search."""

import re
from contextlib import suppress
from html import escape
from itertools import groupby
from unicodedata import lookup

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx

# Where a term of the glossary is left as it is.
PLAIN = (
    nodes.reference,
    nodes.literal,
    nodes.title,
    nodes.raw,
    nodes.math,
    nodes.caption,
    addnodes.desc_signature,
)


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(formula, None), block_renderers=(display, None)
    )
    app.connect("autodoc-process-docstring", escape_docstring)
    app.connect("doctree-resolved", link_terms)
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, display: str) -> str:
    """LaTeX as MathML, which browsers draw without a script.

    They know no alphabets but italic and upright letters, so others become characters of their own,
    and no space behind the name of a function.
    """

    def letter(found: re.Match) -> str:
        kind = {"script": "SCRIPT", "double-struck": "DOUBLE-STRUCK"}[found[1]]
        for name in (f"MATHEMATICAL {kind} CAPITAL {found[2]}", f"{kind} CAPITAL {found[2]}"):
            with suppress(KeyError):
                return f"<mi>{lookup(name)}</mi>"
        raise ValueError(f"no {kind} {found[2]} in {latex}")

    made = re.sub(
        r'<mi mathvariant="(script|double-struck)">([A-Z])</mi>',
        letter,
        convert(latex, display=display),
    )
    return re.sub(r"(<mi>(?:ln|log|det|exp)</mi>)(?!<mo)", r'\1<mspace width="0.17em"/>', made)


def formula(translator, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def display(translator, node: nodes.math_block) -> None:
    """A formula on its own lines; one that is too wide can be moved by keys, too."""
    translator.body.append(
        '<div class="formula" tabindex="0" role="group" aria-label="formula">'
        f"{mathml(node.astext(), 'block')}</div>\n"
    )
    raise nodes.SkipNode


def escape_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Escape * and | where they would start markup: not in code, and not before a space."""
    text = "\n".join(lines)
    lines[:] = re.sub(r"(`[^`]*`)|([*|])(?=\S)", lambda m: m[1] or f"\\{m[2]}", text).split("\n")


def glossary_entries(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Every way to write a term, in small letters, to the anchor and the text of its entry."""
    found = {}
    for item in app.env.get_doctree("glossary").findall(nodes.definition_list_item):
        terms = list(item.findall(nodes.term))
        text = item.next_node(nodes.definition).next_node(nodes.paragraph).astext()
        for term in terms:
            found[term.astext().lower()] = terms[0]["ids"][0], " ".join(text.split())
    return found


def link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link the first time that a page's text uses an entry of the glossary."""
    if docname == "glossary" or docname.startswith("api/"):
        return
    entries, used = glossary_entries(app), set()
    longest_first = sorted(entries, key=len, reverse=True)
    names = "|".join(r"\s+".join(map(re.escape, term.split())) for term in longest_first)
    pattern = re.compile(rf"(?<![\w-])({names})s?(?![\w-])", re.I)
    target = app.builder.get_relative_uri(docname, "glossary")
    for paragraph in list(doctree.findall(nodes.paragraph)):
        for element in list(paragraph.findall(nodes.TextElement)):
            join_lines(element)
        for text in list(paragraph.findall(nodes.Text)):
            above, parent = text.parent, text.parent
            while parent is not None and not isinstance(parent, PLAIN):
                parent = parent.parent
            if parent is not None:
                continue
            pieces, start, words = [], 0, text.astext()
            for match in pattern.finditer(words):
                anchor, tip = entries[" ".join(match[1].lower().split())]
                if anchor in used:
                    continue
                used.add(anchor)
                link = nodes.reference(
                    "",
                    match[0],
                    refuri=f"{target}#{anchor}",
                    internal=True,
                    reftitle=tip,
                    classes=["term"],
                )
                pieces += [nodes.Text(words[start : match.start()]), link]
                start = match.end()
            if pieces:
                above.replace(text, [*pieces, nodes.Text(words[start:])])


def join_lines(element: nodes.TextElement) -> None:
    """Make one text of those that follow on each other: MyST begins a new one with each line."""
    pieces = [(kind, list(those)) for kind, those in groupby(element.children, type)]
    element.clear()
    for kind, those in pieces:
        element.extend([nodes.Text("".join(those))] if kind is nodes.Text else those)


def describe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """The words and the picture that a search engine or a chat shows of a page."""
    if doctree is None:
        return
    texts = (" ".join(node.astext().split()) for node in doctree.findall(nodes.paragraph))
    about = next((text for text in texts if len(text) > 60), app.config.project)
    about = about if len(about) <= 200 else about[:200].rpartition(" ")[0] + " …"
    title, base = nodes.Text(context["title"]), app.config.html_baseurl
    card = base + "_static/card.png" if base else context["pathto"]("_static/card.png", 1)
    tags = {
        "og:title": str(title),
        "og:description": about,
        "og:type": "website",
        "og:site_name": app.config.project,
        "og:image": card,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "Two grids, one bent and one straight",
        **({"og:url": f"{base}{pagename}.html"} if base else {}),
    }
    lines = [f'<meta property="{name}" content="{escape(value)}">' for name, value in tags.items()]
    lines += [
        f'<meta name="description" content="{escape(about)}">',
        '<meta name="twitter:card" content="summary_large_image">',
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)
