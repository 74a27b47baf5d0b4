"""Sphinx reads this: the pages are Markdown, the reference comes from docstrings, a warning is an error (see the Makefile)."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

project = "karush"
author = "The karush developers"
project_copyright = author
version = release = importlib.metadata.version("karush")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_inherit_docstrings = False  # what torch or an enum says of itself is not ours
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
smartquotes = False  # x' is a transpose
html_theme = "furo"
html_title = f"karush {version}"


def plain(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: what is indented after a blank line is a formula, and |x| or x* is not markup."""
    shown: list[str] = []
    formula = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not formula and (not shown or not shown[-1].strip()):
            shown += ["::", ""]
            formula = True
        elif line.strip() and not indented:
            formula = False
        shown.append(line if formula else escaped(line))
    lines[:] = shown


def escaped(line: str) -> str:
    """The line with markup characters escaped outside of ``code``."""
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else re.sub(r"([|*_`\\])", r"\\\1", part) for part in parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain)
