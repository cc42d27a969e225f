from tests.sparse_search.search.optuna_studies import pruned_study, run


def test_median_waits_for_its_start(tmp_path):
    study = pruned_study(tmp_path, {"name": "median", "startup": 2})
    assert run(study, lambda *_: 0.1) == [None]
    assert run(study, lambda *_: 0.9) == [None]
    assert run(study, lambda *_: 0.4) == [1]
    assert run(study, lambda *_: 0.6) == [None]
