import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.image_intervals import score_interval
from sparse_search.analysis.leaderboard import (
    board,
    leaderboard,
    query,
    rank,
    rankings,
    shortlist,
    unranked_starts,
    write_leaderboards,
)
from sparse_search.results.trials import searched_settings, trials_of

GOOD, FAIR, POOR = ((5, 0), (0, 5)), ((4, 1), (1, 4)), ((5, 0), (5, 0))


@pytest.fixture
def fill(store, make_record):
    def write(*records):
        for changes in records:
            store.write(make_record(**changes))
        return store

    return write


def order(table):
    return [(row["rank"], row["trial_id"]) for row in table.to_pylist()]


def test_the_best_comes_first(fill):
    store = fill({"number": 0, "confusion": FAIR}, {"number": 1, "confusion": GOOD}, {"number": 2, "confusion": POOR})
    assert order(rank(store.runs())) == [
        (1, "trial-supervised-1"),
        (2, "trial-supervised-0"),
        (3, "trial-supervised-2"),
    ]
    assert order(rank(store.runs(), "log_loss"))[0][0] == 1


def test_label_sets_are_averaged(fill):
    both = {"label_sets": "0, 1", "num_runs": 2}
    store = fill({"confusion": GOOD, "label_set": 0, **both}, {"confusion": POOR, "label_set": 1, **both})
    (row,) = rank(store.runs()).to_pylist()
    assert row["balanced_accuracy"] == 0.75
    assert sorted(row["label_set_list"]) == [0, 1]
    assert row["low"] < 0.75 < row["high"]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "auroc"])
def test_a_metric_that_is_asked_for_has_its_own_interval(fill, metric):
    (row,) = rank(fill({"confusion": FAIR}).runs(), metric).to_pylist()
    assert 0 <= row["low"] < row[metric] < row["high"] <= 1
    assert (row["low"], row["high"]) == pytest.approx(
        score_interval([FAIR], metric, score=row["auroc"] if metric == "auroc" else None)
    )


def test_only_complete_trials_rank_but_all_tried_ones_count(fill):
    store = fill({"number": 0}, {"number": 1, "status": "pruned"}, {"number": 2, "status": "diverged"})
    (row,) = rank(store.runs()).to_pylist()
    assert row["num_tried"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "other"}, {"label_sets": "1"},
        {"validation": "official"}, {"shots": 10}, {"dataset": "pathmnist"}, {"protocol": 2}, {"selection": "mean3"},
        {"config": {"image_size": 64, "lr": 1.0, "pretrained": ""}},
        {"config": {"image_size": 32, "pretrained": "tag"}},
    ],
)  # fmt: skip
def test_what_is_not_comparable_never_shares_a_ranking(fill, change):
    store = fill({"number": 0}, {"number": 1, **change})
    assert [row["rank"] for row in rank(store.runs()).to_pylist()] == [1, 1]
    assert [len(rows) for _, rows in rankings(rank(store.runs()))] == [1, 1]


def test_the_same_run_of_two_sweeps_counts_once(fill):
    store = fill({"number": 0}, {"number": 0, "record_id": "beef", "sweep": "again"})
    (row,) = rank(store.runs()).to_pylist()
    assert len(row["label_set_list"]) == 1


def test_the_shortlist_has_the_best_and_the_starts(fill):
    store = fill(
        {"number": 0, "confusion": FAIR, "start": "default"},
        {"number": 1, "confusion": GOOD},
        {"number": 2, "confusion": POOR},
        {"number": 3, "confusion": POOR, "method": "constant", "start": "default"},
    )
    assert [row["trial_id"] for row in shortlist(rank(store.runs())).to_pylist()] == [
        "trial-supervised-1", "trial-supervised-0", "trial-constant-3",
    ]  # fmt: skip


def test_what_varies_tells_rows_apart(fill):
    store = fill({"number": 0, "lr": 1e-3}, {"number": 1, "lr": 1e-2})
    assert searched_settings(store.runs()) == {"supervised": ["lr"]}


def test_written_leaderboards(fill):
    import pyarrow.parquet as pq

    store = fill({"number": 0}, {"number": 1, "shots": 10}, {"number": 2, "dataset": "my/scans"})
    paths = write_leaderboards(store)
    assert [path.name for path in paths] == [
        "digits-5shot.parquet",
        "digits-10shot.parquet",
        "my_scans-5shot.parquet",
    ]
    assert pq.read_table(paths[0])["rank"].to_pylist() == [1]


def test_questions_without_an_answer(store, fill):
    with pytest.raises(ResultsError, match="no finished run in"):
        query(store, dataset=None, shots=None, method=None)
    fill({"number": 0})
    with pytest.raises(ResultsError, match="with dataset pathmnist, shots 3"):
        query(store, dataset="pathmnist", shots=3, method=None)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        rank(store.runs(), "acuracy")


def test_nothing_complete_is_an_empty_ranking_and_a_clear_answer(fill):
    store = fill({"status": "pruned"}, {"number": 1, "status": "collapsed"}, {"number": 2, "status": "collapsed"})
    assert len(shortlist(rank(store.runs()))) == 0
    assert write_leaderboards(store) == []
    with pytest.raises(ResultsError, match="no trial is complete yet, only 2 collapsed, 1 pruned; run"):
        query(store, dataset=None, shots=None, method=None)


def test_a_trial_without_all_its_label_sets_does_not_rank(fill):
    store = fill({"number": 0}, {"number": 1, "label_sets": "0, 1", "num_runs": 2, "confusion": GOOD})
    assert order(rank(store.runs())) == [(1, "trial-supervised-0")]


def test_a_wider_trial_keeps_the_runs_it_shares_with_a_narrow_one(fill):
    wide = {"number": 1, "label_sets": "0, 1", "num_runs": 2}
    store = fill(
        {"number": 0, "confusion": GOOD},
        {**wide, "run_id": "run-supervised-0-0", "confusion": GOOD},
        {**wide, "label_set": 1, "confusion": POOR},
    )
    scores = {row["trial_id"]: row["balanced_accuracy"] for row in rank(store.runs()).to_pylist()}
    assert scores == {"trial-supervised-0": 1.0, "trial-supervised-1": 0.75}


def test_means_do_not_depend_on_the_order_of_files(tmp_path, make_record):
    from statistics import fmean

    from sparse_search.results.store import Store

    confusions = [((7, 3), (1, 9)), ((4, 1), (2, 3)), ((1, 2), (1, 6))]
    records = [
        make_record(0, label_set=s, label_sets="0, 1, 2", num_runs=3, confusion=c) for s, c in enumerate(confusions)
    ]
    for position, order_ in enumerate(([0, 1, 2], [2, 0, 1])):
        store = Store(tmp_path / str(position))
        store.prepare()
        for index in order_:
            store.write(records[index])
            store.compact()
        (row,) = rank(store.runs()).to_pylist()
        assert row["label_set_list"] == [0, 1, 2]
        expected = fmean(r["curve"][-1]["scores"]["supervised"]["balanced_accuracy"] for r in records)
        assert row["balanced_accuracy"] == expected


def test_defaults_and_presets_without_a_score_that_counts_are_known(fill):
    collapsed = {"status": "collapsed", "reason": "names class 1 for all 10 validation images"}
    retried = {"number": 3, "start": "b"}
    store = fill(
        {"number": 0, "start": "default", "label_set": 0, **collapsed},
        {"number": 0, "start": "default", "label_set": 1, "label_sets": "0", **collapsed},
        {"number": 1, **collapsed},
        {"number": 2, "start": "a", "status": "failed", "reason": "no memory"},
        {**retried, "status": "failed", "record_id": "beef"},
        {**retried},
    )
    rows = unranked_starts(trials_of(store.runs()))
    assert [(row["start"], row["trial_id"], row["status"]) for row in rows] == [
        ("a", "trial-supervised-2", "failed"), ("default", "trial-supervised-0", "collapsed"),
    ]  # fmt: skip
    (shared, _), *_ = rankings(rank(store.runs()))
    assert all(shared.items() <= row.items() for row in rows)


def test_a_collapsed_trial_counts_as_tried_and_is_not_ranked(fill):
    store = fill({"number": 0}, {"number": 1, "confusion": GOOD, "status": "collapsed"})
    (row,) = rank(store.runs()).to_pylist()
    assert (row["trial_id"], row["num_tried"]) == ("trial-supervised-0", 2)


def test_every_selection_has_words():
    from sparse_search.analysis.leaderboard import SELECTED
    from trainables.core.conditions import SELECTIONS

    assert list(SELECTED) == list(SELECTIONS)


def test_every_row_has_a_column_for_each_metric():
    from sparse_search.results.rows import CURVE_SCHEMA, RUN_SCHEMA
    from sparse_search.results.trials import TRIAL_SCHEMA
    from trainables.metrics.table import METRICS

    for schema in (RUN_SCHEMA, CURVE_SCHEMA, TRIAL_SCHEMA):
        assert [name for name in schema.names if name in METRICS] == list(METRICS)
        assert all(schema.field(name).nullable for name in METRICS)


def test_as_a_data_frame(fill):
    store = fill({"number": 0}, {"number": 1, "confusion": GOOD})
    frame = leaderboard(store.folder, dataset="digits", shots=5, every=True)
    assert frame["balanced_accuracy"].tolist() == [1.0, pytest.approx(0.7)]


def test_intervals_over_label_sets_are_wider_where_these_differ(store, make_record):
    for label_set, hits in enumerate((5, 3, 1, 5)):
        changes = {"label_set": label_set, "label_sets": "0, 1, 2, 3", "num_runs": 4}
        store.write(make_record(0, confusion=((hits, 5 - hits), (0, 5)), **changes))
    (narrow,), (wide,) = (board(store, covers=covers).ranked.to_pylist() for covers in ("images", "label-sets"))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"] > 0
    assert wide["low"] < wide["balanced_accuracy"] < wide["high"]
    assert {name: wide[name] for name in wide if name not in ("low", "high")} == {
        name: narrow[name] for name in narrow if name not in ("low", "high")
    }
    (row,) = board(store, metric="auroc", covers="label-sets").ranked.to_pylist()
    assert (row["low"], row["high"]) == (None, None)
