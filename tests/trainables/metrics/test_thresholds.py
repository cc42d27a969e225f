"""Metrics of sorted images, beside scikit-learn and beside a look at every threshold."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from trainables.metrics.classes import PREDICTED
from trainables.metrics.table import METRICS
from trainables.metrics.thresholds import SORTED, sorted_score


def case(num_classes=2, num_images=60, seed=0, digits=1):
    """Probabilities with many ties, and labels that they say something of."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, num_classes, num_images)
    logits_NK = rng.normal(size=(num_images, num_classes)) + 1.2 * np.eye(num_classes)[labels_N]
    probs_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
    return probs_NK.round(digits), labels_N


def at_every_threshold(probs_N, is_class_N):
    """Pairs of sensitivity and specificity, looked at one by one."""
    for threshold in (*np.unique(probs_N), np.inf):
        named_N = probs_N >= threshold
        yield named_N[is_class_N].mean(), 1 - named_N[~is_class_N].mean()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_images", [12, 45, 200])
def test_class_1_is_found_as_often_as_some_threshold_allows(seed, num_images):
    probs_NK, labels_N = case(num_images=num_images, seed=seed)
    pairs = list(at_every_threshold(probs_NK[:, 1], labels_N == 1))
    sensitivity = max(sensitivity for sensitivity, specificity in pairs if specificity >= 0.95 - 1e-12)
    specificity = max(specificity for sensitivity, specificity in pairs if sensitivity >= 0.95 - 1e-12)
    assert PREDICTED["sensitivity_at_95"](probs_NK, labels_N) == pytest.approx(sensitivity)
    assert PREDICTED["specificity_at_95"](probs_NK, labels_N) == pytest.approx(specificity)


def test_more_than_two_classes_are_averaged_over_those_that_occur():
    probs_NK, labels_N = case(num_classes=4)
    probs_NK, labels_N = probs_NK[labels_N != 2], labels_N[labels_N != 2]
    each = []
    for k in (0, 1, 3):
        pairs = at_every_threshold(probs_NK[:, k], labels_N == k)
        each.append(max(sensitivity for sensitivity, specificity in pairs if specificity >= 0.95))
    assert PREDICTED["sensitivity_at_95"](probs_NK, labels_N) == pytest.approx(np.mean(each))


def test_ends():
    labels_N = np.array([0, 0, 1, 1])
    right, wrong = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]]), np.full((4, 2), 0.5)
    assert [PREDICTED[name](right, labels_N) for name in SORTED] == [1.0] * 4
    assert [PREDICTED[name](wrong, labels_N) for name in SORTED] == [0.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("metric", SORTED)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_an_image_of_weight_2_counts_as_two_and_one_of_weight_0_is_not_there(metric, num_classes):
    probs_NK, labels_N = case(num_classes)
    weights_BN = np.random.default_rng(1).integers(0, 4, (5, len(labels_N))).astype(float)
    found_B = sorted_score(metric, probs_NK, labels_N, weights_BN)
    for weights_N, found in zip(weights_BN, found_B, strict=True):
        drawn = np.repeat(np.arange(len(labels_N)), weights_N.astype(int))
        assert found == pytest.approx(PREDICTED[metric](probs_NK[drawn], labels_N[drawn]), abs=1e-12)


def test_weights_are_those_of_scikit_learn():
    probs_NK, labels_N = case()
    weights_N = np.random.default_rng(1).random(len(labels_N))
    area = roc_auc_score(labels_N, probs_NK[:, 1], sample_weight=weights_N)
    precision = [average_precision_score(labels_N == k, probs_NK[:, k], sample_weight=weights_N) for k in (0, 1)]
    assert sorted_score("auroc", probs_NK, labels_N, weights_N[None]) == pytest.approx(area)
    assert sorted_score("average_precision", probs_NK, labels_N, weights_N[None]) == pytest.approx(np.mean(precision))


def test_a_set_of_weights_in_which_one_class_occurs_has_no_value():
    probs_NK, labels_N = case()
    weights_BN = np.stack([labels_N == 0, np.ones(len(labels_N))]).astype(float)
    for metric in SORTED:
        found_B = sorted_score(metric, probs_NK, labels_N, weights_BN)
        assert np.isnan(found_B).tolist() == [True, False]
        assert METRICS[metric].low <= found_B[1] <= METRICS[metric].high
