"""The searcher as Tune calls it, without a cluster."""

import json
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search_spaces.core.errors import ResultsError
from sparse_search.execution.searcher import (
    MAX_FAILURES_IN_A_ROW,
    MAX_NODES_LOST,
    MAX_SIGNS_OF_LIFE,
    JournalPruner,
    JournalSearcher,
)
from sparse_search.execution.worker import QUIET_SECONDS
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal

from ..conftest import TINY, studies_of


@pytest.fixture
def begin(tmp_path, tiny, store):
    """A maker of searchers; another call is another driver on the same journal."""

    def make(**changes):
        storage = Journal(tmp_path / "journal.log")
        studies = studies_of(tiny(**changes))
        searches = [StudyJournal(study, storage) for study in studies]
        confirmations = [StudyJournal(study.confirming(), storage) for study in studies]
        for journal in searches:
            journal.propose_starts()
        return JournalSearcher(searches, confirmations, store, checkpoints=tmp_path / "checkpoints", data_root=None)

    return make


def report(make_record, number=0, value=0.5, step=4, epoch=10, method="supervised", **changes):
    record = make_record(number, method=method)
    record["curve"] = [point for point in record["curve"] if point["epoch"] <= epoch]
    plain = {"value": value, "step": step, "at_rung": True, "final": True, "outcome": "", "reason": "", "retry": False}
    return plain | {"records": json.dumps([record])} | changes


def test_studies_are_served_in_turn_and_the_end_is_told(begin, make_record):
    searcher = begin()
    jobs = {}
    for number in range(6):
        config = searcher.suggest(f"t{number}")
        jobs[f"t{number}"] = json.loads(config["job"])["study"]
    assert searcher.suggest("more") is None  # a running one could still fail and come back
    assert len({*list(jobs.values())[:2]}) == 2
    for number, (trial_id, study) in enumerate(jobs.items()):
        searcher.on_trial_complete(trial_id, report(make_record, number, method=study.split()[0]))
    assert searcher.suggest("more") == Searcher.FINISHED
    assert [journal.status().complete for journal in searcher.journals] == [5, 1, 0, 0]


def test_a_new_driver_first_takes_up_what_was_running(begin):
    first = begin()
    jobs = [json.loads(first.suggest(f"t{n}")["job"]) for n in range(3)]
    second = begin()
    again = [json.loads(second.suggest(f"u{n}")["job"]) for n in range(3)]
    key = lambda job: (job["study"], job["number"])  # noqa: E731
    assert sorted(again, key=key) == sorted(jobs, key=key)


def test_what_is_reported_again_changes_nothing(begin, make_record, store):
    searcher = begin()
    searcher.suggest("t")
    early = report(make_record, step=1, epoch=5, final=False)
    pruner = JournalPruner(searcher)

    class Trial:
        trial_id = "t"

    assert pruner.on_trial_result(None, Trial(), early) == TrialScheduler.CONTINUE
    assert pruner.on_trial_result(None, Trial(), early) == TrialScheduler.CONTINUE  # a replay
    assert pruner.on_trial_result(None, Trial(), {"other": 1}) == TrialScheduler.CONTINUE  # without the value
    searcher.on_trial_complete("t", report(make_record))
    assert store.curves()["epoch"].to_pylist() == [5, 10]
    assert store.runs()["status"].to_pylist() == ["complete"]


def test_every_record_is_told_to_trackers_as_it_comes_and_as_it_ends(begin, make_record):
    searcher, told = begin(), []
    searcher._track = lambda record: told.append((record["record_id"], len(record["curve"]), record.get("status")))
    searcher.suggest("t")
    early = report(make_record, step=1, epoch=5, final=False)
    for result in ({"other": 1}, early):
        searcher.should_stop("t", result)
    searcher.on_trial_complete("t", report(make_record))
    name = make_record(0)["record_id"]
    assert told == [(name, 1, "complete"), (f"{name}-complete", 2, "complete")]


def test_a_trial_that_ends_without_a_value_is_tried_again(begin, make_record):
    searcher = begin()
    searcher.suggest("t")
    searcher.on_trial_complete("t", {"other": 1})
    assert searcher.journals[0].status().num_open == 5


def test_a_disk_that_refuses_ends_the_sweep_and_loses_nothing(begin, make_record, store, monkeypatch):
    searcher = begin()
    searcher.suggest("t0")
    searcher.suggest("t1")

    def full(self, record):
        raise ResultsError("cannot write: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "write", full)
        searcher.on_trial_complete("t0", report(make_record))
    assert "No space left" in searcher.problem
    assert searcher.suggest("t2") is None
    assert searcher.should_stop("t1", report(make_record, final=False))
    searcher.on_trial_complete("t1", report(make_record))
    assert searcher.suggest("t2") == Searcher.FINISHED
    assert [journal.status().running for journal in searcher.journals] == [1, 1, 0, 0]
    again = begin()
    again.suggest("u0")
    again.on_trial_complete("u0", report(make_record))
    assert sum(journal.status().complete for journal in again.journals) == 1


def test_a_sweep_in_which_nothing_works_stops_itself(begin):
    searcher = begin(retries=100, methods={"supervised": TINY["methods"]["supervised"]})
    for number in range(MAX_FAILURES_IN_A_ROW):
        assert not searcher.problem
        searcher.suggest(f"t{number}")
        searcher.on_trial_complete(f"t{number}", error=True)
    assert f"{MAX_FAILURES_IN_A_ROW} trials in a row failed" in searcher.problem
    assert "the worker process died" in searcher.problem
    assert begin(retries=100, methods={"supervised": TINY["methods"]["supervised"]}).suggest("u") is not None


def test_what_an_outcome_becomes(begin, make_record, store):
    searcher = begin()
    outcomes = [
        report(make_record, 0, outcome="diverged", reason="loss became nan", value=0.0),
        report(make_record, 1, outcome="failed", reason="Traceback …\nRuntimeError: fire", retry=False),
        report(make_record, 2, final=False),
        report(make_record, 3, outcome="collapsed", reason="names class 1 for all 10 validation images", value=0.0),
    ]
    for number, result in enumerate(outcomes):
        while json.loads(searcher.suggest(f"t{number}")["job"])["trial"]["method"] == "constant":
            searcher.on_trial_complete(f"t{number}", report(make_record, 9, method="constant"))
        searcher.on_trial_complete(f"t{number}", result)
    status = searcher.journals[0].status()
    assert (status.diverged, status.failed, status.pruned, status.collapsed) == (1, 1, 1, 1)
    assert searcher.journals[0].failures()[0].endswith("RuntimeError: fire")
    rows = {row["status"]: row for row in store.runs().to_pylist()}
    assert rows["diverged"]["reason"] == "loss became nan"
    assert "Traceback" in rows["failed"]["reason"]
    assert rows["collapsed"]["reason"] == "names class 1 for all 10 validation images"
    assert rows["collapsed"]["balanced_accuracy"] == pytest.approx(0.7)  # kept, only not ranked
    assert len(store.curves()) == 10


def test_after_a_breakdown_the_trials_go_on_and_one_alone_is_at_fault(begin):
    searcher = begin()
    jobs = [json.loads(searcher.suggest(f"t{n}")["job"]) for n in range(2)]
    searcher.lost("low on memory")
    again = [json.loads(searcher.suggest(f"u{n}")["job"]) for n in range(2)]
    assert again == jobs
    searcher.on_trial_complete("u0", error=True)
    assert searcher.suggest("v") is not None
    searcher.on_trial_complete("v", error=True)
    before = len(searcher.journals[0]._trials()) + len(searcher.journals[1]._trials())
    searcher.lost("low on memory")
    assert len(searcher.journals[0]._trials()) + len(searcher.journals[1]._trials()) == before + 1  # a retry
    assert searcher.num_ended == 3


def test_no_more_trials_than_slots_and_as_many_as_come(begin, make_record):
    searcher = begin()
    count = 1
    searcher.slots = lambda: count
    assert searcher.suggest("t0") is not None
    assert searcher.suggest("t1") is None
    count = 3
    assert None not in (searcher.suggest("t1"), searcher.suggest("t2"))
    count = 1
    searcher.on_trial_complete("t0", report(make_record))
    assert searcher.suggest("t3") is None
    assert len(searcher._live) == 2


@pytest.mark.parametrize(
    "error",
    [
        "The actor died because its node has died. Node Id: 0123",
        "The actor is temporarily unavailable: RpcError",
        "sparse_search.execution.draining.NodeLeavesError: its node is about to leave",
        "sparse_search.execution.multi_node.NodeLostError: a node of a trial is gone",
    ],
)
def test_a_lost_node_is_no_failure_of_its_trials(begin, tmp_path, error):
    searcher = begin(retries=0, methods={"supervised": TINY["methods"]["supervised"] | {"trials": 30}})
    pruner = JournalPruner(searcher)

    (tmp_path / "error.txt").write_text(f"Failure # 1\n{error}\n")

    def lose(trial_id):
        pruner.on_trial_error(None, SimpleNamespace(trial_id=trial_id, error_file=str(tmp_path / "error.txt")))
        searcher.on_trial_complete(trial_id, error=True)

    jobs = [searcher.suggest(f"t{n}") for n in range(MAX_FAILURES_IN_A_ROW + 1)]
    for number in range(len(jobs)):
        lose(f"t{number}")
    assert not searcher.problem
    assert searcher.journals[0].status().running == len(jobs)
    again = [searcher.suggest(f"u{n}") for n in range(len(jobs))]
    plain = [json.loads(each["job"]) | {"quiet_seconds": 0} for each in jobs]
    assert [json.loads(each["job"]) | {"quiet_seconds": 0} for each in again] == plain  # in order, from checkpoints
    for name in ("u0", *(f"v{n}" for n in range(MAX_NODES_LOST - 1))):
        assert searcher.journals[0].status().failed == 0
        lose(name)
        searcher.suggest(f"v{0 if name == 'u0' else int(name[1:]) + 1}")
    assert searcher.journals[0].status().failed == 1  # whoever loses one after the other may be why


def test_a_thousand_trials_are_not_heard_all_the_time(begin):
    searcher = begin(methods={"supervised": TINY["methods"]["supervised"] | {"trials": 200}})
    seconds = [json.loads(searcher.suggest(f"t{n}")["job"])["quiet_seconds"] for n in range(200)]
    assert seconds[:100] == [QUIET_SECONDS] * 100
    assert seconds[-1] == pytest.approx(199 / MAX_SIGNS_OF_LIFE)


def test_an_ask_counts_the_trials_of_one_study_not_of_all(begin, monkeypatch):
    searcher = begin(shots=[1, 2, 3, 4])
    searcher.suggest("t0")
    counted = []
    all_trials = StudyJournal._trials
    monkeypatch.setattr(StudyJournal, "_trials", lambda self: counted.append(self.study.name) or all_trials(self))
    searcher.suggest("t1")
    assert len(set(counted)) == 2  # the one that was asked before, and the one that is asked now
