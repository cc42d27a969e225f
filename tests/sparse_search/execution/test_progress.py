import io
import os
import signal

import pytest
from rich.console import Console

from sparse_search.execution.progress import Display, preparation
from sparse_search.execution.status_table import status_table, watch_status
from sparse_search.search.cost import Clock, OutOfTimeError
from sparse_search.search.outcomes import StudyStatus


class Journal:
    def __init__(self, status):
        self._status = status
        self.shares = {0: 0.25}

    def status(self):
        return self._status


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, force_terminal=False)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock.json")


STATUS = StudyStatus("sparse · digits · 5 shots", planned=10, complete=3, pruned=2, running=1, best=0.81234)


def test_a_line_when_a_trial_ends(console, clock):
    with Display([Journal(STATUS)], console, clock) as display:
        display.on_trial_complete(0, [], None)
    line = console.file.getvalue()
    assert "5/10 trials" in line
    assert "1 running (25% of a full trial), best 0.8123 (sparse · digits · 5 shots)" in line


def test_the_table_shows_every_count(console):
    console.print(status_table([STATUS, StudyStatus("constant", planned=1)]))
    text = console.file.getvalue()
    assert "5/10" in text
    assert "0/1" in text
    assert "0.8123" in text


def test_only_counts_that_occur_have_a_column(console):
    console.print(status_table([STATUS, StudyStatus("supervised", planned=3, collapsed=2)]))
    header = console.file.getvalue().splitlines()[1]
    expected = ["study", "done", "pruned", "collapsed", "running", "best", "95 %", "s / trial"]
    assert [word.strip() for word in header.strip("┃ ").split("┃")] == expected


def test_ctrl_c_is_not_lost_when_somebody_swallows_it(console, clock):
    before = signal.getsignal(signal.SIGINT)
    with Display([Journal(STATUS)], console, clock) as display:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            display.on_step_end(0, [])
    assert signal.getsignal(signal.SIGINT) == before


def test_the_clock_ends_a_sweep(console, tmp_path):
    with (
        Display([Journal(STATUS)], console, Clock(tmp_path / "clock.json", max_hours=1e-9)) as display,
        pytest.raises(OutOfTimeError),
    ):
        display.on_step_end(0, [])


def test_watching_shows_what_changes_until_all_is_over(console):
    over = StudyStatus("supervised · digits · 5 shots", planned=2, complete=2, best=0.7, interval=[0.61, 0.78])
    looks = [[STATUS], [STATUS], [over]]
    watch_status(lambda: looks.pop(0), console, seconds=0)
    text = console.file.getvalue()
    assert text.count("sparse · digits · 5 shots") == 1
    assert "0.61–0.78" in text


@pytest.mark.parametrize(("terminal", "times"), [(False, 1), (True, None)])
def test_preparation(terminal, times):
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    with preparation(console, "idrid@256") as tell:
        for done in range(1, 4):
            tell(done, 3)
    told = console.file.getvalue()
    assert "idrid@256: 3/3 pictures prepared, 0:00 min" in told
    assert times is None or told.count("prepared") == times


def test_nothing_is_told_when_nothing_is_prepared(console):
    with preparation(console, "digits"):
        pass
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_stop_a_sweep_once_and_leave_the_handlers_as_they_were(number, console, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Display([], console, Clock(tmp_path / "clock.json")):
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
