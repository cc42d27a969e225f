"""Status of a sweep as a table, without all that runs one."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sparse_search.results.texts import score_text
from sparse_search.search.outcomes import StudyStatus


def status_table(statuses: Sequence[StudyStatus], caption: str = "") -> Table:
    """Return a table of studies; a count that is zero in all of them has no column."""
    names = ("pruned", "infeasible", "collapsed", "diverged", "failed", "running")
    counts = {name: [getattr(status, name) for status in statuses] for name in names}
    shown = {name: numbers for name, numbers in counts.items() if any(numbers)}
    objectives = [status.objective for status in statuses]
    if len(set(objectives)) > 1:
        shown["objective"] = objectives
    table = Table(caption=caption, caption_justify="left")
    table.add_column("study")
    for name in ("done", *shown, "best", "95 %", "s / trial"):
        table.add_column(name, justify="right")
    for position, status in enumerate(statuses):
        best = "" if status.best is None else score_text(status.best, 4)
        interval = "" if status.interval is None else "–".join(f"{end:.2f}" for end in status.interval)
        seconds = "" if status.seconds is None else f"{status.seconds:.1f}"
        numbers = (str(column[position] or "") for column in shown.values())
        table.add_row(status.title, f"{status.finished}/{status.planned}", *numbers, best, interval, seconds)
    return table


def watch_status(look: Callable[[], Sequence[StudyStatus]], console: Console, seconds: float = 2.0) -> None:
    """Show a sweep again and again until nothing of it is open; Ctrl-C leaves.

    Elsewhere than on a terminal it prints a table whenever something has changed.
    """
    shown: Sequence[StudyStatus] = ()
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live,
    ):
        while True:
            statuses = look()
            table = status_table(statuses, "Ctrl-C leaves; the sweep goes on")
            if live:
                live.update(table, refresh=True)
            elif statuses != shown:
                console.print(table)
            if all(status.is_over for status in statuses):
                return
            shown = statuses
            time.sleep(seconds)
