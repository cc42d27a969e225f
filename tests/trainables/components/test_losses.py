from functools import partial
from math import e, log

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from trainables.components.losses import (
    balanced_weights,
    bce_sum,
    entropy_loss,
    gradient_penalty,
    mixup,
    mutual_loss,
    one_hot,
    peer_divergence,
    prototype_loss,
    slope_norms,
    soft_cross_entropy,
    weighted_cross_entropy,
)


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(6, 4, dtype=torch.float64, requires_grad=True)


LABELS = torch.tensor([0, 1, 1, 3, 0, 3])  # class 2 is absent


def test_one_hot():
    assert one_hot(LABELS, 4).equal(F.one_hot(LABELS, 4).float())


def test_prototype_loss_is_its_definition(logits):
    probs = (logits / 0.7).softmax(1)
    members = {k: [i for i in range(6) if LABELS[i] == k] for k in range(4)}
    zero = torch.zeros(4, dtype=torch.float64)
    prototypes = [probs[members[k]].mean(0) if members[k] else zero for k in range(4)]
    similar = torch.stack([torch.stack([-((p - c) ** 2).sum() for c in prototypes]) for p in probs])
    naive = -torch.stack([similar[i, LABELS[i]] - similar[i].logsumexp(0) for i in range(6)]).mean()
    torch.testing.assert_close(prototype_loss(logits, LABELS, 4, 0.7), naive)
    assert gradcheck(lambda x: prototype_loss(x, LABELS, 4, 0.7), logits)


def test_prototype_loss_at_its_limits():
    labels = torch.arange(8)
    certain = 1e4 * torch.eye(8, dtype=torch.float64)
    assert prototype_loss(certain, labels, 8, 1.0).item() == pytest.approx(log(1 + 7 * e**-2), abs=1e-12)
    assert prototype_loss(certain, labels, 8, 1.0).item() == pytest.approx(0.66647, abs=1e-4)
    assert prototype_loss(torch.zeros(8, 8), labels, 8, 1.0).item() == pytest.approx(log(8))


def test_entropy(logits):
    probs = logits.softmax(1)
    torch.testing.assert_close(entropy_loss(logits), -(probs * probs.log()).sum(1).mean())
    assert entropy_loss(torch.tensor([[1e4, 0.0]])).item() == 0.0
    assert entropy_loss(torch.zeros(3, 5)).item() == pytest.approx(log(5))


def test_soft_cross_entropy_is_torchs(logits):
    targets = torch.rand(6, 4, dtype=torch.float64).softmax(1)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), F.cross_entropy(logits, targets))


def test_mutual_loss_is_its_definition(logits):
    peers = [torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    others = (peers[0].softmax(1) + peers[1].softmax(1)) / 2
    own = logits.softmax(1)
    divergence = (own * (own / others).log()).sum(1).mean()
    torch.testing.assert_close(
        mutual_loss(logits, peers, LABELS, 0.5), F.cross_entropy(logits, LABELS) + 0.5 * divergence
    )
    torch.testing.assert_close(peer_divergence(logits, [logits]), torch.zeros((), dtype=torch.float64))
    assert gradcheck(lambda x: mutual_loss(x, peers, LABELS, 0.5), logits)
    mutual_loss(logits, peers, LABELS, 0.5).backward()
    assert all(peer.grad is None for peer in peers)


def test_mutual_loss_is_finite_at_hard_predictions():
    own = torch.tensor([[1e4, 0.0]], requires_grad=True)
    loss = mutual_loss(own, [torch.tensor([[0.0, 1e4]])] * 2, torch.tensor([1]), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert own.grad.isfinite().all()


def test_bce_sum_is_its_definition(logits):
    targets, probs = one_hot(LABELS, 4).double(), logits.sigmoid()
    naive = -(targets * probs.log() + (1 - targets) * (1 - probs).log()).sum() / 6
    torch.testing.assert_close(bce_sum(logits, targets), naive)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0])
def test_mixup_mixes_images_and_labels_alike(alpha):
    # Each image is constant and names its class, so that images and targets can be compared.
    images = LABELS.float()[:, None, None, None].expand(6, 3, 8, 8)
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, targets = mixup(images, LABELS, 4, alpha)
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        assert targets.min() >= 0
        torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(4.0))


def test_mixup_shares_follow_beta(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(torch, "randperm", lambda count: torch.arange(count).flip(0))
    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
    shares = torch.stack([mixup(images, labels, 2, 0.2)[1][0, 0] for _ in range(2000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(0.25 / 1.4, abs=0.02)


def penalty_of(discriminator, real, fake):
    return gradient_penalty(partial(slope_norms, discriminator), real, fake)


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 3.0])
def test_penalty_of_a_linear_discriminator(norm):
    weights = torch.randn(3, 4, 4, dtype=torch.float64)
    weights = (weights / weights.norm() * norm).requires_grad_()
    real, fake = torch.rand(2, 5, 3, 4, 4, dtype=torch.float64)
    penalty = penalty_of(lambda images: (images * weights).sum((1, 2, 3)), real, fake)
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-9)
    penalty.backward()
    assert weights.grad.isfinite().all()


def test_penalty_is_differentiable_in_the_discriminator():
    torch.manual_seed(0)
    real, fake = torch.rand(2, 3, 1, 4, 4, dtype=torch.float64)
    weights = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)

    def penalty(w):
        torch.manual_seed(1)
        return penalty_of(lambda images: F.conv2d(images, w).tanh(), real, fake)

    assert gradcheck(penalty, weights)
    assert gradgradcheck(penalty, weights)


def test_penalty_leaves_the_images_alone():
    real, fake = torch.rand(2, 3, 1, 4, 4), torch.rand(2, 3, 1, 4, 4)
    real, fake = real[0], fake[0].requires_grad_()
    weight = torch.ones(1, requires_grad=True)
    penalty_of(lambda images: weight * images.square().sum((1, 2, 3)), real, fake).backward()
    assert fake.grad is None


def test_balanced_weights_by_hand():
    weights = balanced_weights(LABELS, 4)
    assert weights.tolist() == [0.75, 0.75, 1.5, 0.75]  # 6 / (4 · 2), and 6 / 4 for the class without images
    assert balanced_weights(torch.tensor([0, 0, 0, 1]), 2).tolist() == pytest.approx([2 / 3, 2.0])
    assert balanced_weights(torch.tensor([0, 0, 0, 1]), 2)[[0, 0, 0, 1]].mean() == pytest.approx(1.0)


def test_weighted_cross_entropy_of_two_classes_is_the_weighted_binary_one():
    logits = torch.randn(6, 2, dtype=torch.float64)
    labels, weights = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0.75, 1.5], dtype=torch.float64)
    binary = F.binary_cross_entropy_with_logits(
        logits[:, 1] - logits[:, 0], labels.double(), weight=weights[labels]
    )  # mean over the batch
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), binary)


def test_a_batch_of_one_class_keeps_its_weight(logits):
    labels, weights = torch.zeros(6, dtype=torch.long), torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    plain = weighted_cross_entropy(logits, labels, None)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels))
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), 2 * plain)
