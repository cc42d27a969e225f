"""Scores of images that are drawn again, beside those of the images repeated."""

import numpy as np
import pytest

from sparse_search.analysis.weighted_scores import SharedPredictions, has_weighted_score, weighted_scores
from trainables.metrics.classes import score
from trainables.metrics.table import CLASSES, METRICS, Origin

KNOWN = [name for name in CLASSES.names if METRICS[name].origin is not Origin.PATCHES]
SORTED = ("auroc", "average_precision", "sensitivity_at_95", "specificity_at_95")


def some_predictions(num_predictors=3, num_images=60, num_classes=3, num_runs=1, seed=0):
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, num_classes, num_images)
    logits_CNK = rng.normal(size=(num_predictors, num_images, num_classes)) + np.eye(num_classes)[labels_N]
    probs_CNK = np.exp(logits_CNK) / np.exp(logits_CNK).sum(2, keepdims=True)
    return SharedPredictions(
        probs_CNK=probs_CNK,
        named_CN=(probs_CNK / [0.5, *[0.25] * (num_classes - 1)]).argmax(2),
        labels_N=labels_N,
        runs_N=np.arange(num_images) % num_runs,
        images_N=np.arange(num_images),
    )


def repeated(predictions, weights_N, predictor, metric, run=None):
    """The metric of images that stand there as often as they weigh."""
    drawn = np.repeat(np.arange(len(weights_N)), weights_N.astype(int))
    drawn = drawn if run is None else drawn[predictions.runs_N[drawn] == run]
    found = score(
        predictions.probs_CNK[predictor, drawn], predictions.labels_N[drawn], predictions.named_CN[predictor, drawn]
    )
    return found.metric(metric)


@pytest.mark.parametrize("metric", KNOWN)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_weight_counts_repetitions(metric, num_classes):
    predictions = some_predictions(num_classes=num_classes)
    weights_BN = np.random.default_rng(1).integers(0, 3, (4, 60)).astype(float)
    found_BC = weighted_scores(metric, predictions, weights_BN)
    expected_BC = [[repeated(predictions, weights_N, c, metric) for c in range(3)] for weights_N in weights_BN]
    assert found_BC == pytest.approx(np.array(expected_BC), abs=1e-12)


@pytest.mark.parametrize("metric", KNOWN)
def test_folds_are_pooled_where_classes_are_named_and_averaged_where_images_are_sorted(metric):
    predictions = some_predictions(num_runs=4)
    found = weighted_scores(metric, predictions, np.ones((1, 60)))[0, 0]
    each = [repeated(predictions, np.ones(60), 0, metric, run) for run in range(4)]
    expected = np.mean(each) if metric in SORTED else repeated(predictions, np.ones(60), 0, metric)
    assert found == pytest.approx(expected)


def test_a_run_without_a_class_has_no_part_in_a_mean_over_runs():
    predictions = some_predictions(num_runs=2, num_classes=2)
    weights_BN = np.ones((2, 60))
    weights_BN[0, (predictions.runs_N == 1) & (predictions.labels_N == 0)] = 0
    weights_BN[1, predictions.labels_N == 0] = 0
    found_BC = weighted_scores("auroc", predictions, weights_BN)
    assert found_BC[0, 1] == pytest.approx(repeated(predictions, np.ones(60), 1, "auroc", run=0))
    assert np.isnan(found_BC[1]).all()


def test_many_predictors_are_counted_in_pieces():
    predictions = some_predictions(num_predictors=3000, num_images=12)
    weights_BN = np.random.default_rng(0).integers(0, 3, (200, 12)).astype(float)
    whole = weighted_scores("macro_f1", predictions, weights_BN)
    assert whole.shape == (200, 3000)
    assert np.array_equal(whole[150:], weighted_scores("macro_f1", predictions, weights_BN[150:]), equal_nan=True)


def test_what_has_a_score():
    assert [name for name in METRICS if has_weighted_score(name)] == KNOWN


def test_some_of_the_predictors():
    predictions = some_predictions()
    few = predictions.take(np.array([2, 0]))
    assert len(few) == 2
    assert np.array_equal(few.probs_CNK[1], predictions.probs_CNK[0])
    assert few.num_images == 60
