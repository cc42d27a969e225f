import warnings

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler

from search_spaces.core.config import write_config
from search_spaces.core.ranges import Choice, Float, Int, When, conditions_of, inactive_fields, space_of
from search_spaces.sparse import SparseConfig
from sparse_search.distributions import suggest, suggest_active

SPACE = {"percentile": Float(0.0, 0.95), "lr": Float(1e-4, 1e-2, log=True), "mu": Choice(0, 1, 5)}
CONDITIONS = {"percentile": (When("mu", above=0), When("mask", equals=True))}
BASE = {"percentile": 0.75, "lr": 1e-3, "mu": 1, "mask": True}


def tpe(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=4, seed=seed)


samplers = pytest.mark.parametrize("new_sampler", [lambda seed: RandomSampler(seed=seed), tpe], ids=["random", "tpe"])


def study(new_sampler, seed=0):
    return optuna.create_study(direction="maximize", sampler=new_sampler(seed))


@pytest.mark.parametrize("range_", [Float(1e-4, 1.0, log=True), Int(1, 4), Choice("a", "b"), Choice(True, False)])
def test_a_suggestion_is_in_the_range_and_stays(range_):
    trial = study(RandomSampler).ask()
    value = suggest(trial, "x", range_)
    assert value in range_
    assert suggest(trial, "x", range_) == value


@samplers
def test_only_what_has_an_effect_is_asked(new_sampler):
    search = study(new_sampler)
    seen = set()
    for _ in range(30):
        trial = search.ask()
        values = suggest_active(trial, SPACE, BASE, CONDITIONS)
        assert values == trial.params
        assert set(values) == ({"lr", "mu", "percentile"} if values["mu"] > 0 else {"lr", "mu"})
        seen.add(len(values))
        search.tell(trial, values.get("percentile", 0.2))
    assert seen == {2, 3}


def test_a_parent_that_is_not_searched_counts_as_in_the_base():
    trial = study(RandomSampler).ask()
    assert set(suggest_active(trial, SPACE, BASE | {"mask": False}, CONDITIONS)) == {"lr", "mu"}
    unsearched = {"percentile": SPACE["percentile"]}
    assert set(suggest_active(trial, unsearched, BASE | {"mu": 0}, CONDITIONS)) == set()
    assert set(suggest_active(trial, unsearched, BASE, CONDITIONS)) == {"percentile"}


@samplers
def test_asking_again_gives_the_same(new_sampler):
    search = study(new_sampler)
    for _ in range(10):
        trial = search.ask()
        values = suggest_active(trial, SPACE, BASE, CONDITIONS)
        again = optuna.Trial(search, trial._trial_id)  # as a restarted driver has it
        assert suggest_active(again, SPACE, BASE, CONDITIONS) == values
        search.tell(trial, values["lr"])


def test_enqueued_values_without_effect_are_left_out():
    search = study(RandomSampler)
    search.enqueue_trial({"mu": 0, "lr": 5e-3, "percentile": 0.5})
    trial = search.ask()
    assert suggest_active(trial, SPACE, BASE, CONDITIONS) == trial.params == {"mu": 0, "lr": 5e-3}


@samplers
@pytest.mark.parametrize("preset", SparseConfig.presets)
def test_a_whole_method_is_searched(new_sampler, preset):
    space, conditions = space_of(SparseConfig), conditions_of(SparseConfig)
    search = study(new_sampler)
    for number in range(12):
        base = write_config(SparseConfig.preset(preset) if number % 3 < 2 else SparseConfig())
        trial = search.ask()
        values = suggest_active(trial, space, base, conditions)
        assert set(space) - set(values) == set(inactive_fields(SparseConfig, base | values))
        search.tell(trial, values["lr"])
    if new_sampler is tpe:
        assert set(values) <= set(trial.relative_params)  # none is drawn apart for being in some trials only
