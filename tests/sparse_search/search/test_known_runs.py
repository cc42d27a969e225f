"""Runs are known by what determines their scores, in whichever study or sweep they were trained."""

import pytest

from search_spaces.core.config import write_config
from sparse_search.search.known_runs import KnownRuns, at_rungs
from sparse_search.search.sweep import Rung
from trainables.core.conditions import PROTOCOL
from trainables.training.run import runs_of_trial

from ..conftest import scores, studies_of


@pytest.fixture
def study(tiny):
    return studies_of(tiny())[0]


@pytest.fixture
def trained(study, store, make_record):
    """Writes what a run of a study's default left; the changes name what differs."""

    def write(of=study, number=0, **changes):
        (run,) = runs_of_trial(of.trial(of.plan.settings, 0))
        about = of.trial(of.plan.settings, 0).conditions.as_columns() | {
            "run_id": run.run_id("a"), "content_hash": "a", "shots": 2, "protocol": PROTOCOL, "sweep": "another",
            "study": "another", "config": write_config(of.plan.settings),
        }  # fmt: skip
        record = make_record(number, **(about | changes))
        store.write(record)
        return record

    return write


def found(store, study):
    (run,) = runs_of_trial(study.trial(study.plan.settings, 0))
    return KnownRuns(store).find(study, run)


@pytest.mark.parametrize(
    "change",
    [
        {}, {"name": "other"}, {"objective": "accuracy"}, {"pruner": "none"}, {"pruner": "halving"},
        {"sampler": "random"}, {"confirm_label_sets": 7}, {"cpus_per_trial": 3}, {"compile": True},
        {"max_memory": 9.0}, {"sampler": "nsga2", "pruner": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_s5_a_run_is_known_whatever_study_asks_for_it(store, tiny, trained, change):
    record = trained()
    assert found(store, studies_of(tiny(**change))[0])["record_id"] == record["record_id"]


@pytest.mark.parametrize("status", ["complete", "infeasible", "collapsed"])
def test_s5_whatever_was_trained_to_its_end_is_known(store, study, trained, status):
    trained(status=status)
    assert found(store, study)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "pruned"}, {"status": "failed"}, {"status": "diverged"}, {"content_hash": "b"}, {"shots": 3},
        {"label_set": 1}, {"fold": 1}, {"protocol": PROTOCOL - 1}, {"images": 81}, {"evaluate_every": 41}, {"seed": 1},
        {"precision": "bf16"}, {"accumulate": 2}, {"aggregate": "max"}, {"threshold": "half"}, {"source": "digits@8"},
        {"validation": "official"}, {"method": "constant"},
    ],
    ids=str,
)  # fmt: skip
def test_s5_what_would_score_otherwise_is_not_known(store, study, trained, change):
    trained(**change)
    assert found(store, study) is None


def test_s5_another_selection_judges_the_same_evaluations(store, study, tiny, trained):
    record = trained()
    record["curve"][0]["scores"] = {"supervised": scores(((5, 0), (0, 5)))}
    record["curve"][1]["scores"] = {"supervised": scores(((4, 1), (1, 4)))}
    store.write(record | {"record_id": "ab0000000001"})
    mean = studies_of(tiny(selection="mean3"))[0]
    store.clear()
    store.write(record)
    asked = found(store, mean)
    assert asked["selection"] == "mean3"
    assert asked["curve"][-1]["selected"]["supervised"]["balanced_accuracy"] == pytest.approx(0.9)
    assert asked["run_id"] == runs_of_trial(mean.trial(mean.plan.settings, 0))[0].run_id("a")
    assert found(store, study)["curve"] == store.find(record["record_id"])["curve"]


def test_what_is_written_meanwhile_is_known(store, study, trained):
    known = KnownRuns(store)
    (run,) = runs_of_trial(study.trial(study.plan.settings, 0))
    assert known.find(study, run) is None
    known.add(trained())
    assert known.find(study, run)


def test_a_known_run_has_the_scores_of_each_rung(make_record):
    record = make_record(0, evaluate_every=40)
    record["curve"][0]["selected"], record["curve"][1]["selected"] = {"x": 1}, {"x": 2}
    rungs = (Rung(1, 40, 1), Rung(3, 80, 1))
    assert at_rungs(record, rungs) == [{"x": 1}, {"x": 2}]
    for point, budget in zip(record["curve"], (20, 40), strict=True):
        point["budget"] = budget
    assert at_rungs(record, rungs) == [{"x": 2}, {"x": 2}]
