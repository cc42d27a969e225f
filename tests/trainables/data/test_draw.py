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
