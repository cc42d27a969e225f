"""What two trials name together, image by image, and how sure their difference is then."""

import numpy as np
import pytest

from bench.intervals import joint_table
from sparse_search.analysis.comparison import compare
from sparse_search.analysis.joint_counts import joint_counts
from sparse_search.analysis.leaderboard import board
from sparse_search.analysis.statistics import ScoredSetting, bootstrap_interval
from sparse_search.results.predictions import artefact_folder
from tests.sparse_search.kept_runs import guesses, keep_trial
from trainables.metrics.counts import score_of

LABELS = np.repeat([0, 1, 2], [20, 30, 10])


@pytest.fixture
def rows(store):
    """The rows of two methods on two label sets, with their probabilities."""
    shared = np.random.default_rng(3).normal(size=(60, 3))
    made = []
    for number, method in enumerate(("ours", "theirs")):
        probs = guesses(LABELS, 3, 1.0 + number, seed=number) * np.exp(shared)
        probs /= probs.sum(1, keepdims=True)
        keep_trial(store, number, probs, LABELS, label_sets=(4, 2), method=method, validation="official")
        made.append(probs)
    ranked = {row["method"]: row for row in board(store).ranked.to_pylist()}
    return ranked["ours"], ranked["theirs"], *made


def tables_of(*probs):
    tables = []
    for each in probs:
        table = np.zeros((3, 3), int)
        for label, named in zip(LABELS, each.argmax(1), strict=True):
            table[label, named] += 1
        tables.append(table.tolist())
    return tables


def test_every_image_is_counted_once_with_what_both_name(store, rows):
    ours, theirs, first, second = rows
    expected = np.zeros((3, 3, 3), int)
    for label, a, b in zip(LABELS, first.argmax(1), second.argmax(1), strict=True):
        expected[label, a, b] += 1
    tables = tables_of(first, second)
    found = joint_counts(store.folder, ours, theirs, [(2, *tables), (4, *tables)])
    assert len(found) == 2
    assert all(np.array_equal(table, expected) for table in found)
    assert expected.sum(2).tolist() == tables[0]


def test_what_does_not_add_up_is_not_taken(store, rows):
    ours, theirs, first, second = rows
    one, other = tables_of(first, second)
    one[0][0], one[0][1] = one[0][0] - 1, one[0][1] + 1
    assert joint_counts(store.folder, ours, theirs, [(2, one, other)]) == ()


def test_without_predictions_there_is_none(store, rows):
    ours, theirs, first, second = rows
    about = {name: theirs[name] for name in ("dataset", "shots", "method")}
    (artefact_folder(store.folder, {**about, "run_id": theirs["run_id_list"][1]}) / "predictions.parquet").unlink()
    assert joint_counts(store.folder, ours, theirs, [(2, *tables_of(first, second))]) == ()


def test_compare_is_surer_where_predictions_are_kept(store, rows):
    """Two label sets of `official` validation: one set of images, and no spread between the sets."""
    paired = compare(store.folder, "theirs", "ours", metric="accuracy")
    for path in store.folder.glob("artefacts/*/*/*/*/predictions.parquet"):
        path.unlink()
    apart = compare(store.folder, "theirs", "ours", metric="accuracy")
    assert paired.difference == apart.difference
    assert apart.interval[0] < paired.interval[0] < paired.difference < paired.interval[1] < apart.interval[1]
    assert paired.cells[0].interval == paired.interval


def interval(joint, **changes):
    difference = float(score_of(joint.sum(2), "accuracy") - score_of(joint.sum(1), "accuracy"))
    setting = ScoredSetting(
        dataset="a",
        scores=(difference,),
        confusions=(joint.sum(2).tolist(),),
        rivals=(joint.sum(1).tolist(),),
        **changes,
    )
    return difference, bootstrap_interval([setting], "accuracy")


def test_many_images_give_the_interval_of_matched_shares():
    """Of 1,000 images a class, 150 are right with the first alone, and 50 with the second: McNemar's variance."""
    joint = np.array([[[700, 150], [50, 100]], [[100, 50], [150, 700]]])
    difference, (low, high) = interval(joint, joints=(joint,))
    half = 1.96 * ((0.2 - difference**2) / 2000) ** 0.5
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx((difference - half, difference + half), abs=0.0015)
    _, (apart_low, apart_high) = interval(joint)
    assert apart_high - apart_low > 1.2 * (high - low)


def test_two_that_differ_on_no_image_of_a_few_may_differ_on_others():
    joint = np.array([[[9, 0], [0, 1]], [[0, 0], [0, 10]]])
    difference, (low, high) = interval(joint, joints=(joint,))
    assert difference == 0
    assert -0.25 < low < 0 < high < 0.25


@pytest.mark.parametrize(
    ("counts", "share", "gain"), [((10, 10), 0.6, 0.1), ((50, 50), 0.8, 0.05), ((5,) * 7, 0.8, 0.2)]
)
def test_the_truth_is_held_as_often_as_is_said(counts, share, gain):
    rng, held = np.random.default_rng(0), []
    for _ in range(150):
        joint = joint_table(rng, counts, share, gain)
        difference = float(score_of(joint.sum(2), "balanced_accuracy") - score_of(joint.sum(1), "balanced_accuracy"))
        setting = ScoredSetting(dataset="a", scores=(difference,), joints=(joint,), confusions=(joint.sum(2),))
        low, high = bootstrap_interval([setting], "balanced_accuracy", num_draws=400)
        held.append(low - 1e-9 <= gain <= high + 1e-9)
    assert 0.90 <= np.mean(held) <= 0.99
