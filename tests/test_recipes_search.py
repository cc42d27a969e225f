"""CONTRIBUTING's recipe for a sampler, executed as written in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .contributing import blocks_of

ROOT = Path(__file__).parents[1]

SWEEP = """
name: greedy
datasets: [digits]
shots: [5]
image_size: 8
images: 540
confirm: 0
sampler: {name: mine, startup: 2, share: 0.25}
pruner: none
methods:
  supervised:
    trials: 6
    search: [lr, rotation]
    presets: []
"""

DRIVE = """
import sys
from pathlib import Path
from sparse_search.search.choices import num_startup
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.sweep import DatasetFacts
from sparse_search.search.sweep_file import load_sweep

sweep = load_sweep(Path("sweep.yaml"))
(study,) = sweep.studies({("digits", 5): DatasetFacts("hash", 50, 1000)})[:1]
journal = StudyJournal(study, Journal(Path("journal.log")))
journal.propose_starts()
rates = []
while journal.status().num_open:
    trial, planned = journal.ask()
    rates.append(planned.config.lr)
    journal.complete(trial, 1 - planned.config.lr)
print(sweep.sampler, num_startup(sweep.sampler, 6), len(rates), "copied" if len(set(rates)) < 6 else "")
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of the project."""
    for folder in ("search_spaces", "trainables", "sparse_search", "tests", "docs", "examples", "bench", "results"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "sweeps", "data")
        )
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def run(tree, *command):
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True, check=False,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_sampler_is_one_file_and_its_row(tree):
    (code,) = blocks_of("Add a sampler")
    (tree / "sparse_search/search/samplers/mine.py").write_text(code)
    page = tree / "docs/search.md"
    row = "| `mine` | copies of the best | `startup` (auto; 1 … 1000, whole, or auto), `share` (0.5; 0 … 1) |"
    page.write_text(re.sub(r"^(\| `random` .*)$", rf"\1\n{row}", page.read_text(), flags=re.MULTILINE))

    (tree / "sweep.yaml").write_text(SWEEP)
    assert run(tree, "-c", DRIVE).split() == ["mine", "startup=2", "share=0.25", "2", "6", "copied"]
    suites = ["tests/sparse_search/search/samplers/test_every_sampler.py", "tests/test_docs.py"]
    tested = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites, "-k", "mine or every_option or silent")
    assert tested.splitlines()[-1].startswith("6 passed")
