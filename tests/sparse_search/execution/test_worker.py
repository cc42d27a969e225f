"""The worker as Tune calls it, without a cluster: what it reports of runs that end as they are told to."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from sparse_search.execution import worker
from sparse_search.execution.worker import Job, run_trial
from sparse_search.results.store import Store
from sparse_search.search.sweep import Rung
from trainables.metrics.classes import ClassScores
from trainables.training.run import Run
from trainables.training.train import DivergedError, Progress

from ..conftest import scores, studies_of

NAMES_ONE = "names class 1 for all 10 validation images"
GOOD, FAIR, POOR = ((5, 0), (0, 5)), ((4, 1), (1, 4)), ((5, 0), (5, 0))


def evaluation(epoch, budget_images, raw, selected=None, collapse=""):
    """What `Run.train` yields at an evaluation; between two of them there are no scores."""
    read = lambda confusion: {"constant": ClassScores.from_dict(scores(confusion))} if confusion else {}  # noqa: E731
    return Progress(
        epoch=epoch, images=20 * epoch, losses={}, budget_images=budget_images, log=({"epoch": epoch, "loss": 1.0},),
        train_seconds=1.0 * epoch, collapse=collapse, scores=read(raw), selected=read(selected or raw),
    )  # fmt: skip


def climb(*confusions, collapse=""):
    """A run that is evaluated after 40 and 80 images, and once more in between two evaluations not at all."""
    first, second = confusions if len(confusions) == 2 else confusions * 2
    yield evaluation(1, 0, None)
    yield evaluation(2, 40, first)
    yield evaluation(4, 80, second, collapse=collapse)


@pytest.fixture
def reports(tmp_path, tiny, monkeypatch):
    """A maker of what Tune is told by a trial of two label sets whose runs yield these, and of what was trained."""

    def make(*runs, rungs=((1, 40, 1), (3, 80, 2)), known=None, gpus=0.5, **changes):
        study = studies_of(tiny(methods={"constant": {}}, label_sets=[0, 1], **changes))[0]
        job = Job(
            trial=study.trial(study.plan.settings, 0).as_dict(), sweep="tiny", study=study.name, number=0,
            start="default", label_sets="0, 1", objective=study.sweep.objective, rungs=[Rung(*rung) for rung in rungs],
            known=known or {}, gpus=gpus, results=str(tmp_path / "results"),
            checkpoints=str(tmp_path / "checkpoints"), data_root=None,
        )  # fmt: skip
        told, started = [], []

        def train(run, task, **_):
            started.append(run.label_set)
            return runs[run.label_set](len([s for s in started if s == run.label_set]))

        monkeypatch.setattr(worker.tune, "report", told.append)
        monkeypatch.setattr(Run, "train", train)
        run_trial({"job": job.to_json()})
        told[-1]["started"] = started
        return told

    return make


def always(*confusions, **options):
    return lambda attempt: climb(*confusions, **options)


def test_a_trial_climbs_its_rungs(reports):
    told = reports(always(GOOD, FAIR), always(POOR, GOOD))
    assert [(report["step"], report["value"], report["final"]) for report in told] == [
        (1, pytest.approx(1.0, abs=2e-6), False), (3, pytest.approx(0.9, abs=2e-6), True),
    ]  # fmt: skip
    assert told[-1]["started"] == [0, 1]  # the first run went on where it was
    records = [json.loads(report["records"]) for report in told]
    assert [[(r["label_set"], len(r["curve"])) for r in each] for each in records] == [[(0, 1)], [(0, 2), (1, 2)]]


def test_what_a_run_ends_with_is_kept(reports, tmp_path):
    def ends(attempt):
        yield evaluation(2, 40, GOOD)
        kept = {"predictions": {"constant": np.full((20, 10), 0.1)}, "artefacts": {"sheet.png": b"picture"}}
        yield replace(evaluation(4, 80, GOOD), **kept)

    reports(ends, always(GOOD))
    (folder,) = (tmp_path / "results" / "artefacts").glob("*/*/*/*")
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.parquet", "sheet.png"]
    assert (folder / "sheet.png").read_bytes() == b"picture"


def test_a_run_that_was_left_for_another_goes_on_from_its_checkpoint(reports):
    told = reports(always(GOOD, FAIR), always(POOR, GOOD), rungs=[(1, 40, 2), (3, 80, 2)])
    assert [report["value"] for report in told] == pytest.approx([0.75, 0.9], abs=2e-6)
    assert told[-1]["started"] == [0, 1, 0]  # the second one goes on at once, then the first is begun again
    first = {r["label_set"]: r for r in json.loads(told[-1]["records"])}[0]
    assert [point["images"] for point in first["curve"]] == [40, 80]


def test_runs_that_are_known_are_not_trained(reports):
    known = {"0-0": {"constant": {"balanced_accuracy": 0.4, "auroc": 0.6}}}
    (told,) = reports(always(GOOD), always(GOOD), rungs=[(1, 80, 2)], known=known)
    assert (told["value"], told["started"]) == (pytest.approx(0.7, abs=2e-6), [1])
    assert [record["label_set"] for record in json.loads(told["records"])] == [1]


def test_the_objective_is_the_selected_score_and_a_record_says_how(reports):
    def moved(attempt):
        yield evaluation(1, 40, GOOD)
        yield evaluation(3, 80, POOR, FAIR)  # evaluated at the end of a cycle

    told = reports(lambda n: moved(n), lambda n: moved(n), selection="mean3")
    assert told[-1]["value"] == pytest.approx(0.8, abs=2e-6)
    record = json.loads(told[-1]["records"])[0]
    point = record["curve"][-1]
    assert (record["selection"], record["accumulate"], record["compile"], point["epoch"]) == ("mean3", 1, False, 3)
    assert point["scores"]["constant"]["balanced_accuracy"] == 0.5
    assert point["selected"]["constant"]["balanced_accuracy"] == pytest.approx(0.8)
    assert record["gpu_seconds"] == 0.5 * record["wall_seconds"]
    assert record["peak_memory_bytes"] > 1e7


def test_a_trial_collapsed_when_all_of_its_runs_did(reports, tmp_path):
    last = reports(always(POOR, collapse=NAMES_ONE), always(POOR, collapse=NAMES_ONE))[-1]
    assert (last["outcome"], last["reason"], last["value"], last["step"]) == ("collapsed", NAMES_ONE, 0.0, 3)
    record = json.loads(last["records"])[0]
    assert record["curve"]
    store = Store(tmp_path / "results")
    store.write(record | {"status": last["outcome"], "reason": last["reason"]})
    assert store.runs()["balanced_accuracy"].to_pylist() == [0.5]


def test_different_reasons_are_all_told(reports):
    other = "names class 0 for all 10 validation images"
    last = reports(always(POOR, collapse=NAMES_ONE), always(POOR, collapse=other))[-1]
    assert last["reason"] == f"{NAMES_ONE}; {other}"


@pytest.mark.parametrize(
    ("first", "second", "changes", "value"),
    [
        (always(POOR, collapse=NAMES_ONE), always(GOOD), {}, 0.75),
        (always(GOOD), always(POOR, collapse=NAMES_ONE), {}, 0.75),
        (always(POOR, collapse=NAMES_ONE), always(POOR, collapse=NAMES_ONE), {"objective": "auroc"}, 0.6),
    ],
    ids=["on the first label set only", "on the second only", "an objective that names no class"],
)
def test_otherwise_its_score_counts(reports, first, second, changes, value):
    last = reports(first, second, **changes)[-1]
    assert (last["outcome"], last["value"]) == ("", pytest.approx(value, abs=2e-6))


def test_what_diverged_keeps_what_was_seen_of_it(reports):
    def diverges(attempt):
        yield evaluation(1, 40, GOOD)
        raise DivergedError("loss became nan")

    (first, last) = reports(diverges, always(GOOD))
    assert (last["outcome"], last["reason"], last["value"]) == ("diverged", "loss became nan", 0.0)
    assert len(json.loads(last["records"])[0]["curve"]) == 1
    assert not first["final"]


def test_equal_scores_are_told_apart_by_the_auroc(reports):
    def ranks_better(attempt):
        better = evaluation(4, 80, FAIR)
        better.selected["constant"] = ClassScores.from_dict(scores(FAIR, auroc=0.9))
        yield better

    same, better = (reports(run, run, rungs=[(1, 80, 2)])[-1]["value"] for run in (always(FAIR), ranks_better))
    assert same < better < same + 1e-6


@pytest.fixture
def confined(reports, monkeypatch):
    """A maker: what a trial with so much of a GPU sees of GPUs, and the share of memory it may take."""

    def make(gpus, available=True):
        shares = []
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        monkeypatch.setattr(worker.torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(worker.torch.cuda, "set_per_process_memory_fraction", shares.append)
        reports(always(GOOD), always(GOOD), gpus=gpus)
        return os.environ["CUDA_VISIBLE_DEVICES"], shares

    return make


def test_a_trial_takes_no_more_of_gpus_than_it_asked_for(confined):
    assert confined(0) == ("", [])
    assert confined(0.25) == ("0,1", [0.25])
    assert confined(0.25, available=False) == ("0,1", [])
    assert confined(1) == ("0,1", [])
