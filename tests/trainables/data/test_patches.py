import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.grid import Grid
from trainables.data.patches import boxes, check_grid, cut, inherited_labels, marked_patches, reassemble


def pictures(count, side, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def test_a_picture_of_1024_is_64_patches_of_128():
    given = pictures(2, 1024)
    patches = cut(given, Grid(8, 8))
    assert patches.shape == (128, 3, 128, 128)
    assert np.array_equal(patches[1], given[0, :, :128, 128:256]), "row by row"
    assert np.array_equal(patches[64 + 8], given[1, :, 128:256, :128]), "picture by picture"
    assert np.array_equal(reassemble(patches, Grid(8, 8)), given)


@pytest.mark.parametrize("grid", [Grid(1, 1), Grid(2, 2), Grid(4, 4, 4), Grid(3, 3, 1), Grid(2, 2, 7), Grid(2, 2, 12)])
def test_reassembly(grid):
    given = pictures(3, 24, channels=1)
    patches = cut(given, grid)
    side = 24 // grid.rows + grid.overlap
    assert patches.shape == (3 * grid.num_patches, 1, side, side)
    assert np.array_equal(reassemble(patches, grid), given)


def test_overlapping_patches_lie_around_their_cells_and_are_shifted_inwards_at_the_border():
    rows = [box[0] for box in boxes(Grid(4, 4, 4), 32, 32)][::4]
    assert rows == [slice(0, 12), slice(6, 18), slice(14, 26), slice(20, 32)]


def test_only_chosen_pictures_are_read():
    class Guarded(np.ndarray):
        def __getitem__(self, key):
            assert key in (2, 0)
            return np.asarray(self)[key]

    given = pictures(3, 8)
    patches = cut(given.view(Guarded), Grid(2, 2), np.array([2, 0]))
    assert np.array_equal(patches, cut(given[[2, 0]], Grid(2, 2)))


@pytest.mark.parametrize(("row", "column", "patch"), [(0, 0, 0), (0, 63, 7), (63, 0, 56), (63, 63, 63)])
def test_one_pixel_in_a_corner_marks_one_patch(row, column, patch):
    masks = np.zeros((2, 64, 64), dtype=bool)
    masks[1, row, column] = True
    labels = marked_patches(masks, Grid(8, 8))
    assert labels.dtype == np.int64
    assert np.flatnonzero(labels).tolist() == [64 + patch]


def test_a_pixel_where_patches_overlap_marks_each_of_them():
    masks = np.zeros((1, 16, 16), dtype=bool)
    masks[0, 8, 0] = True
    assert marked_patches(masks, Grid(2, 2)).tolist() == [0, 0, 1, 0]
    assert marked_patches(masks, Grid(2, 2, 4)).tolist() == [1, 0, 1, 0]


def test_marks_are_where_the_pixels_are():
    masks = np.random.default_rng(0).random((3, 24, 24)) < 0.01
    for grid in (Grid(4, 4), Grid(4, 4, 3)):
        patches = cut(masks[:, None], grid)
        assert marked_patches(masks, grid).tolist() == patches.any(axis=(1, 2, 3)).astype(int).tolist()


def test_inherited_labels():
    assert inherited_labels(np.array([2, 0]), Grid(2, 2)).tolist() == [2, 2, 2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("grid", "side", "patch"), [(Grid(8, 8), 1024, 128), (Grid(7, 7), 28, 4), (Grid(4, 4, 16), 512, 144)]
)
def test_patch_side(grid, side, patch):
    assert check_grid(grid, side, "x") == patch


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid(8, 8), "a side of 28 pixels does not divide into 8; expected a grid, or a side with @SIDE, that divides"),
        (Grid(7, 3), "a side of 28 pixels does not divide into 3;"),
        (Grid(4, 2), "patches of grid 4x2 would be 7x14 pixels; expected squares: use :4x4 or :2x2"),
        (Grid(2, 2, 15), "patches of 29 pixels are larger than the pictures of 28; lower the overlap"),
    ],
)
def test_grids_that_do_not_fit(grid, message):
    with pytest.raises(DataError) as caught:
        check_grid(grid, 28, "x")
    assert str(caught.value).startswith(f"dataset 'x': {message}")
