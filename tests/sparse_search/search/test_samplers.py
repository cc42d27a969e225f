"""Run as a script, this file goes on with the studies in a folder: another process, as after a restart."""

import logging
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from search_spaces.core.errors import ConfigError
from sparse_search.search.samplers import (
    PRUNERS,
    SAMPLERS,
    PrunerChoice,
    SamplerChoice,
    new_pruner,
    new_sampler,
    num_objectives,
    num_startup,
    read_pruner,
    read_sampler,
    rung_steps,
)

OPTIONS = {"tpe": {"startup": 4}, "gp": {"startup": 6}, "cmaes": {"startup": 4, "population": 4},
           "nsga2": {"population": 4}}  # fmt: skip
PLANNED = 24


def of(name):
    """A sampler that leaves its start within a dozen trials."""
    return read_sampler({"name": name, **OPTIONS.get(name, {})})


def open_study(folder, choice, name="study", pruner=None):
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        directions=["maximize", "minimize"][: num_objectives(choice)],
        pruner=pruner,
        load_if_exists=True,
    )


def suggest(trial):
    """Values of a mixed space, partly conditional."""
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.suggest_int("width", 8, 64, log=True)
    trial.suggest_int("depth", 1, 4)
    if trial.suggest_categorical("optimizer", ["sgd", "adam", "none"]) == "sgd":
        trial.suggest_float("momentum", 0.0, 0.99)
        trial.suggest_categorical("nesterov", [True, False])
    else:
        trial.suggest_float("beta", 0.5, 0.999)


def score(params):
    return 1 - 0.1 * abs(params["depth"] - 3) - abs(params.get("beta", 0.7) - 0.9) - params["lr"]


def ask(study, choice, constraints=None):
    known = len(study.get_trials(deepcopy=False))
    study.sampler = new_sampler(choice, seed=7, num_known=known, num_planned=PLANNED, constraints=constraints)
    return study.ask()


def tell(study, trial):
    """Every fourth trial is pruned, where that can be."""
    value = score(trial.params)
    if len(study.directions) == 2:
        study.tell(trial, [value, trial.params["width"] * trial.params["depth"]])
    elif trial.number % 4 == 3:
        trial.report(value - 0.1, 1)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


def go_on(folder, name, count, restarts=False):
    """The values of the next trials of a study, one by one; the first two are starts that were enqueued."""
    choice, asked = of(name), []
    study = open_study(folder / name, choice)
    if not study.trials:
        shared = {"lr": 0.01, "width": 16, "depth": 2}
        study.enqueue_trial(shared | {"optimizer": "adam", "beta": 0.9})
        study.enqueue_trial(shared | {"optimizer": "sgd", "momentum": 0.9, "nesterov": True})
    for _ in range(count):
        study = open_study(folder / name, choice) if restarts else study
        trial = ask(study, choice)
        suggest(trial)
        asked.append(trial.params)
        tell(study, trial)
    return asked


if __name__ == "__main__":
    for sampler in SAMPLERS:
        go_on(Path(sys.argv[1]), sampler, 6)
    sys.exit()


class Complaints(logging.Handler):
    """What Optuna logs as a warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder of twelve trials of every sampler by one driver, their values, and the warnings."""
    folder, complaints = tmp_path_factory.mktemp("undisturbed"), Complaints()
    optuna.logging.get_logger("optuna").addHandler(complaints)
    asked = {name: go_on(folder, name, 12) for name in SAMPLERS}
    optuna.logging.get_logger("optuna").removeHandler(complaints)
    return folder, asked, complaints.messages


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """The same by a driver that restarts before every ask, and after six of them as another process."""
    folder = tmp_path_factory.mktemp("restarted")
    for name in SAMPLERS:
        go_on(folder, name, 6, restarts=True)
    environment = os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, str(folder)], env=environment, check=True)
    return {name: [trial.params for trial in open_study(folder / name, of(name)).trials] for name in SAMPLERS}


@pytest.mark.parametrize("name", SAMPLERS)
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


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_driver_that_restarts_asks_the_same(name, undisturbed, restarted):
    assert restarted[name] == undisturbed[1][name]


@pytest.mark.parametrize("name", SAMPLERS)
def test_trials_that_run_at_the_same_time_differ(name, tmp_path, undisturbed):
    choice = of(name)
    shutil.copytree(undisturbed[0] / name, tmp_path / name)
    study = open_study(tmp_path / name, choice)
    trials = [ask(study, choice) for _ in range(3)]
    for trial in trials:
        suggest(trial)
    assert len({tuple(trial.params.items()) for trial in trials}) == 3


def points(folder, choice, count, names):
    for position in range(count):
        if position % 8 == 0:
            study = open_study(folder, choice)
        trial = ask(study, choice)
        for name in names:
            trial.suggest_float(name, 0, 1)
        study.tell(trial, 0.5)
    return [[trial.params[name] for name in names] for trial in study.trials]


@pytest.mark.parametrize("sequence", ["sobol", "halton"])
def test_quasi_random_points_of_many_drivers_fill_the_space_evenly(sequence, tmp_path):
    from scipy.stats import qmc

    names = ("a", "b", "c")
    even = points(tmp_path / "qmc", read_sampler({"name": "qmc", "sequence": sequence}), 32, names)
    random = points(tmp_path / "random", read_sampler("random"), 32, names)
    assert qmc.discrepancy(even) < 0.3 * qmc.discrepancy(random)
    if sequence == "sobol":
        assert even == pytest.approx(qmc.Sobol(64, rng=7).random(32)[:, :3])
    for values in zip(*even, strict=True):
        assert all(10 <= sum(low <= value < low + 1 / 3 for value in values) <= 12 for low in (0, 1 / 3, 2 / 3))


def test_quasi_random_conditional_values_are_even_and_starts_take_no_point(tmp_path):
    choice = read_sampler("qmc")
    study = open_study(tmp_path, choice)
    study.enqueue_trial({"arm": "left", "x": 0.1})
    study.enqueue_trial({"arm": "left", "x": 0.2})
    for _ in range(34):
        trial = ask(study, choice)
        arm = trial.suggest_categorical("arm", ["left", "right"])
        trial.suggest_float("x", 0, 1)
        if arm == "right":
            trial.suggest_int("only_right", 1, 4)
        study.tell(trial, 0.5)
    asked = [trial.params for trial in study.trials[2:]]
    assert [params["arm"] for params in asked].count("right") == 16
    values = [params["only_right"] for params in asked if params["arm"] == "right"]
    assert all(abs(values.count(value) - 4) <= 1 for value in (1, 2, 3, 4))


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


def test_cmaes_leaves_nothing_in_the_journal_that_could_be_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda _: pytest.fail("unpickled what the journal holds"))
    go_on(tmp_path, "cmaes", 16)
    study = open_study(tmp_path / "cmaes", of("cmaes"))
    notes = [trial.system_attrs["cmaes"] for trial in study.trials if "cmaes" in trial.system_attrs]
    assert {note["centre"] for note in notes} == {notes[0]["centre"]}
    assert [note["generation"] for note in notes] == [0] * 4 + [1] * 4 + [2] * 4
    assert not any("optimizer" in key for trial in study.trials for key in trial.system_attrs)


def test_cmaes_works_with_a_single_number_and_with_none(tmp_path):
    choice = of("cmaes")
    study = open_study(tmp_path, choice)
    for _ in range(12):
        trial = ask(study, choice)
        study.tell(trial, trial.suggest_float("x", 0, 1))
    choices = open_study(tmp_path, choice, name="choices")
    for _ in range(6):
        trial = ask(choices, choice)
        choices.tell(trial, float(trial.suggest_categorical("k", [1, 2])))
    assert max(trial.value for trial in study.trials) > 0.9


def test_nsga2_weighs_two_objectives(tmp_path):
    choice = read_sampler({"name": "nsga2", "population": 8, "mutation": 0.1})
    study = open_study(tmp_path, choice)
    for _ in range(60):
        trial = ask(study, choice)
        width, lr = trial.suggest_int("width", 1, 64), trial.suggest_float("lr", 0, 1)
        study.tell(trial, [width / 64 - lr, width + 64 * lr])
    first, last = study.trials[:20], study.trials[-20:]
    assert num_objectives(choice) == 2
    assert sum(t.params["lr"] for t in last) < 0.5 * sum(t.params["lr"] for t in first)
    assert len({trial.params["width"] for trial in study.best_trials}) >= 4


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


def run(study, curve, count=1):
    """How far each new trial comes: the steps it reported, and whether it was stopped there."""
    ended = []
    for _ in range(count):
        trial = study.ask()
        for step in (1, 3, 9, 27):
            trial.report(curve(trial.number, step), step)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                ended.append(step)
                break
        else:
            study.tell(trial, curve(trial.number, 27))
            ended.append(None)
    return ended


def pruned_study(folder, given, name="study"):
    return open_study(folder, read_sampler("random"), name, new_pruner(read_pruner(given), num_rungs=4))


def test_halving_keeps_the_best_third(tmp_path):
    study = pruned_study(tmp_path, {"name": "halving", "reduction": 3})
    assert run(study, lambda number, _: 0.7 + 0.1 * number, 3) == [None] * 3
    assert run(study, lambda *_: 0.1) == [1]
    assert run(study, lambda *_: 0.95) == [None]
    assert run(study, lambda _, step: 0.99 if step < 3 else 0.1) == [3]
    assert run(study, lambda _, step: 0.99 if step < 9 else 0.1) == [9]
    assert run(study, lambda _, step: 0.99 if step < 27 else 0.1) == [None]  # the last step is the end
    assert run(study, lambda _, step: float("nan")) == [1]


def test_halving_decides_the_same_after_a_restart_and_for_what_is_minimised(tmp_path):
    study = pruned_study(tmp_path, "halving")
    run(study, lambda *_: 0.5, 3)
    bad = study.ask()
    bad.report(0.1, 1)
    assert bad.should_prune()
    assert bad.should_prune()
    again = pruned_study(tmp_path, "halving")
    assert optuna.Trial(again, bad._trial_id).should_prune()
    least = optuna.create_study(pruner=study.pruner)
    run(least, lambda *_: 0.5, 3)
    assert run(least, lambda *_: 0.6) == [1]
    assert run(least, lambda *_: 0.4) == [None]


def test_halving_counts_no_failed_trial(tmp_path):
    study = pruned_study(tmp_path, "halving")
    for _ in range(3):
        trial = study.ask()
        trial.report(0.9, 1)
        study.tell(trial, state=TrialState.FAIL)
    assert run(study, lambda *_: 0.1) == [None]


def test_halving_decides_as_optuna_does(tmp_path):
    scores = np.random.default_rng(0).integers(10, size=(60, 28)) / 10
    ours = pruned_study(tmp_path, {"name": "halving", "reduction": 3})
    optunas = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    )
    ended = [run(study, lambda number, step: scores[number, step], 60) for study in (ours, optunas)]
    assert ended[0] == [None if step == 27 else step for step in ended[1]]  # Optuna also judges at the end
    assert set(ended[0]) == {1, 3, 9, None}


def test_hyperband_judges_some_trials_later_and_some_never(tmp_path):
    run(pruned_study(tmp_path, "hyperband"), lambda number, _: 0.9 + 0.001 * (number % 7), 32)
    ended = run(pruned_study(tmp_path, "hyperband"), lambda *_: 0.1, 40)
    assert set(ended) == {1, 3, 9, None}
    assert ended.count(1) > ended.count(3) > ended.count(9)


def test_hyperband_shows_the_sampler_every_trial(tmp_path):
    study = pruned_study(tmp_path, "hyperband")
    assert optuna.pruners._filter_study(study, None) is study


def test_median_waits_for_its_start(tmp_path):
    study = pruned_study(tmp_path, {"name": "median", "startup": 2})
    assert run(study, lambda *_: 0.1) == [None]
    assert run(study, lambda *_: 0.9) == [None]
    assert run(study, lambda *_: 0.4) == [1]
    assert run(study, lambda *_: 0.6) == [None]


def test_none_stops_nothing(tmp_path):
    assert run(pruned_study(tmp_path, "none"), lambda number, _: 1 / (1 + number), 6) == [None] * 6


@pytest.mark.parametrize("name", PRUNERS)
def test_a_single_rung_stops_nothing(name, tmp_path):
    pruner = new_pruner(read_pruner(name), num_rungs=1)
    study = open_study(tmp_path, read_sampler("random"), pruner=pruner)
    for number in range(6):
        trial = study.ask()
        trial.report(-number, 1)
        assert name == "median" or not trial.should_prune()
        study.tell(trial, -number)


def test_steps_of_the_ladder():
    assert rung_steps(4) == (1, 3, 9, 27)
    assert rung_steps(1) == (1,)


def test_choices_are_equal_when_they_mean_the_same():
    plain = read_sampler("tpe")
    assert plain == SamplerChoice("tpe") == read_sampler({"name": "tpe", "startup": "auto", "candidates": 24})
    chosen = read_sampler({"candidates": 8, "startup": 10, "name": "tpe"})
    assert chosen == read_sampler({"name": "tpe", "startup": 10, "candidates": 8}) != plain
    assert len({plain, chosen, read_sampler("tpe")}) == 2
    assert (str(plain), str(chosen)) == ("tpe", "tpe startup=10 candidates=8")
    assert read_pruner({"name": "halving", "reduction": 2}) == PrunerChoice("halving")
    assert PrunerChoice("none") != SamplerChoice("none")


def test_random_trials_at_the_start():
    expected = {"tpe": 8, "random": 0, "qmc": 0, "gp": 8, "cmaes": 8, "nsga2": 4}
    assert {name: num_startup(read_sampler(name), PLANNED) for name in SAMPLERS} == expected
    assert num_startup(read_sampler({"name": "tpe", "startup": 20}), PLANNED) == 20
    assert num_startup(read_sampler({"name": "nsga2", "population": 12}), PLANNED) == 12
    assert [num_startup(read_sampler("tpe"), planned) for planned in (3, 300)] == [4, 10]


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (read_sampler, "tpee", "sampler 'tpee' is unknown; did you mean 'tpe'? Known: cmaes, gp,"),
        (read_sampler, 3, "sampler: expected a name, or {name: …, option: value}, got 3. Names: tpe, random"),
        (read_sampler, None, "expected a name"),
        (read_sampler, ["tpe"], "expected a name"),
        (read_sampler, {"startup": 3}, "expected a name"),
        (read_sampler, {"name": ["tpe"]}, "expected a name"),
        (read_sampler, {"name": "tpe", "starup": 3}, "sampler tpe has no option 'starup'; did you mean 'startup'?"),
        (read_sampler, {"name": "tpe", 3: 3}, "sampler tpe has no option '3'"),
        (read_sampler, {"name": "random", "startup": 3}, "sampler random has no option 'startup': it has none"),
        (read_sampler, {"name": "tpe", "startup": 0}, "startup: 0 is impossible, expected 1 … 1000, whole, or auto"),
        (read_sampler, {"name": "tpe", "startup": "many"}, "startup: 'many' is impossible"),
        (read_sampler, {"name": "tpe", "startup": 2.5}, "startup: 2.5 is impossible"),
        (read_sampler, {"name": "tpe", "startup": None}, "startup: None is impossible"),
        (read_sampler, {"name": "tpe", "candidates": True}, "candidates: True is impossible"),
        (read_sampler, {"name": "qmc", "sequence": "sobel"}, "'sobel' is impossible, expected sobol | halton"),
        (read_sampler, {"name": "nsga2", "crossover": 1.5}, "crossover: 1.5 is impossible, expected 0 … 1"),
        (read_sampler, {"name": "cmaes", "population": [4]}, "population: [4] is impossible"),
        (read_pruner, "asha", "pruner 'asha' is unknown. Known: halving, hyperband, median, none."),
        (read_pruner, {"name": "halving", "reduction": 1}, "reduction: 1 is impossible, expected 2 … 10, whole"),
        (read_pruner, {"name": "halving", "reduction": 3.0}, "reduction: 3.0 is impossible"),
        (read_pruner, {"name": "median", "reduction": 3}, "pruner median has no option 'reduction'. Known: startup."),
    ],
)  # fmt: skip
def test_a_mistake_is_named(read, given, message):
    with pytest.raises(ConfigError) as caught:
        read(given)
    assert message in str(caught.value)


def test_heavy_libraries_wait_until_they_are_needed():
    heavy = ("torch", "cmaes", "scipy.stats")
    code = f"import sys, sparse_search.search.samplers; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
