import numpy as np
import pytest
from scipy.stats import trim_mean

from sparse_search.analysis.image_intervals import wilson_interval
from sparse_search.analysis.statistics import (
    ScoredSetting,
    bootstrap_interval,
    interquartile_mean,
    probability_of_improvement,
    selection_optimism,
    summarise,
)
from trainables.metrics.classes import score
from trainables.metrics.counts import score_of


@pytest.mark.parametrize("count", range(1, 13))
def test_interquartile_mean_agrees_with_scipy(count):
    scores = np.random.default_rng(count).random(count)
    assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25))


def test_summary():
    summary = summarise([0.1, 0.9, 0.5, 0.6])
    assert (summary.mean, summary.median, summary.interquartile_mean, summary.count) == pytest.approx(
        (0.525, 0.55, 0.55, 4)
    )


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_scores_of_tables_are_those_of_the_evaluation(metric):
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(4), size=40), rng.integers(3, size=40)
    scores = score(probs, labels)
    tables = np.stack([scores.confusion, scores.confusion])
    assert score_of(tables, metric) == pytest.approx([scores.metric(metric)] * 2)


def cell(scores, dataset="a", **changes):
    return ScoredSetting(dataset=dataset, scores=tuple(scores), **changes)


def test_images_alone_give_about_the_wilson_interval():
    table = ((160, 40), (40, 160))
    low, high = bootstrap_interval([cell([0.8], confusions=(table,))], "accuracy")
    assert (low, high) == pytest.approx(wilson_interval(0.8, 400), abs=0.006)


def test_images_shared_by_all_label_sets_count_once():
    table = ((80, 20), (20, 80))
    own, shared = (
        bootstrap_interval([cell([0.8] * 4, confusions=(table,) * 4, same_images=same)], "accuracy")
        for same in (False, True)
    )
    assert shared[1] - shared[0] == pytest.approx(2 * (own[1] - own[0]), rel=0.1)


def test_label_sets_alone_give_about_the_t_interval():
    scores = np.random.default_rng(0).normal(0.7, 0.05, size=12)
    low, high = bootstrap_interval([cell(scores)], "auroc")
    half = 2.201 * scores.std(ddof=1) / 12**0.5
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.004)


def test_datasets_are_drawn_when_asked():
    cells = [cell([0.1 * d, 0.1 * d + 0.01], dataset=str(d)) for d in range(6)]
    these = bootstrap_interval(cells, "auroc")
    likes = bootstrap_interval(cells, "auroc", draw_datasets=True)
    assert these == pytest.approx((0.255, 0.255), abs=0.01)
    half = 2.571 * np.std(np.arange(6) / 10, ddof=1) / 6**0.5
    assert likes == pytest.approx((0.255 - half, 0.255 + half), abs=0.04)


def test_intervals_depend_on_nothing_but_the_scores():
    scores = np.random.default_rng(0).random((5, 4))
    cells = [cell(row, dataset=dataset) for row, dataset in zip(scores, "aabcd", strict=True)]
    first = bootstrap_interval(cells, "auroc", draw_datasets=True)
    assert first == bootstrap_interval(cells[::-1], "auroc", draw_datasets=True)
    assert first != bootstrap_interval(cells, "auroc", draw_datasets=True, seed=1)


def test_a_difference_is_as_uncertain_as_both():
    table = ((80, 20), (20, 80))
    alone = bootstrap_interval([cell([0.8], confusions=(table,))], "accuracy")
    both = bootstrap_interval([cell([0.0], confusions=(table,), rivals=(table,))], "accuracy")
    assert both[1] - both[0] == pytest.approx(2**0.5 * (alone[1] - alone[0]), rel=0.1)


def test_what_is_subtracted_is_uncertain_the_other_way():
    table = ((98, 2), (2, 98))
    low, high = bootstrap_interval([cell([0.98], confusions=(table,))], "accuracy")
    assert bootstrap_interval([cell([-0.98], rivals=(table,))], "accuracy") == pytest.approx((-high, -low))


def test_of_datasets_one_less_than_there_are_is_drawn():
    """Of 0, 0, 0, 1 three are drawn: at most two are 1 in 97.5 % of the draws; Student's t is 3.182 for 3."""
    high = 0.25 + 3.182 / 1.960 * (2 / 3 - 1 / 4)
    cells = [cell([score], dataset=str(d)) for d, score in enumerate([0, 0, 0, 1])]
    assert bootstrap_interval(cells, "auroc", draw_datasets=True)[1] == pytest.approx(high, abs=1e-3)


def test_no_interval_leaves_what_can_be():
    assert bootstrap_interval([cell([0.5, 0.8])], "auroc") == (0.0, 1.0)
    assert bootstrap_interval([cell([-0.2, 0.3])], "auroc") == (-1.0, 1.0)
    low, high = bootstrap_interval([cell([0.5, 0.8])], "log_loss")
    assert low == 0.0
    assert high > 1.5


def test_images_of_a_label_set_of_its_own_are_in_the_spread_over_label_sets():
    tables = (((8, 2), (2, 8)), ((9, 1), (2, 8)), ((7, 3), (2, 8)))
    scores = [0.8, 0.85, 0.75]
    assert bootstrap_interval([cell(scores, confusions=tables)], "accuracy") == bootstrap_interval(
        [cell(scores)], "accuracy"
    )
    shared = bootstrap_interval([cell(scores, confusions=tables, same_images=True)], "accuracy")
    assert shared != bootstrap_interval([cell(scores)], "accuracy")


def test_one_score_without_its_images_has_no_interval():
    assert bootstrap_interval([cell([0.8])], "auroc") is None
    assert bootstrap_interval([cell([0.8], confusions=(((4, 1), (1, 4)),))], "auroc") is None


@pytest.mark.parametrize(
    ("num_datasets", "num_label_sets", "images", "shared"),
    [(1, 1, 50, False), (1, 3, 400, False), (1, 5, 50, True), (3, 3, 50, False), (11, 3, 100, False)],
)
def test_coverage(num_datasets, num_label_sets, images, shared):
    """95 % intervals hold what they should: the datasets' own means, or, of eleven, the mean of all such datasets."""
    rng = np.random.default_rng(0)
    draw_datasets = num_datasets == 11
    covered = []
    for seed in range(150):
        means = rng.normal(0.75, 0.06, size=num_datasets)
        cells = []
        for dataset, mean in enumerate(means):
            spread = 0.05 if num_label_sets > 1 else 0.0
            chances = np.clip(rng.normal(mean, spread, size=num_label_sets), 0, 1)
            luck = rng.random((1 if shared else num_label_sets, 2, images))
            hits = (luck < chances[:, None, None]).sum(2)
            tables = [((int(a), int(images - a)), (int(images - b), int(b))) for a, b in hits]
            scores = hits.sum(1) / (2 * images)
            cells.append(cell(scores, str(dataset), confusions=tuple(tables), same_images=shared))
        low, high = bootstrap_interval(
            cells, "balanced_accuracy", draw_datasets=draw_datasets, num_draws=500, seed=seed
        )
        covered.append(low <= (0.75 if draw_datasets else means.mean()) <= high)
    assert np.mean(covered) >= 0.91


def test_probability_of_improvement_weighs_datasets_alike():
    cells = [cell([0.1, 0.2, -0.1, 0.0]), cell([0.1], dataset="b"), cell([-0.1], dataset="b")]
    assert probability_of_improvement(cells) == pytest.approx((2.5 / 4 + 1 / 2) / 2)


def test_selection_optimism_by_hand():
    """Left out, each label set sees another winner: 0.9 and 0.8 chosen, 0.1 and 0.3 found."""
    optimism = selection_optimism([[0.9, 0.3], [0.1, 0.8]])
    assert (optimism.selected, optimism.left_out) == pytest.approx((0.85, 0.2))
    assert optimism.bias == pytest.approx(0.65 * 0.5**0.5), "no real spread"
    assert (optimism.num_configs, optimism.num_label_sets) == (2, 2)


def test_selection_optimism_needs_replicates_and_a_choice():
    assert selection_optimism([[0.9], [0.1]]) is None
    assert selection_optimism([[0.9, 0.5, 0.7]]).bias == pytest.approx(0)
    assert selection_optimism([[0.9, 0.9], [0.5, 0.5]]).bias == pytest.approx(0)


def test_selection_optimism_finds_the_winners_curse():
    """Of equal configurations the best looks better by the expected maximum; the estimate agrees."""
    rng = np.random.default_rng(0)
    tables = rng.normal(0.7, 0.05, size=(300, 20, 4))
    real = np.mean([table.mean(1).max() - 0.7 for table in tables])
    estimated = np.mean([selection_optimism(table).bias for table in tables])
    assert estimated == pytest.approx(real, rel=0.1)


def test_r8_with_many_data_sets_a_difference_is_as_sure_as_a_t_interval_says():
    """Two methods that are .05 apart, on eleven data sets with four label sets of forty images each."""
    rng = np.random.default_rng(1)
    covered, found = [], []
    for _ in range(120):
        cells = []
        for dataset in range(11):
            base, effect = rng.uniform(0.6, 0.85), 0.05 + rng.normal(0, 0.03)
            ours, theirs = (_tables(rng, base + gain) for gain in (effect, 0.0))
            differences = [_accuracy(a) - _accuracy(b) for a, b in zip(ours, theirs, strict=True)]
            cells.append(ScoredSetting(dataset=str(dataset), scores=tuple(differences), confusions=ours, rivals=theirs))
        low, high = bootstrap_interval(cells, "balanced_accuracy", draw_datasets=True, num_draws=500)
        covered.append(low <= 0.05 <= high)
        found.append(low > 0)
    assert 0.88 <= np.mean(covered) <= 0.99
    assert np.mean(found) > 0.6


def _tables(rng, share):
    hits = rng.binomial(20, np.clip(share + rng.normal(0, 0.02, (4, 1)), 0, 1), (4, 2)).tolist()
    return tuple(((a, 20 - a), (20 - b, b)) for a, b in hits)


def _accuracy(table):
    return (table[0][0] + table[1][1]) / 40
