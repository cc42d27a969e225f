"""The recipes "Add a data set" and "Add a reader" of CONTRIBUTING, followed to the letter in a copy of the tree.

Four rows are added, one for each way of storing: an npz file, a folder per class, pictures with masks, and a folder of
arrays with a reader of its own. Each is listed, tested, trained on and searched over.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.readers.shapes import shapes

from .contributing import blocks_of

ROOT = Path(__file__).parents[1]
SIDE = 32
SIZES = {"train": 24, "val": 6, "test": 8}

# The rows as a reader of the recipe would write them: the one given there, with the words of its table put in.
NPZ = 'opener="npz:open_npz_file", place="polyps.npz"'
CHANGES = {
    "polyps": {},
    "moles": {NPZ: 'opener="class_folders:open_class_folders", place="moles"'},
    "spots": {
        NPZ: 'opener="mask_reader:open_mask_folder", place="spots", kind="segmentation"',
        'class_names=("adenoma", "hyperplastic")': 'class_names=("spot",)',
    },
    "tracks": {NPZ: 'opener="npy_folder:open_npy_folder", place="tracks"', "channels=3": "channels=1"},
}

# (method, dataset, settings): the rows, and a path that a user gives.
TRAININGS = [
    ("constant", "moles", []),
    ("constant", "polyps", []),
    ("constant", "data/tracks", []),
    ("supervised", "tracks", ["classifier=resnet10t", "image_size=32", "batch_size=4"]),
    ("segmenter", "spots", ["image_size=32", "stages=2", "batch_size=2"]),
]
SWEEPS = {
    "classes": ("constant", ["polyps", "moles", "tracks", "data/tracks"]),
    "masks": ("segmenter", ["spots"]),
}

DRIVER = """
import json
import sys

import pytest

from sparse_search.cli.app import main
from trainables.__main__ import main as train

TRAININGS, SWEEPS = json.loads(sys.argv[1])


def sparse_search(*arguments):
    sys.argv = ["sparse-search", *arguments, "--data-root", "data"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, arguments


sparse_search("datasets")
for method, dataset, settings in TRAININGS:
    given = ["--dataset", dataset, "--data-root", "data", "--shots", "2", "--images", "8", "--threads", "1"]
    changes = [word for setting in settings for word in ("--set", setting)]
    assert train([method, *given, "--evaluate-every", "8", *changes]) == 0, (method, dataset)
for sweep in SWEEPS:
    sparse_search("status", f"{sweep}.yaml")
tests, names = "tests/trainables/data/test_every_dataset.py", "polyps or moles or spots or tracks"
quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
sys.exit(pytest.main([*quiet, tests, "-k", names]))
"""


def insert(path, before, text):
    """Put lines into a file before the last place of others."""
    head, found, tail = path.read_text().rpartition(before)
    assert found, f"{before} in {path}"
    path.write_text(head + text + found + tail)


def row_of(name):
    """The recipe's row, of another name and storage."""
    (row,) = blocks_of("Add a data set")
    for old, new in {'name="polyps"': f'name="{name}"', **CHANGES[name]}.items():
        assert old in row
        row = row.replace(old, new)
    return row


def picture(rng, label):
    """Pixels of a class: brighter where the label is 1."""
    return rng.integers(100 * label, 100 * label + 100, (SIDE, SIDE, 3), dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_data(folder):
    """Write what the rows say, below the data root."""
    rng, arrays = np.random.default_rng(0), {}
    (folder / "tracks").mkdir(parents=True)
    for split, size in SIZES.items():
        labels_N = np.arange(size) % 2
        images_NHW3 = np.stack([picture(rng, label) for label in labels_N])
        arrays |= {f"{split}_images": images_NHW3, f"{split}_labels": labels_N}
        np.save(folder / "tracks" / f"{split}.npy", images_NHW3[..., 0])
        np.save(folder / "tracks" / f"{split}_labels.npy", labels_N)
        for index, (label, pixels) in enumerate(zip(labels_N, images_NHW3, strict=True)):
            save(folder / "moles" / split / ("adenoma", "hyperplastic")[label] / f"{index}.png", pixels)
    np.savez(folder / "polyps.npz", **arrays)
    for index, (pixels, mask) in enumerate(zip(*shapes(20, SIDE, seed=0), strict=True)):
        save(folder / "spots/images" / f"{index}.png", pixels)
        save(folder / "spots/masks" / f"{index}.png", mask * 255)


@pytest.mark.slow
def test_data_sets_and_a_reader_are_added_as_written(tmp_path):
    for package in ("search_spaces", "trainables", "sparse_search"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for place in ("tests/conftest.py", "tests/trainables/data"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copy if (ROOT / place).is_file() else shutil.copytree
        copy(ROOT / place, tmp_path / place)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write_data(tmp_path / "data")
    reader, storage = blocks_of("Add a reader")
    (tmp_path / "trainables/data/readers/npy_folder.py").write_text(reader)
    insert(tmp_path / "trainables/data/storages.py", '    Storage(\n        "class_folders:', storage)
    for name in CHANGES:
        insert(tmp_path / "trainables/data/catalog.py", ")\n# fmt: on", row_of(name))
    for name, (method, datasets) in SWEEPS.items():
        sweep = {"name": name, "datasets": datasets, "shots": [2], "images": 100, "methods": {method: {"trials": 1}}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(sweep))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([TRAININGS, [*SWEEPS]])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split()[1]: line for line in done.stdout.splitlines() if "CC BY 4.0" in line}
    for name in CHANGES:
        assert "32 px" in listed[name]
    assert done.stdout.count("balanced_accuracy") >= 4
    assert "no miniature of what npy_folder:open_npy_folder opens" in done.stdout
