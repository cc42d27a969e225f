import pytest
import torch

from trainables.components.losses import prototype_loss
from trainables.components.prototypes import PrototypeBank

LABELS = torch.tensor([0, 1, 1, 2, 0])


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(5, 3)


def test_nothing_was_predicted_at_first():
    sums, counts = PrototypeBank(5, 3).others(torch.tensor([0]), LABELS)
    assert not sums.any()
    assert not counts.any()


def test_batch_and_bank_together_are_the_means_of_all(logits):
    bank, rest = PrototypeBank(5, 3), torch.tensor([1, 3, 4])
    bank.update(torch.arange(5), torch.full((5, 3), 9.0))  # replaced, or in the batch
    bank.update(rest, (logits[rest] / 2).softmax(1))
    batch = torch.tensor([0, 2])
    found = prototype_loss(logits[batch], LABELS[batch], 3, 2.0, bank.others(batch, LABELS))
    probs = (logits / 2).softmax(1)
    prototypes = torch.stack([probs[k == LABELS].mean(0) for k in range(3)])
    distances = (probs[batch][:, None] - prototypes).square().sum(2)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(-distances, LABELS[batch]))


def test_the_bank_passes_no_gradient(logits):
    bank = PrototypeBank(5, 3)
    bank.update(torch.arange(5), logits.softmax(1))
    own = logits[:2].clone().requires_grad_()
    prototype_loss(own, LABELS[:2], 3, 1.0, bank.others(torch.arange(2), LABELS)).backward()
    assert own.grad.abs().sum() > 0
    assert not bank.probs_NK.requires_grad
