"""Which weights of a sweep are kept while it goes on: the best third of the plan, within a limit."""

import json

import pytest

from sparse_search.execution.searcher import JournalSearcher
from sparse_search.execution.weights_kept import WeightsKept
from sparse_search.results.mirror import store_at
from sparse_search.results.weights import all_weights, weights_name
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal

from ..conftest import TINY, studies_of

BYTES = 100
METHODS = {"supervised": TINY["methods"]["supervised"] | {"trials": 6}}


class Sweep:
    """A driver whose trials end as they are told to, each leaving weights of `BYTES` bytes."""

    def __init__(self, folder, store, sweep, make_record, share="third", max_bytes=1e9):
        storage = Journal(folder / "journal.log")
        self.journals = [StudyJournal(study, storage) for study in studies_of(sweep)]
        for journal in self.journals:
            journal.propose_starts()
        confirmations = [StudyJournal(journal.study.confirming(), storage) for journal in self.journals]
        self.kept = WeightsKept(store, [*self.journals, *confirmations], share, max_bytes)
        self.kept.look()
        self.searcher = JournalSearcher(
            self.journals, confirmations, store, checkpoints=folder / "checkpoints", data_root=None,
            ended=self.kept.add,
        )  # fmt: skip
        self.store, self._make_record = store, make_record

    def end(self, name, brier, outcome="", write=True):
        """End the next trial; its weights are written."""
        job = json.loads(self.searcher.suggest(name)["job"])
        (journal,) = (each for each in self.journals if each.study.name == job["study"])
        (frozen,) = (each for each in journal._trials() if each.number == job["number"])
        (run_id,) = self.kept_runs(journal, frozen)
        method = journal.study.plan.name
        record = self._make_record(job["number"], method=method, run_id=run_id, shots=2, record_id=f"{name}-{method}")
        for point in record["curve"]:
            point["selected"] = {method: point["selected"][method] | {"balanced_brier": brier}}
        if write:
            write(self.store, record) if callable(write) else leave(self.store, record)
        ending = {"step": 4, "at_rung": True, "final": True, "outcome": outcome, "reason": outcome, "retry": False}
        self.searcher.on_trial_complete(name, {"value": 0.5, "records": json.dumps([record]), **ending})
        assert not self.searcher.problem
        return name

    def kept_runs(self, journal, frozen):
        from trainables.training.run import runs_of_trial

        trial = journal.study.trial(journal.config_of(frozen), frozen.number)
        return [run.run_id(journal.study.facts.content_hash) for run in runs_of_trial(trial)]

    def briers(self):
        """Brier scores of the trials whose weights are there."""
        there = {name.split("/")[-2] for name in all_weights(self.store)}
        return sorted(
            frozen.user_attrs.get("balanced_brier", -1.0)
            for journal in self.journals
            for frozen in journal._trials()
            if frozen.state.is_finished() and set(self.kept_runs(journal, frozen)) & there
        )


def leave(store, record):
    path = store.folder / weights_name(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(BYTES))


def put(store, record):
    store.objects.put(weights_name(record), bytes(BYTES))


@pytest.fixture
def begin(tmp_path, store, tiny, make_record):
    return lambda methods=METHODS, **options: Sweep(tmp_path, store, tiny(methods=methods), make_record, **options)


def test_what_may_be_of_the_best_third_of_the_plan_is_kept(begin):
    sweep = begin()
    told = []
    for number, brier in enumerate((0.5, 0.4, 0.6, 0.2, 0.45, 0.3)):
        sweep.end(f"t{number}", brier)
        told.append(sweep.briers())
    assert told == [[0.5], [0.4, 0.5], [0.4, 0.5], [0.2, 0.4], [0.2, 0.4], [0.2, 0.3]]


def test_of_what_ended_early_nothing_is_kept_and_what_is_over_has_its_own_third(begin):
    sweep = begin()
    sweep.end("a", 0.5)
    for name in ("b", "c", "d", "e"):
        sweep.end(name, 0.1, outcome="collapsed")
    assert sweep.briers() == [0.5]
    sweep.end("f", 0.4)
    sweep.kept.tidy()
    assert sweep.briers() == [0.4]


def test_all_are_kept_within_the_limit_and_the_worst_go_first(begin):
    sweep = begin(share="all", max_bytes=2.5 * BYTES)
    for number, brier in enumerate((0.5, 0.4, 0.6, 0.2)):
        sweep.end(f"t{number}", brier)
    assert sweep.briers() == [0.2, 0.4]


def test_searches_that_are_averaged_together_have_a_third_together(begin):
    small = TINY["methods"]["supervised"] | {"trials": 3}
    sweep = begin({"supervised": small, "pixels": {"trials": 3}})
    briers = iter((0.5, 0.1, 0.6, 0.2, 0.7, 0.3))
    for name in "abcdef":
        sweep.end(name, next(briers))
    assert sweep.briers() == [0.1, 0.2, 0.5]  # two of all six, and one of each study


def test_the_next_start_tidies_what_a_kill_left(begin, store):
    sweep = begin()
    sweep.kept.tidy = lambda: None
    for number, brier in enumerate((0.5, 0.4, 0.6)):
        sweep.end(f"t{number}", brier)
    others = store.folder / "artefacts/dataset=digits/shots=2/method=supervised/other/weights.safetensors"
    others.parent.mkdir()
    others.write_bytes(b"of another sweep")
    (whole,) = [path for path in store.folder.glob("artefacts/*/*/*/*/weights.safetensors") if path != others][:1]
    partial = whole.with_name(".weights.safetensors.0123")
    partial.write_bytes(b"half")
    assert begin().briers() == [0.4, 0.5]
    assert others.exists()
    assert not partial.exists()


def test_a_storage_keeps_the_same(begin, bucket, tmp_path, tiny, make_record):
    store = store_at(bucket)
    store.prepare()
    sweep = Sweep(tmp_path, store, tiny(methods=METHODS), make_record)
    for number, brier in enumerate((0.5, 0.4, 0.6)):
        sweep.end(f"t{number}", brier, write=put)
    assert sweep.briers() == [0.4, 0.5]
    assert len(store.objects.sizes("artefacts")) == 2


def test_a_job_says_if_weights_are_kept(begin, tmp_path, store, tiny, make_record):
    assert json.loads(begin().searcher.suggest("t")["job"])["keep_weights"]
    none = Sweep(tmp_path, store, tiny(methods=METHODS, keep_weights="none", seed=3), make_record)
    assert not json.loads(none.searcher.suggest("t")["job"])["keep_weights"]
