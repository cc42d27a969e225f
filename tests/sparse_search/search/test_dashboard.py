"""optuna-dashboard on a journal as a sweep writes it."""

import io
import json
import math

import pytest

from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal

from ..conftest import studies_of

dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
from optuna_dashboard._storage_url import get_storage  # noqa: E402 - as its command line opens a path


@pytest.fixture
def path(tmp_path, tiny):
    """A journal with two finished trials, a rejected and a running one, and lines without a checksum behind."""
    journal = StudyJournal(studies_of(tiny())[0], Journal(tmp_path / "journal.log"))
    journal.propose_starts()
    for value in (0.5, 0.75):
        trial, _ = journal.ask()
        journal.report(trial, 1, value - 0.25)
        journal.complete(trial, value)
    journal.reject(journal.ask()[0], "diverged", "loss became nan")
    journal.ask()
    return tmp_path / "journal.log"


@pytest.fixture
def get(path):
    """What the dashboard's server says."""
    app = dashboard.wsgi(get_storage(str(path)))

    def asked(place):
        told = []
        environment = {"REQUEST_METHOD": "GET", "PATH_INFO": place, "wsgi.input": io.BytesIO(),
                       "QUERY_STRING": "after=0", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}  # fmt: skip
        body = b"".join(app(environment, lambda status, headers, *rest: told.append(status)))
        assert told == ["200 OK"]
        return json.loads(body)

    return asked


def test_it_lists_the_studies_and_their_trials(get, path, tiny):
    study = studies_of(tiny())[0]
    assert {"crc32" in json.loads(line) for line in path.read_bytes().splitlines()} == {True}
    (summary,) = get("/api/studies")["study_summaries"]
    assert (summary["study_name"], summary["directions"]) == (study.name, ["maximize"])
    trials = get(f"/api/studies/{summary['study_id']}")["trials"]
    states = [trial["state"] for trial in trials]
    assert states[:2] == ["Complete", "Complete"]
    assert states.count("Running") == 1
    assert [trial["values"] for trial in trials[:2]] == [[0.5], [0.75]]
    assert trials[1]["intermediate_values"] == [{"step": 1, "value": 0.5}]
    names = {param["name"] for param in trials[0]["params"]}
    assert names == {"lr", "dropout", "mixup_alpha"}
    assert all(math.isfinite(float(param["param_internal_value"])) for param in trials[0]["params"])


def test_a_note_made_there_is_no_damage(get, path, tiny):
    import optuna
    from optuna_dashboard import save_note

    study = studies_of(tiny())[0]
    save_note(optuna.load_study(study_name=study.name, storage=get_storage(str(path))), "looks good")
    assert StudyJournal(study, Journal(path)).status().complete == 2
