"""Conformance of every sampler: ranges, restarts, concurrent trials, silence; and models that learn."""

import logging
import math
import os
import shutil
import subprocess
import sys

import optuna
import pytest

from sparse_search.search.choices import num_objectives, read_sampler, sampler_names
from tests.sparse_search.search import optuna_studies
from tests.sparse_search.search.optuna_studies import ask, go_on, of, open_study, suggest


class Complaints(logging.Handler):
    """What Optuna logs as a warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def names(request):
    """Samplers that the selected tests ask for."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    return sorted({item.callspec.params["name"] for item in items}) or sampler_names()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, names):
    """A folder of twelve trials of every sampler by one driver, their values, and the warnings."""
    folder, complaints = tmp_path_factory.mktemp("undisturbed"), Complaints()
    optuna.logging.get_logger("optuna").addHandler(complaints)
    asked = {name: go_on(folder, name, 12) for name in names}
    optuna.logging.get_logger("optuna").removeHandler(complaints)
    return folder, asked, complaints.messages


@pytest.fixture(scope="module")
def restarted(tmp_path_factory, names):
    """The same by a driver that restarts before every ask, and after six of them as another process."""
    folder = tmp_path_factory.mktemp("restarted")
    for name in names:
        go_on(folder, name, 6, restarts=True)
    environment = os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, optuna_studies.__file__, str(folder), *names], env=environment, check=True)
    return {name: [trial.params for trial in open_study(folder / name, of(name)).trials] for name in names}


@pytest.mark.parametrize("name", sampler_names())
def test_a_mixed_conditional_space_is_sampled_within_its_ranges(name, undisturbed):
    for params in undisturbed[1][name]:
        assert 1e-4 <= params["lr"] <= 1e-1
        assert 8 <= params["width"] <= 64
        assert 1 <= params["depth"] <= 4
        assert type(params["width"]) is type(params["depth"]) is int
        if params["optimizer"] == "sgd":
            assert 0 <= params["momentum"] <= 0.99
            assert params["nesterov"] in (True, False)
        else:
            assert 0.5 <= params["beta"] <= 0.999
        assert ("momentum" in params) != ("beta" in params)
    assert len({tuple(params.items()) for params in undisturbed[1][name]}) == 12


def test_samplers_are_silent(undisturbed):
    assert undisturbed[2] == []


@pytest.mark.parametrize("name", sampler_names())
def test_a_driver_that_restarts_asks_the_same(name, undisturbed, restarted):
    assert restarted[name] == undisturbed[1][name]


@pytest.mark.parametrize("name", sampler_names())
def test_trials_that_run_at_the_same_time_differ(name, tmp_path, undisturbed):
    choice = of(name)
    shutil.copytree(undisturbed[0] / name, tmp_path / name)
    study = open_study(tmp_path / name, choice)
    trials = [ask(study, choice) for _ in range(3)]
    for trial in trials:
        suggest(trial)
    assert len({tuple(trial.params.items()) for trial in trials}) == 3


@pytest.mark.parametrize(("name", "count"), [("tpe", 32), ("gp", 13), ("cmaes", 32)])
def test_a_model_finds_better_values_than_chance(name, count, tmp_path):
    def mean_of_last(choice):
        study = open_study(tmp_path / choice.name, choice)
        for _ in range(count):
            trial = ask(study, choice)
            lr, depth = trial.suggest_float("lr", 1e-4, 1, log=True), trial.suggest_int("depth", 1, 9)
            study.tell(trial, -abs(math.log10(lr) + 2) - 0.1 * abs(depth - 7))
        return sum(trial.value for trial in study.trials[-6:]) / 6

    assert mean_of_last(of(name)) > mean_of_last(read_sampler("random")) + 0.1


@pytest.mark.parametrize(("name", "count"), [("tpe", 24), ("gp", 12), ("nsga2", 40)])
def test_what_violates_a_constraint_is_avoided(name, count, tmp_path):
    def num_feasible(constraints):
        study = open_study(tmp_path / str(constraints), of(name))
        for _ in range(count):
            trial = ask(study, of(name), constraints)
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
            trial.set_user_attr("memory", x)
            study.tell(trial, [x + 0.1 * y, 1 - x][: num_objectives(of(name))])
        return sum(trial.params["x"] < 0.41 for trial in study.trials[-6:])  # the best is where the violation begins

    assert num_feasible(lambda trial: [trial.user_attrs["memory"] - 0.4]) >= num_feasible(None) + 3


@pytest.mark.parametrize("name", ["random", "qmc", "cmaes"])
def test_constraints_are_ignored_where_they_mean_nothing(name, tmp_path):
    study = open_study(tmp_path, of(name))
    for _ in range(8):
        trial = ask(study, of(name), lambda _: [1.0])
        study.tell(trial, trial.suggest_float("x", 0, 1))
    assert not any("constraints" in trial.system_attrs for trial in study.trials)
