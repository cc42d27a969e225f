from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.conditions import VALIDATION_MODES, Validation
from trainables.core.shots import ALL_SHOTS
from trainables.data.splits import drawn_split, few_shot_split, num_folds

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
        ({"shots": -1}, "shots is -1; expected at least 1 labelled image per class: raise --shots"),
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
            {"fold": 20, "folds": 30, "shots": ALL_SHOTS, "validation": "labelled-cv"},
            "fold 20 is not there: the rarest class has images, or groups, for 20 folds: set folds to 20",
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


POOL = np.random.default_rng(1).permutation(np.repeat([0, 1], [134, 65]))
DRAWN_SHOTS = (10, 20, 40, 80, 149)


def draw_in_all(**changes):
    request = {
        "shots": 10, "label_set": 0, "content_hash": "abc", "validation": "realistic", "val_share": 50 / 199,
        "class_names": ("healthy", "lesion"),
    }  # fmt: skip
    return drawn_split(POOL, **(request | changes))


def of_class(indices):
    return np.bincount(POOL[indices], minlength=2).tolist()


@pytest.mark.parametrize("label_set", range(5))
def test_counted_in_all(label_set):
    whole = draw_in_all(shots=149, label_set=label_set, validation="official")
    assert of_class(whole.labelled_indices) == [100, 49]
    assert of_class(whole.validation_indices) == [34, 16]
    assert len(whole.unlabelled_indices) == 0
    for shots in DRAWN_SHOTS:
        split = draw_in_all(shots=shots, label_set=label_set)
        num_validation = min(shots, 50)
        assert (len(split.labelled_indices), len(split.validation_indices)) == (shots, num_validation)
        assert split.label_budget == shots + num_validation
        assert min(of_class(split.labelled_indices)) > 0
        assert min(of_class(split.validation_indices)) > 0
        assert sorted([*split.labelled_indices, *split.unlabelled_indices]) == whole.labelled_indices.tolist()
        assert set(split.validation_indices) <= set(whole.validation_indices)
        assert split.validation_from == "train"


@pytest.mark.parametrize("label_set", range(10))
def test_every_ten_drawn_lie_inside_twenty(label_set):
    splits = [draw_in_all(shots=shots, label_set=label_set) for shots in DRAWN_SHOTS]
    for fewer, more in pairwise(splits):
        assert set(fewer.labelled_indices) < set(more.labelled_indices)
        assert set(fewer.validation_indices) <= set(more.validation_indices)


@pytest.mark.parametrize("shots", [2, 3, 5])
def test_fewer_than_ten_hold_both_classes_too(shots):
    for label_set in range(20):
        split = draw_in_all(shots=shots, label_set=label_set)
        assert min(of_class(split.labelled_indices)) > 0
        assert min(of_class(split.validation_indices)) > 0


def test_validation_is_mixed_as_the_whole():
    assert of_class(draw_in_all(shots=25).validation_indices) == [17, 8]


def test_folds_of_pictures_counted_in_all():
    drawn = draw_in_all(shots=80).labelled_indices
    folds = [draw_in_all(shots=80, validation="labelled-cv", fold=fold) for fold in range(5)]
    assert sorted(np.concatenate([fold.validation_indices for fold in folds])) == drawn.tolist()
    for fold in folds:
        assert sorted([*fold.labelled_indices, *fold.validation_indices]) == drawn.tolist()
        assert min(of_class(fold.validation_indices)) > 0
        assert fold.label_budget == 80


def test_draws_in_all_are_deterministic_and_differ():
    one = draw_in_all().label_set_hash
    assert one == draw_in_all().label_set_hash
    others = [
        draw_in_all(**change).label_set_hash for change in ({"label_set": 1}, {"content_hash": "b"}, {"shots": 11})
    ]
    assert len({one, *others}) == 4


def test_a_draw_in_all_never_changes():
    """Pinned: another draw would silently label other pictures than earlier results did."""
    assert draw_in_all().labelled_indices.tolist() == [12, 32, 68, 114, 122, 132, 148, 164, 169, 173]
    assert draw_in_all().label_set_hash == "4e575bb5e749"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"shots": 1},
            "shots is 1; this dataset counts labelled pictures in all and has 149 to train on: expected 2..149",
        ),
        (
            {"shots": 150},
            "shots is 150; this dataset counts labelled pictures in all and has 149 to train on: expected 2",
        ),
        ({"class_names": ("a", "b", "c")}, "class 'c' has no picture left to train on: add pictures of it"),
        ({"val_share": 0.001}, "class 'healthy' has no picture left to validate with: add pictures of it"),
        (
            {"shots": 2, "validation": "labelled-cv"},
            "labelled-cv deals every class out to 2 folds, but 1 of the 2 labelled",
        ),
        (
            {"validation": "labelled-cv"},
            "labelled-cv deals every class out to 5 folds, but 3 of the 10 labelled pictures are of class 'lesion': "
            "raise --shots or choose --validation realistic",
        ),
        ({"validation": "offical"}, "validation mode 'offical' is unknown"),
        ({"fold": 1}, "fold is 1; expected 0..0"),
    ],
)
def test_messages_of_draws_in_all(change, message):
    with pytest.raises(DataError) as caught:
        draw_in_all(**change)
    assert str(caught.value).startswith(message)
