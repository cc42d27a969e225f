import numpy as np
import pytest

from search_spaces.core.errors import DataError
from trainables.core.conditions import VALIDATION_MODES
from trainables.data.roles import Pictures, Roles, left_to
from trainables.data.splits import drawn_split, few_shot_split

LABELS = np.repeat([0, 1], 20)


def pictures(text, labels=None):
    return Pictures([letter.encode() for letter in text], labels or [0] * len(text))


def truth(values):
    return "".join("01"[int(value)] for value in values)


@pytest.mark.parametrize(
    ("train", "val", "present", "teaching", "validating", "conflicting"),
    [
        (pictures("abc"), None, "111", "111", "", 0),
        (pictures("abab"), None, "1100", "1100", "", 0),
        (pictures("aba", [0, 0, 1]), None, "110", "010", "", 2),
        (pictures("abc"), pictures("cd"), "110", "110", "11", 0),
        (pictures("abc"), pictures("cd", [1, 0]), "110", "110", "01", 2),
        (pictures("ab"), pictures("cc"), "11", "11", "10", 0),
        (pictures("aab", [-1, 1, -1]), None, "011", "010", "", 0),
        (pictures("aaa", [-1, 1, 0]), None, "010", "000", "", 2),
        (pictures("aab", [-1, -1, 0]), None, "101", "001", "", 0),
        (pictures("ab", [-1, 0]), pictures("a", [1]), "01", "01", "1", 0),
    ],
)
def test_what_is_left(train, val, present, teaching, validating, conflicting):
    roles = left_to(train, val)
    found = (*map(truth, (roles.present_N, roles.teaching_N, roles.validating_V)), roles.num_conflicting)
    assert found == (present, teaching, validating, conflicting)


def counted(roles, mode, label_set):
    shots = 24 if mode == "labelled-cv" else 8
    request = {"shots": shots, "label_set": label_set, "content_hash": "x", "validation": mode, "roles": roles}
    return drawn_split(LABELS, val_share=0.25, class_names=("a", "b"), **request)


def per_class(roles, mode, label_set):
    request = {"shots": 4, "label_set": label_set, "content_hash": "x", "validation": mode, "roles": roles}
    return few_shot_split(LABELS, num_classes=2, num_validation=6, **request)


def some_out():
    roles = Roles.all(len(LABELS), 6)
    roles.present_N[[3, 25]] = roles.teaching_N[[3, 25, 7, 30]] = roles.validating_V[2] = False
    return roles


@pytest.mark.parametrize("mode", VALIDATION_MODES)
@pytest.mark.parametrize("draw", [per_class, counted])
def test_no_draw_gives_a_role_that_is_forbidden(draw, mode):
    for label_set in range(20):
        split = draw(some_out(), mode, label_set)
        taught = [split.labelled_indices]
        if split.validation_from == "train":
            taught.append(split.validation_indices)
        assert not np.isin([3, 25, 7, 30], np.concatenate(taught)).any()
        assert not np.isin([3, 25], split.unlabelled_indices).any()
        if split.validation_from == "val":
            assert split.validation_indices.tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("mode", VALIDATION_MODES)
@pytest.mark.parametrize("draw", [per_class, counted])
def test_draws_that_meet_none_of_them_stay_as_they_are(draw, mode):
    same = 0
    for label_set in range(40):
        roles = Roles.all(len(LABELS), 6)
        roles.present_N[3] = roles.teaching_N[3] = False
        without, whole = draw(roles, mode, label_set), draw(None, mode, label_set)
        seen = np.union1d(whole.labelled_indices, whole.validation_indices if mode != "official" else [])
        if 3 in seen or (draw is counted and mode == "official" and 3 in whole.validation_indices):
            continue
        same += 1
        assert without.label_set_hash == whole.label_set_hash
        assert np.array_equal(without.unlabelled_indices, np.setdiff1d(whole.unlabelled_indices, [3]))
    assert same >= 10


def test_a_class_that_has_too_few_left_is_named():
    roles = Roles.all(len(LABELS))
    roles.teaching_N[:17] = False
    with pytest.raises(DataError, match="class 0 has 3 training images, but 4 labelled"):
        per_class(roles, "labelled-cv", 0)
    roles.teaching_N[:20] = False
    with pytest.raises(DataError, match="class 'a' has no picture left to train on"):
        counted(roles, "realistic", 0)
