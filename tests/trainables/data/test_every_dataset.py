"""What holds for every dataset of classes in the catalogue, each stood in for by a miniature in its official layout."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.core.grid import Grid
from trainables.data import tasks
from trainables.data.catalog import CATALOG
from trainables.data.patches import reassemble
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task

FINDINGS = 14


@pytest.fixture(params=[name for name, info in CATALOG.items() if info.kind == "classification"])
def dataset(request, write_npz, write_idrid):
    """The row of a dataset whose file lies in the test's folder."""
    info = CATALOG[request.param]
    if info.name == "idrid":
        write_idrid()
    elif info.name != "digits":
        columns = FINDINGS if info.any_finding else 1
        form = {"num_classes": info.num_classes, "channels": info.channels, "side": 28, "columns": columns}
        write_npz(f"{info.name}.npz", form=form)
    return info


def test_the_source_is_as_the_catalogue_says(dataset, tmp_path):
    source = open_source(dataset.name, tmp_path)
    assert (source.name, source.title, source.class_names) == (
        dataset.name,
        dataset.title,
        dataset.class_names,
    )
    assert source.splits == (("train", "test") if dataset.shots_in_all else ("train", "val", "test"))
    assert source.shots_in_all == source.has_masks == dataset.shots_in_all
    assert (0 < source.val_share < 1) == dataset.shots_in_all
    assert (source.grid, source.patches_per_image) == (None, 1)
    assert len(source.content_hash) == 16
    assert source.official == (dataset.name == "digits")
    for split in source.splits:
        labels, images = source.labels(split), source.images(split)
        assert images.shape == (len(labels), dataset.channels, dataset.sides[0], dataset.sides[0])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.flags.c_contiguous
        assert set(labels) == set(range(dataset.num_classes))
        assert (source.masks(split, np.arange(1)) is not None) == source.has_masks


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv", "official"])
def test_a_task(dataset, tmp_path, validation):
    shots = 20 if dataset.shots_in_all else 5
    task = few_shot_task(dataset.name, shots, 0, validation, tmp_path)
    assert (task.num_classes, task.channels) == (dataset.num_classes, dataset.channels)
    counts = task.labelled.labels_N.bincount(minlength=dataset.num_classes).tolist()
    if dataset.shots_in_all:
        assert min(counts) > 0
        assert validation == "labelled-cv" or sum(counts) == shots
    else:
        assert counts == [4 if validation == "labelled-cv" else 5] * dataset.num_classes
    again = few_shot_task(dataset.name, shots, 0, validation, tmp_path)
    other = few_shot_task(dataset.name, shots, 1, validation, tmp_path)
    assert again.provenance == task.provenance
    assert other.provenance.label_set_hash != task.provenance.label_set_hash


def test_the_test_set(dataset, tmp_path):
    found = tasks.test_set(dataset.name, tmp_path)
    assert (found.masks_IHW is not None) == dataset.shots_in_all
    assert found.labels_N.unique().tolist() == list(range(dataset.num_classes))


@pytest.mark.parametrize("validation", ["realistic", "official"])
def test_a_task_of_patches(dataset, tmp_path, validation):
    whole = few_shot_task(dataset.name, 10 if dataset.shots_in_all else 2, 0, validation, tmp_path)
    task = few_shot_task(f"{dataset.name}:2x2", whole.provenance.shots, 0, validation, tmp_path)
    assert task.dataset == f"{whole.dataset}:2x2"
    assert task.provenance.patch_labels == ("masks" if dataset.shots_in_all else "inherited")
    assert whole.provenance.patch_labels == ""
    assert replace(task.provenance, patch_labels="") == whole.provenance, "shots and labels are counted in pictures"
    for patches, pictures in ((task.labelled, whole.labelled), (task.validation, whole.validation)):
        assert np.array_equal(reassemble(patches.images_NCHW.numpy(), patches.grid), pictures.images_NCHW)
        labels_IP = patches.labels_N.reshape(-1, 4)
        assert torch.equal(labels_IP.amax(1), pictures.labels_N)
        assert dataset.shots_in_all or torch.equal(labels_IP.amin(1), pictures.labels_N)
    assert np.array_equal(reassemble(task.unlabelled_NCHW.numpy(), Grid(2, 2)), whole.unlabelled_NCHW)
