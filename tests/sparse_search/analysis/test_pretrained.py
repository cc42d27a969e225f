"""Rankings with and without pretraining: apart, both in one table, or one of them."""

import pytest

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.leaderboard import board, leaderboard
from sparse_search.best.export import export

TRIALS = [
    {"number": 0, "config": {"image_size": 32, "backbones": "pixels", "lr": 1.0}},
    {"number": 1, "config": {"image_size": 32, "backbones": "pixels+lite0", "lr": 1.0}},
    {"number": 2, "config": {"image_size": 32, "backbones": "lite1", "lr": 1.0}},
]


@pytest.fixture
def fill(store, make_record):
    def write(*records):
        for changes in records:
            store.write(make_record(**changes))
        return store

    return write


def test_what_the_weights_saw_tells_rankings_apart_not_whose_they_are(fill):
    store = fill(*TRIALS)
    frame = leaderboard(store.folder, every=True)
    assert list(frame["pretrained"]) == ["", "ImageNet-1k", "ImageNet-1k"]
    assert list(frame["rank"]) == [1, 1, 2]


@pytest.mark.parametrize(("pretrained", "data"), [(True, "ImageNet-1k"), (False, "")])
def test_one_of_the_two_kinds_is_shown_and_exported(fill, pretrained, data):
    store = fill(*TRIALS)
    assert set(board(store, pretrained=pretrained).ranked["pretrained"].to_pylist()) == {data}
    values = export(store.folder, dataset="digits", shots=5, pretrained=pretrained)
    assert (values["config"]["backbones"] == "pixels") is not pretrained
    with pytest.raises(ResultsError, match="say --pretrained or --no-pretrained"):
        export(store.folder, dataset="digits", shots=5)


def test_none_of_the_kind_is_one_line(fill):
    with pytest.raises(ResultsError, match="no complete trial has pretrained weights"):
        board(fill(TRIALS[0]), pretrained=True)
