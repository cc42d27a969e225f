import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from sparse_search.analysis.image_intervals import area_interval, has_image_interval, score_interval, wilson_interval
from trainables.metrics.classes import score
from trainables.metrics.counts import score_of
from trainables.metrics.table import METRICS


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
    assert score_interval([((1, 0), (0, 1))], "auroc") is None, "without the score"
    assert score_interval([((1, 0), (0, 1))], "log_loss", score=0.5) is None


def test_the_metrics_that_have_one():
    assert {name for name in METRICS if has_image_interval(name)} == {
        "balanced_accuracy", "accuracy", "macro_f1", "auroc", "kappa",
    }  # fmt: skip


@pytest.mark.parametrize("area", [0.0, 0.5, 0.82, 1.0])
def test_an_area_is_as_far_from_the_ends_as_their_standard_errors_say(area):
    """Newcombe's equation, solved by scipy for 12 positive and 30 negative images."""

    def excess(true):
        alike = (1 - true) / (2 - true) + true / (1 + true)
        return abs(true - area) - norm.ppf(0.975) * np.sqrt(true * (1 - true) * (1 + 20 * alike) / 360)

    low, high = area_interval(area, np.array([[12.0, 30.0]]))
    assert low == pytest.approx(brentq(excess, 1e-9, area - 1e-9) if area > 0 else 0, abs=1e-8)
    assert high == pytest.approx(brentq(excess, area + 1e-9, 1 - 1e-9) if area < 1 else 1, abs=1e-8)
    assert low <= area <= high
    assert high - low > 0.05


def test_areas_of_one_class_have_no_interval_and_the_same_images_count_once():
    assert area_interval(0.8, np.array([[5.0, 5.0], [10.0, 0.0]])) is None
    once = area_interval(0.8, np.array([[5.0, 5.0]]))
    assert area_interval(0.8, np.array([[5.0, 5.0]] * 3), same_images=True) == pytest.approx(once)
    low, high = area_interval(0.8, np.array([[5.0, 5.0]] * 3))
    assert once[0] < low < 0.8 < high < once[1]


def test_macro_f1_of_many_images_varies_as_tables_that_are_drawn_again():
    rng = np.random.default_rng(0)
    table = np.array([[600, 100, 100], [50, 300, 50], [20, 20, 160]])
    rows = [rng.multinomial(row.sum(), row / row.sum(), size=2000) for row in table]
    drawn = np.stack(rows, 1)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    spread = (2 * hits / (drawn.sum(1) + drawn.sum(2))).mean(1).std()
    low, high = score_interval([table.tolist()], "macro_f1")
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.04)


def test_a_perfect_or_hopeless_macro_f1_has_an_interval():
    low, high = score_interval([((10, 0), (0, 10))], "macro_f1")
    assert (low, high) == pytest.approx(wilson_interval(1.0, 20), abs=0.06)
    assert score_interval([((0, 10), (10, 0))], "macro_f1")[0] == pytest.approx(0.0, abs=1e-9)
    assert 0 < score_interval([((10, 0, 0), (0, 10, 0), (0, 0, 0))], "macro_f1")[0] < 2 / 3


def test_kappa_of_many_images_varies_as_tables_that_are_drawn_again():
    rng = np.random.default_rng(0)
    table = np.array([[600, 100, 100], [50, 300, 50], [20, 20, 160]])
    drawn = np.stack([rng.multinomial(row.sum(), row / row.sum(), size=2000) for row in table], 1)
    low, high = score_interval([table.tolist()], "kappa")
    assert high - low == pytest.approx(2 * 1.96 * score_of(drawn, "kappa").std(), rel=0.04)
    assert low < score_of(table, "kappa") < high


def test_kappa_may_be_below_0_and_has_no_interval_where_it_has_no_value():
    low, high = score_interval([((0, 10), (10, 0))], "kappa")
    assert -1.0 <= low < -0.99 < high < -0.3
    assert score_interval([((10, 0), (0, 0))], "kappa") is None


@pytest.mark.parametrize("metric", ["auroc", "macro_f1", "kappa", "balanced_accuracy"])
@pytest.mark.parametrize(("counts", "runs"), [((10, 10), 1), ((30, 15, 5), 2), ((20,) * 5, 1)])
def test_95_percent_intervals_hold_the_truth_that_often(metric, counts, runs):
    """Gaussian scores whose true class stands out; `bench/intervals.py` has the long table."""
    rng = np.random.default_rng(3)
    true = evaluate(rng, [40_000 * count // sum(counts) for count in counts]).metric(metric)
    covered = []
    for _ in range(200):
        found = [evaluate(rng, counts) for _ in range(runs)]
        mean = np.mean([each.metric(metric) for each in found])
        low, high = score_interval([each.confusion for each in found], metric, score=mean)
        covered.append(low <= true <= high)
    assert 0.90 <= np.mean(covered) <= 1.0


def evaluate(rng, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = rng.normal(size=(len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += 1.3
    return score(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels)
