"""Settings of the site: `python -m sphinx -W --keep-going -n -b html docs site`.

A build also writes the help texts of the commands, and the tutorials as notebooks.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version as version_of
from itertools import pairwise
from pathlib import Path
from typing import Any

import jupytext
from nbformat.v4 import new_output
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
COMMANDS = (
    *("import", "recover", "check", "report", "learn", "score", "reproduce", "sweep", "verify"),
    *("export", "plugins", "plugins doctor", "plugins check"),
)

KERNEL = """---
jupyter:
  kernelspec:
    display_name: Python 3
    language: python
    name: python3
---

"""

project = "malfl-env"
author = "The malfl-env developers"
copyright = "the malfl-env developers"
version = release = version_of("malfl-env")

extensions = ["myst_parser"]
extensions += [f"sphinx.ext.{name}" for name in ("autodoc", "napoleon", "viewcode")]
suppress_warnings = ["myst.header"]  # a page of tables may begin at any level

myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 4

default_role = "code"  # a name between single backticks
# Names of other packages and of private modules have no page here.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|gymnasium|malfl_\w+\.\w+|numpy|np|pathlib|pettingzoo|scipy|sp)\..*"),
    (r"py:.*", r"[A-Z]\w*(Array|Env|Policy)|JointPolicy|RewardModel|Transition|TypeAlias\w+|inf"),
]
autodoc_type_aliases = {name: name for name in ("FloatArray", "IntArray", "BoolArray", "AnyEnv")}
autodoc_mock_imports = ["torch"]  # the site is built without it
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"malfl-env {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False


def write_help(app: Sphinx) -> None:
    """Write the help text of every command, for the page of commands."""
    folder = DOCS / "reference" / "help"
    folder.mkdir(exist_ok=True)
    for command in COMMANDS:
        argv = [sys.executable, "-m", "malfl_algos", *command.split(), "--help"]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        file = folder / f"{command.replace(' ', '_')}.txt"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def offer_notebook(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add a link to its notebook below the title of a tutorial."""
    if docname.startswith("tutorials/"):
        title, _, rest = source[0].partition("\n")
        file = f"../notebooks/{Path(docname).name}.ipynb"
        link = f'<p><a href="{file}" download>This page as a notebook</a></p>'
        source[0] = f"{title}\n\n```{{raw}} html\n{link}\n```\n{rest}"


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Write every tutorial as a notebook; its blocks of Python and of the shell are cells."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir) / "notebooks"
        folder.mkdir(exist_ok=True)
        for page in sorted((DOCS / "tutorials").glob("*.md")):
            text = page.read_text(encoding="utf-8")
            text = re.sub(r"```\w+\n# (\w+\.(?:py|yaml))\n", r"```python\n%%writefile \1\n", text)
            text = re.sub(r"```\w+\n# not run", "```\n# not run", text)  # stays text
            notebook = jupytext.reads(KERNEL + text, fmt="md")
            for cell, after in pairwise(notebook.cells):
                printed = re.match(r"```text\n(.*?)```\n*", after.source, re.DOTALL)
                if cell.cell_type == "code" and printed:
                    cell.outputs = [new_output("stream", text=printed[1])]
                    after.source = after.source[printed.end() :]
            jupytext.write(notebook, folder / f"{page.stem}.ipynb")


def plain_aliases(app: Sphinx, *described: Any) -> tuple[str, str] | None:
    """Write aliases of types in signatures as their names; Sphinx writes its own class around."""
    signature, returns = described[-2:]
    if signature is None:
        return None
    signature, returns = (
        re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1", text or "")
        for text in (signature, returns)
    )
    return signature, returns


def setup(app: Sphinx) -> None:
    """Register what is done before, during and after a build."""
    app.connect("autodoc-process-signature", plain_aliases)
    app.connect("builder-inited", write_help)
    app.connect("source-read", offer_notebook)
    app.connect("build-finished", write_notebooks)
