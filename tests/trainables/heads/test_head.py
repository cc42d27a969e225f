import pytest
import torch

from tests.trainables.heads.features import clusters
from trainables.heads.head import Features, class_means, evenly, mean_of


def test_rows_and_labels_belong_together():
    rows = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="3 rows of features and 2 labels"):
        Features(rows, torch.tensor([0, 1]), rows, 2)
    with pytest.raises(ValueError, match="0 rows of features and 0 labels"):
        Features(rows[:0], torch.tensor([], dtype=torch.long), rows, 2)
    with pytest.raises(ValueError, match="2 features with labels, 5 without"):
        Features(rows, torch.tensor([0, 1, 1]), torch.zeros(4, 5), 2)


def test_some_of_the_pool_is_spread_over_it():
    rows = torch.arange(101.0)[:, None]
    assert evenly(rows, 5).flatten().tolist() == [0, 25, 50, 75, 100]
    assert evenly(rows, 101) is rows


def test_means_are_weighted_and_zero_for_nothing():
    rows, members = torch.tensor([[1.0, 0.0], [4.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.0]])
    torch.testing.assert_close(class_means(rows, members), torch.tensor([[2.0, 1.0], [0.0, 0.0]]))


def test_known_classes():
    assert clusters((2, 0, 1)).known_K().tolist() == [True, False, True]


def test_the_mean_of_heads_is_that_of_their_probabilities():
    found = mean_of(torch.tensor(each) for each in ([[0.2, 0.8]], [[0.6, 0.4]], [[1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.4]]))
