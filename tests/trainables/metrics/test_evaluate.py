from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from trainables.metrics.evaluate import (
    CLASS_METRICS,
    METRICS,
    SELECTIONS,
    Scores,
    collapse,
    mean_scores,
    read_scores,
    score,
    score_foreground,
    select,
)
from trainables.metrics.masks import MASK_METRICS


def random_case(num_images=200, num_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    probs_NK = generator.dirichlet(np.ones(num_classes), num_images)
    labels_N = generator.integers(0, num_classes, num_images)
    return probs_NK, labels_N


def test_agrees_with_scikit_learn():
    probs_NK, labels_N = random_case()
    scores = score(probs_NK, labels_N)
    predicted_N = probs_NK.argmax(1)
    assert scores.accuracy == pytest.approx((predicted_N == labels_N).mean())
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels_N, predicted_N))
    assert scores.macro_f1 == pytest.approx(f1_score(labels_N, predicted_N, average="macro"))
    assert scores.auroc == pytest.approx(roc_auc_score(labels_N, probs_NK, multi_class="ovr"))
    assert scores.log_loss == pytest.approx(log_loss(labels_N, probs_NK))
    assert sum(map(sum, scores.confusion)) == scores.num_images == 200


def test_by_hand():
    probs_NK = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    scores = score(probs_NK, np.array([0, 0, 1, 1]))
    assert scores.confusion == ((1, 1), (0, 2))
    assert scores.accuracy == 0.75
    assert scores.balanced_accuracy == 0.75
    assert scores.auroc == 1.0
    # four bins with one image each: |1-.9| + |0-.6| + |1-.8| + |1-.7| over 4
    assert scores.calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


def test_a_class_that_does_not_occur_is_no_class_of_balanced_accuracy():
    probs_NK = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    scores = score(probs_NK, np.array([0, 1]))
    assert scores.balanced_accuracy == 1.0
    assert scores.macro_f1 == pytest.approx(2 / 3)


def test_undefined_is_none_not_nan():
    assert score(np.array([[0.8, 0.2]]), np.array([0])).auroc is None


def test_certain_and_wrong_is_finite():
    assert np.isfinite(score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 0])).log_loss)


@pytest.mark.parametrize(
    ("probs", "labels", "words"),
    [
        ([[np.nan, 1.0]], [0], "not finite"),
        ([[0.5, 0.5]], [0, 1], "1 predictions for 2"),
        (np.zeros((0, 2)), [], "0 pred"),
    ],
)
def test_nonsense_is_refused(probs, labels, words):
    with pytest.raises(ValueError, match=words):
        score(np.array(probs), np.array(labels))


def test_a_mean_is_that_of_each_metric_and_counts_no_image_twice():
    located = {"localisation": 0.75, "patch_localisation": 0.5, "threshold": 0.25}
    scores = [replace(score(*random_case(seed=seed)), **located) for seed in (0, 1)]
    scores[1] = replace(scores[1], confusion=scores[0].confusion[::-1])
    mean = mean_scores(scores)
    assert mean.num_images == 200
    for name in CLASS_METRICS:
        assert mean.metric(name) == pytest.approx((scores[0].metric(name) + scores[1].metric(name)) / 2)
    assert mean.confusion[0][1] == (scores[0].confusion[0][1] + scores[0].confusion[3][1]) / 2
    assert Scores.from_dict(mean.as_dict()) == mean


def test_the_mean_confusion_has_the_mean_scores():
    labels_N = random_case()[1]
    mean = mean_scores([score(random_case(seed=seed)[0], labels_N) for seed in (0, 1, 2)])
    confusion_KK = np.array(mean.confusion)
    assert confusion_KK.sum() == pytest.approx(200)
    assert confusion_KK.trace() / 200 == pytest.approx(mean.accuracy)
    assert (confusion_KK.diagonal() / confusion_KK.sum(1)).mean() == pytest.approx(mean.balanced_accuracy)


def test_the_mean_of_one_is_itself_and_of_something_undefined_is_none():
    scores = score(*random_case())
    assert mean_scores([scores]) is scores
    assert mean_scores([scores, replace(scores, auroc=None)]).auroc is None


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


def test_round_trip_and_names():
    scores = score(*random_case())
    assert Scores.from_dict(scores.as_dict()) == scores
    known = {name for name in CLASS_METRICS if scores.metric(name) is not None}
    assert set(CLASS_METRICS) - known == {"localisation", "patch_localisation"}


def masks_scored(probs, masks):
    return score_foreground(np.array(probs, dtype=float), np.array(masks, dtype=bool))


def test_masks_by_hand_and_their_mean_over_evaluations():
    masks = [[[1, 1], [0, 0]], [[0, 0], [0, 0]]]
    first = masks_scored([[[0.5, 0.4], [0.9, 0.1]], [[0.0, 0.0], [0.0, 0.0]]], masks)
    second = masks_scored([[[0.9, 0.8], [0.1, 0.1]], [[0.0, 0.0], [0.0, 0.0]]], masks)
    assert first.confusion == ((5, 1), (1, 1)), "from one half on a pixel is foreground"
    assert (first.dice_fg, first.dice_fg_img, second.dice_fg) == (0.5, 0.75, 1.0)
    mean = mean_scores([first, second])
    assert (mean.dice_fg, mean.dice_fg_img, mean.num_images) == (0.75, 0.875, 2)
    assert mean.confusion == ((5.5, 0.5), (0.5, 1.5))
    assert read_scores(mean.as_dict()) == mean
    assert mean_scores([first]) == first
    assert {name for name in METRICS if first.metric(name) is not None} == set(MASK_METRICS)


def test_a_mask_that_is_always_empty_is_a_collapse():
    masks = [[[1, 0]], [[0, 0]]]
    empty = masks_scored([[[0.4, 0.4]], [[0.1, 0.1]]], masks)
    assert collapse(empty) == "names class 0 for all pixels of all 2 validation images"
    assert collapse(masks_scored([[[0.6, 0.4]], [[0.1, 0.1]]], masks)) == ""
    assert collapse(masks_scored([[[0.4, 0.4]]], [[[0, 0]]])) == "", "there is nothing to find"
