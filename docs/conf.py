"""Sphinx: these pages, and the reference made of the docstrings. `make docs` builds both; no network is needed."""

import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from docutils import nodes
from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "sparse-search"
author = "the sparse-search authors"
project_copyright = f"2026, {author}"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["README.md"]  # the front page includes its first part
html_theme = "furo"
html_title = f"sparse-search {release}"

default_role = "code"  # in docstrings `name` is code, as in Markdown
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

myst_heading_anchors = 3  # links to headings are checked
nitpick_ignore_regex = [("py:(class|obj)", ".*")]  # annotations name other libraries and ranges; `Raises:` is checked
suppress_warnings = ["ref.python"]  # a name in a range, such as that of another setting, may be found in two classes


class AutoModules(SphinxDirective):
    """The plain modules of a package, an `automodule` each: what is added there is in the reference by itself."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of all of them, a section each."""
        package = import_module(self.arguments[0])
        names = sorted(each.name for each in iter_modules(package.__path__) if not each.ispkg)
        text = "\n".join(f"{name}\n{'-' * len(name)}\n\n.. automodule:: {package.__name__}.{name}\n" for name in names)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def keep_plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Let letters follow `code`, and remember a field's docstring: napoleon takes words before a colon for a type."""
    lines[:] = [re.sub(r"(`[^`]+`)(?P<letter>[A-Za-z]?)", _apart, line) for line in lines]
    _PLAIN[what, name] = list(lines)


def _apart(match: re.Match[str]) -> str:
    return f"{match[1]}\\ {match['letter']}" if match["letter"] else match[1]


def put_back(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Undo what napoleon made of a field."""
    plain = _PLAIN.pop((what, name))
    if what in ("attribute", "data"):
        lines[:] = plain


_PLAIN: dict[tuple[str, str], list[str]] = {}


def mark_blocks(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make what a module's docstring indents a literal block, as Markdown reads it: trees and command lines."""
    if what != "module":
        return
    for number in reversed(range(2, len(lines))):
        begins = lines[number].startswith("    ") and not lines[number - 1].strip()
        if begins and not lines[number - 2].startswith("    ") and not lines[number - 2].endswith("::"):
            lines[number:number] = [".. code-block:: text", ""]


def find_by_last_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Link what is named by its last name, as under `Raises:`, or by the module that defines it."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or not re.fullmatch(
        r"(search_spaces|sparse_search|trainables)\..*|[A-Z]\w+", target
    ):
        return None
    last = target.rpartition(".")[2]
    objects = env.domains.python_domain.objects
    found = {entry.node_id: entry for name, entry in objects.items() if name.rpartition(".")[2] == last}
    if len(found) != 1:
        return None
    (entry,) = found.values()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.add_directive("automodules", AutoModules)
    app.connect("autodoc-process-docstring", keep_plain, priority=100)
    app.connect("autodoc-process-docstring", put_back, priority=900)
    app.connect("autodoc-process-docstring", mark_blocks, priority=900)
    app.connect("missing-reference", find_by_last_name)
