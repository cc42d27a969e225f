"""What is not read is said, with its number; where a label hangs on it, it is refused."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.passed_over import masks_beside, words_about
from trainables.data.source import open_source, prepare


def touch(folder, *places):
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(b"x")


def test_words(tmp_path):
    touch(
        tmp_path, "a/1.png", "a/2.webp", "a/3.NII", "a/4", "a/p1/5.png", "a/6_mask.png", "a/notes.txt", ".hidden/7.png"
    )
    touch(tmp_path, "a/1_Mask.png", "a/.DS_Store", "labels.csv")
    assert words_about(tmp_path, {"a/1.png"}, beside=True) == (
        "1 masks beside their pictures passed over (a/1_Mask.png)",
        "2 pictures in folders that are not looked into passed over (a/6_mask.png, a/p1/5.png)",
        "3 files that are no PNG, JPEG, BMP, TIFF or DICOM passed over (a/2.webp, a/3.NII, …)",
    )
    assert words_about(tmp_path / "none", set()) == ()


@pytest.mark.parametrize(
    ("places", "masks"),
    [
        (["a/x.png", "a/x_mask.png", "a/x_mask_1.png"], ["a/x_mask.png", "a/x_mask_1.png"]),
        (["a/x (1).png", "a/x (1)_mask.png"], ["a/x (1)_mask.png"]),
        (["a/x.jpg", "a/x_Segmentation.PNG"], ["a/x_Segmentation.PNG"]),
        (["a/x.jpg", "b/x_mask.png"], []),
        (["a/face_mask.png", "a/mask.png", "a/y.png"], []),
    ],
)
def test_masks_beside_their_pictures(places, masks):
    assert list(masks_beside(places, places)) == masks


def test_masks_are_no_training_pictures(write_pictures, caplog):
    folder = write_pictures({"train/a": 3, "train/b": 3})
    before = open_source(str(folder)).content_hash
    for number in range(3):
        shutil.copy(folder / "train/b/000.png", folder / f"train/a/{number:03}_mask.png")
    shutil.copytree(folder / "train/b", folder / "train/b/patient 1")
    source = open_source(str(folder))
    assert (source.class_counts("train"), source.content_hash) == ((3, 3), before)
    prepare(str(folder))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "dataset 'scans': 6 train pictures read (2 classes, 1x10x10); "
        "3 masks beside their pictures passed over (train/a/000_mask.png, train/a/001_mask.png, …); "
        "3 pictures in folders that are not looked into passed over "
        "(train/b/patient 1/000.png, train/b/patient 1/001.png, …)"
    )


@pytest.mark.parametrize("place", ["01.webp", "01.gif", "01.mha", "01.nii.gz", "a/b/01.png", "01_mask.npy", "01"])
@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_masks_that_are_not_read_are_refused(write_lesions, write_masks, place, kind):
    folder = write_lesions(9) if kind == "classification" else write_masks(9)
    touch(folder / "masks", place)
    with pytest.raises(
        DataError, match=rf"mask .*masks/{place} is not read; expected PNG, JPEG, BMP, TIFF or DICOM in masks/"
    ):
        open_source(f"{folder}@32", kind=kind)


def test_pictures_that_are_not_read_are_told(write_lesions, caplog):
    folder = write_lesions()
    touch(folder, "images/x.webp", "masks/notes.txt", "images/deeper/00.png")
    prepare(f"{folder}@32")
    assert "1 pictures in folders that are not looked into passed over (images/deeper/00.png); " in caplog.text
    assert "1 files that are no PNG, JPEG, BMP, TIFF or DICOM passed over (images/x.webp)" in caplog.text


def test_lesion_pictures_that_repeat_others_are_told(write_lesions, caplog):
    folder = write_lesions()
    shutil.copy(folder / "images/01.png", folder / "images/copy.png")
    prepare(f"{folder}@32")
    assert "1 pictures left out as they repeat others" in caplog.text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (255, "all 16 masks mark nearly everything: are black and white exchanged?"),
        (0, "none of the 16 masks marks anything"),
    ],
)
def test_masks_that_say_nothing_are_told(write_masks, caplog, value, words):
    folder = write_masks(20)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full((40, 40), value, np.uint8)).save(path)
    prepare(f"{folder}@32", kind="segmentation")
    assert caplog.text.strip().endswith(words)


def test_lesions_that_are_everywhere_are_told(write_lesions, caplog):
    folder = write_lesions()
    for path in (folder / "masks").rglob("*.png"):
        Image.fromarray(np.full((32, 40), 255, np.uint8)).save(path)
    prepare(f"{folder}@32")
    assert "masks mark nearly everything: are black and white exchanged?" in caplog.text
