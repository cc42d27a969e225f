import os
from pathlib import Path

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.data import tasks
from trainables.data.readers.idrid import find_idrid
from trainables.data.readers.resize_cache import open_lesions
from trainables.data.source import available_sides, open_source
from trainables.data.tasks import few_shot_task

REAL_DATA = os.environ.get("SPARSE_SEARCH_DATA")  # read here: a fixture hides it from the other tests


@pytest.mark.parametrize("published", [False, True])
def test_both_layouts(write_idrid, published):
    root = write_idrid(published=published)
    assert available_sides("idrid", root) == (1024,)
    reader = open_lesions(find_idrid(root / "idrid"), 40)
    labels = np.concatenate([reader.labels("train"), reader.labels("test")])
    assert np.bincount(labels).tolist() == [32, 16]
    assert reader.image_shape("train")[1:] == (3, 40, 40)
    ((left_out, same_as),) = reader.prepared.left_out.items()
    assert ("032" in left_out, "038" in same_as) == (True, True), "the same picture has grade 0 and grade 4"


def test_the_optic_disc_is_no_lesion(write_idrid):
    source = open_source("idrid@32", write_idrid())
    marked = source.masks("train", np.flatnonzero(source.labels("train"))).sum(axis=(1, 2))
    assert (marked > 0).all()
    assert (marked <= 4).all()


@pytest.mark.parametrize("missing", ["", "grading", "segmentation"])
def test_missing_folders_are_named(write_idrid, tmp_path, missing):
    if missing:
        write_idrid()
        (tmp_path / "idrid" / missing).rename(tmp_path / "away")
    assert available_sides("idrid", tmp_path) == ()
    with pytest.raises(DataError) as caught:
        open_source("idrid", tmp_path)
    assert str(caught.value).startswith(f"idrid: {tmp_path / 'idrid'} does not hold 'segmentation' and 'grading'")
    assert "--data-root" in str(caught.value)


def test_a_graded_picture_that_is_missing_is_named(write_idrid, tmp_path):
    write_idrid()
    (tmp_path / "idrid/grading/images/train_IDRiD_001.png").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: train_IDRiD_001\.png has grade '0' and should be .*; expected"):
        open_source("idrid", tmp_path)


@pytest.fixture(scope="module")
def real_root():
    if not REAL_DATA or not (Path(REAL_DATA) / "idrid").is_dir():
        pytest.skip("needs real pictures: set SPARSE_SEARCH_DATA to a folder with idrid/")
    return Path(REAL_DATA)


@pytest.fixture(scope="module")
def prepared(real_root, tmp_path_factory):
    """A cache with the real cohort at 128 px, made once for all tests of this module."""
    folder, before = tmp_path_factory.mktemp("real"), os.environ.get("SPARSE_SEARCH_CACHE")
    os.environ["SPARSE_SEARCH_CACHE"] = str(folder)
    open_source("idrid@128", real_root)
    os.environ.pop("SPARSE_SEARCH_CACHE") if before is None else os.environ.update(SPARSE_SEARCH_CACHE=before)
    return folder


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_cohort(real_root, prepared, monkeypatch):
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(prepared))
    source = open_source("idrid@128", real_root)
    assert (source.class_counts("train"), source.class_counts("test")) == ((134, 65), (33, 16))
    assert list(source.reader.prepared.left_out) == ["grading/images/train_IDRiD_118.jpg"]
    unseen = {picture.tobytes() for picture in tasks.test_set("idrid@128", real_root).images_NCHW.numpy()}
    assert len(unseen) == 49
    for label_set in range(3):
        task = few_shot_task("idrid@128", 10, label_set, "official", real_root)
        parts = [task.labelled.images_NCHW, task.unlabelled_NCHW, task.validation.images_NCHW]
        seen = [picture.tobytes() for part in parts for picture in part.numpy()]
        assert list(map(len, parts)) == [10, 139, 50]
        assert len({*seen, *unseen}) == 248
        assert task.labelled.labels_N.unique().tolist() == [0, 1]
    patches = few_shot_task("idrid@128:8x8", 149, 0, "official", real_root)
    assert len(patches.labelled) == 149 * 64
    assert 0.1 < patches.labelled.labels_N.float().mean() < 0.25
