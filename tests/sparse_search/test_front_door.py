"""`import sparse_search`: what it offers, what it loads, and that versions agree."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml

import sparse_search

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "timm", "ray", "optuna", "pandas", "pyarrow", "accelerate", "matplotlib", "numpy"}


def run_python(code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_import_loads_nothing_heavy_and_nothing_else_of_the_package():
    loaded = set(run_python("import sys, sparse_search; dir(sparse_search); print(*sys.modules)").split())
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith(("sparse_search", "trainables", "search_spaces"))} == {
        "sparse_search"
    }


@pytest.mark.parametrize("name", sparse_search.__all__)
def test_every_public_name_is_documented_and_typed(name):
    found = getattr(sparse_search, name)
    assert inspect.isclass(found) or inspect.isfunction(found)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not signature.empty
        assert all(each.annotation is not each.empty for each in signature.parameters.values())
        arguments = (inspect.getdoc(found) or "").partition("Args:")[2]
        explained = [each for each in signature.parameters if f"    {each}: " in arguments]
        assert explained == (list(signature.parameters) if arguments else [])
        assert arguments or len(signature.parameters) == 1


def test_no_public_name_is_a_module_of_the_package():
    """Importing such a module would put it in the place of the function."""
    modules = {each.name for each in iter_modules(sparse_search.__path__)}
    assert not modules & set(sparse_search.__all__)


def test_report_stays_a_function_when_its_package_is_loaded():
    code = "import sparse_search.pages.page; from sparse_search import report; print(callable(report))"
    assert run_python(code) == "True"


def test_what_is_public_is_written_once_for_each_reader():
    """For `import *`, for type checkers and for the loader."""
    tree = ast.parse((ROOT / "sparse_search/__init__.py").read_text())
    typed = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sparse_search."):
            typed |= {alias.asname or alias.name: node.module for alias in node.names}
    assert typed == {name: f"sparse_search.{home}" for name, home in sparse_search._HOMES.items()}
    assert sorted(typed) == sparse_search.__all__
    assert dir(sparse_search) == sorted([*sparse_search.__all__, "__version__"])


def test_an_unknown_name_is_told_with_what_there_is():
    with pytest.raises(AttributeError, match=r"has no attribute 'runn'; it offers Sweep, compare"):
        sparse_search.runn  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'runn'"):
        from sparse_search import runn  # noqa: F401


def test_types_are_checked_by_lint_where_they_fit_and_where_they_do_not():
    """mypy takes tens of seconds: the uses stand in a file that it checks with all others."""
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    uses = (ROOT / "tests/sparse_search/typed.py").read_text()
    assert checked["modules"] == ["tests.sparse_search.typed"]
    assert checked["warn_unused_ignores"], "else an error that is not told any more would pass"
    assert {"strict": True, "module": checked["modules"]} in checked["overrides"]
    assert set(re.findall(r"ignore\[(.*?)\]", uses)) == {"attr-defined", "arg-type"}


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    dated = f"## {project['version']} ({citation['date-released']})"
    assert citation["version"] == project["version"]
    assert dated in (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert sparse_search.__version__ == version("sparse-search")
