"""The recipes of CONTRIBUTING, done as they are written to a copy of the tree, and used by every command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .contributing import blocks_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "sparse_search")

COMMANDS = """
import json, sys
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from sparse_search.cli.app import main
from sparse_search.execution.run import run  # first: `leaderboard` keeps pandas from being loaded
said = []
for words in json.loads(sys.argv.pop()):
    sys.argv[:] = ["sparse-search", *words]
    with redirect_stdout(TextIOWrapper(BytesIO(), write_through=True)) as printed:
        try:
            main()
        except SystemExit as end:
            assert not end.code, words
    said.append(printed.buffer.getvalue().decode())
print(json.dumps(said))
"""


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

    def python(self, *arguments):
        """What Python says here."""
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              check=False, env=environment)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commands(self, *lines):
        """What commands say, one after the other in one process: a start loads libraries for seconds."""
        return json.loads(self.python("-c", COMMANDS, json.dumps([line.split() for line in lines])).splitlines()[-1])

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
    (tree.folder / "tiny.yaml").write_text(SWEEP)
    tree.python("-c", COMPUTED_ELSEWHERE)
    asked, place = "--results results --metric matthews", "--dataset digits --shots 2 --output"
    old, _, told, markdown, _, compared, compared_method, *_ = tree.commands(
        f"leaderboard {asked} --format csv",
        "run tiny.yaml --results results",
        f"leaderboard {asked} --ci label-sets",
        f"leaderboard {asked} --format markdown",
        f"report {asked} --output report.html",
        f"compare supervised constant {asked}",
        f"compare nearest constant {asked}",
        f"export {asked} {place} best.yaml",
        f"export {asked} {place} nearest.yaml --method nearest",
    )
    assert '"matthews"' in old.splitlines()[0], "what was written before is read, and has none"
    assert "ranked by matthews (larger is better)" in told
    assert "Matthews" in told
    assert "nearest" in told
    assert "Matthews correlation" in markdown
    report = (tree.folder / "report.html").read_text()
    assert "supervised leads with Matthews correlation" in report
    assert "nearest" in report
    assert "supervised against constant: matthews" in compared
    assert "nearest against constant: matthews" in compared_method
    assert "metric: matthews" in (tree.folder / "best.yaml").read_text()
    assert "method: nearest" in (tree.folder / "nearest.yaml").read_text()
    tree.tested("tests/trainables/metrics", "-k", "function or column or default or title")


@pytest.mark.slow
def test_a_new_method_is_two_files(tree):
    add_method(tree)
    suites = "tests/trainables/test_every_method.py", "tests/search_spaces/test_every_space.py"
    tree.tested(*suites, "-k", "nearest or Nearest")
    small = "--set", "image_size=8", "--set", "temperature=0.1"
    trained = tree.python("-m", "trainables", "nearest", "--images", "500", *small)
    assert float(trained.partition("balanced_accuracy ")[2].split()[0]) > 0.5
    (listed,) = tree.commands("methods")
    assert "nearest" in listed
