import os
from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces.core.errors import DataError
from trainables.data import tasks
from trainables.data.source import Source, open_source
from trainables.data.tasks import few_shot_task

REAL_DATA = os.environ.get("SPARSE_SEARCH_DATA")  # read here: a fixture hides it from the other tests


def pixels(images):
    return [image.tobytes() for image in images.numpy()]


def test_a_task_holds_the_right_images_with_their_labels(write_npz):
    path = write_npz(form={"channels": 3})
    task = few_shot_task(str(path), 4, 0)
    with np.load(path) as file:
        labels = {
            image.transpose(2, 0, 1).tobytes(): int(label[0])
            for image, label in zip(file["train_images"], file["train_labels"], strict=True)
        }
    for part in (task.labelled, task.validation):
        assert [labels[key] for key in pixels(part.images_NCHW)] == part.labels_N.tolist()
        assert part.labels_N.bincount().tolist() == [4, 4, 4]
        assert part.images_NCHW.dtype == torch.uint8
        assert part.labels_N.dtype == torch.int64
    every = [task.labelled.images_NCHW, task.unlabelled_NCHW, task.validation.images_NCHW]
    assert sorted(key for part in every for key in pixels(part)) == sorted(labels)
    assert (task.dataset, task.kind, task.num_classes, task.channels) == ("mine", "classification", 3, 3)


def test_provenance(write_npz):
    path = write_npz()
    told = few_shot_task(str(path), 4, 7, "labelled-cv", fold=2).provenance
    assert told.content_hash == open_source(str(path)).content_hash
    assert (told.shots, told.label_set, told.fold, told.validation) == (4, 7, 2, "labelled-cv")
    assert (told.official, told.label_budget) == (False, 12)


def test_official_validation_is_the_val_split(write_npz):
    path = write_npz()
    task = few_shot_task(str(path), 4, 0, "official")
    with np.load(path) as file:
        assert np.array_equal(task.validation.images_NCHW[:, 0].numpy(), file["val_images"])
        assert np.array_equal(task.validation.labels_N.numpy(), file["val_labels"][:, 0])
    assert task.provenance.label_budget == 12 + 9
    assert len(task.unlabelled_NCHW) == 36 - 12


@pytest.mark.parametrize("arguments", [(4, 0), (4, 7, "labelled-cv", None, 2), (4, 1, "official")])
def test_images_are_known_by_their_place_in_the_file(write_npz, arguments):
    path = write_npz()
    task = few_shot_task(str(path), *arguments)
    with np.load(path) as file:
        for part, split in ((task.labelled, "train"), (task.validation, "val" if "official" in arguments else "train")):
            stored = file[f"{split}_images"][part.indices_I.numpy()]
            assert np.array_equal(part.images_NCHW[:, 0].numpy(), stored)


def test_folds_share_out_the_images_of_a_label_set(write_npz):
    path = str(write_npz())
    folds = [few_shot_task(path, 4, 7, "labelled-cv", fold=fold) for fold in range(4)]
    held_out = [index for task in folds for index in task.validation.indices_I.tolist()]
    assert len(held_out) == len(set(held_out)) == 12
    assert set(held_out) == {i for task in folds for i in task.labelled.indices_I.tolist()}


@pytest.mark.parametrize("arguments", [(4, 0), (4, 7, "labelled-cv", None, 2), (4, 1, "official")])
def test_hidden_labels_are_those_of_the_unlabelled_images_in_their_order(write_npz, arguments):
    path = write_npz()
    with np.load(path) as file:
        labels = dict(
            zip((i.tobytes() for i in file["train_images"]), file["train_labels"][:, 0].tolist(), strict=True)
        )
    found = tasks.hidden_labels(str(path), *arguments)
    assert found.tolist() == [labels[key] for key in pixels(few_shot_task(str(path), *arguments).unlabelled_NCHW)]
    assert found.dtype == torch.int64
    assert len(set(found.tolist())) == 3


def test_the_unlabelled_set_may_be_empty(write_npz):
    task = few_shot_task(str(write_npz()), 6, 0)
    assert task.unlabelled_NCHW.shape == (0, 1, 8, 8)


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv", "official"])
def test_a_task_never_touches_the_test_split(write_npz, damage, monkeypatch, validation):
    path = damage(write_npz(), "test_")

    def guarded(read):
        def reading(self, split):
            assert split != "test", "the test split was opened"
            return read(self, split)

        return reading

    for name in ("labels", "images", "check_images"):
        monkeypatch.setattr(Source, name, guarded(getattr(Source, name)))
    assert len(few_shot_task(str(path), 4, 0, validation).labelled)


def test_the_test_set_is_whole_and_in_order(write_npz):
    path = write_npz()
    found = tasks.test_set(str(path))
    with np.load(path) as file:
        assert np.array_equal(found.images_NCHW[:, 0].numpy(), file["test_images"])
        assert np.array_equal(found.labels_N.numpy(), file["test_labels"][:, 0])


def test_no_test_split(write_npz):
    path = write_npz(test_images=None, test_labels=None)
    with pytest.raises(DataError, match="dataset 'mine' has no test split; nothing can be evaluated on it: add one"):
        tasks.test_set(str(path))


def test_digits():
    task = few_shot_task("digits", 5, 0)
    assert len(task.labelled) == len(task.validation) == 50
    assert task.unlabelled_NCHW.shape == (1097, 1, 8, 8)
    assert task.provenance.official
    assert len(tasks.test_set("digits")) == 401


@pytest.mark.realdata
@pytest.mark.skipif(not REAL_DATA, reason="needs real images: set SPARSE_SEARCH_DATA to their folder")
@pytest.mark.parametrize(
    ("dataset", "sizes", "repeated", "num_classes", "channels", "smallest"),
    [
        ("pneumoniamnist", (4708, 524, 624), 18, 2, 1, 1214),
        ("dermamnist", (7007, 1003, 2005), 1, 7, 3, 80),
        ("idrid_grading_28.npz", (372, 41, 103), 5, 5, 3, 18),
    ],
)
def test_real_images(dataset, sizes, repeated, num_classes, channels, smallest):
    real_data = Path(REAL_DATA)
    if not (real_data / dataset).with_suffix(".npz").is_file():
        pytest.skip(f"{dataset} is not in SPARSE_SEARCH_DATA")
    source = open_source(dataset, real_data)
    assert tuple(len(source.labels(split)) for split in source.splits) == sizes
    assert (source.num_classes, source.channels, source.side) == (num_classes, channels, 28)
    assert min(source.class_counts("train")) == smallest
    assert not source.official
    task = few_shot_task(dataset, 5, 0, root=real_data)
    assert task.unlabelled_NCHW.shape == (sizes[0] - 10 * num_classes - repeated, channels, 28, 28)
    assert len(tasks.test_set(dataset, real_data)) == sizes[2]
