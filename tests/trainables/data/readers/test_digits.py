import hashlib

import numpy as np

from trainables.data.catalog import CATALOG
from trainables.data.readers.digits import DigitsReader
from trainables.data.source import open_source


def test_digits_are_the_published_ones_in_a_fixed_split():
    source = open_source("digits")
    assert (source.name, source.num_classes, source.channels, source.side) == ("digits", 10, 1, 8)
    assert source.official
    sizes = tuple(len(source.labels(split)) for split in source.splits)
    assert sizes == CATALOG["digits"].split_sizes
    assert sum(sizes) == 1797
    assert min(source.class_counts("train")) >= 116


def test_the_split_never_changes():
    """Pinned: another split would mix earlier test images into training."""
    labels = np.concatenate([DigitsReader().labels(split) for split in ("train", "val", "test")])
    assert hashlib.md5(labels.astype("<i8").tobytes()).hexdigest() == "11ea81b4340671f2981051f42f47a851"


def test_no_picture_is_lost_or_repeated_and_all_bytes_are_used():
    reader = DigitsReader()
    images = np.concatenate([reader.images(split) for split in reader.splits])
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 255)
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797


def test_reading_twice_gives_separate_arrays():
    reader = DigitsReader()
    reader.images("train")[:] = 0
    assert reader.images("train").any()
