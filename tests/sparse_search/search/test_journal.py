import pytest
from optuna.trial import TrialState

from search_spaces.sparse import SparseConfig
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal, mend_journal
from sparse_search.search.outcomes import Result

from ..conftest import TINY, studies_of


@pytest.fixture
def begin(tmp_path, tiny):
    """A maker of the first study's journal; another call is another driver on the same file."""

    def make(**changes):
        study = studies_of(tiny(**changes))[0]
        journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
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
    assert (second.user_attrs["start"], plain.config.mixup_alpha) == ("plain", 0.0)
    again = begin()
    assert "start" not in again.ask()[0].user_attrs


def test_a_start_outside_the_range_keeps_its_value(begin):
    search = TINY["methods"]["supervised"] | {"search": {"mixup_alpha": {"low": 0.2, "high": 1.0}, "lr": None}}
    journal = begin(methods={"supervised": search})
    journal.ask()
    trial, planned = journal.ask()
    assert planned.config.mixup_alpha == 0.0
    assert set(trial.params) == {"lr"}


def test_counts_and_what_is_open(begin):
    journal = begin()
    assert journal.status().num_open == 5
    finish(journal, 1, 0.7)
    pruned, _ = journal.ask()
    assert journal.status().num_open == 3
    journal.report(pruned, 2, 0.1)
    journal.prune(pruned)
    diverged, _ = journal.ask()
    journal.reject(diverged, "diverged", "loss became nan")
    collapsed, _ = journal.ask()
    journal.reject(collapsed, "collapsed", "names class 1 for all 4 validation images")
    status = journal.status()
    assert (status.complete, status.pruned, status.collapsed, status.diverged) == (1, 1, 1, 1)
    assert (status.running, status.best, status.finished, status.num_open) == (0, 0.7, 4, 1)


def test_raising_the_budget_runs_only_the_difference(begin):
    finish(begin(), 5)
    more = {"supervised": TINY["methods"]["supervised"] | {"trials": 7}}
    assert begin().status().num_open == 0
    assert begin(methods=more).status().num_open == 2


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
            assert journal.status().num_open == 3
            trial, again = journal.ask()
            assert again == planned
            assert trial.user_attrs["original"] == first.number
    assert journal.status().failed == 1
    assert journal.status().num_open == 2
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
    assert journal.status().num_open == 0
    assert journal.status().planned == 3


def test_a_restarted_driver_asks_what_it_would_have_asked(tmp_path, tiny):
    def params(folder, restarts):
        study = studies_of(tiny())[0]
        asked = []
        journal = StudyJournal(study, Journal(tmp_path / folder / "journal.log"))
        for position in range(6):
            if restarts:
                journal = StudyJournal(study, Journal(tmp_path / folder / "journal.log"))
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


@pytest.mark.parametrize("outcome", ["diverged", "collapsed"])
def test_a_rejected_trial_is_known_to_the_sampler_as_the_worst(begin, outcome):
    journal = begin()
    finish(journal, 3, value=0.7)
    stopped, _ = journal.ask()
    journal.report(stopped, 2, 0.3)
    journal.prune(stopped)
    trial, _ = journal.ask()
    journal.report(trial, 2, 0.8)
    journal.report(trial, 4, 0.8)
    journal.reject(trial, outcome, "for a reason")
    frozen = journal._trials()[trial.number]
    assert (frozen.user_attrs["outcome"], frozen.user_attrs["reason"]) == (outcome, "for a reason")
    assert journal.status().best == 0.7
    assert (journal.status().complete, getattr(journal.status(), outcome)) == (3, 1)
    # Among complete trials Optuna goes by the value; of pruned ones it takes the one that went on longest for best.
    assert (frozen.state, frozen.value) == (TrialState.COMPLETE, 0.0)


def test_what_was_given_up_can_be_tried_again(begin):
    journal = begin(retries=0)
    finish(journal, 2)
    trial, planned = journal.ask()
    journal.fail(trial, "no memory", retry=True)
    finish(journal, 2)
    assert journal.status().num_open == 0
    journal.retry_given_up()
    assert (journal.status().failed, journal.status().num_open) == (0, 1)
    again, repeated = journal.ask()
    assert repeated == planned
    journal.complete(again, 0.5)
    assert journal.status().complete == 5


def test_an_exhausted_space_still_runs_its_retries_and_stays_exhausted(begin):
    body = TINY["methods"]["supervised"] | {"trials": 50, "search": {"beta1": [0.0, 0.9]}, "presets": []}
    journal = begin(methods={"supervised": body})
    first, second = journal.ask(), journal.ask()
    assert journal.ask() is None
    journal.complete(first[0], 0.5)
    journal.fail(second[0], "worker died", retry=True)
    again = begin(methods={"supervised": body})
    assert again.status().num_open == 1
    finish(again)
    count = len(again._trials())
    assert (again.status().num_open, again.status().finished, again.status().planned) == (0, 2, 2)
    assert len(begin(methods={"supervised": body})._trials()) == count


def test_a_preset_that_left_the_sweep_is_finished_as_it_was(begin):
    journal = begin()
    journal.ask()
    trial, planned = journal.ask()
    assert planned.config.mixup_alpha == 0.0
    without = {"supervised": TINY["methods"]["supervised"] | {"presets": []}}
    adopted = {trial.number: plan for trial, plan in begin(methods=without).running()}
    assert adopted[trial.number] == planned


def test_a_kill_inside_ask_trains_no_repeat(begin):
    journal = begin()
    finish(journal, 2)
    trial, _ = journal.ask()
    journal.complete(trial, 0.5)
    journal._optuna.enqueue_trial(trial.params)
    journal._optuna.ask()  # killed here: RUNNING, and nobody knows what it trains
    assert list(begin().running()) == []
    assert journal.status().running == 0


def test_looking_changes_nothing(begin, tmp_path):
    journal = begin()
    finish(journal, 2)
    before = (tmp_path / "journal.log").read_bytes()
    looked = StudyJournal(journal.study, Journal(tmp_path / "journal.log"), look_only=True)
    assert looked.status() == journal.status()
    assert (tmp_path / "journal.log").read_bytes() == before


def test_a_half_written_last_line_never_happened(begin, tmp_path):
    journal = begin()
    finish(journal, 2)
    path = tmp_path / "journal.log"
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_')
    mend_journal(path)
    again = begin()
    finish(again)
    assert begin().status().complete == 3
    mend_journal(tmp_path / "missing.log")


def test_a_killed_driver_leaves_no_lock_to_wait_for(begin, tmp_path):
    finish(begin())
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]


def test_a_step_waits_for_the_disk_once(begin, tmp_path, monkeypatch):
    journal = begin()
    is_blocked = []
    monkeypatch.setattr("os.fsync", lambda number: is_blocked.append((tmp_path / "journal.log").read_bytes()))
    trial, _ = journal.ask()
    journal.complete(trial, 0.5, Result(measures={"train_seconds": 1.0}))
    after = (tmp_path / "journal.log").read_bytes()
    assert len(is_blocked) == 2
    assert is_blocked[-1] == after
    assert len(after.splitlines()) - len(is_blocked[0].splitlines()) > 1


def test_checkpoints_are_kept_for_what_may_go_on(begin):
    journal = begin(retries=1)
    done, _ = journal.ask()
    retried, _ = journal.ask()
    running, _ = journal.ask()
    given_up, _ = journal.ask()
    journal.complete(done, 0.5)
    journal.fail(retried, "worker died", retry=True)
    journal.fail(given_up, "no such file", retry=False)
    assert journal.checkpoints_in_use() == {retried.number, running.number, given_up.number}


def test_a_confirmation_proposes_the_best_and_the_default_once(begin, tmp_path):
    journal = begin(confirm=2)
    for value in (0.1, 0.3, 0.6, 0.5, 0.4):
        finish(journal, 1, value)
    confirmation = StudyJournal(journal.study.confirming(), Journal(tmp_path / "journal.log"))
    assert confirmation.status().planned == 0
    for _ in range(2):
        confirmation.propose_best_of(journal)
    assert confirmation.status().planned == 3
    asked = [confirmation.ask() for _ in range(3)]
    best = {frozen.number: journal.config_of(frozen) for frozen in journal.best(2)}
    assert {trial.user_attrs["confirms"]: planned.config for trial, planned in asked} == best
    assert set(best) == {0, 2, 3}
    assert all(planned.label_sets == (1, 2, 3, 4) for _, planned in asked)
    confirmation.fail(asked[0][0], "worker died", retry=True)
    again, planned = confirmation.ask()
    assert (again.user_attrs["confirms"], planned) == (asked[0][0].user_attrs["confirms"], asked[0][1])


def test_a_retry_has_the_label_sets_of_the_first_attempt(begin):
    journal = begin(split_policy="fresh")
    trial, planned = journal.ask()
    journal.fail(trial, "worker died", retry=True)
    journal.ask()
    assert journal.ask()[1] == planned


def test_only_settings_with_an_effect_are_searched(begin):
    body = {"trials": 30, "settings": {"classifier": "test_resnet"}, "search": {"mu": [0, 5], "percentile": None}}
    journal = begin(methods={"sparse": body | {"presets": []}})
    seen = set()
    for _ in range(12):
        asked = journal.ask()
        if asked is None:
            break
        trial, planned = asked
        journal.complete(trial, 0.5)
        assert ("percentile" in trial.params) == (planned.config.mu > 0)
        seen.add(planned.config.mu)
    assert seen == {0, 5, SparseConfig().mu}


def test_a_trial_beyond_a_limit_is_infeasible_and_never_the_best(begin):
    journal = begin(max_memory=1.0, max_seconds_per_image=0.1)
    (slow, _), (good, _) = journal.ask(), journal.ask()
    measures = {"peak_memory_bytes": 2e9, "seconds_per_image": 0.05, "train_seconds": 9.0}
    reason = journal.beyond_limits(measures)
    assert reason == "peak_memory_bytes 2e+09, at most 1e+09 allowed"
    journal.complete(slow, 0.9, Result(measures), infeasible=reason)
    journal.complete(good, 0.5, Result(measures | {"peak_memory_bytes": 1e8}, (0.4, 0.6)))
    status = journal.status()
    assert (status.infeasible, status.complete, status.best, status.interval) == (1, 1, 0.5, [0.4, 0.6])
    assert [frozen.system_attrs["constraints"] for frozen in journal._trials()[:2]] == [
        pytest.approx([1.0, -0.5]), pytest.approx([-0.9, -0.5]),
    ]  # fmt: skip


def test_two_objectives_weigh_seconds(begin):
    journal = begin(sampler="nsga2", pruner="none")
    for seconds in (5.0, 9.0):
        trial, _ = journal.ask()
        assert not journal.report(trial, 1, 0.3)
        journal.complete(trial, 0.5, Result({"train_seconds": seconds}))
    diverged, _ = journal.ask()
    journal.reject(diverged, "diverged", "loss became nan")
    assert [frozen.values[0] for frozen in journal._trials()] == [0.5, 0.5, 0.0]
    assert journal.status().best == 0.5
    assert len(journal._optuna.best_trials) == 1


def test_random_starts_wait_behind_other_studies(begin):
    body = TINY["methods"]["supervised"] | {"trials": 60, "presets": []}
    journal = begin(methods={"supervised": body}, sampler={"name": "tpe", "startup": 4})
    finish(journal)  # the default
    waiting = [journal.ask()[0] for _ in range(4)]
    assert journal.awaits_start()
    for trial in waiting:
        journal.complete(trial, 0.5)
    assert not journal.awaits_start()


def test_where_a_study_stands_is_counted_once_between_two_steps(begin, tmp_path, monkeypatch):
    journal = begin()
    looking = StudyJournal(journal.study, Journal(tmp_path / "journal.log"), look_only=True)
    looks = []
    all_trials = StudyJournal._trials
    monkeypatch.setattr(StudyJournal, "_trials", lambda self: looks.append(self) or all_trials(self))
    first = journal.status()
    before = len(looks)
    assert journal.status() is first
    assert len(looks) == before
    steps = [
        lambda trial: journal.complete(trial, 0.5),
        journal.prune,
        lambda trial: journal.reject(trial, "diverged", "nan"),
        lambda trial: journal.fail(trial, "fire", retry=False),
    ]
    for number, end in enumerate(steps, start=1):
        trial, _ = journal.ask()
        assert (journal.status().running, looking.status().running) == (1, 1)
        end(trial)
        assert (journal.status().finished, journal.status().running) == (number, 0)
        assert looking.status() == journal.status()  # whose driver is another one, and who looks each time
    assert (journal.status().complete, journal.status().pruned, journal.status().diverged) == (1, 1, 1)
    journal.retry_given_up()
    assert journal.status().failed == 0


def test_a_finite_space_is_searched_to_its_last_configuration(begin):
    search = {"beta1": [0.0, 0.5, 0.9], "weight_decay": [1e-4, 1e-3], "batch_size": list(range(8, 25))}
    body = TINY["methods"]["supervised"] | {"trials": 200, "search": search, "presets": []}
    journal = begin(methods={"supervised": body})
    trained = set()
    while asked := journal.ask():
        config = asked[1].config
        trained.add((config.beta1, config.weight_decay, config.batch_size))
        journal.complete(asked[0], 0.5)
    assert len(trained) == journal.status().planned == 3 * 2 * 17
    assert journal.is_exhausted


def test_a_score_that_is_not_finite_is_told_as_diverged(begin):
    journal = begin()
    trial, _ = journal.ask()
    journal.complete(trial, float("nan"))
    assert (journal.status().diverged, journal.failures()) == (1, [])


def test_a_lowered_plan_has_what_it_has(begin):
    finish(begin(), 5)
    less = {"supervised": TINY["methods"]["supervised"] | {"trials": 3}}
    status = begin(methods=less).status()
    assert (status.finished, status.planned, status.num_open, status.is_over) == (5, 5, 0, True)
