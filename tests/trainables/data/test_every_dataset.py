"""What holds for every dataset of the catalogue, each stood in for by a miniature in its official layout."""

import numpy as np
import pytest

from trainables.data import tasks
from trainables.data.catalog import CATALOG
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task

FINDINGS = 14


@pytest.fixture(params=CATALOG)
def dataset(request, write_npz):
    """The row of a dataset whose file lies in the test's folder."""
    info = CATALOG[request.param]
    if info.name != "digits":
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
    assert source.splits == ("train", "val", "test")
    assert len(source.content_hash) == 16
    assert source.official == (dataset.name == "digits")
    for split in source.splits:
        labels, images = source.labels(split), source.images(split)
        assert images.shape == (len(labels), dataset.channels, dataset.sides[0], dataset.sides[0])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.flags.c_contiguous
        assert set(labels) == set(range(dataset.num_classes))


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv", "official"])
def test_a_task(dataset, tmp_path, validation):
    task = few_shot_task(dataset.name, 5, 0, validation, tmp_path)
    assert (task.num_classes, task.channels) == (dataset.num_classes, dataset.channels)
    counts = task.labelled.labels_N.bincount(minlength=dataset.num_classes).tolist()
    assert counts == [4 if validation == "labelled-cv" else 5] * dataset.num_classes
    again = few_shot_task(dataset.name, 5, 0, validation, tmp_path)
    other = few_shot_task(dataset.name, 5, 1, validation, tmp_path)
    assert again.provenance == task.provenance
    assert other.provenance.label_set_hash != task.provenance.label_set_hash


def test_the_test_set(dataset, tmp_path):
    found = tasks.test_set(dataset.name, tmp_path)
    assert found.labels_N.unique().tolist() == list(range(dataset.num_classes))
