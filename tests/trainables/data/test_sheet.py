import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.sheet import SIDE, write_contact_sheet


def cell(sheet, row, column):
    """Pixels of a picture on a sheet."""
    top, left = 4 + row * (SIDE + 18) + 14, 4 + column * (SIDE + 4)
    return np.asarray(sheet)[top : top + SIDE, left : left + SIDE]


def test_a_row_for_each_class_and_one_for_the_pool(write_pictures, tmp_path):
    folder = write_pictures({"benign": 12, "ill": 3, "unlabelled": 5}, size=(SIDE, SIDE))
    file = tmp_path / "new" / "sheet.png"
    assert write_contact_sheet(str(folder), file) == 8 + 3 + 5
    sheet = Image.open(file)
    for row, place in enumerate(["benign/000.png", "ill/000.png", "unlabelled/000.png"]):
        pixels_HW = np.asarray(Image.open(folder / place))
        assert np.array_equal(cell(sheet, row, 0), np.repeat(pixels_HW[..., None], 3, axis=2))
    assert np.array_equal(cell(sheet, 0, 7)[..., 0], np.asarray(Image.open(folder / "benign/011.png")))
    assert (cell(sheet, 1, 3) == 255).all(), "a class of three"


def test_masks_are_shown_below_their_pictures(tmp_path):
    assert write_contact_sheet(f"shapes@{SIDE}", tmp_path / "s.png") == 16
    masks = cell(Image.open(tmp_path / "s.png"), 1, 0)
    assert set(np.unique(masks)) == {0, 255}


def test_a_place_that_cannot_be_written_is_told(write_pictures, tmp_path):
    with pytest.raises(DataError, match=r"sheet .* cannot be written \(Is a directory\); name another file"):
        write_contact_sheet(str(write_pictures({"a": 1, "b": 1, "unlabelled": 1})), tmp_path)
