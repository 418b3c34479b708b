"""Sphinx's settings, for the tree that tools/build_site.py puts together, not for this folder."""

import os
import sys
import tomllib
from pathlib import Path

from sbd_utils.settings import ROOT

sys.path.insert(0, str(Path(__file__).parent))  # pages.py
facts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The repository's public address, in one place: `Repository` in [project.urls] of pyproject.toml,
# or what GitHub says in a workflow. Where there is neither, no button leads there.
REPOSITORY = facts.get("urls", {}).get("Repository") or (
    "GITHUB_REPOSITORY" in os.environ and "https://github.com/" + os.environ["GITHUB_REPOSITORY"]
)

project, author = "The Spatial Broadcast decoder", "the authors of the notebooks"
release = facts["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "pages", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md", "made", "results/claims.md"]  # parts of other pages

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # by default from a CDN; build_site.py puts a link in place of the sliders
myst_enable_extensions = ["amsmath", "attrs_inline", "dollarmath"]
myst_heading_anchors = 3
# A claim's row has an anchor that Sphinx does not know: [...](claim:slower), from the top folder.
myst_url_schemes = {
    "http": None,
    "https": None,
    "claim": {"url": "claims.html#{{path}}", "classes": ["internal"]},
}
html_math_renderer = "mathml"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # torch has its own markup
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_mock_imports = ["dask", "distributed"]  # of another extra
default_role = "code"

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The search page fetches each result for its excerpt, which a page from the disk may not do.
html_js_files = [
    (
        None,
        {
            "body": "if (location.protocol === 'file:')"
            " DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"
        },
    )
]
html_extra_path = ["extra"]
html_copy_source = html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "logo": {
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
        "text": "Spatial Broadcast decoder",
        "alt_text": "",
    },
}
if REPOSITORY:
    owner, name = REPOSITORY.rstrip("/").split("/")[-2:]
    html_baseurl = f"https://{owner.lower()}.github.io/{name}/"
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "repository_branch": "main",
        "path_to_docs": "",
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
            "colab_url": "https://colab.research.google.com",
        },
    }
