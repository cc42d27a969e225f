import io
import os
import signal

import pytest
from rich.console import Console

from sparse_search.journal import StudyStatus
from sparse_search.progress import Display, status_table


class Journal:
    def __init__(self, status):
        self._status = status

    def status(self):
        return self._status


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, force_terminal=False)


STATUS = StudyStatus("sparse · digits · 5 shots", planned=10, complete=3, pruned=2, running=1, best=0.81234)


def test_a_line_when_a_trial_ends(console):
    with Display([Journal(STATUS)], console) as display:
        display.on_trial_complete(0, [], None)
    line = console.file.getvalue()
    assert "5/10 trials" in line
    assert "1 running, best 0.8123 (sparse · digits · 5 shots)" in line


def test_the_table_shows_every_count(console):
    console.print(status_table([STATUS, StudyStatus("constant", planned=1)]))
    text = console.file.getvalue()
    assert "5/10" in text
    assert "0/1" in text
    assert "0.8123" in text


def test_only_counts_that_occur_have_a_column(console):
    console.print(status_table([STATUS, StudyStatus("supervised", planned=3, collapsed=2)]))
    header = console.file.getvalue().splitlines()[1]
    expected = ["study", "done", "pruned", "collapsed", "running", "best"]
    assert [word for word in header.split() if word.isalpha()] == expected


def test_ctrl_c_is_not_lost_when_somebody_swallows_it(console):
    before = signal.getsignal(signal.SIGINT)
    with Display([Journal(STATUS)], console) as display:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            display.on_step_end(0, [])
    assert signal.getsignal(signal.SIGINT) == before
