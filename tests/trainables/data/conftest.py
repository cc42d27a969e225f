"""Miniature data in the real layouts."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from trainables.data import source
from trainables.data.readers import medmnist
from trainables.data.readers.shapes import shapes

PER_CLASS = {"train": 12, "val": 3, "test": 4}


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """A test that meets a missing file must not reach for the network."""

    def refuse(info, side, path):
        raise AssertionError(f"download of {path}")

    monkeypatch.setattr(medmnist, "download", refuse)
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
def made():
    """The six arrays of a miniature npz, to be changed."""
    return arrays()


@pytest.fixture
def write_npz(tmp_path):
    """Write a miniature npz; named arrays replace the usual ones, None drops one."""

    def write(name="mine.npz", *, form=None, **changes) -> Path:
        kept = {key: array for key, array in (arrays(**(form or {})) | changes).items() if array is not None}
        np.savez_compressed(tmp_path / name, **kept)
        return tmp_path / name

    return write


@pytest.fixture
def damage():
    """Overwrite members of an npz with bytes that are no array."""

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
    """Write pictures of random pixels below a folder: `{"train/ill": 3}` makes three PNGs of class ill."""

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


@pytest.fixture
def write_table(tmp_path):
    """Write a folder of pictures with random pixels and a table: `{"a.png": ("ill", "p1")}` names one, with values."""

    def write(rows, *, columns=("label",), name="scans", table="labels.csv", unnamed=(), size=10) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / name
        for place in (*rows, *unnamed):
            save_picture(folder / place, rng.integers(0, 256, (size, size), dtype=np.uint8))
        lines = [",".join(("path", *columns)), *(",".join((place, *values)) for place, values in rows.items())]
        (folder / table).write_text("\n".join(lines))
        return folder

    return write


def save_picture(path: Path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def one_spot(size, rng) -> np.ndarray:
    """A mask (H, W) with a single marked pixel."""
    mask = np.zeros(size[::-1], dtype=np.uint8)
    mask[rng.integers(size[1]), rng.integers(size[0])] = 255
    return mask


@pytest.fixture
def write_lesions(tmp_path):
    """Write an own folder of pictures, every third with one marked pixel in a mask of one of two kinds."""

    def write(count=30, *, name="lesions", size=(40, 32)) -> Path:
        rng = np.random.default_rng(0)
        for index in range(count):
            pixels = rng.integers(0, 200, (*size[::-1], 3), dtype=np.uint8)
            save_picture(tmp_path / name / f"images/{index:02}.png", pixels)
            if index % 3 == 0:
                save_picture(tmp_path / name / f"masks/{'ab'[index % 2]}/{index:02}.png", one_spot(size, rng))
        (tmp_path / name / "masks").mkdir(exist_ok=True)
        return tmp_path / name

    return write


@pytest.fixture
def write_masks(tmp_path):
    """Write an own folder of pictures of 40 px with a mask each."""

    def write(count=20, *, name="masked") -> Path:
        for index, (pixels, mask) in enumerate(zip(*shapes(count, 40, seed=5), strict=True)):
            save_picture(tmp_path / name / f"images/{index:02}.png", pixels)
            save_picture(tmp_path / name / f"masks/{index:02}.png", mask * 255)
        return tmp_path / name

    return write


@pytest.fixture
def write_idrid(tmp_path):
    """Write a miniature of IDRiD's two parts below `idrid/`: 16 with lesions, 32 of grade 0, 6 of other grades.

    One picture more of grade 0 is one of grade 3 as well.
    """

    def write(*, published=False) -> Path:
        folder, rng = tmp_path / "idrid", np.random.default_rng(0)
        for number in range(1, 17):
            part, size = ("train" if number <= 10 else "test"), (60, 48)
            image, masks = _marked_places(folder, part, f"IDRiD_{number:02}", published)
            save_picture(image, rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
            for lesion, path in masks.items():
                if lesion != "SE" or number % 2:
                    save_picture(path, one_spot(size, rng) if lesion != "OD" else np.full(size[::-1], 255, np.uint8))
        tables = {"train": [], "test": []}
        shared = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        for number, grade in enumerate([0] * 33 + [1, 2, 2, 3, 4, 3]):
            part, name = ("train" if number % 2 else "test"), f"IDRiD_{number:03}"
            pixels = shared if number in (32, 38) else rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            save_picture(_graded_place(folder, part, name, published), pixels)
            tables[part].append((name, grade))
        _write_tables(folder, tables, published)
        return tmp_path

    return write


_PARTS = {"train": "a. Training Set", "test": "b. Testing Set"}
_MASKS = {"MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard Exudates", "SE": "4. Soft Exudates",
          "OD": "5. Optic Disc"}  # fmt: skip


def _marked_places(folder, part, name, published):
    if not published:
        inside = folder / "segmentation" / part
        return inside / f"images/{name}.png", {lesion: inside / f"masks/{lesion}/{name}.png" for lesion in _MASKS}
    inside = folder / "A. Segmentation"
    truths = inside / "2. All Segmentation Groundtruths" / _PARTS[part]
    masks = {lesion: truths / place / f"{name}_{lesion}.tif" for lesion, place in _MASKS.items()}
    return inside / "1. Original Images" / _PARTS[part] / f"{name}.png", masks


def _graded_place(folder, part, name, published):
    if published:  # its own suffix: these are JPEG
        return folder / "B. Disease Grading/1. Original Images" / _PARTS[part] / f"{name}.jpg"
    return folder / f"grading/images/{part}_{name}.png"


def _write_tables(folder, tables, published):
    if not published:
        rows = [f"{part}_{name}.png,{part},{name},{grade},0" for part in tables for name, grade in tables[part]]
        lines = ["file,split,image_id,retinopathy_grade,macular_edema_risk", *rows]
        (folder / "grading/labels.csv").write_text("\n".join(lines))
        return
    truths = folder / "B. Disease Grading/2. Groundtruths"
    truths.mkdir()
    for part, kind in (("train", "a. IDRiD_Disease Grading_Training"), ("test", "b. IDRiD_Disease Grading_Testing")):
        lines = ["Image name,Retinopathy grade,Risk of macular edema ,,", *(f"{n},{g},0,," for n, g in tables[part])]
        (truths / f"{kind} Labels.csv").write_text("\n".join(lines) + "\n,,,,\n")
