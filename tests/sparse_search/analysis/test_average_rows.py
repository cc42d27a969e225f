"""Averages of kept predictions, as rows of leaderboards."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.curves import best_and_average
from sparse_search.analysis.gathering import gather
from sparse_search.analysis.leaderboard import board, leaderboard
from sparse_search.results.predictions import artefact_folder, read_predictions
from sparse_search.results.store import Store
from sparse_search.results.trials import trials_of
from tests.sparse_search.kept import fill, guesses, keep
from trainables.metrics.classes import score
from trainables.metrics.decisions import named
from trainables.metrics.table import CLASSES

SKILLS = {"supervised": (0.5, 0.8, 1.0, 1.2), "probe": (0.4, 0.9, 1.1)}


def rows_of(store, **changes):
    return board(store, **changes).ranked.to_pylist()


def averages_in(store, **changes):
    return {row["start"]: row for row in rows_of(store, **changes) if row["method"] == "average"}


def probs_of(store, row):
    """What a trial says of its images, run after run, and their labels."""
    found = []
    for run_id in row["run_id_list"]:
        table = read_predictions(store.folder, [{**row, "run_id": run_id}])
        found.append((np.array(table["probabilities"].to_pylist()), table["label"].to_numpy()))
    return found


def test_averages_are_rows_of_their_board(store):
    fill(store, skills=SKILLS, label_sets=(0, 1))
    found = averages_in(store)
    assert set(found) == {"uniform of 7", "third of 7", "tempered of 7", "third of 3 probe", "third of 4 supervised"}
    singles = [row for row in rows_of(store, every=True) if row["method"] != "average"]
    each = [probs_of(store, row) for row in singles]
    expected = []
    for run in (0, 1):
        mean_NK = np.mean([probs[run][0] for probs in each], 0)
        expected.append(score(mean_NK, each[0][run][1]))
    row = found["uniform of 7"]
    for metric in CLASSES.names:
        values = [one.metric(metric) for one in expected]
        assert row[metric] == (None if None in values else pytest.approx(np.mean(values), rel=1e-12)), metric
    assert [json.loads(text)["confusion"] for text in row["confusion_json_list"]] == [
        [list(line) for line in one.confusion] for one in expected
    ]
    assert (row["num_tried"], found["third of 3 probe"]["num_tried"]) == (7, 3)
    assert row["train_seconds"] == pytest.approx(sum(one["train_seconds"] for one in singles))
    assert row["low"] < row["balanced_accuracy"] < row["high"]
    assert sum(json.loads(row["config_json"])["members"].values()) == pytest.approx(1)


def test_they_are_ranked_among_all(store):
    fill(store, skills=SKILLS)
    rows = rows_of(store, every=True)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == 7 + 5
    scores = [row["balanced_accuracy"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    short = rows_of(store)
    places = {row["trial_id"]: row["rank"] for row in rows}
    assert all(row["rank"] == places[row["trial_id"]] for row in short)
    assert [row["rank"] for row in rows_of(store, every=True, averages=False)] == list(range(1, 8))
    assert set(leaderboard(store.folder, averages=False)["method"]) == {"supervised", "probe"}


def test_of_a_single_configuration_there_is_no_average_row(store):
    fill(store, skills={"supervised": (1.0,)})
    assert averages_in(store) == {}


def whole_trials(store):
    return trials_of(store.runs()).to_pylist()


def test_who_was_tried_first_changes_nothing(tmp_path, store):
    fill(store, skills=SKILLS)
    trials = whole_trials(store)
    one, other = gather(store.folder, trials), gather(store.folder, trials[::-1])
    assert one.candidates.names == other.candidates.names
    assert np.array_equal(one.candidates.probs_MNK, other.candidates.probs_MNK)


def damaged(store, row):
    path = artefact_folder(store.folder, {**row, "run_id": row["run_id_list"][0]}) / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def test_a_member_set_aside_changes_the_name_of_the_average(store):
    fill(store, skills=SKILLS)
    before = averages_in(store)["third of 7"]
    damaged(store, whole_trials(store)[0])
    assert "third of 7" not in averages_in(store)
    after = averages_in(store)["third of 6"]
    assert after["config_id"] != before["config_id"]
    assert gather(store.folder, whole_trials(store)).left_out == {"without predictions of the same images": 1}


def test_a_member_that_says_no_number_is_set_aside(store):
    fill(store, skills=SKILLS)
    row = whole_trials(store)[0]
    path = artefact_folder(store.folder, {**row, "run_id": row["run_id_list"][0]}) / "predictions.parquet"
    table = parquet.read_table(path)
    nothing = pa.array([[float("nan")] * 2] * len(table), table.schema.field("probabilities").type)
    place = table.column_names.index("probabilities")
    parquet.write_table(table.set_column(place, table.schema.field("probabilities"), nothing), path)
    assert "third of 6" in averages_in(store)
    assert gather(store.folder, whole_trials(store)).left_out == {"without predictions of the same images": 1}


def test_who_cannot_be_averaged_is_left_out_with_the_reason(store):
    fill(store, skills={"supervised": (0.5, 1.0)})
    rng = np.random.default_rng(0)
    keep(store, 7, "constant", lambda label_set, labels_N: np.full((len(labels_N), 2), 0.5))
    keep(store, 8, "probe", lambda label_set, labels_N: guesses(rng, labels_N, 2, 1.0), num_images=10)
    keep(store, 9, "pixels", lambda label_set, labels_N: guesses(rng, labels_N, 2, 1.0), label_set_hash="other")
    found = gather(store.folder, whole_trials(store))
    assert found.methods == ("supervised", "supervised")
    assert found.left_out == {
        "without predictions of the same images": 2,
        "with the same answer for every image": 1,
    }
    assert "third of 2" in averages_in(store)


def test_nothing_kept_is_no_average(store, make_record):
    store.write(make_record(0))
    store.write(make_record(1))
    assert averages_in(store) == {}
    (store.folder / "artefacts").mkdir()
    assert averages_in(store) == {}


def test_label_sets_that_share_their_images_are_judged_by_each_once(store):
    fill(store, skills=SKILLS, label_sets=(0, 1), validation="official")
    official = gather(store.folder, whole_trials(store)).candidates.predictions
    assert official.num_images == 20
    assert np.array_equal(official.images_N[:20], official.images_N[20:])


def test_classes_named_by_what_is_above_the_pool(store):
    fill(store, skills={"supervised": (0.5, 0.8), "probe": (0.4,)}, decision="pool")
    row = averages_in(store)["uniform of 3"]
    each = [probs_of(store, one)[0] for one in rows_of(store, averages=False, every=True)]
    mean_NK = np.mean([probs_NK for probs_NK, _ in each], 0)
    expected = score(mean_NK, each[0][1], named("pool", mean_NK, mean_NK.mean(0)))
    assert row["balanced_accuracy"] == pytest.approx(expected.metric("balanced_accuracy"))


def test_methods_asked_for_alone_are_averaged_alone(store):
    fill(store, skills=SKILLS)
    assert set(averages_in(store, method="probe")) == {"uniform of 3", "third of 3", "tempered of 3"}
    ranked = board(store, method="probe").ranked
    assert set(pc.unique(ranked["method"]).to_pylist()) == {"average", "probe"}


def test_best_and_average_of_n(store, make_record):
    fill(store, skills=SKILLS, num_images=40)
    frame = best_and_average(store.folder, dataset="digits")
    assert frame["n"].tolist() == [1, 2, 4, 7]
    assert frame["best"][0] == frame["average"][0], "one alone is its own average"
    assert ((frame["best_low"] <= frame["best"]) & (frame["best"] <= frame["best_high"])).all()
    assert set(frame["validation"]) == {"realistic"}
    with pytest.raises(ConfigError, match="rule 'best' is unknown"):
        best_and_average(store.folder, rule="best")
    bare = Store(store.folder.parent / "bare")
    bare.prepare()
    bare.write(make_record(0))
    with pytest.raises(ResultsError, match=r"no predictions in .*bare"):
        best_and_average(bare.folder)
