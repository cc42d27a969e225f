"""The bias-corrected estimate, beside its definition written out draw by draw."""

from dataclasses import replace

import numpy as np
import pytest

from sparse_search.analysis.estimate import choices, chosen_scores, draw_images, expected
from sparse_search.analysis.image_intervals import area_interval, wilson_interval
from sparse_search.analysis.weighted_scores import weighted_scores
from tests.sparse_search.analysis.test_weighted_scores import repeated, some_predictions


def test_as_many_of_each_class_are_drawn_and_some_are_left_out():
    labels_N = np.repeat([0, 1, 2], [3, 10, 2])
    times_BN = draw_images(labels_N, np.arange(15), num_draws=300)
    for label, count in enumerate((3, 10, 2)):
        own_BM = times_BN[:, labels_N == label]
        assert (own_BM.sum(1) == count).all()
        assert (own_BM == 0).any(1).all()
    assert 0.3 < (times_BN[:, labels_N == 1] == 0).mean() < 0.4
    assert np.array_equal(times_BN, draw_images(labels_N, np.arange(15), num_draws=300)), "equal arguments, equal draws"


def test_an_image_is_drawn_with_all_of_its_places():
    labels_N, images_N = np.repeat([0, 1], 8), np.array([5, 5, 6, 7, 8, 9, 9, 9, 0, 0, 1, 2, 2, 3, 3, 4])
    times_BN = draw_images(labels_N, images_N, num_draws=50)
    assert (times_BN[:, [0, 5, 8, 13]] == times_BN[:, [1, 7, 9, 14]]).all()
    _, first = np.unique(images_N, return_index=True)
    assert (times_BN[:, first].sum(1) == len(first)).all()


def test_groups_are_drawn_whole():
    labels_N, groups_N = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3, 3, 4, 4])
    times_BN = draw_images(labels_N, np.arange(9), groups_N=groups_N, num_draws=200)
    for group in range(5):
        assert (np.ptp(times_BN[:, groups_N == group], axis=1) == 0).all()
    for label in (0, 1):
        own_BM = times_BN[:, labels_N == label]
        assert (own_BM == 0).any(1).all()
        assert (own_BM > 0).any(1).all()


@pytest.mark.parametrize(("labels", "groups"), [([0, 0, 1], None), ([0, 0, 1, 1], [0, 0, 1, 2])])
def test_a_class_of_one_image_or_group_cannot_be_judged(labels, groups):
    groups = None if groups is None else np.array(groups)
    assert draw_images(np.array(labels), np.arange(len(labels)), groups_N=groups) is None


@pytest.mark.parametrize("metric", ["balanced_accuracy", "balanced_brier", "auroc", "kappa"])
def test_the_best_of_the_drawn_is_scored_on_the_others(metric):
    predictions = some_predictions(num_predictors=6, num_images=30, num_runs=1)
    times_BN = draw_images(predictions.labels_N, predictions.images_N, num_draws=20)
    sign = -1 if metric == "balanced_brier" else 1
    for found, chosen, times_N in zip(
        chosen_scores(predictions, times_BN, metric), choices(predictions, times_BN, metric), times_BN, strict=True
    ):
        drawn = [sign * repeated(predictions, times_N, c, metric) for c in range(6)]
        assert drawn[chosen] == pytest.approx(max(drawn), abs=1e-12)
        assert found == pytest.approx(repeated(predictions, times_N == 0, chosen, metric), abs=1e-12)


def test_equals_go_by_how_sure_they_are():
    predictions = some_predictions(num_predictors=2)
    truth_NK = np.eye(3)[predictions.labels_N]
    sure, surer = 0.1 + 0.7 * truth_NK, 0.05 + 0.85 * truth_NK
    predictions = replace(predictions, probs_CNK=np.stack([sure, surer]), named_CN=np.stack([predictions.labels_N] * 2))
    times_BN = draw_images(predictions.labels_N, predictions.images_N, num_draws=10)
    assert choices(predictions, times_BN, "balanced_accuracy").tolist() == [1] * 10


def test_one_configuration_is_expected_to_do_what_it_does():
    predictions = some_predictions(num_predictors=1, num_images=200)
    times_BN = draw_images(predictions.labels_N, predictions.images_N)
    found = expected(chosen_scores(predictions, times_BN, "balanced_accuracy"), "balanced_accuracy")
    own = weighted_scores("balanced_accuracy", predictions, np.ones((1, 200)))[0, 0]
    assert found.score == pytest.approx(own, abs=0.005)
    assert 0.1 < found.high - found.low < 0.2


def test_the_best_of_many_that_know_nothing_is_expected_to_know_nothing():
    rng = np.random.default_rng(0)
    found, flattered = [], []
    for seed in range(20):
        predictions = some_predictions(num_predictors=100, num_images=40, num_classes=2, seed=seed)
        probs_CN = rng.random((100, 40))
        probs_CNK = np.stack([probs_CN, 1 - probs_CN], 2)
        predictions = replace(predictions, probs_CNK=probs_CNK, named_CN=probs_CNK.argmax(2))
        times_BN = draw_images(predictions.labels_N, predictions.images_N, num_draws=100)
        found.append(expected(chosen_scores(predictions, times_BN, "balanced_accuracy")).score)
        flattered.append(weighted_scores("balanced_accuracy", predictions, np.ones((1, 40))).max())
    assert np.mean(flattered) > 0.65
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_no_interval_leaves_the_range_and_no_score_is_none():
    assert expected(np.array([*[0.9] * 20, *[1.0] * 30]), "balanced_accuracy").high < 1.0
    assert expected(np.array([0.0] * 9 + [2.0]), "balanced_brier").low >= 0.0
    assert expected(np.full(4, np.nan)) is None
    found = expected(np.array([-0.2, 0.0, np.nan, 0.2]))
    assert found.score == pytest.approx(0.0)
    assert found.low == pytest.approx(-found.high)


def test_what_is_never_wrong_on_few_images_is_not_certain():
    right_B = np.ones(50)
    found = expected(right_B, "balanced_accuracy", (5, 20))
    assert (found.low, found.high) == pytest.approx(wilson_interval(1.0, 4 / (1 / 5 + 1 / 20)))
    assert expected(right_B, "accuracy", (5, 20)).low == pytest.approx(wilson_interval(1.0, 25)[0])
    assert expected(right_B, "auroc", (5, 20)).low == pytest.approx(area_interval(1.0, np.array([[5, 20]]))[0])
