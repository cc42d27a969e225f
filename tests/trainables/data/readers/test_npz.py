from zipfile import ZipFile

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.data.readers.npz import open_npz
from trainables.data.readers.reader import md5_of_file


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_file(write_npz, channels):
    path = write_npz(form={"channels": channels})
    with np.load(path) as file:
        raw = file["train_images"].reshape(36, 8, 8, channels)
    images = open_npz(path).images("train")
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert np.array_equal(images, raw.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("flat", [True, False])
def test_labels_may_be_flat_or_a_column(write_npz, flat):
    labels = np.arange(36).reshape(36) if flat else np.arange(36).reshape(36, 1)
    assert open_npz(write_npz(train_labels=labels)).labels("train").tolist() == list(range(36))


def test_any_finding(write_npz):
    findings = np.eye(36, 14, k=-20, dtype=np.uint8)
    labels = open_npz(write_npz(train_labels=findings), any_finding=True).labels("train")
    assert labels.tolist() == [0] * 20 + [1] * 14 + [0] * 2


@pytest.mark.parametrize(
    ("dropped", "splits"),
    [([], ("train", "val", "test")), (["val"], ("train", "test")), (["val", "test"], ("train",))],
)
def test_splits(write_npz, dropped, splits):
    path = write_npz(**{f"{split}_{part}": None for split in dropped for part in ("images", "labels")})
    assert open_npz(path).splits == splits


@pytest.mark.parametrize("missing", ["train_images", "train_labels", "val_labels", "test_images"])
def test_half_a_split(write_npz, missing):
    with pytest.raises(DataError, match=f"has no array '{missing}'; expected MedMNIST's layout"):
        open_npz(write_npz(**{missing: None}))


def ones(*shape, dtype=np.uint8):
    return np.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            ones(36, 8, 8, dtype=np.float32),
            "are float32; expected uint8 in 0..255: scale and save them as uint8",
        ),
        (ones(36, 64), "have shape (36, 64); expected (N, H, W) or (N, H, W, 3): move the axes"),
        (ones(36, 8, 8, 8), "have shape (36, 8, 8, 8), as volumes have; expected pictures: save slices as (N, H, W)"),
        (
            ones(36, 8, 8, 8, 1),
            "have shape (36, 8, 8, 8, 1), as volumes have; expected pictures: save slices as (N, H, W)",
        ),
        (ones(36, 8, 8, 4), "have 4 channels; expected grey or RGB: put them on black and save (N, H, W, 3)"),
        (ones(36, 3, 8, 8), "have shape (36, 3, 8, 8); expected (N, H, W) or (N, H, W, 3): move the axes"),
        (ones(36, 8, 9), "are 8x9 pixels; expected squares: crop or resize them"),
        (ones(0, 8, 8), "have shape (0, 8, 8); expected at least one image: add some or drop the array"),
    ],
)
def test_image_messages(write_npz, images, message):
    path = write_npz(train_images=images)
    for read in (open_npz(path).image_shape, open_npz(path).images):
        with pytest.raises(DataError) as caught:
            read("train")
        assert str(caught.value) == f"train_images of {path} {message}"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(36), "are float64; expected whole numbers: save them as int64"),
        (np.array(["a"] * 36), "are <U1; expected whole numbers: save them as int64"),
        (np.zeros((36, 2), dtype=int), "have shape (36, 2); expected (N,) or (N, 1): one per image"),
    ],
)
def test_label_messages(write_npz, labels, message):
    path = write_npz(train_labels=labels)
    with pytest.raises(DataError) as caught:
        open_npz(path).labels("train")
    assert str(caught.value) == f"train_labels of {path} {message}"


def test_pickled_objects_are_refused(write_npz):
    path = write_npz(train_labels=np.array([{"harm": 1}] * 36, dtype=object))
    with pytest.raises(DataError, match=r"'train_labels' cannot be read .*allow_pickle=False"):
        open_npz(path).labels("train")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_npz(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the archive cannot be read .* expected an undamaged npz") as caught:
        open_npz(path)
    assert "\n" not in str(caught.value)


def test_a_cut_file(write_npz):
    path = write_npz()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        open_npz(path)


def test_one_wrong_bit_is_found(tmp_path, write_npz):
    path = tmp_path / "stored.npz"
    with np.load(write_npz()) as file:
        np.savez(path, **file)
    with ZipFile(path) as archive:
        start = archive.getinfo("train_images.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'train_images' cannot be read .*CRC"):
        open_npz(path).images("train")


def test_damage_elsewhere_does_not_matter(write_npz, damage):
    reader = open_npz(damage(write_npz(), "test_"))
    assert len(reader.images("train")) == len(reader.labels("train")) == 36
    for read in (reader.labels, reader.images, reader.image_shape):
        with pytest.raises(DataError, match="cannot be read"):
            read("test")


def test_reading_labels_reads_no_image(write_npz, damage):
    reader = open_npz(damage(write_npz(), "train_images"))
    assert len(reader.labels("train")) == 36


def test_a_hash_is_computed_once_while_the_file_stays(write_npz, monkeypatch):
    path = write_npz()
    digest = open_npz(path).digest()
    assert digest == md5_of_file(path)
    monkeypatch.setattr("trainables.data.readers.reader.file_digest", lambda *_: pytest.fail("computed again"))
    assert open_npz(path).digest() == digest
    monkeypatch.undo()
    write_npz(form={"seed": 1})
    assert open_npz(path).digest() != digest
