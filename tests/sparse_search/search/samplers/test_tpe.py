"""Of a long study TPE models an excerpt, in which it takes the same trials for good."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import TrialState, create_trial

from sparse_search.search.choices import new_sampler
from sparse_search.search.samplers.tpe import MAX_MODELLED, NUM_GOOD, excerpt
from tests.sparse_search.search.optuna_studies import of

STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL]


def trial_of(rng, state, value, is_feasible):
    x = float(rng.random())
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params={"x": x},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values={int(rng.integers(1, 4)): value} if state == TrialState.PRUNED else {},
        system_attrs={} if state == TrialState.RUNNING else {"constraints": [-1.0 if is_feasible else 1.0]},
    )


def study_of(num_trials, shares, *, direction="maximize", feasible=0.8):
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction=direction)
    for which in rng.choice(len(STATES), num_trials, p=shares):
        study.add_trial(trial_of(rng, STATES[which], float(rng.random()), rng.random() < feasible))
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("shares", [[0.6, 0.3, 0.05, 0.05], [0.02, 0.9, 0.03, 0.05]], ids=["complete", "pruned"])
def test_the_good_trials_are_those_of_all(shares, direction):
    study = study_of(900, shares, direction=direction)
    found = excerpt(study)
    known = [each for each in study.get_trials(deepcopy=False) if each.state != TrialState.FAIL]
    of_all, of_excerpt = (_split_trials(study, trials, NUM_GOOD)[0] for trials in (known, found))
    assert [each.number for each in of_excerpt] == [each.number for each in of_all]
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))
    assert sum(each.state.is_finished() for each in found) == MAX_MODELLED
    running = [each.number for each in known if each.state == TrialState.RUNNING]
    assert [each.number for each in found if each.state == TrialState.RUNNING] == running
    others = [number for number in numbers if number not in running]
    assert max(np.diff(others)) <= 6, "an even share of all that is known, early and late"


def test_a_short_study_is_modelled_whole():
    study = study_of(MAX_MODELLED, [0.5, 0.4, 0.05, 0.05])
    assert [each.number for each in excerpt(study)] == [
        each.number for each in study.get_trials(deepcopy=False) if each.state != TrialState.FAIL
    ]


def test_an_ask_looks_at_no_more_however_many_are_known(monkeypatch):
    seen = []
    original = optuna.samplers.TPESampler._get_internal_repr

    def noted(self, trials, *others):
        seen.append(len(trials))
        return original(self, trials, *others)

    monkeypatch.setattr(optuna.samplers.TPESampler, "_get_internal_repr", noted)
    study = study_of(3 * MAX_MODELLED, [1.0, 0.0, 0.0, 0.0], feasible=1.0)
    study.sampler = new_sampler(of("tpe"), seed=0, num_known=len(study.trials), num_planned=2000, constraints=None)
    assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1
    assert seen == [NUM_GOOD, MAX_MODELLED - NUM_GOOD]
