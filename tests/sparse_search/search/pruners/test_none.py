from tests.sparse_search.search.optuna_studies import pruned_study, run


def test_none_stops_nothing(tmp_path):
    assert run(pruned_study(tmp_path, "none"), lambda number, _: 1 / (1 + number), 6) == [None] * 6
