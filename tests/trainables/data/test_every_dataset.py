"""Rules that hold for every dataset in the catalogue, each stood in for by a miniature in its official layout."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainables.core.grid import Grid
from trainables.data import tasks
from trainables.data.catalog import CATALOG
from trainables.data.names import reader_function
from trainables.data.patches import reassemble
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task

FINDINGS = 14
SPLITS = ("train", "val", "test")


@pytest.fixture
def miniatures(write_npz, write_pictures, write_lesions, write_masks, write_idrid):
    """Writers of a small stand-in for a row, by what opens it."""

    def npz(row):
        columns = FINDINGS if row.any_finding else 1
        form = {"num_classes": row.num_classes, "channels": row.channels, "side": row.sides[0], "columns": columns}
        write_npz(row.place.replace("{side}", ""), form=form)

    def class_folders(row):
        counts = {f"{split}/{name}": 12 for split in SPLITS for name in row.class_names}
        write_pictures(counts, name=row.place, mode="L" if row.channels == 1 else "RGB")

    return {
        "class_folders:open_class_folders": class_folders,
        "digits:open_digits": lambda row: None,
        "idrid:open_idrid": lambda row: write_idrid(),
        "lesion_files:open_lesion_folder": lambda row: write_lesions(name=row.place),
        "mask_reader:open_mask_folder": lambda row: write_masks(name=row.place),
        "mask_reader:open_optic_discs": lambda row: write_idrid(),
        "mask_reader:open_shapes": lambda row: None,
        "medmnist:open_medmnist": npz,
        "npz:open_npz_file": npz,
    }


def written(name, miniatures):
    """The row of a dataset whose files lie in the test's folder."""
    row = CATALOG[name]
    if row.opener not in miniatures:
        pytest.skip(f"no miniature of what {row.opener} opens: write one in `miniatures`")
    miniatures[row.opener](row)
    return row


@pytest.fixture(params=[name for name, row in CATALOG.items() if row.kind == "classification"])
def dataset(request, miniatures):
    """The row of a dataset of classes."""
    return written(request.param, miniatures)


@pytest.fixture(params=[name for name, row in CATALOG.items() if row.kind == "segmentation"])
def masked(request, miniatures):
    """The row of a dataset of masks."""
    return written(request.param, miniatures)


def is_marked(row):
    """True of pictures with masks, whose shots are counted in all."""
    return row.opener in ("idrid:open_idrid", "lesion_files:open_lesion_folder")


@pytest.mark.parametrize("name", [*CATALOG])
def test_what_a_row_names_is_there(name, tmp_path):
    row = CATALOG[name]
    assert row.name == name
    assert callable(reader_function(row.opener))
    assert not row.presence or callable(reader_function(row.presence))
    assert [row.is_here(tmp_path, side) for side in row.sides] == [not row.place] * len(row.sides)


def test_what_is_written_is_here(dataset, tmp_path):
    assert dataset.is_here(tmp_path, dataset.sides[0])


def test_a_row_of_masks(masked, tmp_path):
    source = open_source(masked.name, tmp_path, kind="segmentation")
    assert (source.name, source.kind, source.class_names) == (masked.name, "segmentation", masked.class_names)
    assert (source.splits, source.shots_in_all, source.has_masks) == (("train", "test"), True, True)
    assert 0 < source.val_share < 1
    for split in source.splits:
        images, masks = source.images(split), source.masks(split, np.arange(len(source.labels(split))))
        assert images.shape[1:] == (masked.channels, masked.sides[0], masked.sides[0])
        assert (images.dtype, masks.dtype) == (np.uint8, np.bool_)
        assert masks.shape == (len(images), *images.shape[2:])
        assert masks.any(axis=(1, 2)).all()
    task = few_shot_task(masked.name, 3, 0, "realistic", tmp_path, kind="segmentation")
    assert (task.num_classes, len(task.labelled), len(task.validation)) == (2, 3, min(3, len(task.validation)))
    assert len(tasks.test_set(masked.name, tmp_path, "segmentation")) == len(source.labels("test"))


def test_the_source_is_as_the_catalogue_says(dataset, tmp_path):
    source = open_source(dataset.name, tmp_path)
    assert (source.name, source.title, source.class_names) == (
        dataset.name,
        dataset.title,
        dataset.class_names,
    )
    assert source.splits == (("train", "test") if is_marked(dataset) else ("train", "val", "test"))
    assert source.shots_in_all == source.has_masks == is_marked(dataset)
    assert (0 < source.val_share < 1) == is_marked(dataset)
    assert (source.grid, source.patches_per_image) == (None, 1)
    assert len(source.content_hash) == 16
    assert source.official == (bool(dataset.checksums) and not dataset.place), "bundled data is the published one"
    assert source.kind == dataset.kind
    for split in source.splits:
        labels, images = source.labels(split), source.images(split)
        assert images.shape == (len(labels), dataset.channels, dataset.sides[0], dataset.sides[0])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.flags.c_contiguous
        assert set(labels) == set(range(dataset.num_classes))
        assert (source.masks(split, np.arange(1)) is not None) == source.has_masks


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv", "official"])
def test_a_task(dataset, tmp_path, validation):
    shots = 20 if is_marked(dataset) else 5
    task = few_shot_task(dataset.name, shots, 0, validation, tmp_path)
    assert (task.num_classes, task.channels) == (dataset.num_classes, dataset.channels)
    counts = task.labelled.labels_N.bincount(minlength=dataset.num_classes).tolist()
    if is_marked(dataset):
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
    assert (found.masks_IHW is not None) == is_marked(dataset)
    assert found.labels_N.unique().tolist() == list(range(dataset.num_classes))


@pytest.mark.parametrize("validation", ["realistic", "official"])
def test_a_task_of_patches(dataset, tmp_path, validation):
    whole = few_shot_task(dataset.name, 10 if is_marked(dataset) else 2, 0, validation, tmp_path)
    task = few_shot_task(f"{dataset.name}:2x2", whole.provenance.shots, 0, validation, tmp_path)
    assert task.dataset == f"{whole.dataset}:2x2"
    assert task.provenance.patch_labels == ("masks" if is_marked(dataset) else "inherited")
    assert whole.provenance.patch_labels == ""
    assert replace(task.provenance, patch_labels="") == whole.provenance, "shots and labels are counted in pictures"
    for patches, pictures in ((task.labelled, whole.labelled), (task.validation, whole.validation)):
        assert np.array_equal(reassemble(patches.images_NCHW.numpy(), patches.grid), pictures.images_NCHW)
        labels_IP = patches.labels_N.reshape(-1, 4)
        assert torch.equal(labels_IP.amax(1), pictures.labels_N)
        assert is_marked(dataset) or torch.equal(labels_IP.amin(1), pictures.labels_N)
    assert np.array_equal(reassemble(task.unlabelled_NCHW.numpy(), Grid(2, 2)), whole.unlabelled_NCHW)
