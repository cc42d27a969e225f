import subprocess
import sys

import pytest

from search_spaces.core.errors import ResultsError
from sparse_search.execution.status import NOTE, fingerprint, note_plans, status, status_of
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.outcomes import StudyStatus
from sparse_search.search.sweep import DatasetFacts
from sparse_search.search.sweep_file import read_sweep

from ..conftest import TINY

SUPERVISED = TINY["methods"]["supervised"]
SWEEP = TINY | {"methods": {"supervised": SUPERVISED}}
FACTS = DatasetFacts("1234", 20, 40)


@pytest.fixture
def begun(tmp_path):
    """A sweep with two trials, one of them in training, as a driver leaves it; and another driver with other facts."""

    def begin(facts=FACTS, trials=2):
        sweep = read_sweep(SWEEP)
        (study,) = sweep.studies({(sweep.datasets[0], sweep.shots[0]): facts})
        storage = Journal(tmp_path / "sweeps" / sweep.name / "journal.log")
        pair = StudyJournal(study, storage), StudyJournal(study.confirming(), storage)
        note_plans([pair], fingerprint(SWEEP))
        pair[0].propose_starts()
        for number in range(trials):
            trial, _ = pair[0].ask()
            if not number:
                pair[0].complete(trial, 0.75)
        return pair

    return begin


def test_before_a_start_there_are_plans_only(tmp_path):
    (found,) = status(SWEEP, tmp_path)
    assert found == StudyStatus(found.title, planned=5)
    assert "supervised" in found.title
    assert not list(tmp_path.iterdir())


def test_the_same_as_the_driver_counts_and_again_with_what_is_new(begun, tmp_path):
    search, confirmation = begun()
    look = status_of(SWEEP, tmp_path)
    assert look() == [search.status()]
    assert (look()[0].complete, look()[0].running, look()[0].best) == (1, 1, 0.75)
    confirmation.propose_best_of(search)
    trial, _ = search.ask()
    search.reject(trial, "diverged", "loss became nan")
    assert look() == [search.status(), confirmation.status()]
    assert look()[0].diverged == 1


def test_an_edited_file_is_read_with_what_the_journal_knows_of_the_data(begun, tmp_path):
    begun()
    more = TINY | {"methods": {"supervised": SUPERVISED | {"trials": 9}}}
    (found,) = status(more, tmp_path)
    assert (found.planned, found.complete, found.running) == (9, 1, 1)
    assert status(SWEEP | {"images": SWEEP["images"] * 2}, tmp_path)[0].finished == 0  # another search


def test_other_data_under_the_same_file_and_back(begun, tmp_path):
    begun()
    begun(DatasetFacts("5678", 20, 40), trials=0)
    assert [(each.planned, each.finished) for each in status(SWEEP, tmp_path)] == [(5, 0)]
    begun(trials=0)
    assert [(each.planned, each.finished) for each in status(SWEEP, tmp_path)] == [(5, 1)]


def test_a_note_is_written_once(begun, tmp_path):
    search, confirmation = begun(trials=0)
    before = search.storage.path.read_bytes()
    note_plans([(search, confirmation)], fingerprint(SWEEP))
    assert search.storage.path.read_bytes() == before


def test_a_journal_of_before_shows_the_last_search_of_the_setting(begun, tmp_path):
    search, confirmation = begun()
    for journal in (search, confirmation):
        search.storage.set_study_user_attr(journal._optuna._study_id, NOTE, {})
    assert status(SWEEP, tmp_path) == [search.status()]


def test_a_damaged_parameter_is_named(begun, tmp_path):
    path = begun()[0].storage.path
    content = path.read_bytes()
    assert content.count(b"param_value_internal")
    path.write_bytes(content.replace(b'"param_value_internal":0', b'"param_value_internal":1', 1))
    with pytest.raises(ResultsError, match=r"journal\.log is damaged .its checksum differs"):
        status(SWEEP, tmp_path)


def test_nothing_that_trains_is_loaded(begun, tmp_path):
    begun()
    code = (
        "import sys\nfrom sparse_search.execution.status import status\n"
        "import sparse_search.execution.status_table\n"
        f"print(len(status({SWEEP!r}, {str(tmp_path)!r})), {{'torch', 'ray', 'pyarrow', 'pandas'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 set()\n"
