import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.catalog import CATALOG
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task

SPLIT_FOLDERS = {"train/ill": 6, "train/healthy": 8, "val/ill": 2, "test/healthy": 3}


def test_split_folders(write_pictures):
    source = open_source(str(write_pictures(SPLIT_FOLDERS)))
    assert (source.name, source.class_names, source.channels, source.side) == (
        "scans",
        ("healthy", "ill"),
        1,
        10,
    )
    assert source.splits == ("train", "val", "test")
    assert source.class_counts("train") == (8, 6)
    assert source.labels("val").tolist() == [1, 1]
    assert source.labels("test").tolist() == [0, 0, 0]
    assert source.images("train").shape == (14, 1, 10, 10)
    assert not source.official


def test_pixels_are_those_of_the_files(write_pictures):
    folder = write_pictures(SPLIT_FOLDERS, mode="RGB")
    with Image.open(folder / "train/healthy/000.png") as picture:
        expected = np.asarray(picture).transpose(2, 0, 1)
    assert np.array_equal(open_source(str(folder)).images("train")[0], expected)


@pytest.mark.parametrize("absent", ["val", "test"])
def test_val_and_test_are_optional(write_pictures, absent):
    counts = {place: count for place, count in SPLIT_FOLDERS.items() if not place.startswith(absent)}
    source = open_source(str(write_pictures(counts)))
    assert absent not in source.splits
    with pytest.raises(DataError, match=f"dataset 'scans' has no {absent} split"):
        source.labels(absent)


def test_class_folders_are_shared_out(write_pictures):
    folder = write_pictures({"a": 20, "b": 10, "c": 30})
    source = open_source(str(folder))
    assert source.class_counts("train") == (14, 7, 21)
    assert source.class_counts("val") == (2, 1, 3)
    assert source.class_counts("test") == (4, 2, 6)
    places = [place for split in source.splits for place in source.reader.members[split]]
    assert len(set(places)) == 60


def test_sharing_out_follows_the_content_not_the_place(write_pictures, tmp_path):
    folder = write_pictures({"a": 20, "b": 10})
    shutil.copytree(folder, tmp_path / "elsewhere" / "scans")
    one, two = open_source(str(folder)), open_source(str(tmp_path / "elsewhere" / "scans"))
    assert one.content_hash == two.content_hash
    assert one.reader.members == two.reader.members
    with (folder / "a/000.png").open("ab") as stream:
        stream.write(b"more")
    assert open_source(str(folder)).content_hash != one.content_hash


@pytest.mark.parametrize(
    ("size", "side", "name", "expected"),
    [
        ((10, 10), "", "scans", 10),
        ((10, 10), "@6", "scans@6", 6),
        ((12, 10), "", "scans", 224),
        ((12, 10), "@16", "scans@16", 16),
    ],
)
def test_side(write_pictures, size, side, name, expected):
    source = open_source(str(write_pictures({"a": 4, "b": 4}, size=size)) + side)
    assert (source.name, source.side) == (name, expected)
    assert source.images("train").shape[2:] == (expected, expected)


def test_pictures_of_several_sizes_are_resized(write_pictures):
    write_pictures({"train/a": 2}, size=(10, 10))
    folder = write_pictures({"train/b": 2}, size=(12, 12))
    assert open_source(str(folder)).side == 224


@pytest.mark.parametrize(("other", "channels"), [("L", 1), ("RGB", 3)])
def test_one_coloured_picture_makes_all_coloured(write_pictures, other, channels):
    write_pictures({"train/a": 2}, mode="L")
    source = open_source(str(write_pictures({"train/b": 2}, mode=other)))
    assert source.channels == channels
    assert source.images("train").shape == (4, channels, 10, 10)


def test_the_test_set_does_not_shape_training(write_pictures):
    write_pictures({"train/a": 2, "train/b": 2})
    source = open_source(str(write_pictures({"test/a": 2}, mode="RGB", size=(30, 20))))
    assert source.images("test").shape == (2, 1, 10, 10)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "PNG"])
def test_formats(write_pictures, suffix):
    source = open_source(str(write_pictures({"a": 4, "b": 4}, mode="RGB", suffix=suffix)))
    assert source.images("train").shape[1:] == (3, 10, 10)


def test_other_files_and_hidden_ones_are_passed_over(write_pictures):
    folder = write_pictures({"a": 4, "b": 4, ".hidden": 2, "__MACOSX": 2})
    (folder / "a" / "notes.txt").write_text("x")
    (folder / "a" / "._000.png").write_bytes(b"x")
    assert len(open_source(str(folder)).reader.files) == 8


def test_test_pictures_are_not_opened_for_a_task(write_pictures):
    folder = write_pictures(SPLIT_FOLDERS)
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"damaged")
    task = few_shot_task(str(folder), 2, 0)
    assert len(task.labelled) == len(task.validation) == 4
    with pytest.raises(DataError, match=r"test/healthy/000\.png cannot be read as a picture"):
        open_source(str(folder)).images("test")


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_a_damaged_picture_is_named(write_pictures, content):
    folder = write_pictures({"train/a": 2, "train/b": 2})
    (folder / "train/a/001.png").write_bytes(content)
    with pytest.raises(DataError, match=r"train/a/001\.png cannot be read as a picture; expected PNG, JPEG"):
        open_source(str(folder))


def test_a_cut_picture_is_named(write_pictures):
    folder = write_pictures({"train/a": 2, "train/b": 2}, size=(60, 60))
    path = folder / "train/a/001.png"
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(DataError, match=r"train/a/001\.png cannot be read as a picture"):
        open_source(str(folder)).images("train")


def test_sixteen_bit_pictures_are_not_clipped(write_pictures):
    folder = write_pictures({"train/a": 2, "train/b": 2})
    Image.fromarray(np.full((10, 10), 5000, dtype=np.uint16)).save(folder / "train/a/000.png")
    assert np.unique(open_source(str(folder)).images("train")[0]).tolist() == [round(5000 / 257)]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 3}, r"scans holds 1 class folders; expected one folder of pictures per class, at least two"),
        ({"train/a": 3}, r"train holds 1 class folders"),
        ({"a": 3, "b": 0}, r"scans/b holds no picture \(\.bmp, .*\); expected one folder"),
        ({"train/a": 1, "train/b": 1, "valid/a": 1}, "valid stands beside train/; expected val or test"),
        ({"train/a": 1, "train/b": 1, "test/c": 1}, r"test/c/000\.png is of no class in train/ \(a, b\)"),
    ],
)
def test_layout_messages(write_pictures, counts, message):
    with pytest.raises(DataError, match=message):
        open_source(str(write_pictures(counts)))


def test_a_row_of_the_catalogue_names_the_folders(write_pictures, tmp_path, monkeypatch):
    write_pictures({"calm": 5, "ill": 5}, name="moles")
    row = replace(
        CATALOG["digits"], name="moles", class_names=("ill", "calm"), sides=(6,), checksums={},
        opener="class_folders:open_class_folders", place="moles",
    )  # fmt: skip
    monkeypatch.setitem(CATALOG, "moles", row)
    with pytest.raises(
        DataError, match=r"moles holds the classes calm, ill; expected ill, calm, in alphabetical order"
    ):
        open_source("moles", tmp_path)
    monkeypatch.setitem(CATALOG, "moles", replace(row, class_names=("calm", "ill")))
    assert open_source("moles", tmp_path).side == 6
    with pytest.raises(DataError, match=r"nowhere/moles does not exist; put the data there, or name the folder above"):
        open_source("moles", tmp_path / "nowhere")


def test_folders_of_patients_are_named(write_pictures):
    folder = write_pictures({"a/patient 1": 2, "a/patient 2": 2, "b": 3})
    with pytest.raises(DataError, match=r"scans/a holds no picture \(.*\), and folders in it are not looked"):
        open_source(str(folder))


def test_photographs_that_lie_on_their_side_have_the_side_that_is_shown(write_pictures):
    folder = write_pictures({"train/a": 2, "train/b": 2}, mode="RGB", size=(10, 10))
    path = folder / "train/a/000.png"
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(path, exif=exif)
    assert np.array_equal(open_source(str(folder)).images("train")[0], pixels.transpose(2, 0, 1))
