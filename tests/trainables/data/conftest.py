"""Miniature data in the real layouts."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from trainables.data import source

PER_CLASS = {"train": 12, "val": 3, "test": 4}


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """A test that meets a missing file must not reach for the network."""

    def refuse(info, side, path):
        raise AssertionError(f"download of {path}")

    monkeypatch.setattr(source, "download", refuse)
    monkeypatch.delenv(source.ROOT_VARIABLE, raising=False)


def arrays(num_classes=3, channels=1, side=8, columns=1, seed=0):
    """The six arrays of a MedMNIST file; with several `columns`, label 1 sets a finding and label 0 none."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, per_class in PER_CLASS.items():
        labels = rng.permutation(np.repeat(np.arange(num_classes), per_class))
        form = (len(labels), side, side) + ((3,) if channels == 3 else ())
        made[f"{split}_images"] = rng.integers(0, 256, form, dtype=np.uint8)
        made[f"{split}_labels"] = labels[:, None].astype(np.uint8)
        if columns > 1:
            made[f"{split}_labels"] = np.eye(columns, dtype=np.uint8)[labels] * labels[:, None].astype(np.uint8)
    return made


@pytest.fixture
def write_npz(tmp_path):
    """Writes a miniature npz; named arrays replace the usual ones, None drops one."""

    def write(name="mine.npz", *, form=None, **changes) -> Path:
        kept = {key: array for key, array in (arrays(**(form or {})) | changes).items() if array is not None}
        np.savez_compressed(tmp_path / name, **kept)
        return tmp_path / name

    return write


@pytest.fixture
def damage():
    """Overwrites members of an npz with bytes that are no array."""

    def damage(path: Path, prefix: str) -> Path:
        with ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, b"damaged" if name.startswith(prefix) else content)
        return path

    return damage


@pytest.fixture
def write_pictures(tmp_path):
    """Writes pictures of random pixels below a folder: `{"train/ill": 3}` makes three PNGs of class ill."""

    def write(counts, *, name="scans", mode="L", size=(10, 10), suffix="png") -> Path:
        rng = np.random.default_rng(0)
        for place, count in counts.items():
            (tmp_path / name / place).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                form = size[::-1] if mode == "L" else (*size[::-1], 3)
                picture = Image.fromarray(rng.integers(0, 256, form, dtype=np.uint8)).convert(mode)
                picture.save(tmp_path / name / place / f"{index:03}.{suffix}")
        return tmp_path / name

    return write
