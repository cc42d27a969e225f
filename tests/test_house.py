"""The house itself: layers, sizes, and that a method is two files."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "sparse_search")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

TOY_SPACE = '''"""A space with one knob."""

from dataclasses import dataclass
from typing import Annotated

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Float


@dataclass(frozen=True, kw_only=True)
class NearestConfig(MethodConfig):
    """Nearest class mean."""

    temperature: Annotated[float, Float(1e-3, 10.0, log=True)] = 1.0
    """Of the softmax over distances."""
'''

TOY_METHOD = '''"""Nearest class mean in pixel space: a method in forty lines, for those who want to add one."""

import torch

from search_spaces.nearest import NearestConfig
from trainables.core.method import Method
from trainables.data.augment import to_unit


class Nearest:
    def __init__(self, config, task, accelerator):
        self.config = config
        pixels = to_unit(task.labelled.images_NCHW, config.image_size).flatten(1)
        means = [pixels[task.labelled.labels_N == k].mean(0) for k in range(task.num_classes)]
        self.target, self.means = torch.stack(means), torch.rand(task.num_classes, pixels.shape[1])

    def epochs(self):
        while True:
            self.means = self.means.lerp(self.target, 0.5 + 0.1 * torch.rand(()))
            yield {"distance": float((self.means - self.target).norm())}

    def predict(self, images):
        pixels = to_unit(images, self.config.image_size).flatten(1)
        distance = (pixels[:, None] - self.means).square().mean(2)
        return {"nearest": (-distance / self.config.temperature).softmax(1)}

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]


METHOD = Method(NearestConfig, ("classification",), Nearest, ("nearest",))
'''


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree) is not None
    assert len(text.splitlines()) <= 400
    for function in functions(tree):
        assert function.end_lineno - function.lineno < 60, function.name


def test_a_broad_except_stands_only_at_a_boundary_between_processes():
    broad = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert set(broad) <= {"worker.py", "multi_node.py", "processes.py", "download.py"}


@pytest.mark.slow
def test_the_import_contract_holds():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_selection_never_reads_the_test_set():
    """Only the module behind the lock mentions the one function that opens the test split."""
    allowed = {ROOT / "trainables/data/tasks.py", ROOT / "sparse_search/best/retrain.py"}
    assert {path for path in FILES if "test_set" in path.read_text()} <= allowed


def test_methods_and_selection_never_read_hidden_labels():
    """They pass from the data through the driver to the diagnosis, and by nobody else."""
    data, training = ROOT / "trainables/data", ROOT / "trainables/training"
    allowed = {data / "tasks.py", training / "run.py", training / "train.py", ROOT / "trainables/__main__.py"}
    allowed |= {ROOT / "sparse_search/execution/worker.py", ROOT / "sparse_search/execution/multi_node.py"}
    assert {path for path in FILES if "hidden_labels" in path.read_text()} <= allowed


@pytest.mark.slow
def test_a_new_method_is_two_files(tmp_path):
    for package in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "search_spaces/nearest.py").write_text(TOY_SPACE)
    (tmp_path / "trainables/nearest.py").write_text(TOY_METHOD)

    def run(*command):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False,
                              env=environment)  # fmt: skip

    suites = ["tests/trainables/test_every_method.py", "tests/search_spaces/test_every_space.py"]
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *suites, "-k", "nearest or Nearest")
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout
    trained = run("-m", "trainables", "nearest", "--images", "500", "--set", "image_size=8", "--set", "temperature=0.1")
    assert trained.returncode == 0, trained.stderr
    assert float(trained.stdout.partition("balanced_accuracy ")[2].split()[0]) > 0.5
    listed = run("-c", "from sparse_search.cli.app import main; main()", "methods")
    assert "nearest" in listed.stdout
