from struct import pack
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image, ImageOps

from search_spaces.core.errors import DataError
from trainables.data.readers.picture_files import (
    content_of,
    header_of,
    opened,
    read_picture,
    shared_format,
    words_about_levels,
)
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


SIXTEEN = np.array([[0, 1, 128, 129], [257, 4095, 32768, 65535], [300, 301, 302, 303], [9, 99, 999, 9999]], np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_sixteen_bits(tmp_path, suffix, channels):
    Image.fromarray(SIXTEEN).save(path := tmp_path / f"a.{suffix}")
    found = read_picture(path, channels, 4)
    assert np.array_equal(found, np.broadcast_to(np.rint(SIXTEEN / 257), (channels, 4, 4)))
    assert found[0, 0].tolist() == [0, 0, 0, 1]
    assert (header_of(path), shared_format([path])) == ((True, (4, 4), 16), (1, 4))


def test_sixteen_bits_are_turned_and_resized_as_eight_are(tmp_path):
    eight = np.random.default_rng(0).integers(0, 256, (6, 6)).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.tif", tiffinfo={ORIENTATION: 6})
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "b.tif", tiffinfo={ORIENTATION: 6})
    for side in (6, 3):
        assert np.array_equal(read_picture(tmp_path / "a.tif", 1, side), read_picture(tmp_path / "b.tif", 1, side))


def png(path, values, colour, *chunks):
    """A PNG of 16 bits; colour 0 is grey and 2 RGB."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", compress(rows)), (b"IEND", b"")]
    written = (pack(">I", len(data)) + name + data + pack(">I", crc32(name + data)) for name, data in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


def test_a_transparent_value_of_sixteen_bits_is_black(tmp_path):
    png(tmp_path / "a.png", SIXTEEN, 0, (b"tRNS", pack(">H", 65535)))
    expected = np.rint(np.where(SIXTEEN == 65535, 0, SIXTEEN) / 257)
    assert np.array_equal(read_picture(tmp_path / "a.png", 1, 4)[0], expected)


def test_colours_of_sixteen_bits_are_their_high_bytes(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (4, 4, 3)).astype(np.uint16)
    png(tmp_path / "a.png", values, 2)
    assert np.array_equal(read_picture(tmp_path / "a.png", 3, 4).transpose(1, 2, 0), values >> 8)
    assert header_of(tmp_path / "a.png").bits == 8


def tiff(path, packed, bits, ink):
    """A TIFF of 2 x 2 grey values."""
    tags = {256: 2, 257: 2, 258: bits, 259: 1, 262: ink, 273: 8, 277: 1, 278: 2, 279: len(packed)}
    data = packed.ljust(8, b"\0")
    entries = b"".join(pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + pack("<I", 8 + len(data)) + data + pack("<H", len(tags)) + entries + pack("<I", 0))


@pytest.mark.parametrize(
    ("packed", "bits", "ink", "shown"),
    [
        (pack("<4H", 0, 257, 32768, 65535), 16, 1, [[0, 1], [128, 255]]),
        (pack("<4H", 0, 257, 32768, 65535), 16, 0, [[255, 254], [127, 0]]),
        (bytes((0x00, 0x08, 0x00, 0x01, 0x0F, 0xFF)), 12, 1, [[0, 128], [1, 255]]),
    ],
)
def test_other_tiffs(tmp_path, packed, bits, ink, shown):
    tiff(tmp_path / "a.tif", packed, bits, ink)
    assert read_picture(tmp_path / "a.tif", 1, 2).tolist() == [shown]
    assert header_of(tmp_path / "a.tif") == (True, (2, 2), bits)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_which_nothing_says_what_is_white_are_refused(tmp_path, dtype):
    Image.fromarray(np.zeros((4, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif has mode [IF]; expected 8 bits a channel, or 16 without sign"):
        read_picture(tmp_path / "a.tif", 1, 4)


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1, ("pictures of more than 8 bits are shown in 17 of 256 grey levels: stretch their values to all bits",)),
     (16, ())],
)  # fmt: skip
def test_twelve_bits_in_sixteen_are_told(tmp_path, factor, told):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((4, 4), factor * 105 * number, np.uint16)).save(path)
    assert words_about_levels(paths) == told
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "dark.png")
    assert words_about_levels([tmp_path / "dark.png"]) == words_about_levels([]) == ()
