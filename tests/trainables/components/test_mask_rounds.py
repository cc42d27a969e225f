import pytest
import torch

from trainables.components.mask_losses import bce_dice
from trainables.components.mask_rounds import (
    MaskRules,
    agreement,
    confidences,
    flip_averaged,
    foreground,
    hard_masks,
    image_scores,
    select_images,
    pseudo_masks,
)
from trainables.data.readers.shapes import shapes


def test_foreground():
    logits = torch.tensor([[[[0.0, 2.0]]], [[[-1.0, 9.0]]]])
    torch.testing.assert_close(foreground(logits), logits[:, 0].sigmoid())
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(foreground(two), logits[:, 0].sigmoid())
    assert hard_masks(foreground(two)).equal(two.argmax(1).bool() | (two[:, 0] == two[:, 1]))


def test_as_published_every_pixel_and_image_counts():
    probs = torch.rand(4, 6, 6)
    probs[0], probs[1] = 0, 1
    found = pseudo_masks(probs, MaskRules())
    assert found.targets_BHW.equal((probs >= 0.5).float())
    assert found.weights_BHW.eq(1).all()
    assert found.plausible_B.all()
    assert select_images(found.scores_B, found.plausible_B).tolist() == [0, 1, 2, 3]


def test_targets_and_weights():
    probs = torch.tensor([[[0.1, 0.4, 0.5, 0.65, 0.9]]])
    hard = pseudo_masks(probs, MaskRules(threshold=0.6, pixel_confidence=0.65))
    assert hard.targets_BHW.tolist() == [[[0, 0, 0, 1, 1]]]
    assert hard.weights_BHW.tolist() == [[[1, 0, 0, 1, 1]]]
    soft = pseudo_masks(probs, MaskRules(soft=True))
    assert soft.targets_BHW.equal(probs)
    torch.testing.assert_close(confidences(probs), torch.tensor([[[0.9, 0.6, 0.5, 0.65, 0.9]]]))


def test_score_is_of_the_foreground_and_its_surroundings():
    probs = torch.full((2, 7, 7), 0.01)
    probs[0, 3, 3], probs[0, 3, 4] = 0.6, 0.3
    found = confidences(probs)
    scores = image_scores(found, hard_masks(probs), 1)
    assert scores[0].item() == pytest.approx((0.6 + 0.7 + 7 * 0.99) / 9)
    assert image_scores(found, hard_masks(probs), 0)[0].item() == pytest.approx(0.6)
    assert scores[1].item() == pytest.approx(0.99), "without foreground it is over all pixels"


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.0, 1.0, "FPE"), (1e-6, 1.0, "FP"), (0.0, 0.999, "PE"), (0.2, 0.3, "P")]
)
def test_empty_and_full_masks(low, high, expected):
    probs = torch.zeros(3, 4, 4)
    probs[0], probs[1, :1] = 1, 1
    found = pseudo_masks(probs, MaskRules(min_foreground=low, max_foreground=high))
    chosen = select_images(found.scores_B, found.plausible_B)
    assert "".join("FPE"[index] for index in chosen) == expected


def test_the_best_are_kept():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.95, 0.5, 0.7, 0.99])
    plausible = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0]).bool()
    assert select_images(scores, plausible, keep_fraction=0.5).tolist() == [0, 1, 2, 4], "4 of 7, ties to the earlier one"
    assert select_images(scores, torch.zeros(8).bool()).tolist() == []
    assert len(select_images(torch.rand(10), torch.ones(10).bool(), keep_fraction=0.7)) == 7
    assert len(select_images(torch.rand(0), torch.ones(0).bool())) == 0


def test_agreement():
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    earlier = torch.tensor([[[1, 0, 1, 1]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    assert agreement(masks, earlier).tolist() == pytest.approx([2 / 5, 1, 0])


def test_mean_over_flips():
    torch.manual_seed(0)
    images, weights = torch.rand(2, 1, 4, 6), torch.rand(4, 6)
    found = flip_averaged(lambda each: each[:, 0] * weights, images)
    symmetric = (weights + weights.flip(0) + weights.flip(1) + weights.flip(0, 1)) / 4
    torch.testing.assert_close(found, images[:, 0] * symmetric)
    torch.testing.assert_close(flip_averaged(lambda each: each[:, 0], images), images[:, 0])


def fit(images, targets, weights, steps=60):
    """A segmenter of a brightness threshold: logits are a · brightness + b."""
    torch.manual_seed(0)
    scale, shift = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([scale, shift], lr=0.3)
    for _ in range(steps):
        optimiser.zero_grad()
        bce_dice(images * scale + shift, targets, pixel_weights_BHW=weights).backward()
        optimiser.step()
    return lambda each: foreground((each * scale + shift).detach()[:, None])


def test_rounds_on_ellipses():
    """Two rounds on a bank of eight: masks are replaced, real ones stay, and only confident pixels teach."""
    images_NHW3, masks_NHW = shapes(20, 32, seed=0)
    grey = torch.from_numpy(images_NHW3).float().mean(-1)
    brightness = (grey - grey.flatten(1).median(1).values[:, None, None]) / 30
    real, bank, held_out = brightness.split([4, 8, 8])
    true, bank_true, held_out_true = torch.from_numpy(masks_NHW).float().split([4, 8, 8])
    rules = MaskRules(pixel_confidence=0.7, min_foreground=0.01)
    predict, sizes, rounds = fit(real, true, torch.ones_like(true)), [], []
    for _ in range(2):
        found = pseudo_masks(predict(bank), rules)
        chosen = select_images(found.scores_B, found.plausible_B, keep_fraction=0.75)
        targets = torch.cat([true, found.targets_BHW[chosen]])
        weights = torch.cat([torch.ones_like(true), found.weights_BHW[chosen]])
        predict = fit(torch.cat([real, bank[chosen]]), targets, weights)
        assert targets[:4].equal(torch.from_numpy(masks_NHW[:4]).float())
        sizes.append(len(targets))
        rounds.append(found)
    assert sizes == [4 + 6, 4 + 6]
    assert not rounds[0].targets_BHW.equal(rounds[1].targets_BHW) or not rounds[0].weights_BHW.equal(
        rounds[1].weights_BHW
    )
    assert any((found.weights_BHW == 0).any() for found in rounds)
    assert agreement(hard_masks(predict(held_out)), held_out_true).mean() > 0.6
    assert agreement(rounds[1].targets_BHW, bank_true).mean() > 0.6


def test_unsure_pixels_teach_nothing():
    probs = torch.tensor([[[0.05, 0.45, 0.55, 0.95]]])
    found = pseudo_masks(probs, MaskRules(pixel_confidence=0.9))
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    bce_dice(logits, found.targets_BHW, pixel_weights_BHW=found.weights_BHW).backward()
    assert logits.grad.ne(0).flatten().tolist() == [True, False, False, True]
