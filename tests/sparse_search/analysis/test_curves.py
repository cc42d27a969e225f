import numpy as np
import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.curves import best_so_far, learning_curves

GOOD, FAIR, POOR = ((5, 0), (0, 5)), ((4, 1), (1, 4)), ((5, 0), (5, 0))


def at(minute):
    return f"2026-01-01T00:{minute:02}:00+00:00"


@pytest.fixture
def fill(store, make_record):
    def write(*records):
        for changes in records:
            store.write(make_record(**changes))
        return store.folder

    return write


def test_the_best_so_far_never_falls_and_every_trial_costs(fill):
    folder = fill(
        {"number": 0, "status": "pruned", "finished_at": at(1)},
        {"number": 3, "confusion": POOR, "finished_at": at(4)},
        {"number": 1, "confusion": FAIR, "finished_at": at(2)},
        {"number": 2, "confusion": GOOD, "finished_at": at(3)},
    )
    frame = best_so_far(folder)
    assert frame["number"].tolist() == [0, 1, 2, 3]
    np.testing.assert_equal(frame["score"].to_numpy(), [np.nan, 0.8, 1.0, 0.5])
    np.testing.assert_equal(frame["best"].to_numpy(), [np.nan, 0.8, 1.0, 1.0])
    assert frame["train_seconds"].tolist() == [15, 30, 45, 60]
    assert frame["images_done"].tolist() == [200, 400, 600, 800]


def test_of_a_metric_where_smaller_is_better_the_smallest_is_best(fill, make_record, store):
    for number, loss in enumerate((0.7, 0.9, 0.2)):
        record = make_record(number, finished_at=at(number))
        record["curve"][-1]["selected"]["supervised"]["log_loss"] = loss
        store.write(record)
    assert best_so_far(store.folder, metric="log_loss")["best"].tolist() == [0.7, 0.7, 0.2]


def test_rankings_methods_and_label_sets_are_kept_apart(fill):
    both = {"number": 5, "label_sets": "0, 1", "num_runs": 2, "finished_at": at(9)}
    folder = fill(
        {"number": 0, "confusion": GOOD},
        {"number": 1, "confusion": FAIR, "method": "constant"},
        {"number": 2, "confusion": POOR, "validation": "official"},
        {**both, "label_set": 0, "confusion": FAIR},
        {**both, "label_set": 1, "confusion": POOR},
    )
    frame = best_so_far(folder)
    assert sorted(frame["best"]) == [0.5, 0.65, 0.8, 1.0]
    wide = frame[frame["label_sets"] == "0, 1"]
    assert (wide["train_seconds"].item(), wide["images_done"].item(), len(wide)) == (30, 400, 1)


def test_a_run_known_twice_and_its_second_predictor_cost_nothing_more(fill, make_record, store):
    record = make_record(0, predictors=["supervised", "second"])
    for scores in (record["curve"][-1]["scores"], record["curve"][-1]["selected"]):
        scores["second"] = dict(scores["supervised"], balanced_accuracy=0.9)
    store.write(record)
    (row,) = best_so_far(fill({**record, "record_id": "beef", "study": "again"})).to_dict("records")
    assert (row["train_seconds"], row["images_done"], row["best"]) == (15, 200, 0.9)


def test_learning_curves_of_named_trials(fill):
    both = {"number": 1, "label_sets": "0, 1", "num_runs": 2}
    folder = fill({"number": 0}, {**both, "label_set": 0}, {**both, "label_set": 1}, {**both, "record_id": "beef"})
    frame = learning_curves(folder, trial_ids=["trial-supervised-1"])
    assert frame[["label_set", "epoch", "images"]].to_numpy().tolist() == [
        [0, 5, 100], [0, 10, 200], [1, 5, 100], [1, 10, 200],
    ]  # fmt: skip
    assert frame["score"].tolist() == [pytest.approx(0.7)] * 4
    assert len(learning_curves(folder)) == 6


def test_mistakes(fill):
    folder = fill({"number": 0})
    with pytest.raises(ResultsError, match="with shots 50"):
        best_so_far(folder, shots=50)
    for curves in (best_so_far, learning_curves):
        with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
            curves(folder, metric="acuracy")
