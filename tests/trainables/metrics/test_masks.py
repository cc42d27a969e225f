import json

import numpy as np
import pytest
import torch

from trainables.metrics.masks import MaskScores, count_pixels, score_masks
from trainables.metrics.table import MASKS


def scores_of(predicted, true):
    counts = [count_pixels(one, other) for one, other in zip(predicted, true, strict=True)]
    return score_masks(torch.cat(counts).numpy())


def test_the_confusion_of_the_published_notebook():
    """Kvasir-SEG after two rounds: 200 images of 224 px."""
    tn, fp, fn, tp = 8162064, 207486, 333800, 1331850
    scores = score_masks(np.array([[tp, fp, fn, tn]]))
    assert tn + fp + fn + tp == 200 * 224**2
    expected = {
        "iou_fg": 71.10, "miou_2": 82.44, "dice_fg": 83.11, "mdice_2": 89.95, "pixel_accuracy": 94.61,
        "sensitivity": 79.96, "specificity": 97.52,
    }  # fmt: skip
    assert {name: round(100 * scores.metric(name), 2) for name in expected} == expected
    assert scores.metric("dice_fg") == pytest.approx(2 * scores.metric("iou_fg") / (1 + scores.metric("iou_fg")))
    assert scores.confusion == ((tn, fp), (fn, tp))


def test_counts_of_each_image():
    predicted = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    true = torch.tensor([[[1, 0, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    assert count_pixels(predicted, true).tolist() == [[1, 1, 1, 1], [0, 0, 0, 4], [0, 4, 0, 0]]
    assert count_pixels(predicted.bool(), true.to(torch.uint8)).dtype == torch.int64


def test_pooled_and_means_over_images_by_hand():
    predicted = [torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]]), torch.tensor([[[1, 1, 1, 0]]])]
    true = [torch.tensor([[[1, 0, 1, 0]], [[0, 0, 0, 0]]]), torch.tensor([[[1, 1, 1, 1]]])]
    scores = scores_of(predicted, true)  # (tp, fp, fn, tn): (1, 1, 1, 1), (0, 0, 0, 4), (3, 0, 1, 0)
    assert scores.num_images == 3
    assert scores.metric("iou_fg") == pytest.approx(4 / 7)
    assert scores.metric("dice_fg") == pytest.approx(8 / 11)
    assert scores.metric("miou_2") == pytest.approx((4 / 7 + 5 / 8) / 2)
    assert scores.metric("mdice_2") == pytest.approx((8 / 11 + 10 / 13) / 2)
    assert scores.metric("pixel_accuracy") == pytest.approx(9 / 12)
    assert scores.metric("iou_fg_img") == pytest.approx((1 / 3 + 1 + 3 / 4) / 3), (
        "an empty mask that is left empty is right"
    )
    assert scores.metric("dice_fg_img") == pytest.approx((1 / 2 + 1 + 6 / 7) / 3)
    assert scores.metric("miou_2_img") == pytest.approx((1 / 3 + 1 + (3 / 4 + 0) / 2) / 3)
    assert scores.metric("pixel_accuracy_img") == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)
    assert scores.metric("sensitivity_img") == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert scores.metric("specificity_img") == pytest.approx((1 / 2 + 1) / 2)


def test_random_masks_in_any_batches():
    torch.manual_seed(0)
    predicted, true = torch.rand(2, 7, 9, 11) > torch.tensor([0.4, 0.6])[:, None, None, None]
    whole, parts = scores_of([predicted], [true]), scores_of(predicted.split(3), true.split(3))
    assert whole == parts
    tp = int((predicted & true).sum())
    assert whole.confusion[1][1] == tp
    assert whole.metric("iou_fg") == pytest.approx(tp / int((predicted | true).sum()))
    assert whole.metric("dice_fg") == pytest.approx(2 * tp / int(predicted.sum() + true.sum()))
    assert whole.metric("specificity") == pytest.approx(int((~predicted & ~true).sum()) / int((~true).sum()))


@pytest.mark.parametrize(("value", "missing"), [(0, "sensitivity"), (1, "specificity")])
def test_what_is_not_defined(value, missing):
    masks = torch.full((2, 3, 3), value)
    scores = scores_of([masks], [masks])
    assert [name for name in MASKS.names if scores.metric(name) is None] == [missing, f"{missing}_img"]
    assert all(scores.metric(name) in (None, 1.0) for name in MASKS.names)


def test_scores_go_through_json():
    torch.manual_seed(0)
    scores = scores_of([torch.rand(2, 4, 4) > 0.5], [torch.zeros(2, 4, 4)])
    assert MaskScores.from_dict(json.loads(json.dumps(scores.as_dict()))) == scores
    assert set(scores.as_dict()) == {"num_images", "confusion", *MASKS.names}


def test_messages():
    with pytest.raises(ValueError, match="no masks to score"):
        score_masks(np.zeros((0, 4), dtype=np.int64))
    with pytest.raises(ValueError, match=r"predicted masks have shape \(1, 2, 2\), true ones \(1, 2, 3\)"):
        count_pixels(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))
