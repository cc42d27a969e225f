import numpy as np
import pytest
from PIL import Image, ImageOps

from search_spaces.core.errors import DataError
from trainables.data.readers.picture_files import content_of, opened, read_picture, shared_format
from trainables.data.readers.shown import num_pages, shown, shown_size

ORIENTATION = 274
SUFFIXES = ("jpg", "png", "tif")


@pytest.fixture
def pixels():
    """A picture (20, 30, 3) of four flat quarters, which JPEG keeps nearly."""
    made = np.zeros((16, 32, 3), dtype=np.uint8)
    made[:8, :16], made[8:, :16], made[8:, 16:] = 80, 160, 240
    return made


def turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {ORIENTATION: orientation}} if path.suffix == ".tif" else {"exif": exif, "quality": 95}
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path, pixels, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    turned(path, pixels, orientation)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    with opened(path) as picture:
        size = shown_size(picture)
        found = np.asarray(shown(picture, 3))
    assert size == ((16, 32) if orientation > 4 else (32, 16)) == found.shape[1::-1]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_on_its_side_is_read_upright(tmp_path, pixels, suffix):
    path = tmp_path / f"a.{suffix}"
    turned(path, np.ascontiguousarray(np.rot90(pixels[:, :16])), 6)  # a quarter turn clockwise is to be done
    assert shared_format([path]) == (3, 16)
    assert np.abs(read_picture(path, 3, 16).transpose(1, 2, 0) - pixels[:, :16].astype(int)).max() <= 2


def test_a_note_that_cannot_be_read_is_passed_over(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0no header at all")
    assert np.array_equal(read_picture(tmp_path / "a.png", 3, 16).shape, (3, 16, 16))


GREY, RED, BLACK = (90, 90, 90), (200, 0, 0), (0, 0, 0)


def in_mode(mode):
    """A picture whose left half is seen and whose right half is transparent or black."""
    if mode in ("RGBA", "LA"):
        picture = Image.new("RGBA", (4, 4), (*GREY, 255))
        picture.paste((200, 200, 200, 0), (2, 0, 4, 4))
        return picture.convert(mode)
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([*GREY, *RED])
    picture.paste(1, (2, 0, 4, 4))
    picture.info["transparency"] = 1
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_is_black(tmp_path, mode, channels):
    in_mode(mode).save(tmp_path / "a.png")
    expected = np.zeros((channels, 4, 4), dtype=np.uint8)
    expected[:, :, :2] = 90
    assert np.array_equal(read_picture(tmp_path / "a.png", channels, 4), expected)
    assert content_of(tmp_path / "a.png", 3).endswith(bytes((*GREY, *GREY, *BLACK, *BLACK)))


def test_opaque_pictures_with_alpha_keep_their_colours(tmp_path, pixels):
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", 3, 16), read_of(pixels, tmp_path / "b.png"))


def read_of(pixels, path):
    Image.fromarray(pixels).save(path)
    return read_picture(path, 3, 16)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_inks_are_colours(tmp_path, suffix):
    Image.new("RGB", (8, 8), RED).convert("CMYK").save(tmp_path / f"a.{suffix}", quality=95)
    found = read_picture(tmp_path / f"a.{suffix}", 3, 8)
    assert np.abs(found[:, 0, 0] - np.array(RED)).max() <= 3


def test_white_is_zero_in_some_tiffs(tmp_path):
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as picture:
        assert picture.tag_v2[262] in (0, 1)
        expected = np.asarray(picture.convert("L"))
    assert np.array_equal(read_picture(tmp_path / "a.tif", 1, 4)[0], expected)


def test_pages_are_not_dropped(tmp_path):
    first, second = (Image.new("L", (8, 8), value) for value in (10, 20))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second, second])
    with pytest.raises(DataError, match=r"a\.tif has 3 pages; expected one picture: save the pages as files"):
        read_picture(tmp_path / "a.tif", 1, 8)


def test_thumbnails_are_no_pages(tmp_path):
    small = Image.new("L", (4, 4), 20)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.new("L", (8, 8), 10).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as picture:
        assert (picture.n_frames, num_pages(picture), picture.size) == (2, 1, (8, 8))
    assert read_picture(tmp_path / "a.tif", 1, 8).tolist() == [[[10] * 8] * 8]


def test_lab_is_named(tmp_path):
    Image.frombytes("LAB", (4, 4), bytes(48)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif has mode LAB; expected 8 bits a channel"):
        read_picture(tmp_path / "a.tif", 3, 4)


def test_a_picture_that_is_too_large_is_said_to_be(tmp_path, monkeypatch):
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.png has more than 0 million pixels; expected fewer: make it smaller"):
        read_picture(tmp_path / "a.png", 1, 8)
