"""Groups of images: whole on one side of every split."""

import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.shots import ALL_SHOTS
from trainables.data.groups import alone, deal_out_groups, kin_of, numbered, share_out_groups
from trainables.data.partition import three_way_split
from trainables.data.splits import few_shot_split

RNG = np.random.default_rng(3)
LABELS = np.array([0] * 24 + [1] * 12 + [-1] * 20)
GROUPS = np.concatenate([np.arange(24) // 3, 8 + np.arange(12) // 2, RNG.integers(0, 14, 20)])


def split(**changes):
    request = {
        "num_classes": 2, "shots": ALL_SHOTS, "label_set": 0, "content_hash": "a", "validation": "labelled-cv",
        "groups": GROUPS,
    }  # fmt: skip
    return few_shot_split(LABELS, **(request | changes))


def test_numbers_go_by_names_and_who_has_none_is_alone():
    assert numbered(["b", "", "a", "b", ""]).tolist() == [1, 2, 0, 1, 3]
    assert numbered(["", ""]) is None


def test_kin():
    assert kin_of(np.array([3, 1, 3, 2]), np.array([0])).tolist() == [True, False, True, False]


@pytest.mark.parametrize("seed", ["a", "b"])
def test_images_that_are_alone_are_shared_out_as_they_are(seed):
    labels_N = RNG.integers(0, 3, 50)
    shares = {"val_share": 0.1, "test_share": 0.2}
    plain, grouped = three_way_split(labels_N, seed, **shares), share_out_groups(labels_N, alone(50), seed, **shares)
    assert {name: part.tolist() for name, part in plain.items()} == {n: part.tolist() for n, part in grouped.items()}


def test_groups_are_shared_out_whole_and_each_class_goes_everywhere():
    labels_N, groups_N = LABELS[:36], GROUPS[:36]
    parts = share_out_groups(labels_N, groups_N, "a", val_share=0.2, test_share=0.2)
    assert sorted(np.concatenate([*parts.values()])) == list(range(36))
    assert sum(len(set(groups_N[part])) for part in parts.values()) == len(set(groups_N))
    assert all(set(labels_N[part]) == {0, 1} for part in parts.values())


def test_a_group_of_two_classes_counts_to_the_rarer_one():
    labels_N = np.array([0, 0, 0, 0, 1, 0, 1, 0])
    groups_N = np.array([0, 1, 2, 3, 4, 4, 5, 5])
    parts = share_out_groups(labels_N, groups_N, "a", val_share=0.0, test_share=0.5)
    assert all(1 in labels_N[parts[name]] for name in ("train", "test"))


def test_numbers_of_groups_do_not_matter_when_they_are_shared_out():
    labels_N, other = LABELS[:36], RNG.permutation(20)[GROUPS[:36]]
    one, two = (share_out_groups(labels_N, g, "a", val_share=0.2, test_share=0.2) for g in (GROUPS[:36], other))
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("label_set", range(5))
def test_no_group_crosses_folds(label_set):
    found = [split(fold=fold, label_set=label_set) for fold in range(5)]
    validated = np.concatenate([each.validation_indices for each in found])
    assert sorted(validated) == list(range(36)), "every labelled image validates once"
    for each in found:
        held_out = set(GROUPS[each.validation_indices])
        assert not held_out & set(GROUPS[each.labelled_indices])
        assert not held_out & set(GROUPS[each.unlabelled_indices]), "nor is its group in the pool meanwhile"
        assert set(LABELS[each.validation_indices]) == set(LABELS[each.labelled_indices]) == {0, 1}
        away = (LABELS == -1) & np.isin(GROUPS, list(held_out))
        assert len(each.unlabelled_indices) == 20 - away.sum()
        assert (each.num_folds, each.label_budget) == (5, 36)


def test_folds_are_fixed_and_differ_between_label_sets():
    hashes = [split(label_set=label_set).label_set_hash for label_set in (0, 0, 1, 2)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("label_set", range(5))
def test_realistic_validation_takes_other_groups(label_set):
    found = split(shots=4, validation="realistic", label_set=label_set)
    plain = split(shots=4, validation="realistic", label_set=label_set, groups=None)
    assert np.array_equal(found.labelled_indices, plain.labelled_indices), "labels may be of any group"
    assert np.bincount(LABELS[found.validation_indices]).tolist() == [4, 4]
    held_out = set(GROUPS[found.validation_indices])
    assert not held_out & {*GROUPS[found.labelled_indices], *GROUPS[found.unlabelled_indices]}


def test_the_rarest_class_limits_folds_by_its_groups():
    labels_N = np.array([0] * 10 + [1] * 9)
    groups_N = np.array([*range(10), 20, 20, 20, 21, 21, 21, 22, 22, 22])
    request = {"num_classes": 2, "shots": ALL_SHOTS, "label_set": 0, "content_hash": "a", "validation": "labelled-cv"}
    assert few_shot_split(labels_N, **request, groups=groups_N).num_folds == 3
    assert few_shot_split(labels_N, **request).num_folds == 5
    assert few_shot_split(labels_N, **request, folds=7).num_folds == 7
    assert few_shot_split(labels_N, **request, folds=2, groups=groups_N).num_folds == 2
    with pytest.raises(DataError, match=r"for 3 folds: set folds to 3"):
        few_shot_split(labels_N, **request, groups=groups_N, fold=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": 6, "validation": "realistic"}, "has . images to validate with whose groups are not labelled, but 6"),
        ({"groups": np.where(LABELS == 1, 99, GROUPS)}, "12 labelled images of class 1 are of 1 group; expected at "
         "least 2 with labelled-cv: label images of another group, lower folds, merge classes"),
    ],
)  # fmt: skip
def test_too_few_groups_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        split(**changes)


def test_groups_that_cannot_be_dealt_out_are_refused():
    labels_N, groups_N = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 0, 2])
    with pytest.raises(DataError, match=r"cannot be dealt out so that each of 2 folds holds every class: lower folds"):
        deal_out_groups(labels_N, groups_N, 2, "a")
