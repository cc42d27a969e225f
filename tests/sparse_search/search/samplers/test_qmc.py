import pytest

from sparse_search.search.choices import read_sampler
from tests.sparse_search.search.optuna_studies import ask, open_study


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
