"""The worker as Tune calls it, without a cluster: what it reports of runs that end as they are told to."""

import json
from types import SimpleNamespace

import pytest

from sparse_search import worker
from sparse_search.store import Store
from sparse_search.worker import Job, run_trial
from trainables.core.evaluate import Scores
from trainables.core.trial import Run

from .conftest import scores

NAMES_ONE = "names class 1 for all 10 validation images"
GOOD, FAIR, POOR = ((5, 0), (0, 5)), ((4, 1), (1, 4)), ((5, 0), (5, 0))


def evaluation(epoch, stands_for, raw, selected=None, collapse=""):
    """What `Run.train` yields at an evaluation; between two of them there are no scores."""
    read = lambda confusion: {"constant": Scores.from_dict(scores(confusion))} if confusion else {}  # noqa: E731
    return SimpleNamespace(
        epoch=epoch, stands_for=stands_for, log=({"epoch": epoch, "loss": 1.0},), train_seconds=1.0 * epoch,
        collapse=collapse, scores=read(raw), selected=read(selected or raw),
    )  # fmt: skip


@pytest.fixture
def reports(tmp_path, tiny, monkeypatch):
    """A maker of what Tune is told by a trial of two label sets whose runs yield these."""

    def make(first, second, **changes):
        study = tiny(methods={"constant": {}}, label_sets=[0, 1], **changes).studies({"digits": "a"})[0]
        job = Job(
            trial=study.trial(study.plan.settings, {}).as_dict(), sweep="tiny", study=study.name, number=0,
            start="default", objective=study.sweep.objective, checkpoints=str(tmp_path / "checkpoints"), data_root=None,
        )  # fmt: skip
        told = []
        monkeypatch.setattr(worker.tune, "report", told.append)
        monkeypatch.setattr(Run, "train", lambda run, task, **_: iter((first, second)[run.label_set]))
        run_trial({"job": job.to_json()})
        return told

    return make


def ends(confusion, collapse=""):
    return [evaluation(1, 1, None), evaluation(2, 2, confusion), evaluation(4, 4, confusion, collapse=collapse)]


def test_every_evaluation_is_reported_with_the_mean_so_far(reports):
    told = reports(ends(GOOD), ends(FAIR))
    assert [(report["step"], report["value"]) for report in told] == [
        (2, 1.0), (4, 1.0), (6, pytest.approx(0.9)), (8, pytest.approx(0.9)),
    ]  # fmt: skip
    assert [report["final"] for report in told] == [False, False, False, True]


def test_steps_are_those_of_the_budget_and_the_objective_is_the_selected_score(reports):
    moved = [evaluation(1, 2, GOOD), evaluation(3, 4, POOR, FAIR)]  # evaluated at the ends of cycles
    told = reports(moved, moved, selection="mean3")
    assert [report["step"] for report in told] == [2, 4, 6, 8]
    assert told[-1]["value"] == pytest.approx(0.8)
    (record,) = json.loads(told[1]["records"])
    (point,) = record["curve"]
    assert (record["selection"], record["accumulate"], record["compile"], point["epoch"]) == ("mean3", 1, False, 3)
    assert point["scores"]["constant"]["balanced_accuracy"] == 0.5
    assert point["selected"]["constant"]["balanced_accuracy"] == pytest.approx(0.8)


def test_a_trial_collapsed_when_all_of_its_runs_did(reports, tmp_path):
    last = reports(ends(POOR, NAMES_ONE), ends(POOR, NAMES_ONE))[-1]
    assert (last["outcome"], last["reason"], last["value"], last["step"]) == ("collapsed", NAMES_ONE, 0.0, 8)
    (record,) = json.loads(last["records"])
    assert record["curve"]
    store = Store(tmp_path / "results")
    store.write(record | {"status": last["outcome"], "reason": last["reason"]})
    assert store.runs()["balanced_accuracy"].to_pylist() == [0.5]


def test_different_reasons_are_all_told(reports):
    last = reports(ends(POOR, NAMES_ONE), ends(POOR, "names class 0 for all 10 validation images"))[-1]
    assert last["reason"] == f"{NAMES_ONE}; names class 0 for all 10 validation images"


@pytest.mark.parametrize(
    ("first", "second", "changes", "value"),
    [
        (ends(POOR, NAMES_ONE), ends(GOOD), {}, 0.75),
        (ends(GOOD), ends(POOR, NAMES_ONE), {}, 0.75),
        (ends(POOR, NAMES_ONE), ends(POOR, NAMES_ONE), {"objective": "auroc"}, 0.6),
    ],
    ids=["on the first label set only", "on the second only", "an objective that names no class"],
)
def test_otherwise_its_score_counts(reports, first, second, changes, value):
    last = reports(first, second, **changes)[-1]
    assert (last["outcome"], last["value"]) == ("", pytest.approx(value))
