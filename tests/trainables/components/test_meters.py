import pytest
import torch

from trainables.components.meters import Means


def test_means_are_weighted_by_batch_size():
    means = Means()
    means.add(3, loss=torch.tensor(1.0, requires_grad=True), other=torch.tensor(2.0))
    means.add(1, loss=torch.tensor(5.0))
    assert means.read() == {"loss": pytest.approx(2.0), "other": pytest.approx(2.0)}
    assert Means().read() == {}
