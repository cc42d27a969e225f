"""No picture is in two roles of a label set, whatever stores it."""

import logging
import os
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.core.conditions import VALIDATION_MODES
from trainables.data import duplicates
from trainables.data.draw import draw_few_shot
from trainables.data.duplicates import contents_of
from trainables.data.readers.npz import NpzReader
from trainables.data.source import open_source, prepare
from trainables.data.tasks import few_shot_task

REAL_DATA = os.environ.get("SPARSE_SEARCH_DATA")


def twice(made, split="train", into="train", pairs=((0, 1),), *, same_label=True):
    """Give the second picture of each pair the pixels of the first."""
    for first, second in pairs:
        made[f"{into}_images"][second] = made[f"{split}_images"][first]
        if same_label:
            made[f"{into}_labels"][second] = made[f"{split}_labels"][first]
    return made


def parts(dataset, mode, label_set, shots=3, kind="classification"):
    task = few_shot_task(dataset, shots, label_set, mode, kind=kind)
    tensors = (task.labelled.images_NCHW, task.unlabelled_NCHW, task.validation.images_NCHW)
    return [[picture.tobytes() for picture in tensor.numpy()] for tensor in tensors]


def assert_one_role(dataset, mode, label_sets=range(12), **request):
    for label_set in label_sets:
        seen = list(chain.from_iterable(parts(dataset, mode, label_set, **request)))
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize("mode", VALIDATION_MODES)
def test_a_picture_has_one_role_in_an_npz(write_npz, made, mode):
    changes = twice(twice(made, pairs=((0, 1), (2, 3), (2, 4))), into="val", pairs=((5, 0),))
    assert_one_role(str(write_npz(**changes)), mode)


@pytest.mark.parametrize("mode", VALIDATION_MODES)
def test_a_picture_has_one_role_in_class_folders(write_pictures, mode):
    folder = write_pictures({"train/a": 8, "train/b": 8, "val/a": 3, "val/b": 3}, mode="RGB")
    shutil.copy(folder / "train/a/000.png", folder / "train/a/copy.png")
    shutil.copy(folder / "train/b/000.png", folder / "val/b/copy.png")
    assert_one_role(str(folder), mode)


@pytest.mark.parametrize("mode", VALIDATION_MODES)
def test_a_picture_has_one_role_in_folders_with_masks(write_masks, mode):
    folder = write_masks(30)
    for part in ("images", "masks"):
        for copy in range(6):
            shutil.copy(folder / f"{part}/00.png", folder / f"{part}/copy{copy}.png")
    assert_one_role(f"{folder}@32", mode, shots=5, kind="segmentation")


def test_equal_pixels_in_files_of_two_formats(write_pictures):
    folder = write_pictures({"train/a": 4, "train/b": 4}, mode="RGB")
    with Image.open(folder / "train/a/001.png") as picture:
        picture.save(folder / "train/a/other.bmp")
    assert open_source(str(folder)).roles().present_N.tolist() == [True] * 4 + [False] + [True] * 4


def test_conflicting_labels_teach_nothing(write_npz, made):
    labels = made["train_labels"][:, 0]
    first, second = np.flatnonzero(labels == 0)[0], np.flatnonzero(labels == 1)[0]
    roles = open_source(str(write_npz(**twice(made, pairs=((first, second),), same_label=False)))).roles()
    assert (roles.num_conflicting, int(roles.teaching_N.sum()), int(roles.present_N.sum())) == (2, 34, 35)


def test_conflicting_masks_teach_nothing(write_masks):
    folder = write_masks(20)
    for index in range(1, 20):  # masks stay as they were
        shutil.copy(folder / "images/00.png", folder / f"images/{index:02}.png")
    roles = open_source(f"{folder}@32", kind="segmentation").roles()
    assert (roles.num_conflicting, int(roles.present_N.sum()), int(roles.teaching_N.sum())) == (16, 1, 0)


def test_what_is_left_out_is_said_in_one_line(write_npz, made, caplog):
    prepare(str(write_npz(**twice(twice(made, pairs=((0, 1),)), into="test", pairs=((5, 0),)))))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "dataset 'mine': 36 train, 9 val, 12 test pictures read (3 classes, 1x8x8); "
        "1 of train left out as the same pixels are there before; 1 of train are in test too, and remain in both"
    )


def test_nothing_left_out_is_no_warning(write_npz, caplog):
    caplog.set_level(logging.INFO)
    prepare(str(write_npz()))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "dataset 'mine': 36 train, 9 val, 12 test pictures read (3 classes, 1x8x8)")
    ]


def test_a_test_split_that_cannot_be_read_is_told(write_npz, damage, caplog):
    prepare(str(damage(write_npz(), "test_images")))
    assert "9 val, unreadable test pictures read" in caplog.text
    assert "test was not compared with train" in caplog.text


def test_pictures_are_compared_once(write_npz, cache, monkeypatch):
    monkeypatch.setattr(duplicates, "KEPT_FROM", 0)
    path, done = str(write_npz()), []
    reader = open_source(path).reader
    found = contents_of(reader, "train", lambda *count: done.append(count))
    assert done == [(count, 36) for count in range(1, 37)]
    assert len(list(cache.glob("contents-*-8-train-v1"))) == 1
    assert contents_of(reader, "train", lambda *_: pytest.fail("compared again")) == found
    monkeypatch.setattr(duplicates, "KEPT_FROM", 2**30)
    assert contents_of(reader, "train") == found


def test_further_draws_look_at_no_picture(write_npz, monkeypatch):
    path = str(write_npz())
    draw_few_shot(path, 3, 0)
    monkeypatch.setattr(NpzReader, "contents", lambda *_: pytest.fail("compared again"))
    assert len({draw_few_shot(path, 3, label_set).split.label_set_hash for label_set in range(5)}) == 5


def test_pictures_of_train_and_test_with_masks_are_told_apart(write_masks, caplog):
    folder = write_masks(20)
    before = open_source(f"{folder}@32", kind="segmentation")
    assert before.reader.notes == ()
    content = (folder / "images/00.png").read_bytes()
    for path in (folder / "images").iterdir():
        path.write_bytes(content)
    prepare(f"{folder}@32", kind="segmentation")
    assert "16 of train are in test too, and remain in both" in caplog.text


def test_without_a_place_to_keep_it_pictures_are_compared_all_the_same(write_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "KEPT_FROM", 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "file"))
    assert len(contents_of(open_source(str(write_npz())).reader, "train")) == 36


def test_arrays_in_the_order_of_fortran(write_npz, made):
    images = made["train_images"]
    one = contents_of(open_source(str(write_npz("one.npz"))).reader, "train")
    other = contents_of(open_source(str(write_npz("two.npz", train_images=np.asfortranarray(images)))).reader, "train")
    assert one == other


def test_a_damaged_picture_is_named(write_npz, damage):
    with pytest.raises(DataError, match=r"mine\.npz: 'train_images' cannot be read"):
        open_source(str(damage(write_npz(), "train_images"))).roles()


@pytest.mark.realdata
@pytest.mark.skipif(not REAL_DATA, reason="needs real images: set SPARSE_SEARCH_DATA to their folder")
def test_grades_of_idrid():
    path = Path(REAL_DATA) / "idrid_grading_28.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in SPARSE_SEARCH_DATA")
    roles = open_source(str(path)).roles()
    assert (int((~roles.present_N).sum()), roles.num_conflicting, int((~roles.teaching_N).sum())) == (5, 4, 7)
    assert_one_role(str(path), "realistic", range(40), shots=5)
