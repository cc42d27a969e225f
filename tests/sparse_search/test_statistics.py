import pytest
from scipy.stats import binomtest

from sparse_search.statistics import score_interval, wilson_interval


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (45, 50)])
def test_wilson_agrees_with_scipy(hits, count):
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high))


def test_accuracy_counts_images():
    assert score_interval([((4, 1), (2, 3))], "accuracy") == pytest.approx(wilson_interval(0.7, 10))


def test_balanced_accuracy_of_equal_classes_is_like_accuracy():
    confusion = ((4, 1), (2, 3))
    assert score_interval([confusion], "balanced_accuracy") == score_interval([confusion], "accuracy")


def test_a_rare_class_widens_the_interval_of_balanced_accuracy():
    confusion = ((90, 10), (1, 1))
    low, high = score_interval([confusion], "balanced_accuracy")
    assert (low, high) == pytest.approx(wilson_interval(0.7, 4 / (1 / 100 + 1 / 2)))
    assert high - low > 2 * (wilson_interval(0.7, 102)[1] - wilson_interval(0.7, 102)[0])


def test_runs_are_averaged_and_their_images_add_up():
    assert score_interval([((5, 0), (0, 5)), ((0, 5), (5, 0))], "accuracy") == pytest.approx(wilson_interval(0.5, 20))


def test_the_same_images_count_once():
    confusion = ((4, 1), (2, 3))
    assert score_interval([confusion] * 4, "accuracy", same_images=True) == score_interval([confusion], "accuracy")


def test_means_of_counts_are_counts():
    mean = ((4.5, 0.5), (1.5, 3.5))
    assert score_interval([mean], "balanced_accuracy") == pytest.approx(wilson_interval(0.8, 10))


def test_absent_classes_do_not_count():
    assert score_interval([((3, 0, 1), (0, 4, 0), (0, 0, 0))], "balanced_accuracy") == pytest.approx(
        wilson_interval(0.875, 8)
    )


def test_other_metrics_have_none():
    assert score_interval([((1, 0), (0, 1))], "auroc") is None
