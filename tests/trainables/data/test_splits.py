from typing import get_args

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.method import Validation
from trainables.data.splits import VALIDATION_MODES, few_shot_split, num_folds

COUNTS = [80, 30, 20]
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], COUNTS))


def draw(**changes):
    request = {"num_classes": 3, "shots": 5, "label_set": 0, "content_hash": "abc", "validation": "realistic"}
    return few_shot_split(LABELS, **(request | changes))


def per_class(indices):
    return np.bincount(LABELS[indices], minlength=3).tolist()


def test_modes_are_those_of_a_task():
    assert get_args(Validation) == VALIDATION_MODES


@pytest.mark.parametrize(
    ("validation", "labelled", "chosen", "budget"),
    [
        ("realistic", [5] * 3, [5] * 3, 30),
        ("labelled-cv", [4] * 3, [1] * 3, 15),
        ("official", [5] * 3, None, 15 + 40),
    ],
)
def test_counts_and_budget(validation, labelled, chosen, budget):
    split = draw(validation=validation, num_validation=40)
    assert per_class(split.labelled_indices) == labelled
    assert split.label_budget == budget
    if chosen is None:
        assert split.validation_from == "val"
        assert split.validation_indices.tolist() == list(range(40))
    else:
        assert split.validation_from == "train"
        assert per_class(split.validation_indices) == chosen


@pytest.mark.parametrize("validation", ["realistic", "labelled-cv"])
def test_the_train_split_is_partitioned(validation):
    split = draw(validation=validation)
    parts = [split.labelled_indices, split.unlabelled_indices, split.validation_indices]
    assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))


def test_official_validation_leaves_the_train_split_alone():
    split = draw(validation="official", num_validation=7)
    assert sorted([*split.labelled_indices, *split.unlabelled_indices]) == list(range(len(LABELS)))


def test_few_shots_lie_inside_many():
    five, ten = draw(shots=5), draw(shots=10)
    assert set(five.labelled_indices) < set(ten.labelled_indices)
    assert set(five.validation_indices) < set(ten.validation_indices)


@pytest.mark.parametrize("shots", [2, 3, 5, 7])
def test_folds_partition_the_labelled_images(shots):
    drawn = draw(shots=shots, validation="official", num_validation=1).labelled_indices
    folds = [draw(shots=shots, validation="labelled-cv", fold=fold) for fold in range(num_folds(shots))]
    assert sorted(np.concatenate([fold.validation_indices for fold in folds])) == drawn.tolist()
    for fold in folds:
        assert sorted([*fold.labelled_indices, *fold.validation_indices]) == drawn.tolist()
        assert len(set(per_class(fold.validation_indices))) == 1
        assert np.array_equal(fold.unlabelled_indices, folds[0].unlabelled_indices)
        assert fold.label_budget == 3 * shots
    assert len({fold.label_set_hash for fold in folds}) == len(folds)


@pytest.mark.parametrize(("shots", "folds"), [(2, 2), (4, 4), (5, 5), (100, 5)])
def test_number_of_folds(shots, folds):
    assert num_folds(shots) == folds


def test_a_draw_is_deterministic():
    one, two = draw(), draw()
    assert one.label_set_hash == two.label_set_hash
    assert np.array_equal(one.unlabelled_indices, two.unlabelled_indices)
    assert len(one.label_set_hash) == 12


@pytest.mark.parametrize(
    "change", [{"label_set": 1}, {"content_hash": "abd"}, {"shots": 6}, {"validation": "labelled-cv"}]
)
def test_another_request_has_another_hash(change):
    assert draw(**change).label_set_hash != draw().label_set_hash


def test_validation_modes_share_the_labelled_images():
    realistic, official = draw(), draw(validation="official", num_validation=3)
    assert np.array_equal(realistic.labelled_indices, official.labelled_indices)


def test_the_whole_of_the_smallest_class_may_be_used():
    assert per_class(draw(shots=10).unlabelled_indices)[2] == 0
    assert per_class(draw(shots=20, validation="labelled-cv").unlabelled_indices)[2] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shots": 11},
            "class 2 has 20 training images, but 11 labelled + 11 validation images are asked for: "
            "lower --shots to at most 10",
        ),
        (
            {"shots": 21, "validation": "labelled-cv", "class_names": ["a", "b", "rare"]},
            "class 2 ('rare') has 20 training images, but 21 labelled images are asked for: "
            "lower --shots to at most 20",
        ),
        (
            {"num_classes": 4},
            "class 3 has 0 training images, but 5 labelled + 5 validation images are asked for: "
            "add images of this class or leave it out",
        ),
        ({"shots": 0}, "shots is 0; expected at least 1 labelled image per class: raise --shots"),
        (
            {"shots": 1, "validation": "labelled-cv"},
            "shots is 1, but labelled-cv holds labelled images out: raise --shots to 2 or use realistic",
        ),
        ({"fold": 1}, "fold is 1; expected 0..0 with 5 shots and realistic validation"),
        (
            {"fold": 5, "validation": "labelled-cv"},
            "fold is 5; expected 0..4 with 5 shots and labelled-cv validation",
        ),
        (
            {"fold": -1, "validation": "labelled-cv"},
            "fold is -1; expected 0..4 with 5 shots and labelled-cv validation",
        ),
        (
            {"validation": "realstic"},
            "validation mode 'realstic' is unknown; did you mean 'realistic'? Known: labelled-cv, official, realistic.",
        ),
        (
            {"validation": "official"},
            "official validation needs a val split with images: choose --validation realistic",
        ),
    ],
)
def test_messages(change, message):
    with pytest.raises(DataError) as caught:
        draw(**change)
    assert str(caught.value) == message
