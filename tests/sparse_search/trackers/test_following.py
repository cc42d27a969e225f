"""What trackers are told, and that nothing depends on them."""

import threading
import time

import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.trackers import following as module
from sparse_search.trackers.following import Follower, Following, following
from sparse_search.trackers.tracker import Known, TrackerKind


class Remembering:
    """A tracker that keeps what it is given in a dictionary, which outlives it."""

    def __init__(self, kept):
        self.kept, self.closed = kept, False

    def known(self, run):
        if run.key not in self.kept:
            return None
        entries = self.kept[run.key]
        return Known(max((images for images in entries if images is not None), default=-1), None in entries)

    def write(self, run, *, is_new):
        assert is_new == (run.key not in self.kept)
        entries = self.kept.setdefault(run.key, {})
        for images, values in run.points:
            assert images not in entries
            entries[images] = values["supervised/auroc"]
        if run.status:
            entries[None] = run.status

    def close(self):
        self.closed = True


class Broken(Remembering):
    def write(self, run, *, is_new):
        raise RuntimeError("no network\nand more of it")


def follow(records, *trackers):
    said = []
    followers = [Follower(type(tracker).__name__, tracker) for tracker in trackers]
    found = Following(followers, said.append)
    for record in records:
        found.take(record)
    found.close()
    return said


def test_only_what_is_new_is_written(growing):
    tracker = Remembering({})
    records = [growing(0), growing(1), growing(1), growing(2), growing(2, "complete"), growing(2, "complete")]
    assert follow(records, tracker) == []
    assert list(tracker.kept.values()) == [{100: 0.25, 200: 0.5, None: "complete"}]
    assert tracker.closed


@pytest.mark.parametrize("num_before", range(5))
def test_a_later_start_goes_on_with_the_same_run(growing, num_before):
    kept = {}
    records = [growing(1), growing(2), growing(2, "complete"), growing(2, "complete")]
    follow(records[:num_before], Remembering(kept))
    follow(records, Remembering(kept))
    assert list(kept.values()) == [{100: 0.25, 200: 0.5, None: "complete"}]


def test_a_run_that_goes_further_after_its_end_goes_on(growing):
    kept = {}
    follow([growing(1, "pruned"), growing(2, "complete")], Remembering(kept))
    assert list(kept.values()) == [{100: 0.25, 200: 0.5, None: "complete"}]


def test_one_that_fails_is_told_once_and_left_out(growing):
    good = Remembering({})
    assert follow([growing(1), growing(2), growing(2, "complete")], Broken({}), good) == [
        "tracker Broken failed and is left out from now on: no network"
    ]
    assert list(good.kept.values()) == [{100: 0.25, 200: 0.5, None: "complete"}]


def test_a_record_that_is_no_record_stops_nobody_else():
    said = follow([{"sweep": "tiny"}], Remembering({}))
    assert said == ["tracker Remembering failed and is left out from now on: 'curve'"]


def test_one_that_hangs_holds_up_nothing(growing, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    free = threading.Event()

    class Hanging(Remembering):
        def known(self, run):
            free.wait(20)

    began = time.monotonic()
    said = follow([growing(1)] * 5, Hanging({}))
    free.set()
    assert time.monotonic() - began < 5
    assert said == ["a tracker does not answer; what it lacks is written at the next start"]


def test_at_its_end_only(growing):
    kept = {}
    found = Following([Follower("late", Remembering(kept), at_end_only=True)], print)
    for record in (growing(1), growing(2)):
        found.take(record)
    found.take(growing(2, "complete"))
    found.close()
    assert list(kept.values()) == [{100: 0.25, 200: 0.5, None: "complete"}]


@pytest.fixture
def kept(monkeypatch):
    """What the only tracker there is remembers."""
    memory = {}
    kind = TrackerKind("json", "none", lambda folder, sweep: Remembering(memory))
    monkeypatch.setattr(module, "find_tracker", lambda name: kind)
    return memory


def test_what_was_found_before_is_written_too(growing, kept, tmp_path):
    earlier = [growing(2, "complete"), growing(2, "complete", number=4) | {"sweep": "another"}]
    with following(["any"], tmp_path, "tiny", lambda: earlier, print) as track:
        track(growing(1, number=5))
    assert sorted(map(len, kept.values())) == [1, 3]


def test_without_a_tracker_nothing_is_read_or_loaded(tmp_path):
    with following([], tmp_path, "tiny", lambda: pytest.fail("read the records"), print) as track:
        track({})
    assert not list(tmp_path.iterdir())


def test_one_that_cannot_begin_is_told(growing, monkeypatch, tmp_path):
    def full(folder, sweep):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "find_tracker", lambda name: TrackerKind("json", "none", full))
    said = []
    with following(["any"], tmp_path, "tiny", list, said.append) as track:
        track(growing(1))
    assert said == ["tracker any cannot begin and is left out: [Errno 28] No space left on device"]


def test_one_that_is_not_installed_is_refused_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("sparse_search.trackers.choices.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs tensorboard"), following(["tensorboard"], tmp_path, "s", list, print):
        pytest.fail("began")
