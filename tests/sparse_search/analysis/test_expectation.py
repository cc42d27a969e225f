"""What to expect of a ranking, from the records and predictions of finished runs."""

import subprocess
import sys

import numpy as np
import pytest

from sparse_search.analysis.comparison import compare
from sparse_search.analysis.estimate import chosen_scores, draw_images
from sparse_search.analysis.expectation import (
    expectation_lines,
    expectation_of,
    expectations,
    expected_difference,
    sweep_expectations,
)
from sparse_search.analysis.kept_predictions import kept_predictions
from sparse_search.analysis.leaderboard import rank
from sparse_search.results.predictions import artefact_folder
from sparse_search.results.store import Store
from tests.sparse_search.kept_runs import guesses, keep_trial
from trainables.metrics.table import METRICS

LABELS_N = np.repeat([0, 1], [12, 18])
FOLDS_N = np.arange(30) % 5


def search(store, *, skill=1.0, num_trials=5, **changes):
    """A default, searched trials of equal skill and the floor, in cross-validation."""
    about = {"validation": "labelled-cv", "folds_N": FOLDS_N} | changes
    for number in range(num_trials):
        keep_trial(
            store,
            number,
            guesses(LABELS_N, 2, skill, number),
            LABELS_N,
            start="default" if number == 0 else "",
            **about,
        )
    constant = np.tile([0.4, 0.6], (30, 1))
    keep_trial(store, 900, constant, LABELS_N, method="constant", start="default", **about)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A store that no test changes."""
    store = Store(tmp_path_factory.mktemp("searched"))
    store.prepare()
    search(store)
    return store


def rows_of(store, metric="balanced_accuracy"):
    return rank(store.runs(), metric).to_pylist()


def test_rows_are_set_side_by_side(searched):
    rows = rows_of(searched)
    kept = kept_predictions(searched.folder, rows)
    assert (kept.rows, kept.num_lacking, kept.why_not) == (tuple(rows), 0, "")
    shared = kept.predictions
    order = np.concatenate([np.flatnonzero(fold == FOLDS_N) for fold in range(5)])
    assert np.array_equal(shared.images_N, order)
    assert np.array_equal(shared.labels_N, LABELS_N[order])
    assert np.array_equal(shared.runs_N, np.sort(FOLDS_N))
    for row, probs_NK in zip(kept.rows, shared.probs_CNK, strict=True):
        if row["method"] != "constant":
            number = int(row["trial_id"].rpartition("-")[2])
            assert np.array_equal(probs_NK, guesses(LABELS_N, 2, 1.0, number)[order])


def test_an_image_is_the_same_in_every_label_set(store):
    for number in range(2):
        probs_NK = guesses(LABELS_N, 2, 1.0, number)
        keep_trial(store, number, probs_NK, LABELS_N, label_sets=(0, 1), validation="official")
    shared = kept_predictions(store.folder, rows_of(store)).predictions
    assert np.array_equal(shared.images_N, np.tile(np.arange(30), 2))
    assert shared.num_images == 30
    assert np.array_equal(shared.runs_N, np.repeat([0, 1], 30))


def test_the_rule_of_the_ranking_names_classes(store):
    probs_NK = guesses(LABELS_N, 2, 1.0, 0) * [0.2, 1.0]
    keep_trial(store, 0, probs_NK / probs_NK.sum(1, keepdims=True), LABELS_N, decision="pool")
    shared = kept_predictions(store.folder, rows_of(store)).predictions
    assert np.array_equal(shared.named_CN[0], probs_NK.argmax(1)), "no pool mean is kept: none is divided out"


def test_the_estimate_is_that_of_the_pure_function(searched):
    rows = rows_of(searched)
    found = expectation_of(searched.folder, rows, "balanced_accuracy")
    shared = kept_predictions(searched.folder, rows).predictions
    times_BN = draw_images(shared.labels_N, shared.images_N)
    winner_B = chosen_scores(shared, times_BN, "balanced_accuracy")
    default = next(i for i, row in enumerate(rows) if row["start"] == "default" and row["method"] != "constant")
    default_B = chosen_scores(shared.take(np.array([default])), times_BN, "balanced_accuracy")
    assert found.winner.score == pytest.approx(winner_B.mean())
    assert found.default.score == pytest.approx(default_B.mean())
    assert found.gain.score == pytest.approx((winner_B - default_B).mean())
    assert found.own_score == rows[0]["balanced_accuracy"]
    assert found.winner.low < found.winner.score < found.winner.high
    assert found.floors["constant"].score == 0.5
    assert (found.num_images, found.num_candidates, found.num_lacking, found.are_labelled) == (30, 6, 0, True)


def test_the_runner_up_is_the_best_of_other_methods_but_floors(store):
    search(store)
    keep_trial(
        store, 500, guesses(LABELS_N, 2, 0.1, 99), LABELS_N, folds_N=FOLDS_N, validation="labelled-cv", method="probe"
    )
    found = expectation_of(store.folder, rows_of(store), "balanced_accuracy")
    assert found.runner_up_name == "probe"
    assert found.runner_up.score < found.winner.score


def test_two_methods_are_chosen_and_judged_by_different_images(searched):
    rows = rows_of(searched)
    a, b = ([row for row in rows if row["method"] == method] for method in ("supervised", "constant"))
    found = expected_difference(searched.folder, a, b, "balanced_accuracy")
    winner = expectation_of(searched.folder, a, "balanced_accuracy").winner
    assert found.score == pytest.approx(winner.score - 0.5)
    swapped = expected_difference(searched.folder, b, a, "balanced_accuracy")
    assert (swapped.score, swapped.low) == pytest.approx((-found.score, -found.high))
    (note,) = (note for note in compare(searched.folder, "supervised", "constant").notes if "expected" in note)
    assert note.startswith(
        f"digits, 5 shots: supervised less constant {found.score:+.3f} expected on new images (95 %: "
    )
    assert expected_difference(searched.folder, a, b, "localisation") is None


@pytest.mark.parametrize("metric", ["balanced_brier", "auroc", "kappa", "log_loss"])
def test_by_other_metrics(searched, metric):
    found = expectation_of(searched.folder, rows_of(searched, metric), metric)
    flattery = METRICS[metric].sign * (found.own_score - found.winner.score)
    assert flattery > 0
    assert found.gain.score == pytest.approx(METRICS[metric].sign * (found.winner.score - found.default.score))


def test_in_words(searched):
    found = expectation_of(searched.folder, rows_of(searched), "balanced_accuracy")
    first, second, third = expectation_lines(found)
    assert first.startswith(
        f"the best configuration: balanced accuracy {found.winner.score:.2f} expected on new images"
    )
    assert f"of the same kind (95 %: {found.winner.low:.2f} to {found.winner.high:.2f}), estimated" in first
    assert "estimated from 30 labels without a test set; its own cross-validated score is 0." in first
    assert first.endswith(", which flatters")
    assert second.startswith("expected likewise: its default 0.")
    assert "the floor constant 0.50 (95 %: " in second
    assert third.startswith("choosing rather than the default, on the same draws: ")


def test_a_record_of_before_has_an_estimate_by_a_metric_of_today(searched):
    rows = [row | {"kappa": None} for row in rows_of(searched)]
    found = expectation_of(searched.folder, rows, "kappa")
    assert -1 < found.winner.score < 1
    assert next(expectation_lines(found)).endswith("; its own cross-validated score is -")


def test_validation_images_are_called_so(store):
    search(store, validation="realistic", folds_N=None)
    found = expectation_of(store.folder, rows_of(store), "balanced_accuracy")
    assert "estimated from 30 validation images without a test set; its own validation score" in next(
        expectation_lines(found)
    )


def test_configurations_without_predictions_are_counted(store):
    search(store)
    rows = rows_of(store)
    lost = artefact_folder(store.folder, rows[3] | {"run_id": rows[3]["run_id_list"][0]}) / "predictions.parquet"
    lost.write_bytes(b"damaged")
    found = expectation_of(store.folder, rows, "balanced_accuracy")
    assert (found.num_candidates, found.num_lacking) == (5, 1)
    assert list(expectation_lines(found))[-1] == "1 of 6 have no predictions to be judged by"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"with_predictions": False}, "no predictions are kept"),
        ({"patch_labels": "masks"}, "pictures are judged by their patches"),
    ],
)
def test_where_there_is_none_it_is_said(store, changes, words):
    search(store, **changes)
    found = expectation_of(store.folder, rows_of(store), "balanced_accuracy")
    assert found == words
    (line,) = expectation_lines(found)
    assert (
        line == f"no estimate for new images: {words}; the score of the first is that of the best of many, and flatters"
    )


def test_a_class_of_one_image_cannot_be_judged(store):
    labels_N = np.array([0, 0, 0, 1])
    keep_trial(store, 0, guesses(labels_N, 2, 1.0, 0), labels_N)
    assert expectation_of(store.folder, rows_of(store), "accuracy") == "a class has a single image to judge by"


def test_label_sets_of_their_own_are_not_shared(store):
    for number in range(3):
        keep_trial(store, number, guesses(LABELS_N, 2, 1.0, number), LABELS_N, label_sets=(number,))
    rows = [row | {"label_sets": "1 fresh"} for row in rows_of(store)]
    assert expectation_of(store.folder, rows, "accuracy") == "each configuration has label sets of its own"


def test_metrics_that_predictions_do_not_determine(searched):
    assert "localisation" in expectation_of(searched.folder, rows_of(searched), "localisation")


def test_groups_are_drawn_whole_where_they_are_known(store):
    groups_N = np.arange(30) // 4
    for number in range(2):
        keep_trial(store, number, guesses(LABELS_N, 2, 1.0, number), LABELS_N, groups_N=groups_N)
    rows = rows_of(store)
    shared = kept_predictions(store.folder, rows).predictions
    assert np.array_equal(shared.groups_N, groups_N)
    found = expectation_of(store.folder, rows, "accuracy")
    times_BN = draw_images(LABELS_N, np.arange(30), groups_N=groups_N)
    assert found.winner.score == pytest.approx(chosen_scores(shared, times_BN, "accuracy").mean())
    assert "estimated from 30 validation images of 8 groups without" in next(expectation_lines(found))


def test_it_does_not_wait_for_what_a_leaderboard_does_not_need():
    heavy = "{'torch', 'scipy.stats', 'pandas', 'sklearn', 'ray'}"
    code = f"import sys, sparse_search.analysis.expectation; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_ranking_has_its_own(store):
    search(store)
    search(store, validation="realistic", folds_N=None, num_trials=3, label_sets=(1,), sweep="other")
    found = expectations(store, "balanced_accuracy")
    assert sorted(each.num_candidates for each in found.values()) == [4, 6]
    assert expectations(store, "balanced_accuracy", method="constant").keys() == found.keys()
    (told,) = sweep_expectations(store, "test", "balanced_accuracy")
    assert told.startswith("digits, 5 shots: the best configuration: balanced accuracy 0.")
    assert "estimated from 30 labels" in told
    assert not list(sweep_expectations(store, "third", "balanced_accuracy"))


def test_a_default_that_is_all_there_is_stands_beside_nothing(store):
    keep_trial(store, 0, guesses(LABELS_N, 2, 1.0, 0), LABELS_N, folds_N=FOLDS_N, start="default",
               validation="labelled-cv")  # fmt: skip
    found = expectation_of(store.folder, rows_of(store), "balanced_accuracy")
    assert (found.default, found.gain) == (None, None)
    assert len(list(expectation_lines(found))) == 1
