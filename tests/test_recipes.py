"""The recipes of CONTRIBUTING, done as they are written to a copy of the tree, and used by every command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "tree")


# A metric: a row and a function.

ROW = """\
        Metric(name="matthews", title="Matthews correlation", origin=Origin.COUNTS_OF_IMAGES, low=-1.0),
"""

FUNCTION = '''\
def _matthews(counts_KK: _Array) -> _Array:
    """Matthews correlation of true and named classes; 0 where only one class is there or named.

    Source: Gorodkin, Computational Biology and Chemistry 28 (2004) 367.
    """
    true_K, named_K, total = counts_KK.sum(-1), counts_KK.sum(-2), counts_KK.sum((-2, -1))
    together = _hits(counts_KK).sum(-1) * total - (true_K * named_K).sum(-1)
    apart = (total**2 - (true_K**2).sum(-1)) * (total**2 - (named_K**2).sum(-1))
    return np.where(apart > 0, together / np.sqrt(np.maximum(apart, _TINY)), 0.0)


'''

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
def test_a_new_metric_is_a_row_and_a_function(tree):
    tree.python("-c", RECORDED_BEFORE)
    tree.insert("trainables/metrics/table.py", ROW, before='        Metric(name="macro_f1"')
    tree.insert("trainables/metrics/counts.py", FUNCTION, before="def _dice_fg(")
    tree.insert("trainables/metrics/counts.py", '    "matthews": _matthews,\n', before='    "dice_fg": _dice_fg,')
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
    tree.tested("tests/trainables/metrics", "-k", "function or column or default or title")
