import pytest

from sparse_search.search.choices import new_pruner, pruner_names, read_pruner, read_sampler
from sparse_search.search.pruner import rung_steps
from tests.sparse_search.search.optuna_studies import open_study


@pytest.mark.parametrize("name", pruner_names())
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
