"""Command that looks for trouble before the first trial."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparse_search.cli.options import DEFAULT_RESULTS, DataRoot, Results
from sparse_search.cli.printing import console

if TYPE_CHECKING:
    from rich.table import Table

    from sparse_search.cluster.checks import Finding


def doctor_command(
    sweep: Annotated[
        Path | None, typer.Argument(metavar="SWEEP.yaml", help="The sweep that is to run; without it, machines only.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    data_root: DataRoot = None,
) -> None:
    """Check this machine, or a cluster, before the first trial.

    The cluster is that which RAY_ADDRESS names. Looks at every node: versions, results folder written and read by all,
    data with the same content, free disk, clocks, GPUs; whether a trial fits on a node; and trains each method's
    default for a moment to see what memory it takes. Below the table stands what to do for each line that is not ok.

    Exit code 0: nothing is in the way; 1: something is.
    """
    from sparse_search.cluster.doctor import diagnose

    screen = console()
    findings = diagnose(sweep, results, data_root=data_root, console=screen)
    screen.print(finding_table(findings))
    for line in remedy_lines(findings):
        screen.print(line, highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def finding_table(findings: "Sequence[Finding]") -> "Table":
    """Return a table with a line for each check, and for each group of nodes that differ."""
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = Table()
    for column in ("check", "where", "", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        verdict = _verdict(finding)
        table.add_row(Text(finding.name), Text(finding.node), Text(verdict, style=colours[verdict]), Text(finding.said))
    return table


def remedy_lines(findings: "Sequence[Finding]") -> list[str]:
    """Return the remedies, those of failures first."""
    told = [finding for finding in findings if finding.remedy]
    return [
        f"{_verdict(finding)}: {finding.name} ({finding.node}): {finding.remedy}"
        for finding in sorted(told, key=lambda finding: finding.ok)
    ]


def _verdict(finding: "Finding") -> str:
    if not finding.ok:
        return "failed"
    return "warning" if finding.remedy else "ok"


DOCTOR_COMMANDS: Mapping[str, Callable[..., None]] = {"doctor": doctor_command}
"""Commands by name."""
