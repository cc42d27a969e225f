from pathlib import Path

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.data.catalog import CATALOG
from trainables.data.readers import medmnist
from trainables.data.readers.reader import md5_of_file
from trainables.data.source import available_sides, data_root, open_source


def test_data_root(monkeypatch, tmp_path):
    assert data_root(None) == Path.home() / ".medmnist"
    monkeypatch.setenv("SPARSE_SEARCH_DATA", str(tmp_path))
    assert data_root(None) == tmp_path
    assert data_root(Path("given")) == Path("given")


@pytest.mark.parametrize(
    ("dataset", "file", "side", "name"),
    [
        ("pneumoniamnist", "pneumoniamnist.npz", 28, "pneumoniamnist"),
        ("pneumoniamnist@28", "pneumoniamnist.npz", 28, "pneumoniamnist"),
        ("pneumoniamnist@64", "pneumoniamnist_64.npz", 64, "pneumoniamnist@64"),
    ],
)
def test_catalogued_files(write_npz, tmp_path, dataset, file, side, name):
    write_npz(file, form={"num_classes": 2, "side": side})
    source = open_source(dataset, tmp_path)
    assert (source.name, source.side, source.num_classes) == (name, side, 2)
    assert available_sides("pneumoniamnist", tmp_path) == (side,)


def test_digits_are_always_available(tmp_path):
    assert available_sides("digits", tmp_path) == (8,)


def test_the_variable_says_where_files_are(write_npz, tmp_path, monkeypatch):
    write_npz("breastmnist.npz", form={"num_classes": 2, "side": 28})
    monkeypatch.setenv("SPARSE_SEARCH_DATA", str(tmp_path))
    assert open_source("breastmnist").name == "breastmnist"


def test_official_means_the_published_checksum(write_npz, tmp_path, monkeypatch):
    path = write_npz("breastmnist.npz", form={"num_classes": 2, "side": 28})
    source = open_source("breastmnist", tmp_path)
    assert not source.official
    assert source.content_hash == md5_of_file(path)[:16]
    monkeypatch.setitem(CATALOG["breastmnist"].checksums, 28, md5_of_file(path))
    assert open_source("breastmnist", tmp_path).official
    assert not open_source(str(path)).official, "a path is the user's own, whatever it holds"


def test_a_missing_file_is_fetched(write_npz, tmp_path, monkeypatch):
    def fetch(info, side, path):
        return write_npz(path.name, form={"num_classes": info.num_classes, "side": side})

    monkeypatch.setattr(medmnist, "download", fetch)
    assert open_source("octmnist@64", tmp_path).side == 64


def test_own_npz(write_npz):
    source = open_source(str(write_npz("grades.npz", form={"num_classes": 4, "channels": 3})))
    assert (source.name, source.title, source.class_names) == ("grades", "grades", ("0", "1", "2", "3"))
    assert (source.channels, source.side, source.num_classes) == (3, 8, 4)
    assert source.class_counts("train") == (12, 12, 12, 12)


def test_relative_paths_are_looked_for_here_then_below_the_root(write_npz, tmp_path, monkeypatch):
    write_npz("grades.npz", form={"num_classes": 4})
    assert open_source("grades.npz", tmp_path).num_classes == 4
    (tmp_path / "here").mkdir()
    write_npz("here/grades.npz", form={"num_classes": 2})
    monkeypatch.chdir(tmp_path / "here")
    assert open_source("grades.npz", tmp_path).num_classes == 2


def test_a_folder_here_needs_no_separator(write_pictures, tmp_path, monkeypatch):
    write_pictures({"a": 4, "b": 4}, name="scans@2")
    monkeypatch.chdir(tmp_path)
    source = open_source("scans@2")
    assert (source.name, source.side) == ("scans@2", 10), "the name of an existing folder is no request for a side"


def test_labels_are_int64(write_npz):
    labels = open_source(str(write_npz())).labels("train")
    assert (labels.dtype, labels.shape) == (np.int64, (36,))


def test_without_val_another_mode_is_advised(write_npz):
    source = open_source(str(write_npz(val_images=None, val_labels=None)))
    with pytest.raises(DataError, match="has no val split; choose --validation realistic or labelled-cv"):
        source.labels("val")
    with pytest.raises(DataError, match="has no val split"):
        source.images("val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": np.full(9, 3)}, "labels of val run from 3 to 3; expected 0..2: renumber them"),
        ({"val_labels": np.arange(9) - 1}, "labels of val run from -1 to 7; expected 0..2: renumber them"),
        ({"val_labels": np.zeros(8, int)}, "val has 8 labels but 9 images: save"),
        (
            {"val_images": np.ones((9, 9, 9), np.uint8)},
            "images of val are 1x9x9 (channels x height x width); expected 1x8x8",
        ),
        ({"val_images": np.ones((9, 8, 8, 3), np.uint8)}, "images of val are 3x8x8 (channels"),
    ],
)
def test_arrays_that_do_not_fit(write_npz, changes, message):
    source = open_source(str(write_npz(**changes)))
    with pytest.raises(DataError) as caught:
        source.labels("val")
    assert str(caught.value).startswith(f"dataset 'mine': {message}")


@pytest.mark.parametrize("labels", [np.zeros(36, int), np.arange(36) + 1, np.full(36, 10**12), np.full(36, -3)])
def test_own_labels_need_at_least_two_classes_without_gaps(write_npz, labels):
    with pytest.raises(DataError, match=r"train_labels of .* expected classes 0\.\.K-1, two or more"):
        open_source(str(write_npz(train_labels=labels)))


def test_a_catalogued_file_of_another_side(write_npz, tmp_path):
    write_npz("breastmnist_64.npz", form={"num_classes": 2, "side": 28})
    with pytest.raises(DataError, match=r"'breastmnist@64': images of train are 1x28x28 .*; expected 1x64x64"):
        open_source("breastmnist@64", tmp_path)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            "pneumoniamnst",
            "dataset 'pneumoniamnst' is unknown; did you mean 'pneumoniamnist'? Known: bloodmnist",
        ),
        ("pneumoniamnist@abc", "dataset 'pneumoniamnist@abc' is unknown; did you mean 'pneumoniamnist'?"),
        ("pneumoniamnist@0", "dataset 'pneumoniamnist@0' is unknown; did you mean 'pneumoniamnist'?"),
        ("pneumoniamnist@30", "pneumoniamnist has no images of side 30; it comes in 28, 64, 128, 224"),
        ("digits@28", "digits has no images of side 28; it comes in 8"),
        ("nowhere/scans", "no data at 'nowhere/scans'"),
        ("nowhere.npz", "no data at 'nowhere.npz'"),
        ("", "dataset '' is unknown"),
    ],
)
def test_unknown_names(dataset, message, tmp_path):
    with pytest.raises(DataError) as caught:
        open_source(dataset, tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_npz_keeps_its_side(write_npz):
    with pytest.raises(DataError, match="keeps the side of its images; leave out @64"):
        open_source(f"{write_npz()}@64")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "scan.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"expected an existing \.npz or \.csv or \.parquet file or a folder"):
        open_source(str(tmp_path / "scan.dcm"))


def test_capitals_in_the_ending_of_a_file(write_npz, tmp_path):
    path = write_npz("scans.npz").rename(tmp_path / "D.NPZ")
    assert (open_source(str(path)).name, open_source("D.NPZ", tmp_path).num_classes) == ("D", 3)
