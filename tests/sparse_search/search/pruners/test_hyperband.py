import optuna

from tests.sparse_search.search.optuna_studies import pruned_study, run


def test_hyperband_judges_some_trials_later_and_some_never(tmp_path):
    run(pruned_study(tmp_path, "hyperband"), lambda number, _: 0.9 + 0.001 * (number % 7), 32)
    ended = run(pruned_study(tmp_path, "hyperband"), lambda *_: 0.1, 40)
    assert set(ended) == {1, 3, 9, None}
    assert ended.count(1) > ended.count(3) > ended.count(9)


def test_hyperband_shows_the_sampler_every_trial(tmp_path):
    study = pruned_study(tmp_path, "hyperband")
    assert optuna.pruners._filter_study(study, None) is study
