from dataclasses import replace

import numpy as np
import pytest

from trainables.core.conditions import SELECTIONS
from trainables.metrics.classes import ClassScores, score
from trainables.metrics.masks import score_foreground
from trainables.metrics.scoring import read_scores
from trainables.metrics.selection import collapse, mean_scores, select
from trainables.metrics.table import CLASSES, MASKS, METRICS

from .test_classes import random_case


def with_values(scores, **changes):
    return replace(scores, values={**scores.values, **changes})


def test_a_mean_is_that_of_each_metric_and_counts_no_image_twice():
    located = {"localisation": 0.75, "patch_localisation": 0.5}
    scores = [with_values(score(*random_case(seed=seed)), **located) for seed in (0, 1)]
    scores = [replace(each, threshold=0.25) for each in scores]
    scores[1] = replace(scores[1], confusion=scores[0].confusion[::-1])
    mean = mean_scores(scores)
    assert (mean.num_images, mean.threshold) == (200, 0.25)
    for name in CLASSES.names:
        assert mean.metric(name) == pytest.approx((scores[0].metric(name) + scores[1].metric(name)) / 2)
    assert mean.confusion[0][1] == (scores[0].confusion[0][1] + scores[0].confusion[3][1]) / 2
    assert ClassScores.from_dict(mean.as_dict()) == mean


def test_the_mean_confusion_has_the_mean_scores():
    labels_N = random_case()[1]
    mean = mean_scores([score(random_case(seed=seed)[0], labels_N) for seed in (0, 1, 2)])
    confusion_KK = np.array(mean.confusion)
    assert confusion_KK.sum() == pytest.approx(200)
    assert confusion_KK.trace() / 200 == pytest.approx(mean.metric("accuracy"))
    assert (confusion_KK.diagonal() / confusion_KK.sum(1)).mean() == pytest.approx(mean.metric("balanced_accuracy"))


def test_the_mean_of_one_is_itself_and_of_something_undefined_is_none():
    scores = score(*random_case())
    assert mean_scores([scores]) is scores
    assert mean_scores([scores, with_values(scores, auroc=None)]).metric("auroc") is None


def test_a_selection_takes_the_last_evaluations_there_are():
    history = [{"a": score(*random_case(seed=seed)), "b": score(*random_case(seed=9))} for seed in range(4)]
    assert select(history, "last") == history[-1]
    assert select(history, "mean3")["a"] == mean_scores([scores["a"] for scores in history[1:]])
    assert select(history[:2], "mean3")["a"] == mean_scores([scores["a"] for scores in history[:2]])
    assert list(select(history, "mean3")) == ["a", "b"]
    assert list(SELECTIONS) == ["last", "mean3"]


@pytest.mark.parametrize(
    ("named", "labels", "reason"),
    [
        ([1, 1, 1], [0, 1, 2], "names class 1 for all 3 validation images"),
        ([0, 0, 0], [1, 2, 2], "names class 0 for all 3 validation images"),
        ([1, 1, 2], [0, 1, 2], ""),
        ([1, 1, 1], [1, 1, 1], ""),
        ([1, 1, 1], [0, 0, 0], ""),
    ],
)
def test_a_collapse_is_one_class_for_images_of_several(named, labels, reason):
    assert collapse(score(np.eye(3)[named], np.array(labels))) == reason


def masks_scored(probs, masks):
    return score_foreground(np.array(probs, dtype=float), np.array(masks, dtype=bool))


def test_masks_by_hand_and_their_mean_over_evaluations():
    masks = [[[1, 1], [0, 0]], [[0, 0], [0, 0]]]
    first = masks_scored([[[0.5, 0.4], [0.9, 0.1]], [[0.0, 0.0], [0.0, 0.0]]], masks)
    second = masks_scored([[[0.9, 0.8], [0.1, 0.1]], [[0.0, 0.0], [0.0, 0.0]]], masks)
    assert first.confusion == ((5, 1), (1, 1)), "from one half on a pixel is foreground"
    assert (first.metric("dice_fg"), first.metric("dice_fg_img"), second.metric("dice_fg")) == (0.5, 0.75, 1.0)
    mean = mean_scores([first, second])
    assert (mean.metric("dice_fg"), mean.metric("dice_fg_img"), mean.num_images) == (0.75, 0.875, 2)
    assert mean.confusion == ((5.5, 0.5), (0.5, 1.5))
    assert read_scores(mean.as_dict()) == mean
    assert mean_scores([first]) == first
    assert {name for name in METRICS if first.metric(name) is not None} == set(MASKS.names)


def test_a_mask_that_is_always_empty_is_a_collapse():
    masks = [[[1, 0]], [[0, 0]]]
    empty = masks_scored([[[0.4, 0.4]], [[0.1, 0.1]]], masks)
    assert collapse(empty) == "names class 0 for all pixels of all 2 validation images"
    assert collapse(masks_scored([[[0.6, 0.4]], [[0.1, 0.1]]], masks)) == ""
    assert collapse(masks_scored([[[0.4, 0.4]]], [[[0, 0]]])) == "", "there is nothing to find"
