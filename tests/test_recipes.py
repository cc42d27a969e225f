"""The recipes of CONTRIBUTING, done as they are written to a copy of the tree, and used by every command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .contributing import blocks_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "sparse_search")


class Tree:
    """A copy of the packages and the tests, to which something is added."""

    def __init__(self, folder):
        self.folder = folder
        for name in (*PACKAGES, "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def insert(self, file, text, *, before):
        """Writes a text before another, which stands once in the file."""
        path = self.folder / file
        content = path.read_text()
        assert content.count(before) == 1, f"{file}: {before}"
        path.write_text(content.replace(before, text + before))

    def python(self, *arguments, fails=False):
        """What Python says here; its errors where it is to fail."""
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              check=False, env=environment)  # fmt: skip
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def sparse_search(self, *arguments, **options):
        """What a command says."""
        return self.python("-c", "from sparse_search.cli.app import main; main()", *arguments, **options)

    def tested(self, *arguments):
        """Runs tests of the copy, all of which must pass."""
        assert " passed" in self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def add_method(tree):
    """Writes the two files of the recipe."""
    space, method = blocks_of("Add a method")
    (tree.folder / "search_spaces/nearest.py").write_text(space)
    (tree.folder / "trainables/nearest.py").write_text(method)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "tree")


# A metric, a row and a function, and a method, two files.

SWEEP = """\
datasets: [digits]
shots: [2]
label_sets: [0, 1]
image_size: 8
images: 60
evaluate_every: 30
confirm: 0
pruner: none
objective: matthews
workers: 1
methods:
  supervised: {trials: 2, presets: [], settings: {classifier: test_resnet}, search: [lr]}
  nearest: {trials: 2}
  constant: {}
"""

RECORDED_BEFORE = """
from pathlib import Path
from sparse_search.results.store import Store
from tests.sparse_search.conftest import record_of
store = Store(Path("results"))
for number in range(3):
    store.write(record_of(number, dataset="before"))
assert store.compact() == 3
"""

COMPUTED_ELSEWHERE = """
from sklearn.metrics import matthews_corrcoef
from numpy.random import default_rng
from trainables.metrics.classes import score
rng = default_rng(0)
probs_NK, labels_N = rng.dirichlet([1.0] * 4, 60), rng.integers(0, 4, 60)
difference = score(probs_NK, labels_N).metric("matthews") - matthews_corrcoef(labels_N, probs_NK.argmax(1))
assert abs(difference) < 1e-12, difference
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_new_metric_and_a_new_method_are_known_to_every_command(tree):
    tree.python("-c", RECORDED_BEFORE)
    row, function, name = blocks_of("Add a metric")
    tree.insert("trainables/metrics/table.py", row, before='        Metric(name="macro_f1"')
    tree.insert("trainables/metrics/counts.py", f"{function}\n\n", before="def _dice_fg(")
    tree.insert("trainables/metrics/counts.py", name, before='    "dice_fg": _dice_fg,')
    add_method(tree)
    tree.python("-c", COMPUTED_ELSEWHERE)
    old = tree.sparse_search("leaderboard", "--results", "results", "--metric", "matthews", "--format", "csv")
    assert '"matthews"' in old.splitlines()[0], "what was written before is read, and has none"
    sweep = tree.folder / "tiny.yaml"
    sweep.write_text(SWEEP)
    tree.sparse_search("run", sweep, "--results", "results")
    told = tree.sparse_search("leaderboard", "--results", "results", "--metric", "matthews", "--ci", "label-sets")
    assert "ranked by matthews (larger is better)" in told
    assert "Matthews" in told
    assert "Matthews correlation" in tree.sparse_search(
        "leaderboard", "--results", "results", "--metric", "matthews", "--format", "markdown"
    )
    tree.sparse_search("report", "--results", "results", "--metric", "matthews", "--output", "report.html")
    assert "supervised leads with Matthews correlation" in (tree.folder / "report.html").read_text()
    compared = tree.sparse_search("compare", "supervised", "constant", "--results", "results", "--metric", "matthews")
    assert "supervised against constant: matthews" in compared
    asked = ("--dataset", "digits", "--shots", "2", "--metric", "matthews", "--output", "best.yaml")
    tree.sparse_search("export", "--results", "results", *asked)
    exported = (tree.folder / "best.yaml").read_text()
    assert "metric: matthews" in exported
    tree.sparse_search("export", "--results", "results", "--method", "nearest", *asked)
    assert "method: nearest" in (tree.folder / "best.yaml").read_text()
    compared = tree.sparse_search("compare", "nearest", "constant", "--results", "results", "--metric", "matthews")
    assert "nearest against constant: matthews" in compared
    assert "nearest" in told
    assert "nearest" in (tree.folder / "report.html").read_text()
    tree.tested("tests/trainables/metrics", "-k", "function or column or default or title")


@pytest.mark.slow
def test_a_new_method_is_two_files(tree):
    add_method(tree)
    suites = "tests/trainables/test_every_method.py", "tests/search_spaces/test_every_space.py"
    tree.tested(*suites, "-k", "nearest or Nearest")
    small = "--set", "image_size=8", "--set", "temperature=0.1"
    trained = tree.python("-m", "trainables", "nearest", "--images", "500", *small)
    assert float(trained.partition("balanced_accuracy ")[2].split()[0]) > 0.5
    assert "nearest" in tree.sparse_search("methods")
