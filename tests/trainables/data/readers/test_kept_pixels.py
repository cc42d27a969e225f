"""Pixels of large splits are made once, and are then the same as ever."""

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.shots import ALL_SHOTS
from trainables.data.readers import npz, picture_reader
from trainables.data.source import open_source, prepare
from trainables.data.tasks import few_shot_task

COUNTS = {"train/a": 3, "train/b": 2, "test/a": 2, "test/b": 1, "unlabelled": 4}


@pytest.fixture
def folder(write_pictures):
    return write_pictures(COUNTS, mode="RGB")


@pytest.fixture
def keep(monkeypatch):
    """Keep whatever is read."""
    monkeypatch.setattr(picture_reader, "KEPT_FROM_PICTURES", 1)
    monkeypatch.setattr(npz, "KEPT_FROM", 1)


def kept(cache):
    return sorted(path.name.split("-", 2)[2] for path in cache.glob("pixels-*") if path.is_dir())


def test_what_is_kept_is_what_is_read(folder, cache, monkeypatch, request):
    read = {split: open_source(str(folder)).images(split) for split in ("train", "test")}
    request.getfixturevalue("keep")
    source = open_source(str(folder))
    for split, images_NCHW in read.items():
        assert np.array_equal(source.images(split), images_NCHW)
        assert isinstance(source.images(split), np.memmap)
    assert kept(cache) == ["3x10-test-v1", "3x10-train-v1"]
    open_source(f"{folder}/@8").images("train")
    assert "3x8-train-v1" in kept(cache)


def test_preparing_tells_how_far_it_is_and_leaves_the_test_split_alone(folder, keep, cache):
    told = []
    prepare(str(folder), None, lambda *numbers: told.append(numbers))
    assert told == [(done, 9) for done in range(1, 10)]
    assert kept(cache) == ["3x10-train-v1"]
    told.clear()
    prepare(str(folder), None, lambda *numbers: told.append(numbers))
    assert not told


def test_nothing_is_decoded_again(folder, keep, monkeypatch):
    first = few_shot_task(str(folder), ALL_SHOTS, 0, "labelled-cv")
    monkeypatch.setattr(picture_reader, "read_picture", None)
    again = few_shot_task(str(folder), ALL_SHOTS, 0, "labelled-cv")
    assert np.array_equal(first.unlabelled_NCHW, again.unlabelled_NCHW)
    again.unlabelled_NCHW.add_(1)  # which never arrives in the file
    later = few_shot_task(str(folder), ALL_SHOTS, 0, "labelled-cv")
    assert np.array_equal(first.unlabelled_NCHW, later.unlabelled_NCHW)


def test_a_picture_that_cannot_be_read_is_told(folder, keep):
    path = folder / "unlabelled/002.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"002\.png cannot be read as a picture"):
        open_source(str(folder)).images("train")


def test_without_a_place_it_is_read_into_memory(folder, keep, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "file"))
    images_NCHW = open_source(str(folder)).images("train")
    assert images_NCHW.shape == (9, 3, 10, 10)
    assert not isinstance(images_NCHW, np.memmap)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_their_pool(write_npz, cache, monkeypatch, order, request):
    pool_NHWC = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    path = write_npz(form={"channels": 3}, unlabelled_images=np.asarray(pool_NHWC, order=order))
    plain = open_source(str(path)).images("train")
    contents = list(open_source(str(path)).reader.contents("train"))
    assert contents[36:] == [image_HWC.tobytes() for image_HWC in pool_NHWC]
    request.getfixturevalue("keep")
    images_NCHW = open_source(str(path)).images("train")
    assert np.array_equal(images_NCHW, plain)
    assert np.array_equal(images_NCHW[36:], pool_NHWC.transpose(0, 3, 1, 2))
    assert kept(cache) == ["train-v1"]
