import pickle

import pytest

from tests.sparse_search.search.optuna_studies import ask, go_on, of, open_study


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
