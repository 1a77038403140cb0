"""Sphinx configuration: ``make docs`` builds the pages into out/docs, offline."""

import sys
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import reference  # noqa: E402

project = "fer_ros"
author = "fer_ros maintainers"
copyright = "fer_ros maintainers, Apache 2.0"
release = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generated"]
html_theme = "furo"
html_title = f"fer_ros {release}"
html_static_path: list[str] = []
templates_path: list[str] = []

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False  # quotes are copied into commands

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True


def setup(app) -> None:
    """Write the reference pages from the code before Sphinx reads the sources."""
    app.connect("builder-inited", lambda _: reference.write(DOCS / "generated"))
