"""Test images that a table lists."""

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError
from trainables.core.withheld import learner_at_work
from trainables.data.later_test import later_test_set


@pytest.fixture
def ward(tmp_path, write_npz):
    """A data set of 8 px, and a maker of a table of pictures, each with a label."""
    dataset, rng = str(write_npz()), np.random.default_rng(5)
    (tmp_path / "ward").mkdir()

    def write(*labels):
        for number in range(len(labels)):
            pixels_HW = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels_HW).save(tmp_path / f"ward/{number}.png")
        lines = [f"{number}.png,{label}" for number, label in reversed(list(enumerate(labels)))]
        (tmp_path / "ward/later.csv").write_text("\n".join(["path,label", *lines]))
        return tmp_path / "ward/later.csv"

    return dataset, write


def test_images_come_with_the_classes_of_the_data_set(ward):
    dataset, write = ward
    table = write(2, 0, "", 0)
    found = later_test_set(table, dataset)
    assert found.labels_N.tolist() == [2, 0, 0]
    for image_CHW, number in zip(found.images_NCHW, (0, 1, 3), strict=True):
        assert np.array_equal(image_CHW[0], np.asarray(Image.open(table.parent / f"{number}.png")))


def test_what_cannot_be_a_test_is_refused(ward):
    dataset, write = ward
    with pytest.raises(DataError, match="has the class 'ill', which mine does not have; expected 0, 1, 2: correct"):
        later_test_set(write(0, 1, "ill"), dataset)
    table = write(0, 1)
    with np.load(dataset) as file:
        Image.fromarray(file["train_images"][3]).save(table.parent / "1.png")
    with pytest.raises(DataError, match=r"names 1 images that are labelled in mine, the first of them 1.png"):
        later_test_set(table, dataset)
    (table.parent / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        later_test_set(table, dataset)


def test_images_that_chose_are_no_test(ward):
    dataset, write = ward
    table = write(0, 1)
    with np.load(dataset) as file:
        Image.fromarray(file["val_images"][2]).save(table.parent / "0.png")
    with pytest.raises(DataError, match=r"names 1 images that are labelled in mine, the first of them 0.png"):
        later_test_set(table, dataset)


def test_groups_that_taught_are_no_test(tmp_path):
    rng = np.random.default_rng(6)
    for number in range(7):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    rows = ["0.png,a,p1", "1.png,a,p2", "2.png,b,p3", "3.png,b,p4", "4.png,,p5"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    later = tmp_path / "later.csv"
    later.write_text("path,label,patient\n5.png,a,p6\n6.png,b,p7\n")
    assert later_test_set(later, str(tmp_path)).labels_N.tolist() == [0, 1]
    for patient in ("P1", "p5"):
        later.write_text(f"path,label,patient\n5.png,a,p6\n6.png,b,{patient}\n")
        with pytest.raises(DataError, match=rf"1 images of groups that .* learned from, .* 6.png of group '{patient}'"):
            later_test_set(later, str(tmp_path))


def test_a_learner_cannot_ask(ward):
    dataset, write = ward
    table = write(0, 1)
    with learner_at_work(), pytest.raises(ConfigError, match="the test set"):
        later_test_set(table, dataset)
