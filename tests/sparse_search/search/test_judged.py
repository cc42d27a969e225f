"""What was rejected attracts no sampler, and a limit that was changed judges again what was trained."""

from math import log10
from statistics import fmean

import optuna
import pytest

from sparse_search.search.choices import pruner_names, sampler_names
from sparse_search.search.journal import StudyJournal, cores_of
from sparse_search.search.journal_file import Journal
from sparse_search.search.judged import is_feasible
from sparse_search.search.outcomes import Result

from ..conftest import TINY, studies_of

RANGES = {"lr": {"low": 1e-5, "high": 1e-1}}
SEARCHED = RANGES | dict.fromkeys(("dropout", "mixup_alpha", "beta1", "weight_decay"))
MEASURES = {"peak_memory_bytes": 2e9, "seconds_per_image": 0.05, "train_seconds": 9.0}


def search_of(tiny, trials=60, **changes):
    body = {"trials": trials, "presets": [], "settings": {"classifier": "test_resnet", "lr": 1e-3}, "search": SEARCHED}
    return studies_of(tiny(methods={"supervised": body}, **changes))[0]


def simulated(journal, trials):
    """Share of trials that diverge, a fifth of the space beside its best, and the best value; rungs at 1, 3, 9, 27."""
    num_diverged, best = 0, 0.0
    for _ in range(trials):
        trial, planned = journal.ask()
        config = planned.config
        score = 0.9 - 0.3 * abs(config.dropout - 0.05) - 0.2 * abs(config.mixup_alpha - 0.5)
        score -= 0.05 * abs(log10(config.lr) + 2.9)
        if config.lr > 10**-1.8:
            num_diverged += 1
            journal.reject(trial, "diverged", "loss became nan")
        elif any(journal.report(trial, step, score - 0.1 / step) for step in (1, 3, 9)):
            journal.prune(trial)
        else:
            best = max(best, score)
            journal.complete(trial, score)
    return num_diverged / trials, best


@pytest.mark.slow
def test_s2_tpe_is_not_drawn_to_what_diverges(tiny, tmp_path, monkeypatch):
    """A fifth of the space diverges, which attracted TPE when it was told as complete with the worst value alone."""

    def found(name):
        for seed in range(5):
            study = search_of(
                tiny, pruner={"name": "halving", "reduction": 3}, seed=seed, images=27_000, evaluate_every=1000
            )
            journal = StudyJournal(study, Journal(tmp_path / f"{name}-{seed}.log"))
            journal.propose_starts()
            yield simulated(journal, 60)

    shares, best = zip(*found("judged"), strict=True)
    with monkeypatch.context() as then:
        then.setattr(Journal, "judge", lambda self, study_id, judge: None)
        shares_before, best_before = zip(*found("before"), strict=True)
    assert fmean(shares) < 0.75 * fmean(shares_before)
    assert fmean(best) >= fmean(best_before)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", pruner_names())
def test_under_no_pruner_tpe_has_more_that_diverges_than_random_search(tiny, tmp_path, pruner):
    """A fifth of what random search draws; `bench/diverging.py` has other shares, and a best nearer to the edge."""

    def share(seed):
        study = search_of(tiny, trials=40, pruner=pruner, seed=seed, images=27_000, evaluate_every=1000)
        journal = StudyJournal(study, Journal(tmp_path / f"{seed}.log"))
        journal.propose_starts()
        return simulated(journal, 40)[0]

    assert fmean(map(share, range(2))) < 0.2


@pytest.mark.parametrize("outcome", ["diverged", "collapsed", "infeasible"])
@pytest.mark.parametrize("name", [name for name in sampler_names() if name != "nsga2"])
def test_s2_every_sampler_is_shown_what_is_rejected_as_violating(tiny, tmp_path, name, outcome):
    study = search_of(tiny, sampler=name, max_memory=3.0 if outcome != "infeasible" else 1.0)
    journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
    for number in range(8):
        trial, _ = journal.ask()
        if number % 2 and outcome != "infeasible":
            journal.reject(trial, outcome, "for a reason")
        else:
            beyond = outcome == "infeasible" and number % 2
            journal.complete(trial, 0.5, Result(MEASURES if beyond else MEASURES | {"peak_memory_bytes": 1e8}))
    shown = journal._optuna.get_trials(deepcopy=False)
    assert [is_feasible(frozen) for frozen in shown] == [True, False] * 4
    assert len({len(frozen.constraints) for frozen in shown}) == 1
    assert journal.ask()


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_s2_a_rejected_trial_is_never_among_the_good_ones(tiny, tmp_path, name, monkeypatch):
    study = search_of(tiny, sampler={"name": name, "startup": 4})
    journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
    for number in range(30):
        trial, _ = journal.ask()
        if number == 0:
            journal.complete(trial, 0.5)
        elif number % 2:
            journal.report(trial, 1, 0.2)
            journal.prune(trial)
        else:
            journal.reject(trial, "diverged", "nan")
    trials = journal._optuna.get_trials(deepcopy=False)
    if name == "tpe":
        below, _ = optuna.samplers._tpe.sampler._split_trials(journal._optuna, trials, 5)
        assert {frozen.user_attrs.get("outcome") for frozen in below} == {None}
    else:
        from sparse_search.search.samplers.cmaes import _merit

        worst = sorted(trials, key=lambda frozen: _merit(journal._optuna, frozen))
        assert [frozen.user_attrs.get("outcome") for frozen in worst[:14]] == ["diverged"] * 14


def test_s2_nothing_rejected_or_limited_changes_nothing(tiny, tmp_path):
    journal = StudyJournal(search_of(tiny), Journal(tmp_path / "journal.log"))
    trial, _ = journal.ask()
    journal.complete(trial, 0.5)
    assert not journal._optuna.get_trials()[0].system_attrs.get("constraints")


def test_s2_a_journal_of_before_is_judged_alike(tiny, tmp_path):
    """There a rejected trial was told without any constraint."""
    path = tmp_path / "journal.log"
    journal = StudyJournal(search_of(tiny), Journal(path))
    trial, _ = journal.ask()
    journal.reject(trial, "diverged", "nan")
    assert b"constraints" not in path.read_bytes()
    (frozen,) = StudyJournal(search_of(tiny), Journal(path))._optuna.get_trials()
    assert not is_feasible(frozen)


def test_s7_a_changed_limit_judges_again(tiny, tmp_path):
    path = tmp_path / "journal.log"

    def opened(**limits):
        storage = Journal(path)
        study = search_of(tiny, trials=5, confirm=1, **limits)
        return StudyJournal(study.as_begun(cores_of(storage)), storage)

    journal = opened(max_memory=3.0)
    (big, _), (small, _) = journal.ask(), journal.ask()
    journal.complete(big, 0.9, Result(MEASURES))
    journal.complete(small, 0.6, Result(MEASURES | {"peak_memory_bytes": 1e8}))
    for limits, counts, best in (
        ({"max_memory": 3.0}, (2, 0), 0.9),
        ({"max_memory": 1.0}, (1, 1), 0.6),
        ({"max_memory": 2.5}, (2, 0), 0.9),
        ({}, (2, 0), 0.9),
        ({"max_seconds_per_image": 0.01}, (0, 2), None),
        ({"max_memory": 1.0, "max_seconds_per_image": 0.1}, (1, 1), 0.6),
    ):
        now = opened(**limits)
        status = now.status()
        assert ((status.complete, status.infeasible), status.best) == (counts, best), limits
        assert [frozen.values[0] for frozen in now.best(1)][:1] == ([best] if best else [])
        if limits:
            shown = now._optuna.get_trials()
            assert sum(is_feasible(frozen) for frozen in shown) == counts[0]


def test_s7_a_trial_told_as_infeasible_counts_once_the_limit_is_raised(tiny, tmp_path):
    path = tmp_path / "journal.log"
    journal = StudyJournal(search_of(tiny, max_memory=1.0), Journal(path))
    trial, _ = journal.ask()
    journal.complete(trial, 0.9, Result(MEASURES), infeasible=journal.beyond_limits(MEASURES))
    assert (journal.status().infeasible, journal.status().best) == (1, None)
    storage = Journal(path)
    again = StudyJournal(search_of(tiny, max_memory=4.0).as_begun(cores_of(storage)), storage)
    assert (again.status().infeasible, again.status().best) == (0, 0.9)


def test_s9_a_kill_between_a_retry_and_its_failure_trains_nothing_that_nobody_searched(tiny, tmp_path):
    path = tmp_path / "journal.log"
    study = studies_of(tiny(confirm=2, methods={"supervised": TINY["methods"]["supervised"] | {"trials": 3}}))[0]
    journal = StudyJournal(study, Journal(path))
    journal.propose_starts()
    for value in (0.3, 0.5, 0.7):
        trial, _ = journal.ask()
        journal.complete(trial, value)
    confirmation = StudyJournal(study.confirming(), Journal(path))
    confirmation.propose_best_of(journal)
    trial, _ = confirmation.ask()
    confirmation._try_again(confirmation._trials()[trial.number], 1)  # killed here
    again = StudyJournal(study.confirming(), Journal(path))
    trained = [planned.config for _, planned in again.running()]
    while again.status().num_open and (asked := again.ask()):
        trained.append(asked[1].config)
    searched = [journal.config_of(frozen) for frozen in journal.best(9)]
    assert len(trained) == 3
    assert all(config in searched for config in trained)


def test_a_trial_that_somebody_enqueued_with_an_impossible_value_stops_nothing(tiny, tmp_path):
    journal = StudyJournal(search_of(tiny), Journal(tmp_path / "journal.log"))
    journal._optuna.enqueue_trial({"lr": "much", "dropout": 0.1, "mixup_alpha": 0.2})
    journal._optuna.enqueue_trial({"lr": 1e-3, "dropout": 7.0, "mixup_alpha": 0.2})
    asked = journal.ask()
    assert asked
    assert asked[1].config.dropout <= 0.5
    assert next(f.user_attrs.get("outcome") for f in journal._trials()) == "impossible"
    assert StudyJournal(journal.study, Journal(tmp_path / "journal.log")).running()
