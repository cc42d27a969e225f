from sparse_search.search.choices import num_objectives, read_sampler
from tests.sparse_search.search.optuna_studies import ask, open_study


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
