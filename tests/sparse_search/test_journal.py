import pytest
from optuna.trial import TrialState

from sparse_search.journal import StudyJournal, open_journal

from .conftest import TINY


@pytest.fixture
def begin(tmp_path, tiny):
    """A maker of the first study's journal; another call is another driver on the same file."""

    def make(**changes):
        study = tiny(**changes).studies({"digits": "a"})[0]
        journal = StudyJournal(study, open_journal(tmp_path / "journal.log"))
        journal.propose_starts()
        return journal

    return make


def finish(journal, count=1, value=0.5):
    for _ in range(count):
        trial, _ = journal.ask()
        journal.complete(trial, value)


def test_starts_come_first_and_once(begin):
    journal = begin()
    (first, default), (second, plain) = journal.ask(), journal.ask()
    assert (first.user_attrs["start"], default.config) == ("default", journal.study.plan.settings)
    assert (second.user_attrs["start"], plain.config.w_mixup) == ("plain", 0.0)
    again = begin()
    assert "start" not in again.ask()[0].user_attrs


def test_a_start_outside_the_range_keeps_its_value(begin):
    search = TINY["methods"]["supervised"] | {"search": {"w_mixup": {"low": 0.2, "high": 1.0}, "lr": None}}
    journal = begin(methods={"supervised": search})
    journal.ask()
    trial, planned = journal.ask()
    assert planned.config.w_mixup == 0.0
    assert set(trial.params) == {"lr"}


def test_counts_and_what_is_open(begin):
    journal = begin()
    assert journal.num_open() == 5
    finish(journal, 1, 0.7)
    pruned, _ = journal.ask()
    assert journal.num_open() == 3
    journal.report(pruned, 2, 0.1)
    journal.prune(pruned)
    diverged, _ = journal.ask()
    journal.diverge(diverged, "loss became nan", 2)
    status = journal.status()
    assert (status.complete, status.pruned, status.diverged, status.running, status.best) == (1, 1, 1, 0, 0.7)
    assert journal.num_open() == 2


def test_raising_the_budget_runs_only_the_difference(begin):
    finish(begin(), 5)
    more = {"supervised": TINY["methods"]["supervised"] | {"trials": 7}}
    assert begin().num_open() == 0
    assert begin(methods=more).num_open() == 2


def test_a_dead_drivers_trials_are_adopted_with_the_same_values(begin):
    journal = begin()
    finish(journal, 2)
    trial, planned = journal.ask()
    ((adopted, again),) = begin().running()
    assert (adopted.number, adopted.params, again) == (trial.number, trial.params, planned)


def test_a_failure_is_tried_again_with_the_same_values_up_to_retries(begin):
    journal = begin(retries=2)
    finish(journal, 2)
    first, planned = journal.ask()
    trial = first
    for attempt in range(3):
        journal.fail(trial, "worker died", retry=True)
        if attempt < 2:
            assert journal.num_open() == 3
            trial, again = journal.ask()
            assert again == planned
            assert trial.user_attrs["checkpoints"] == first.number
    assert journal.status().failed == 1
    assert journal.num_open() == 2
    assert journal.failures() == [f"{journal.study.title}, trial {trial.number}: worker died"]


def test_a_failure_that_cannot_mend_is_not_tried_again(begin):
    journal = begin()
    trial, _ = journal.ask()
    journal.fail(trial, "no such network", retry=False)
    assert journal.status().failed == 1


def test_a_retried_start_is_still_a_start(begin):
    journal = begin()
    trial, planned = journal.ask()
    journal.fail(trial, "worker died", retry=True)
    journal.ask()
    again, repeated = journal.ask()
    assert (again.user_attrs["start"], repeated) == ("default", planned)


def test_known_values_are_not_trained_again(begin):
    body = TINY["methods"]["supervised"] | {"trials": 50, "search": {"beta1": [0.0, 0.5, 0.9]}, "presets": []}
    journal = begin(methods={"supervised": body})
    trained = []
    while asked := journal.ask():
        trained.append(asked[1].config.beta1)
        journal.complete(asked[0], 0.5)
    assert sorted(trained) == [0.0, 0.5, 0.9]
    assert journal.num_open() == 0
    assert journal.status().planned == 3


def test_a_restarted_driver_asks_what_it_would_have_asked(tmp_path, tiny):
    def params(folder, restarts):
        study = tiny().studies({"digits": "a"})[0]
        asked = []
        journal = StudyJournal(study, open_journal(tmp_path / folder / "journal.log"))
        for position in range(6):
            if restarts:
                journal = StudyJournal(study, open_journal(tmp_path / folder / "journal.log"))
            trial, _ = journal.ask()
            journal.complete(trial, 0.1 * position)
            asked.append(trial.params)
        return asked

    assert params("straight", False) == params("restarted", True)


def test_starts_are_never_stopped_early_and_bad_trials_are(begin):
    journal = begin()
    start, _ = journal.ask()
    assert not journal.report(start, 2, 0.0)
    finish_reporting(journal, 4, 0.9)
    bad, _ = journal.ask()
    assert journal.report(bad, 2, 0.1)
    assert journal.report(bad, 2, 0.1)  # reported again after a restart: the same answer


def finish_reporting(journal, count, value):
    for _ in range(count):
        trial, _ = journal.ask()
        for step in (2, 4):
            journal.report(trial, step, value)
        journal.complete(trial, value)


def test_a_diverged_trial_is_known_to_the_sampler_with_the_worst_value(begin):
    journal = begin()
    trial, _ = journal.ask()
    journal.diverge(trial, "loss became nan", 2)
    (frozen,) = [f for f in journal._trials() if f.state == TrialState.PRUNED]
    assert frozen.intermediate_values == {2: 0.0}
    assert frozen.user_attrs["reason"] == "loss became nan"
