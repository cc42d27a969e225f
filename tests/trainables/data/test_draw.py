import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.data.draw import draw_few_shot
from trainables.data.partition import SPLITS


def test_a_draw_reads_no_image(write_npz, damage, monkeypatch):
    path = write_npz()
    monkeypatch.setattr("trainables.data.readers.npz.NpzReader.images", lambda *_: pytest.fail("read an image"))
    source, split = draw_few_shot(str(path), 3, 0)
    assert source.splits == SPLITS
    assert np.bincount(source.labels("train")[split.labelled_indices]).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("changes", "request_", "message"),
    [
        ({}, {"shots": 7}, r"class 0 \('0'\) has 12 training images, but 7 labelled \+ 7 validation images"),
        ({}, {"validation": "offical"}, "validation mode 'offical' is unknown; did you mean 'official'"),
        ({"val_images": None, "val_labels": None}, {"validation": "official"}, "has no val split; choose"),
        ({"val_labels": np.full(9, 9)}, {"validation": "official"}, "labels of val run from 9 to 9"),
        ({"val_images": np.ones((9, 4, 4), np.uint8)}, {"validation": "official"}, "images of val are 1x4x4"),
        ({"train_images": np.ones((36, 8, 9), np.uint8)}, {}, "8x9 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_an_image_is_read(write_npz, changes, request_, message):
    request = {"shots": 3, "label_set": 0, "validation": "realistic"} | request_
    with pytest.raises(DataError, match=message):
        draw_few_shot(str(write_npz(**changes)), **request)


def test_a_wrong_mode_is_told_before_files_are_sought():
    with pytest.raises(DataError, match="validation mode"):
        draw_few_shot("nowhere/mine.npz", 3, 0, "x")


@pytest.mark.parametrize(("labels", "name"), [([0, 1, 1] * 3, "2"), ([2, 1, 1] * 3, "0")])
def test_a_val_split_that_lacks_a_class_is_refused(write_npz, labels, name):
    path = str(write_npz(val_labels=np.array(labels)))
    with pytest.raises(DataError, match=f"'mine': val has no image of class '{name}' to validate with; exp"):
        draw_few_shot(path, 3, 0, "official")
    assert len(draw_few_shot(path, 3, 0, "realistic").split.validation_indices) == 9


def test_a_class_whose_val_images_are_not_judged_is_missing(write_npz, made):
    made["val_labels"] = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    made["val_images"][8] = made["val_images"][7]
    assert draw_few_shot(str(write_npz(**made)), 3, 0, "official").split.validation_indices.tolist() == list(range(8))
    made["val_images"][[0, 7, 8]] = made["val_images"][8]
    with pytest.raises(DataError, match="val has no image of class '2'"):
        draw_few_shot(str(write_npz(**made)), 3, 0, "official")
