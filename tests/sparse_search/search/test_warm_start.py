import pytest

from search_spaces.core.config import write_config
from search_spaces.core.errors import ResultsError
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.warm_start import earlier_trials
from trainables.core.conditions import PROTOCOL

from ..conftest import studies_of


@pytest.fixture
def study(tiny):
    return studies_of(tiny(warm_start=["pilot"]))[0]


@pytest.fixture
def fill(study, store, make_record):
    """Writes a trial of the sweep `pilot`, as the study would train it but for the changes."""

    def write(number, config=None, **changes):
        trial = study.trial(study.plan.settings, 0)
        same = {"shots": trial.shots} | trial.conditions.as_columns()
        values = write_config(study.plan.settings) | {"lr": 2e-3} | (config or {})
        about = {"sweep": "pilot", "content_hash": "a", "protocol": PROTOCOL, "config": values}
        store.write(make_record(number, **{**same, **about, **changes}))

    return write


def test_comparable_trials_are_told_to_the_sampler_and_are_none_of_the_plan(study, fill, store, tmp_path):
    fill(0)
    (earlier,) = earlier_trials(study, store)
    assert (earlier.sweep, earlier.config.lr, earlier.values) == ("pilot", 2e-3, (pytest.approx(0.7),))
    journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
    assert [journal.tell_earlier([earlier]) for _ in range(2)] == [1, 0]
    assert (journal.status().finished, journal.status().num_open, journal.status().best) == (0, 5, None)
    (frozen,) = journal._trials()
    assert (frozen.params["lr"], frozen.value) == (2e-3, pytest.approx(0.7))
    asked = [journal.ask()[1].config for _ in range(3)]
    assert earlier.config not in asked


def test_s8_the_default_the_presets_and_the_earlier_best_stay_in_the_plan(study, fill, store, tmp_path):
    """What of them was trained already is known by its runs, which costs nothing, and is confirmed with the rest."""
    fill(0, {"lr": 1e-3})  # the default
    fill(1, {"w_mixup": 0.0, "lr": 1e-3})  # a preset
    fill(2, {"lr": 5e-3}, confusion=((4, 1), (1, 4)))
    journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
    earlier = earlier_trials(study, store)
    for _ in range(2):  # again after a restart
        journal.tell_earlier(earlier)
        journal.propose_starts()
        journal.propose_earlier(earlier)
    asked = [journal.ask() for _ in range(3)]
    assert [trial.user_attrs.get("start") for trial, _ in asked] == ["default", "plain", None]
    assert asked[2][1].config.lr == 5e-3
    for trial, _ in asked:
        journal.complete(trial, 0.5)
    assert journal.status().complete == 3
    assert {journal.config_of(frozen).lr for frozen in journal.best(9)} == {1e-3, 5e-3}
    searched = journal.ask()
    assert "config" not in searched[0].user_attrs
    assert searched[1].config not in [each.config for each in earlier]


@pytest.mark.parametrize(
    "changes",
    [
        {"content_hash": "other"}, {"images": 81}, {"shots": 5}, {"label_sets": "0, 1"}, {"validation": "official"},
        {"protocol": PROTOCOL - 1}, {"selection": "mean3"}, {"config": {"classifier": "resnet10t"}},
        {"config": {"lr": 1e-7}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_comparable_is_not_told(study, fill, store, changes):
    fill(0, **changes)
    assert earlier_trials(study, store) == []


def test_a_sweep_that_is_not_there(study, fill, store):
    fill(0, sweep="other")
    with pytest.raises(ResultsError, match=r"no results of 'pilot' in .*; there are: other"):
        earlier_trials(study, store)
