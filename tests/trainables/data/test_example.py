import pytest

from search_spaces.core.errors import DataError
from trainables.data.description import describe
from trainables.data.example import example_in_words, write_example


def test_the_example_is_of_few_labels(tmp_path):
    found = describe(str(write_example(tmp_path / "new" / "scans")))
    assert found.class_names == ("3", "5", "8")
    assert found.class_counts == {"train": (12, 7, 20)}
    assert (found.num_unlabelled, found.num_folds, found.notes) == (270, 5, ())
    assert example_in_words() == "39 labelled digits of 3 classes, and 270 without a label,"


def test_it_is_the_same_everywhere(tmp_path):
    hashes = [describe(str(write_example(tmp_path / name))).content_hash for name in ("a", "b")]
    assert hashes[0] == hashes[1]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.txt").touch()
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="is there already; name a new folder"):
            write_example(place)
    with pytest.raises(DataError, match="cannot be written"):
        write_example(tmp_path / "mine.txt" / "below")
