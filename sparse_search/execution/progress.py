"""Display of a running sweep: one live table on a terminal, plain lines elsewhere."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from ray import tune
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sparse_search.execution.status_table import status_table
from sparse_search.results.texts import score_text
from sparse_search.search.cost import Clock, OutOfTimeError
from sparse_search.search.journal import StudyJournal
from sparse_search.search.outcomes import StudyStatus
from trainables.metrics.table import sign_of

LINE_SECONDS = 15.0
"""Least time between two plain lines without news."""


@contextmanager
def preparation(console: Console, dataset: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of preparing the pictures of a dataset: a live line on a terminal, now and then elsewhere."""
    began = printed = time.monotonic()
    live = console.status("")

    def tell(done: int, total: int) -> None:
        nonlocal printed
        now = time.monotonic()
        line = f"{dataset}: {done}/{total} pictures prepared, {_span(now - began)}"
        if console.is_terminal:
            live.update(line)
            live.start()
        if done == total or (not console.is_terminal and now - printed > LINE_SECONDS):
            printed = now
            console.print(line, highlight=False, soft_wrap=True)

    try:
        yield tell
    finally:
        live.stop()


class Display(tune.Callback):
    """Display that follows a sweep through Tune's events; used as a context."""

    def __init__(self, journals: Sequence[StudyJournal], console: Console, clock: Clock) -> None:
        self._journals = journals
        self._console = console
        self._clock = clock
        self._started = self._printed = time.monotonic()
        self._first = self._finished()
        self._interrupted = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):  # Ray's own answer to SIGTERM is a dump
                self._handlers[number] = signal.signal(number, self._interrupt)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._console.is_terminal:
            self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its parts for a restore that never happens."""
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print a line where there is no terminal, as a trial has ended."""
        self._say()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print a line where there is no terminal, as a worker has died."""
        self._say()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Print a line now and then, so that silence never lasts; raise Ctrl-C again, should Ray have swallowed it."""
        if self._interrupted:
            raise KeyboardInterrupt
        if self._clock.is_over:
            raise OutOfTimeError
        self._clock.tick()
        if time.monotonic() - self._printed > LINE_SECONDS:
            self._say()

    def _interrupt(self, number: int, frame: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _statuses(self) -> list[StudyStatus]:
        """Return the status of every study that has begun or is planned: of a confirmation when its search is over."""
        return [status for journal in self._journals if (status := journal.status()).planned]

    def _finished(self) -> int:
        return sum(status.finished for status in self._statuses())

    def _say(self) -> None:
        self._printed = time.monotonic()
        if not self._console.is_terminal and not self._console.quiet:
            self._console.print(self._summary(), highlight=False, soft_wrap=True)

    def _summary(self) -> str:
        statuses = self._statuses()
        known = [status for status in statuses if status.best is not None]
        wanted = [status for status in known if status.objective == known[-1].objective]
        best = max(wanted, key=lambda s: (s.best or 0.0) * sign_of(s.objective), default=None)
        running = f"{sum(status.running for status in statuses)} running"
        if shares := self._shares():
            running += f" ({', '.join(f'{share:.0%}' for share in shares[-4:])} of a full trial)"
        found = f", best {score_text(best.best, 4)} ({best.title})" if best else ""
        return f"{self._pace(statuses)}, {running}{found}"

    def _shares(self) -> list[float]:
        """Return the shares of their full budgets that running trials have had, as far as they have told, sorted."""
        return sorted(share for journal in self._journals for share in journal.shares.values())

    def _pace(self, statuses: Sequence[StudyStatus]) -> str:
        finished, planned = (sum(getattr(s, name) for s in statuses) for name in ("finished", "planned"))
        seconds = time.monotonic() - self._started
        done_now = finished - self._first + sum(self._shares())
        left = f", about {_span(seconds / done_now * (planned - finished))} left" if done_now > 1 else ""
        return f"{finished}/{planned} trials, {_span(seconds)}{left}"

    def _table(self) -> Table:
        statuses = self._statuses()
        return status_table(statuses, f"{self._pace(statuses)}; Ctrl-C stops, the same command goes on")


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d} min"
