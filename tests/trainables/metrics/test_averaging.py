import numpy as np
import pytest

from trainables.metrics.averaging import weighted_mean


def test_terms_are_added_one_after_the_other():
    each = np.random.default_rng(0).random((3, 4, 2))
    expected = [[(0.2 * a + 0.3 * b) + 0.5 * c for a, b, c in zip(*rows, strict=True)]
                for rows in zip(*each.tolist(), strict=True)]  # fmt: skip
    assert weighted_mean(each, (0.2, 0.3, 0.5)).tolist() == expected


def test_one_of_weight_one_is_itself():
    probs = np.random.default_rng(0).random((5, 2))
    assert np.array_equal(weighted_mean([probs], [1.0]), probs)


def test_of_nothing_or_of_others_there_is_none():
    with pytest.raises(ValueError, match="needs a member"):
        weighted_mean([], [])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        weighted_mean([np.ones(2)], [0.5, 0.5])
