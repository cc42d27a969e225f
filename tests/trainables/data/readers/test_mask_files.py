import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.mask_files import find_optic_discs, list_mask_folder
from trainables.data.readers.shapes import shapes

REAL_DATA = os.environ.get("SPARSE_SEARCH_DATA")  # read here: a fixture hides it from the other tests


@pytest.fixture
def write_shapes(tmp_path):
    """Write `images/` and `masks/` of procedural shapes; returns the folder and the arrays."""

    def write(count=3, side=40, *, image="{}.png", mask="{}.png", ink=255):
        images, masks = shapes(count, side, seed=0)
        folder = tmp_path / "own"
        for index, (pixels, marked) in enumerate(zip(images, masks, strict=True)):
            for part, name, each in (("images", image, pixels), ("masks", mask, marked * ink)):
                (folder / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(each.astype(np.uint8)).save(folder / part / name.format(f"{index:02}"))
        return folder, images, masks

    return write


@pytest.mark.parametrize("mask", ["{}.png", "{}_mask.png", "{}_segmentation.tif", "{}.bmp"])
@pytest.mark.parametrize("ink", [1, 255])
def test_an_own_folder(write_shapes, mask, ink):
    folder, images, masks = write_shapes(mask=mask, ink=ink)
    found = list_mask_folder(folder)
    assert len(found) == 3
    read_images, read_masks = found.read(40)
    assert np.array_equal(read_images, images)
    assert np.array_equal(read_masks, masks)
    assert (read_images.dtype, read_masks.dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize("mask", ["{}_OD.png", "{}_OD_mask.png"])
def test_an_ending_may_be_part_of_a_name(write_shapes, mask):
    """Masks of a right eye (oculus dexter), beside the left one."""
    folder, _, masks = write_shapes(image="{}_OD.png", mask=mask)
    for part, name in (("images", "00_OS.png"), ("masks", "00_OS_mask.png")):
        (folder / part / name).write_bytes(
            (folder / part / (mask if part == "masks" else "{}_OD.png").format("01")).read_bytes()
        )
    found = list_mask_folder(folder)
    assert [picture.place for picture in found.pictures] == [
        f"images/{n}.png" for n in ("00_OD", "00_OS", "01_OD", "02_OD")
    ]
    assert np.array_equal(found.read(40)[1], masks[[0, 1, 1, 2]])


def test_traces_of_compression_are_no_marks(write_shapes):
    folder, _, masks = write_shapes(image="{}.jpg", mask="{}.jpg")
    assert (Image.open(folder / "masks/00.jpg").convert("L").point(lambda value: 255 * (0 < value < 255))).getbbox()
    _, read = list_mask_folder(folder).read(40)
    assert set(np.unique(read)) == {0, 1}
    assert (read != masks).mean() < 0.01


def test_resizing(write_shapes):
    folder, images, masks = write_shapes(side=128)
    small_images, small_masks = list_mask_folder(folder).read(64)
    assert small_images.shape == (3, 64, 64, 3)
    assert set(np.unique(small_masks)) == {0, 1}
    halved = images.reshape(3, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(small_images - halved).mean() < 4
    assert small_masks.mean() == pytest.approx(masks.mean(), abs=0.01)


def test_grey_pictures_and_coloured_masks(tmp_path):
    for part, pixels in (("images", np.full((32, 48), 77)), ("masks", np.zeros((32, 48, 3)))):
        (tmp_path / part).mkdir()
        if part == "masks":
            pixels[:16] = (255, 0, 0)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / part / "a.png")
    images, masks = list_mask_folder(tmp_path).read(32)
    assert (images == 77).all()
    assert masks[0, :16].all()
    assert not masks[0, 16:].any()


def test_the_digest_is_of_the_content(write_shapes):
    folder, _, _ = write_shapes()
    before = list_mask_folder(folder).digest
    assert list_mask_folder(folder).digest == before
    mask = Image.open(folder / "masks/00.png")
    mask.putpixel((0, 0), 255)
    mask.save(folder / "masks/00.png")
    assert list_mask_folder(folder).digest != before


def no_images(folder):
    (folder / "images").rename(folder / "pictures")


def no_masks(folder):
    (folder / "masks").rename(folder / "labels")


def empty(folder):
    for path in (folder / "images").iterdir():
        path.unlink()


def all_masks_missing(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()


def one_image_missing(folder):
    (folder / "images/01.png").unlink()


def two_masks(folder):
    (folder / "masks/01_mask.png").write_bytes((folder / "masks/01.png").read_bytes())


def two_images(folder):
    (folder / "images/01.bmp").write_bytes((folder / "images/01.png").read_bytes())


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_images, "own has no images/; expected images/NAME.png with masks/NAME.png: add it"),
        (no_masks, "own has no masks/; expected"),
        (empty, r"own/images/\*\.\* is no picture \(\.bmp, .*\); add some"),
        (all_masks_missing, r"own/masks holds no mask; expected masks/NAME\.png for some pictures: add them"),
        (one_image_missing, "masks/01.png is of no picture; expected one named 01: add it, or remove the mask"),
        (two_masks, "images/01.png has the masks .*masks/01.png and .*masks/01_mask.png; expected one"),
        (two_images, "01.bmp and .*01.png have the same name before the dot: rename one"),
    ],
)
def test_what_does_not_match(write_shapes, harm, message):
    folder, _, _ = write_shapes()
    harm(folder)
    with pytest.raises(DataError, match=message) as caught:
        list_mask_folder(folder)
    assert "\n" not in str(caught.value)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:60])


def other_size(path):
    Image.new("L", (20, 30)).save(path)


def with_fractions(path):
    Image.fromarray(np.zeros((40, 40), dtype=np.float32)).save(path, "TIFF")


@pytest.mark.parametrize(
    ("place", "harm", "message"),
    [
        (
            "images/01.png",
            cut_short,
            "images/01.png cannot be read as a picture; expected PNG, JPEG, BMP, TIFF or DICOM",
        ),
        ("masks/01.png", cut_short, "masks/01.png cannot be read as a picture"),
        ("masks/01.png", other_size, "masks/01.png is 20x30 pixels, but its picture .*images/01.png is 40x40"),
        ("images/01.png", with_fractions, "images/01.png has mode F; expected 8 bits a channel, or 16"),
    ],
)
def test_what_cannot_be_read(write_shapes, place, harm, message):
    folder, _, _ = write_shapes()
    harm(folder / place)
    with pytest.raises(DataError, match=message) as caught:
        list_mask_folder(folder).read(32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [31, 2049])
def test_side_out_of_range(write_shapes, side):
    folder, _, _ = write_shapes()
    with pytest.raises(DataError, match=f"made 32 to 2048 pixels wide, not {side}"):
        list_mask_folder(folder).read(side)


@pytest.mark.parametrize("published", [False, True])
def test_optic_discs_in_both_layouts(write_idrid, published):
    root = write_idrid(published=published)
    found = {split: find_optic_discs(root / "idrid", split) for split in ("train", "test")}
    assert {split: len(each) for split, each in found.items()} == {"train": 10, "test": 6}
    images, masks = found["train"].read(32)
    assert images.shape == (10, 32, 32, 3)
    assert masks.all(), "the miniature's discs are everywhere, its lesions are not"


def test_missing_discs_are_named(write_idrid, tmp_path):
    with pytest.raises(DataError, match=r"idrid holds no optic discs for train \(segmentation/train/masks/OD/\*\.\*\)"):
        find_optic_discs(tmp_path / "idrid", "train")
    write_idrid()
    (tmp_path / "idrid/segmentation/test/masks/OD/IDRiD_12.png").unlink()
    with pytest.raises(
        DataError, match=r"images/IDRiD_12.png has no mask; expected .*masks/OD/IDRiD_12\.\*, all black"
    ):
        find_optic_discs(tmp_path / "idrid", "test")


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_discs():
    if not REAL_DATA or not (Path(REAL_DATA) / "idrid").is_dir():
        pytest.skip("needs real pictures: set SPARSE_SEARCH_DATA to a folder with idrid/")
    root = Path(REAL_DATA)
    assert [len(find_optic_discs(root / "idrid", split)) for split in ("train", "test")] == [54, 27]
    _, masks = find_optic_discs(root / "idrid", "test").read(64)
    shares = masks.mean((1, 2))
    assert (shares > 0.005).all()
    assert shares.mean() == pytest.approx(0.018, abs=0.004)
