"""Masks as a viewer shows them: whatever the file, the same disc is marked."""

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.mask_pixels import read_mask

SIDE = 40
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
DISC = (ROWS - 20) ** 2 + (COLUMNS - 16) ** 2 < 100
VALUES = DISC.astype(np.uint8)
EDGED = np.asarray(Image.fromarray(VALUES * 255).resize((20, 20)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def read(path):
    return read_mask(path, path.parent / "picture.png", (SIDE, SIDE))


def coloured(ink, ground):
    """Pixels (H, W, C) of a disc of ink on a ground."""
    return np.where(DISC[..., None], np.array(ink, np.uint8), np.array(ground, np.uint8))


def palette(colours, numbers=(0, 1)):
    made = Image.frombytes("P", (SIDE, SIDE), np.where(DISC, numbers[1], numbers[0]).astype(np.uint8).tobytes())
    made.putpalette(colours)
    return made


def transparent_index():
    made = palette([9, 9, 9, 255, 0, 0])
    made.info["transparency"] = 0
    return made


FORMS = {
    "0 and 1": Image.fromarray(VALUES),
    "0 and 255": Image.fromarray(VALUES * 255),
    "0 and 128": Image.fromarray(VALUES * 128),
    "one bit": Image.fromarray(DISC),
    "16 bits, 0 and 1": Image.fromarray(VALUES.astype(np.uint16)),
    "16 bits": Image.fromarray(VALUES.astype(np.uint16) * 65535),
    "32 bits": Image.fromarray(VALUES.astype(np.int32)),
    "red": Image.fromarray(coloured((255, 0, 0), (0, 0, 0))),
    "blue": Image.fromarray(coloured((0, 0, 255), (0, 0, 0))),
    "white on transparent": Image.fromarray(coloured((255, 255, 255, 255), (255, 255, 255, 0))),
    "white on transparent black": Image.fromarray(coloured((255, 255, 255, 255), (0, 0, 0, 0))),
    "black on transparent": Image.fromarray(coloured((0, 0, 0, 255), (0, 0, 0, 0))),
    "black on transparent white": Image.fromarray(coloured((0, 0, 0, 255), (255, 255, 255, 0))),
    "red on transparent": Image.fromarray(coloured((255, 0, 0, 255), (0, 0, 0, 0))),
    "grey with alpha": Image.fromarray(coloured((255, 255), (255, 0))),
    "opaque alpha": Image.fromarray(coloured((255, 255, 255, 255), (0, 0, 0, 255))),
    "palette, black and white": palette([0, 0, 0, 255, 255, 255]),
    "palette, black and dark red": palette([0, 0, 0, 128, 0, 0]),
    "palette, exchanged": palette([255, 255, 255, 0, 0, 0], (1, 0)),
    "palette, transparent ground": transparent_index(),
}


CASES = [
    (form, suffix)
    for form in FORMS
    for suffix in ("png", "tif")
    if (form, suffix) not in {("32 bits", "png"), ("palette, transparent ground", "tif")}  # which these cannot hold
]


@pytest.mark.parametrize(("form", "suffix"), CASES)
def test_the_same_disc_is_marked(tmp_path, form, suffix):
    FORMS[form].save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read(tmp_path / f"a.{suffix}"), DISC)


def test_grey_edges_are_no_marks(tmp_path):
    Image.fromarray(EDGED).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert (EDGED > 0).sum() > 1.2 * DISC.sum()
    assert found.sum() == pytest.approx(DISC.sum(), rel=0.03)


def test_what_went_through_jpeg_and_became_png(tmp_path):
    Image.fromarray(VALUES * 255).save(tmp_path / "a.jpg", quality=60)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    for name in ("a.jpg", "a.png"):
        assert read(tmp_path / name).sum() == pytest.approx(DISC.sum(), rel=0.03)


@pytest.mark.parametrize("value", [0, 3])
def test_an_empty_jpeg_is_empty(tmp_path, value):
    Image.fromarray(np.full((SIDE, SIDE), value, np.uint8)).save(tmp_path / "a.jpg")
    assert not read(tmp_path / "a.jpg").any()


@pytest.mark.parametrize(
    ("form", "marked"),
    [
        (np.zeros((SIDE, SIDE), np.uint8), 0.0),
        (np.full((SIDE, SIDE), 255, np.uint8), 1.0),
        (np.zeros((SIDE, SIDE, 4), np.uint8), 0.0),
    ],
)
def test_empty_and_full_ones(tmp_path, form, marked):
    Image.fromarray(form).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").mean() == marked


VOID = r"a\.png has the value 255 beside 1; expected 0 and 1, or 0 and 255: 255 often stands for pixels"
NUMBERS = r"a\.png has the values 0, 1, 2; expected 0 and 1, or 0 and 255: set what is to be marked to 255"


@pytest.mark.parametrize(
    ("other", "has_palette", "message"), [(255, False, VOID), (255, True, VOID), (2, False, NUMBERS)]
)
def test_values_that_say_more_are_refused(tmp_path, other, has_palette, message):
    values = VALUES.copy()
    values[0] = other
    picture = Image.fromarray(values)
    if has_palette:
        picture = Image.frombytes("P", picture.size, values.tobytes())
        picture.putpalette([0, 0, 0, 128, 0, 0] + [0, 0, 0] * 253 + [224, 224, 192])
    picture.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.png")


def test_a_mask_on_its_side_lies_as_its_picture(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(VALUES * 255))).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), DISC)


def test_another_size_is_told_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(VALUES[:, :30]).save(tmp_path / "a.png", exif=exif)
    with pytest.raises(
        DataError, match=r"a\.png is 40x30 pixels, but its picture .*picture\.png is 40x40: make them equal"
    ):
        read(tmp_path / "a.png")
