"""The house itself: sizes, words, circles, and who may read what."""

import ast
import re
import subprocess
import tokenize
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "sparse_search")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

CONTRACT = {"build", "fit", "main", "predictor"}
"""Names that stand in many modules: of a method's or a head's maker, of what a module runs."""

ODD_BEGINNINGS = ("What", "Of", "Whether", "Where", "How")
"""First words of a docstring that names neither what is returned nor what is done."""

MAX_ODD_SHARE = 0.02

AMERICAN = re.compile(
    r"(?<![\w./])(?:un)?(?:label(?:ed|ing)|model(?:ed|ing)|colou?r(?:iz)\w*|colors?|colored|gray\w*|centers?|centered|"
    r"behaviors?|favorites?|favor(?:ed|s)?|neighbors?|artifacts?|catalogs|fulfill|license[ds]? under|analyz\w+|"
    r"\w*(?:normal|optim|initial|final|minim|maxim|summar|random|regular|standard|parallel|serial|general|special|"
    r"visual|organ|recogn|real|util|quant|synchron|item|categor|character|local|custom|penal|stabil|emphas|"
    r"memor|capital|factor|token|tokin|symbol|prior)iz(?:e|es|ed|er|ers|ing|ation|ations))(?![\w(=])"
)
"""Words that the house spells the British way."""


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def nodes_of(path):
    return list(ast.walk(tree_of(path)))


def functions(path):
    return [node for node in nodes_of(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function):
    return function.end_lineno - function.lineno + 1


def of_package(package):
    return [path for path in FILES if path.is_relative_to(ROOT / package)]


def named(path):
    return str(path.relative_to(ROOT))


def test_every_module_says_what_it_is_and_none_is_long():
    assert not [named(path) for path in FILES if ast.get_docstring(tree_of(path)) is None]
    assert not [named(path) for path in FILES if len(path.read_text().splitlines()) > 400]
    assert not [f"{named(path)} {each.name}" for path in FILES for each in functions(path) if length(each) >= 60]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_are_short(package):
    assert median(len(path.read_text().splitlines()) for path in of_package(package)) <= 150
    lengths = sorted(length(each) for path in of_package(package) for each in functions(path))
    assert median(lengths) <= 8
    assert lengths[int(0.95 * len(lengths))] <= 30


def test_docstrings_begin_with_a_verb_or_a_noun():
    told = [
        (ast.get_docstring(node), path)
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    first = [(text.split()[0].strip(",.:"), path) for text, path in told if text]
    odd = Counter(named(path) for word, path in first if word in ODD_BEGINNINGS)
    assert odd.total() <= MAX_ODD_SHARE * len(first), odd


def defined(path):
    """Public classes, functions and aliases of a module."""
    for node in tree_of(path).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if name[0].isupper() and not name.isupper():
                    yield name


def test_no_name_stands_for_two_things():
    places = defaultdict(list)
    for path in FILES:
        for name in defined(path):
            if not name.startswith("_") and name not in CONTRACT:
                places[name].append(named(path))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def imported(path, modules):
    """Modules of the house that a module imports, wherever in it the import stands."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (modules[each.name] for each in node.names if each.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = ((f"{node.module}.{each.name}", node.module) for each in node.names)
            yield from (modules[found] for pair in names if (found := next(filter(modules.get, pair), None)))


def file_of(path):
    return named(path)


def folder_of(path):
    """The folder of a package in which it lies; a module directly in the package stands for itself."""
    return "/".join(path.relative_to(ROOT).parts[:2])


@pytest.mark.parametrize("unit", [file_of, folder_of])
def test_nothing_imports_itself_by_a_detour(unit):
    modules = {named(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in FILES}
    graph = defaultdict(set)
    for path in FILES:
        graph[unit(path)] |= {unit(other) for other in imported(path, modules)} - {unit(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as problem:
        pytest.fail(" <- ".join(problem.args[1]))


def prose_of(path):
    """Comments and docstrings of a module, or the text of a page, without code."""
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    else:
        with path.open("rb") as file:
            texts = [each.string for each in tokenize.tokenize(file.readline) if is_prose(each)]
        text = "\n".join(texts)
    return re.sub(r"`[^`]*`", "", text)


def is_prose(token):
    return token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""'))


def test_words_are_spelt_the_british_way():
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    pages = [ROOT / name for name in listed.stdout.splitlines() if name != named(Path(__file__))]
    found = {named(path): words for path in pages if path.exists() and (words := AMERICAN.findall(prose_of(path)))}
    assert not found


def test_a_broad_except_stands_only_at_a_boundary():
    broad = [
        path.name
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert set(broad) <= {
        "worker.py", "multi_node.py", "processes.py", "download.py", "following.py",
        "schedule.py",  # Ray's start raises plain exceptions
    }  # fmt: skip


def test_selection_never_reads_the_test_set():
    """Only the module behind the lock mentions the functions that open a test set."""
    allowed = {
        ROOT / "trainables/data/tasks.py",
        ROOT / "trainables/data/later_test.py",
        ROOT / "sparse_search/best/retrain.py",
    }
    assert {path for path in FILES if "test_set" in path.read_text()} <= allowed


def test_methods_and_selection_never_read_hidden_labels():
    """They pass from the data through the driver to the diagnosis, and by nobody else."""
    data, training = ROOT / "trainables/data", ROOT / "trainables/training"
    allowed = {data / "tasks.py", training / "run.py", training / "train.py", ROOT / "trainables/__main__.py"}
    allowed |= {ROOT / "sparse_search/execution/worker.py", ROOT / "sparse_search/execution/multi_node.py"}
    allowed |= {ROOT / "trainables/testing/checks.py"}  # where it is tested that they change nothing
    assert {path for path in FILES if "hidden_labels" in path.read_text()} <= allowed
