from math import log

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from trainables.components.mask_losses import AdaptiveKappa, bce_dice, one_hot_masks, tvmf_dice, tvmf_similarity


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 4, 5, requires_grad=True), torch.randint(2, (3, 4, 5)).float()


def two_class_logits(logits):
    return torch.stack([torch.zeros_like(logits), logits], 1)


def test_bce_dice_by_hand():
    logits, targets = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
    # Dice (2 · 0.5 + 1) / (1 + 1 + 1)
    assert bce_dice(logits, targets).item() == pytest.approx(log(2) + 1 / 3)
    assert bce_dice(logits, targets, bce_weight=0.5, dice_weight=3).item() == pytest.approx(log(2) / 2 + 1)


def test_bce_dice_is_per_image(batch):
    logits, targets = batch
    one_by_one = torch.stack([bce_dice(logits[n : n + 1], targets[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(bce_dice(logits, targets), one_by_one.mean())
    weights = torch.tensor([1.0, 0.1, 0.0])
    torch.testing.assert_close(bce_dice(logits, targets, image_weights_B=weights), (weights * one_by_one).mean())


def test_bce_dice_of_sure_masks():
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    right = (targets - 0.5) * 200
    assert bce_dice(right, targets).item() == pytest.approx(0, abs=1e-6)
    wrong = -right.requires_grad_()
    bce_dice(wrong, targets).backward()
    assert right.grad.isfinite().all()


@pytest.mark.parametrize("targets", [torch.tensor([1.0, 0, 0, 1]), torch.tensor([0.9, 0.2, 0.4, 0.7])])
def test_pixels_of_no_weight_are_as_if_they_were_not_there(targets):
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 1, 6, requires_grad=True), targets.repeat(2, 1, 2)[:, :, :6]
    weights = torch.tensor([1.0, 1, 0, 1, 0, 1]).expand(2, 1, 6)
    left = weights[0, 0].bool()
    torch.testing.assert_close(
        bce_dice(logits, targets, pixel_weights_BHW=weights), bce_dice(logits[..., left], targets[..., left])
    )
    kappa = torch.tensor([3.0, 8.0])
    masked = tvmf_dice(two_class_logits(logits), one_hot_masks(targets, 2), kappa, weights)
    cropped = tvmf_dice(two_class_logits(logits[..., left]), one_hot_masks(targets[..., left], 2), kappa)
    torch.testing.assert_close(masked, cropped)
    (masked + bce_dice(logits, targets, pixel_weights_BHW=weights)).backward()
    assert (logits.grad[..., ~left] == 0).all()
    assert (logits.grad[..., left] != 0).all()


def test_an_image_without_any_pixel_that_counts_teaches_nothing(batch):
    logits, targets = batch
    weights = torch.ones_like(targets)
    weights[1] = 0
    loss = bce_dice(logits, targets, pixel_weights_BHW=weights)
    loss.backward()
    assert (logits.grad[1] == 0).all()
    rest = [0, 2]
    torch.testing.assert_close(loss, bce_dice(logits[rest], targets[rest]) * 2 / 3)
    nothing = tvmf_dice(two_class_logits(logits), one_hot_masks(targets, 2), torch.ones(2), torch.zeros_like(targets))
    assert nothing.item() == pytest.approx((1 - (1 / 2 - 1)) ** 2)  # cosine 0
    assert torch.autograd.grad(nothing, logits)[0].eq(0).all()


@pytest.mark.parametrize(
    ("kappa", "cosine", "similarity", "loss"),
    [
        (32, 0, -0.9697, 3.880), (32, 0.5, -0.9118, 3.655), (32, 0.9, -0.5476, 2.395), (32, 0.99, 0.5076, 0.2425),
        (32, 1, 1, 0), (8, 0.5, -0.7, 2.89), (8, 0.9, 0.0556, 0.892), (64, 0.99, 0.2134, 0.6187),
    ],
)  # fmt: skip
def test_published_values_of_tvmf(kappa, cosine, similarity, loss):
    found = tvmf_similarity(torch.tensor(float(cosine)), torch.tensor(float(kappa)))
    assert found.item() == pytest.approx(similarity, abs=5e-5)
    assert (1 - found).square().item() == pytest.approx(loss, abs=5e-4)


def test_tvmf_dice_is_its_definition():
    torch.manual_seed(0)
    logits, masks, kappa = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5)), torch.tensor([0.0, 8.0, 32.0])
    terms = []
    for k in range(3):
        found, true = logits.softmax(1)[:, k].flatten(), (masks == k).float().flatten()
        cosine = F.cosine_similarity(found, true, dim=0)
        terms.append((1 - ((1 + cosine) / (1 + kappa[k] * (1 - cosine)) - 1)) ** 2)
    torch.testing.assert_close(tvmf_dice(logits, one_hot_masks(masks, 3), kappa), torch.stack(terms).mean())


def test_without_kappa_it_is_the_square_of_one_minus_cosine(batch):
    logits, targets = two_class_logits(batch[0]), one_hot_masks(batch[1], 2)
    cosines = torch.stack([
        F.cosine_similarity(logits.softmax(1)[:, k].flatten(), targets[:, k].flatten(), dim=0) for k in (0, 1)
    ])  # fmt: skip
    kappa = AdaptiveKappa(2).kappa_K
    torch.testing.assert_close(tvmf_dice(logits, targets, kappa), (1 - cosines).square().mean())
    torch.testing.assert_close(tvmf_similarity(cosines, kappa), cosines)


def test_gradients():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    masks, weights, kappa = torch.randint(2, (2, 3, 3)), torch.rand(2, 3, 3), torch.tensor([1.0, 5.0])
    assert gradcheck(lambda each: tvmf_dice(each, one_hot_masks(masks, 2), kappa, weights), logits)
    assert gradcheck(lambda each: bce_dice(each[:, 0], masks, pixel_weights_BHW=weights), logits)


def test_an_absent_class_gives_no_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = tvmf_dice(logits, one_hot_masks(torch.zeros(2, 4, 4), 3), torch.full((3,), 32.0))
    loss.backward()
    assert logits.grad.isfinite().all()
    present = tvmf_dice(logits, one_hot_masks(torch.zeros(2, 4, 4), 3)[:, :1].expand(-1, 3, -1, -1), torch.zeros(3))
    assert present.isfinite()
    cosine = F.cosine_similarity(logits.softmax(1)[:, 0].flatten(), torch.ones(32), dim=0)
    own = (1 - tvmf_similarity(cosine, torch.tensor(32.0))).square() / 3
    torch.testing.assert_close(logits.grad, torch.autograd.grad(own, logits)[0])


def test_reduced_precision_does_not_reach_the_sums():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 64, 64), torch.randint(2, (2, 64, 64)).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert bce_dice(logits, masks).equal(bce_dice(logits, masks).float())
        assert tvmf_dice(two_class_logits(logits).bfloat16(), one_hot_masks(masks, 2), torch.ones(2)).dtype == (
            torch.float32
        )


def test_shares_of_classes():
    masks = torch.tensor([[[0, 1, 2]]])
    assert one_hot_masks(masks, 3)[0, :, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    torch.testing.assert_close(one_hot_masks(torch.tensor([[[0.25]]]), 2)[0, :, 0, 0], torch.tensor([0.75, 0.25]))


def test_kappa_is_lambda_times_validation_dice():
    kappa = AdaptiveKappa(2, scale=32)
    kappa.see(torch.randn(1, 2, 4, 4), one_hot_masks(torch.ones(1, 4, 4), 2))
    assert kappa.kappa_K.tolist() == [0, 0]
    kappa.end_epoch(torch.tensor([0.5, 0.25]))
    assert kappa.kappa_K.tolist() == [16, 8]
    kappa.end_epoch(torch.tensor([1.0, 0.0]))
    assert kappa.kappa_K.tolist() == [32, 0]
    with pytest.raises(ValueError, match="κ follows 'val'"):
        kappa.end_epoch()


def test_kappa_from_training_batches():
    kappa = AdaptiveKappa(2, scale=10, source="train_ema", decay=0.5)
    kappa.end_epoch()
    assert kappa.kappa_K.tolist() == [0, 0], "nothing was seen"
    found, true = torch.tensor([[[1.0, 1, 0, 0]]]), torch.tensor([[[1.0, 0, 0, 0]]])
    kappa.see(two_class_logits(found * 2 - 1), one_hot_masks(true, 2))
    kappa.end_epoch()
    assert kappa.kappa_K.tolist() == pytest.approx([10 * 4 / 5, 10 * 2 / 3])
    empty = torch.zeros(1, 1, 4)
    kappa.see(two_class_logits(empty - 1), one_hot_masks(empty, 2))
    kappa.end_epoch()
    assert kappa.kappa_K.tolist() == pytest.approx([10 * 2 * (2 + 2 * 4) / (5 + 2 * 8), 10 * 2 / 3])
    with pytest.raises(ValueError, match="κ follows 'train_ema'"):
        kappa.end_epoch(torch.ones(2))


def test_pixels_of_no_weight_do_not_move_kappa():
    kappa, weights = AdaptiveKappa(2, source="train_ema"), torch.tensor([[[1.0, 0, 1, 1]]])
    found, true = torch.tensor([[[1.0, 1, 0, 0]]]), torch.tensor([[[1.0, 0, 0, 0]]])
    kappa.see(two_class_logits(found * 2 - 1), one_hot_masks(true, 2), weights)
    kappa.end_epoch()
    assert kappa.kappa_K.tolist() == pytest.approx([32, 32])


def test_kappa_goes_through_a_checkpoint():
    kappa, other = (AdaptiveKappa(2, source="train_ema") for _ in range(2))
    kappa.see(torch.randn(1, 2, 4, 4), one_hot_masks(torch.ones(1, 4, 4), 2))
    kappa.end_epoch()
    other.load_state_dict(kappa.state_dict())
    other.end_epoch()
    assert other.kappa_K.equal(kappa.kappa_K)
