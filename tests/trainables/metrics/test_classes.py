import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    log_loss,
    roc_auc_score,
)

from trainables.metrics.classes import PREDICTED, ClassScores, score
from trainables.metrics.table import CLASSES, METRICS, Origin


def random_case(num_images=200, num_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    probs_NK = generator.dirichlet(np.ones(num_classes), num_images)
    labels_N = generator.integers(0, num_classes, num_images)
    return probs_NK, labels_N


def test_agrees_with_scikit_learn():
    probs_NK, labels_N = random_case()
    scores = score(probs_NK, labels_N)
    predicted_N = probs_NK.argmax(1)
    assert scores.metric("accuracy") == pytest.approx((predicted_N == labels_N).mean())
    assert scores.metric("balanced_accuracy") == pytest.approx(balanced_accuracy_score(labels_N, predicted_N))
    assert scores.metric("macro_f1") == pytest.approx(f1_score(labels_N, predicted_N, average="macro"))
    assert scores.metric("auroc") == pytest.approx(roc_auc_score(labels_N, probs_NK, multi_class="ovr"))
    assert scores.metric("log_loss") == pytest.approx(log_loss(labels_N, probs_NK))
    assert scores.metric("kappa") == pytest.approx(cohen_kappa_score(labels_N, predicted_N, weights="quadratic"))
    each_K = [average_precision_score(labels_N == k, probs_NK[:, k]) for k in range(4)]
    assert scores.metric("average_precision") == pytest.approx(np.mean(each_K))
    assert scores.metric("brier") == pytest.approx(brier_score_loss(labels_N, probs_NK, scale_by_half=False))
    assert sum(map(sum, scores.confusion)) == scores.num_images == 200


def test_by_hand():
    probs_NK = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    scores = score(probs_NK, np.array([0, 0, 1, 1]))
    assert scores.confusion == ((1, 1), (0, 2))
    assert scores.metric("accuracy") == 0.75
    assert scores.metric("balanced_accuracy") == 0.75
    assert scores.metric("auroc") == 1.0
    # four bins with one image each: |1-.9| + |0-.6| + |1-.8| + |1-.7| over 4
    assert scores.metric("calibration_error") == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


def test_a_class_that_does_not_occur_is_no_class_of_balanced_accuracy():
    probs_NK = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    scores = score(probs_NK, np.array([0, 1]))
    assert scores.metric("balanced_accuracy") == 1.0
    assert scores.metric("macro_f1") == pytest.approx(2 / 3)


def test_losses_over_classes_weigh_classes_alike():
    probs_NK = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
    scores = score(probs_NK, np.array([0, 0, 0, 1, 1]))
    brier = (0.02 + 0.5 + 2.0) / 3, (0.08 + 2.0) / 2
    assert scores.metric("balanced_brier") == pytest.approx(np.mean(brier))
    assert scores.metric("brier") == pytest.approx((3 * brier[0] + 2 * brier[1]) / 5)
    nats = -np.mean(np.log([0.9, 0.5, 1e-4])), -np.mean(np.log([0.8, 1e-4]))
    assert scores.metric("balanced_log_loss") == pytest.approx(np.mean(nats))


def test_losses_end_where_the_table_says():
    worst = score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 1]))
    for name in ("balanced_brier", "balanced_log_loss", "brier"):
        assert worst.metric(name) == METRICS[name].worst
        assert score(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])).metric(name) == METRICS[name].low


@pytest.mark.parametrize("name", ["auroc", "average_precision", "sensitivity_at_95", "specificity_at_95", "kappa"])
def test_undefined_where_one_class_occurs(name):
    assert score(np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 0])).metric(name) is None


@pytest.mark.parametrize("digits", [1, 3])
def test_ties_of_auroc_count_half(digits):
    probs_NK, labels_N = random_case(num_classes=2)
    probs_NK = probs_NK.round(digits)
    expected = np.mean([roc_auc_score(labels_N == k, probs_NK[:, k]) for k in range(2)])
    assert PREDICTED["auroc"](probs_NK, labels_N) == pytest.approx(expected, rel=1e-14)


def test_undefined_is_none_not_nan():
    assert score(np.array([[0.8, 0.2]]), np.array([0])).metric("auroc") is None


def test_certain_and_wrong_is_finite():
    assert np.isfinite(score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 0])).metric("log_loss"))


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


def test_round_trip_and_names():
    scores = score(*random_case())
    assert ClassScores.from_dict(scores.as_dict()) == scores
    known = {name for name in CLASSES.names if scores.metric(name) is not None}
    assert set(CLASSES.names) - known == {"localisation", "patch_localisation"}


def test_each_metric_of_predictions_has_its_function():
    assert list(PREDICTED) == [each.name for each in CLASSES.metrics if each.origin is Origin.PREDICTIONS]


def test_scores_are_read_that_a_program_with_other_metrics_wrote():
    scores = score(*random_case())
    values = scores.as_dict()
    assert ClassScores.from_dict(values | {"of_tomorrow": 0.5}) == scores
    del values["auroc"], values["threshold"]
    read = ClassScores.from_dict(values)
    assert read.metric("auroc") is None
    assert read.metric("accuracy") == scores.metric("accuracy")
    assert list(read.values) == list(CLASSES.names)
