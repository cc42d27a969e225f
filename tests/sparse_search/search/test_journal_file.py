"""Lines of the journal: each with a checksum, read by Optuna's own tools, damage named with its number."""

import json
import random

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from search_spaces.core.errors import ResultsError
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import DamagedJournalError, Journal, decode_entry, encode_entry, mend_journal

from ..conftest import studies_of


@pytest.fixture
def path(tmp_path, tiny):
    """A journal with three finished trials and a running one."""
    journal = StudyJournal(studies_of(tiny())[0], Journal(tmp_path / "journal.log"))
    journal.propose_starts()
    for value in (0.5, 0.6, 0.8):
        trial, _ = journal.ask()
        journal.report(trial, 1, value)
        journal.complete(trial, value)
    journal.ask()
    return tmp_path / "journal.log"


def trials_in(storage, study):
    return optuna.load_study(study_name=study.name, storage=storage).trials


def test_s10_every_line_has_a_checksum(path):
    for line in path.read_bytes().splitlines():
        assert "crc32" in json.loads(line)
        assert "crc32" not in decode_entry(line)


def test_s10_optunas_own_reader_reads_the_same(path, tiny):
    study = studies_of(tiny())[0]
    own, plain = Journal(path), JournalStorage(JournalFileBackend(str(path)))
    assert trials_in(own, study) == trials_in(plain, study)
    assert len(trials_in(own, study)) == 4


def test_s10_journals_of_before_and_lines_of_optunas_tools_are_read(path, tiny):
    study = studies_of(tiny())[0]
    before = trials_in(Journal(path), study)
    plain = [json.loads(line) for line in path.read_bytes().splitlines()]
    for entry in plain:
        del entry["crc32"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in plain))
    assert trials_in(Journal(path), study) == before
    outside = optuna.load_study(study_name=study.name, storage=JournalStorage(JournalFileBackend(str(path))))
    outside.set_user_attr("note", "of the dashboard")
    own = StudyJournal(study, Journal(path))
    own.complete(own.running()[0][0], 0.1)
    assert StudyJournal(study, Journal(path)).status().complete == 4


def test_s10_a_flipped_bit_or_a_cut_is_named_with_its_line(path):
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    coin = random.Random(0)
    for _ in range(300):
        number = coin.randrange(len(lines) - 1)
        line = bytearray(lines[number])
        place = coin.randrange(len(line) - 1)
        line[place] ^= 1 << coin.randrange(8)
        if b"\n" in line[:-1]:
            continue
        path.write_bytes(b"".join([*lines[:number], bytes(line), *lines[number + 1 :]]))
        with pytest.raises(
            DamagedJournalError, match=rf"line {number + 1} of the journal .* is damaged .*; `sparse-se"
        ):
            Journal(path)
        assert mend_journal(path) == 0


def test_s10_an_altered_value_is_not_believed(path):
    path.write_bytes(path.read_bytes().replace(b"0.8", b"0.9"))
    with pytest.raises(DamagedJournalError, match="its checksum differs"):
        Journal(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"op_code": 99, "worker_id": "x"},
        {"op_code": 4, "worker_id": "x"},
        {"op_code": 0, "worker_id": "x", "study_name": "y", "directions": 5},
        {"worker_id": "x"},
        {"op_code": 8, "worker_id": "x", "trial_id": 3, "user_attr": None},
    ],
)
def test_s10_a_line_that_says_what_cannot_be_is_the_products_own_error(path, entry):
    number = len(path.read_bytes().splitlines()) + 1
    with path.open("ab") as file:
        file.write(encode_entry(entry))
        file.write(path.read_bytes().splitlines(keepends=True)[-1])
    with pytest.raises(ResultsError, match=rf"line {number} .*damaged \(it says what cannot be") as caught:
        Journal(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [b"[]\n", b"5\n", b"null\n", b"{}x\n", b"[" * 100_000 + b"\n", b"\x00" * 40 + b"\n"])
def test_s10_a_line_of_another_form_is_named(path, line):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(DamagedJournalError, match="line 4 of the journal"):
        Journal(path)


@pytest.mark.parametrize(
    "end", [b"\x00" * 300, b"\x00" * 300 + b"\n", b'{"op_code": 4, "wor', b'{"op\n{"x', b"\xff\n\xfe\n"]
)
def test_what_a_power_cut_left_at_the_end_never_happened(path, end, tiny):
    before = path.read_bytes()
    path.write_bytes(before + end)
    assert mend_journal(path) >= 1
    assert path.read_bytes() == before
    assert StudyJournal(studies_of(tiny())[0], Journal(path)).status().complete == 3


def test_a_reader_beside_the_writer_waits_for_the_end_of_a_line(path, tiny):
    reader = Journal(path)
    study = studies_of(tiny())[0]
    line = encode_entry({"op_code": 2, "worker_id": "x", "study_id": 0, "user_attr": {"a": 1}})
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert "a" not in optuna.load_study(study_name=study.name, storage=reader).user_attrs
        file.write(line[20:])
    assert optuna.load_study(study_name=study.name, storage=reader).user_attrs["a"] == 1
