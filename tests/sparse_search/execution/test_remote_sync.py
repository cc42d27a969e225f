"""Lock, journal and records of a driver whose results are at a URI."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.core.errors import LockedError, ResultsError
from sparse_search.execution import remote_sync
from sparse_search.results.mirror import read_store, store_at
from sparse_search.results.store import Store


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, seconds in (
        ("SEND_SECONDS", 0.05),
        ("HEARTBEAT_SECONDS", 0.1),
        ("SETTLE_SECONDS", 0.0),
        ("END_SECONDS", 0.0),
    ):
        monkeypatch.setattr(remote_sync, name, seconds)


class Drive:
    """A sweep as it is driven on one machine."""

    def __init__(self, place):
        self.store = store_at(place)
        self.store.prepare()
        self.folder = self.store.folder / "sweeps" / "test"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = self.folder / "journal.log"
        self.said = []

    @contextmanager
    def on(self):
        with remote_sync.hold_sweep(self.store, "test", self.folder, self.said.append):
            yield self

    def tell(self, *lines):
        with self.journal.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def lock(self):
        return self.store.objects.get("sweeps/test/driver.json")


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        remote_sync.time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_folder_needs_none(tmp_path):
    with remote_sync.hold_sweep(Store(tmp_path), "test", tmp_path / "sweeps" / "test", print):
        assert not list(tmp_path.iterdir())
    assert remote_sync.watched_journal(Store(tmp_path), "test", tmp_path) == tmp_path / "journal.log"


def test_what_is_written_is_sent_soon_and_brought_to_another_machine(bucket, move_to, make_record):
    here = Drive(bucket)
    with here.on():
        here.tell("one")
        here.store.write(make_record(1))
        (here.folder / "clock.json").write_text("3")
        wait_for(lambda: here.store.objects.get("sweeps/test/clock.json"))
        move_to("elsewhere")
        assert read_store(bucket).num_records() == 1
        watched = remote_sync.watched_journal(store_at(bucket), "test", Drive(bucket).folder)
        assert watched.read_text() == "one\n"
        here.tell("two", "three")
    there = Drive(bucket)
    with there.on():
        assert there.journal.read_text() == "one\ntwo\nthree\n"
        assert (there.folder / "clock.json").read_text() == "3"
        assert remote_sync.watched_journal(there.store, "test", there.folder).read_text() == "one\ntwo\nthree\n"
    assert here.lock() is None


def test_only_what_is_new_of_a_long_journal_is_sent_and_only_whole_lines(bucket, move_to, monkeypatch, object_storage):
    monkeypatch.setattr(remote_sync, "PIECE_BYTES", 100)
    here = Drive(bucket)
    lines = [f"line {number:03d}" for number in range(60)]
    here.tell(*lines)
    with here.on():
        pass
    assert len(here.store.objects.sizes("sweeps/test/journal")) == 6
    with here.on():
        before = object_storage.num_requests()
        here.tell("more")
        with here.journal.open("a") as file:
            file.write("half a li")
        wait_for(lambda: b"more" in (here.store.objects.get("sweeps/test/journal/000005.log") or b""))
    written = [line for line in object_storage.log().splitlines()[before:] if "PUT" in line and "journal/" in line]
    assert len(written) == 1
    move_to("elsewhere")
    there = Drive(bucket)
    watched = remote_sync.watched_journal(there.store, "test", there.folder)
    with there.on():
        assert there.journal.read_text().splitlines() == [*lines, "more"]
        there.tell("and more")
        wait_for(lambda: b"and more" in (there.store.objects.get("sweeps/test/journal/000005.log") or b""))
        remote_sync.watched_journal(there.store, "test", there.folder)
        assert watched.read_text() == there.journal.read_text()


def test_a_driver_that_was_killed_before_it_could_send_goes_on_from_its_own(bucket, make_record):
    here = Drive(bucket)
    with here.on():
        here.tell("one")
    here.tell("two")  # and killed
    here.store.write(make_record(2))
    again = Drive(bucket)
    with again.on():
        assert again.journal.read_text() == "one\ntwo\n"
    assert again.store.objects.get("sweeps/test/journal/000000.log") == b"one\ntwo\n"
    assert len(again.store.objects.sizes("records")) == 1


def test_what_was_done_again_elsewhere_replaces_what_was_never_sent(bucket, move_to, make_record):
    here = Drive(bucket)
    with here.on():
        here.tell("one")
        here.store.write(make_record(1))
    here.tell("two, here")  # and killed
    here.store.write(make_record(2, method="supervised"))
    move_to("elsewhere")
    there = Drive(bucket)
    with there.on():
        assert there.journal.read_text() == "one\n"
        there.tell("two, there")
        there.store.write(make_record(2, method="constant"))
    move_to("here")
    with here.on():
        assert here.journal.read_text() == "one\ntwo, there\n"
        assert sorted(row["method"] for row in here.store.runs().to_pylist()) == ["constant", "supervised"]
    assert len(list(here.folder.glob("journal-*.log"))) == 1
    assert len(here.store.objects.sizes("records")) == 2


def hold(drive, **changes):
    """As another machine would."""
    other = {"who": "process 7 on node-b", "process": 7, "machine": "node-b", "token": "other"}
    drive.store.objects.put("sweeps/test/driver.json", json.dumps(other | changes).encode())


def test_one_driver_a_sweep(bucket, monkeypatch):
    here = Drive(bucket)
    hold(here)
    with pytest.raises(LockedError, match=r"is being run by process 7 on node-b; wait for it.*60 s"), here.on():
        pass
    monkeypatch.setattr(remote_sync, "STALE_SECONDS", -1.0)
    with here.on():
        assert f"process {os.getpid()}" in here.lock().decode()
    assert here.lock() is None
    assert list(here.store.objects.sizes("sweeps")) == []


def test_a_driver_that_died_on_this_machine_is_known_to_be_dead(bucket):
    here = Drive(bucket)
    machine = remote_sync._machine()
    if not machine:
        pytest.skip("nothing names this machine")
    hold(here, process=os.getpid(), machine=machine)
    with pytest.raises(LockedError, match="is being run by"), here.on():
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hold(here, process=ended.pid, machine=machine)
    with here.on():
        pass


def test_who_was_silent_for_too_long_writes_nothing_more(bucket, make_record):
    here = Drive(bucket)
    with here.on():
        hold(here)
        wait_for(here.store.lost.is_set)
        with pytest.raises(LockedError, match="another driver has taken over"):
            here.store.write(make_record(1))
        here.tell("not sent")
    assert b"other" in here.lock()
    assert list(here.store.objects.sizes("")) == ["sweeps/test/driver.json"]


def test_a_storage_that_goes_away_meanwhile_is_told_once(bucket, monkeypatch, make_record):
    here = Drive(bucket)
    away = f"{bucket}?endpoint_override=127.0.0.1:1&scheme=http"

    def lose_it():
        with here.on():
            object.__setattr__(here.store.objects, "uri", away)
            here.tell("one")
            wait_for(lambda: here.said)

    with pytest.raises(ResultsError, match="the same command sends it"):
        lose_it()
    assert len(here.said) == 1
    with pytest.raises(ResultsError, match="cannot be reached"), Drive(away).on():
        pass
    again = Drive(bucket)
    monkeypatch.setattr(remote_sync, "STALE_SECONDS", -1.0)  # this process still lives
    with again.on():
        assert again.journal.read_text() == "one\n"
    assert again.store.objects.get("sweeps/test/journal/000000.log") == b"one\n"


def test_a_sweep_that_breaks_down_is_sent_and_let_go(bucket):
    here = Drive(bucket)

    def stop():
        with here.on():
            here.tell("one")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert here.store.objects.get("sweeps/test/journal/000000.log") == b"one\n"
    assert here.lock() is None


def test_leaderboards_are_sent(bucket):
    here = Drive(bucket)
    with here.on():
        path = here.store.folder / "leaderboards" / "digits-5shot.parquet"
        path.parent.mkdir()
        Path(path).write_bytes(b"rows")
    assert here.store.objects.get("leaderboards/digits-5shot.parquet") == b"rows"
