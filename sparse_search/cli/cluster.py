"""Commands around a cluster: submit."""

import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from sparse_search.cli.options import SweepFile

if TYPE_CHECKING:
    from sparse_search.cluster.submit import Cluster, Submission


def submit_command(
    sweep: SweepFile,
    address: Annotated[
        str,
        typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, http://HOST:8265."),
    ],
    results: Annotated[
        str,
        typer.Option(metavar="PLACE", help="Folder on the cluster that all its nodes share; or s3://BUCKET/PREFIX."),
    ] = "~/results",
    data_root: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the data files on every node [default: as for run, there]"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the sweep, or leave it to itself.")] = True,
    retry_failed: Annotated[
        bool, typer.Option(help="Try again what failed for good, once its cause is mended.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how it stands there.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Only end it; submitted again, it goes on.")] = False,
) -> None:
    """Run a sweep on a cluster, or go on with it, and follow it.

    Sends the code of this machine and the sweep file as a Ray job. A sweep that runs there already is followed; one
    that has ended goes on from its results. Ctrl-C leaves it running. See docs/cluster.md.

    Exit code: the sweep's, as of `run`.
    """
    from sparse_search.cluster.submit import Cluster, Submission

    submission = Submission(sweep, results, data_root, retry_failed)
    name = submission.sweep.name  # read before anything is asked: its mistakes come first
    cluster = Cluster(address)
    if not (status or stop):
        raise typer.Exit(_follow(cluster, submission, wait))
    job = cluster.last(submission)
    if job is None:
        typer.echo(f"{name}: never submitted to {address} with --results {results}")
        return
    job_id = str(job.submission_id)
    if stop and not job.status.is_terminal():
        cluster.stop(job_id)
        job = cluster.job(job_id)
    lines = cluster.log(job_id).strip().splitlines()
    typer.echo(f"{job_id}: {job.status.value.lower()}\n{lines[-1] if lines else ''}")


def _follow(cluster: "Cluster", submission: "Submission", wait: bool) -> int:
    """Submit, and follow to the end; return the exit code."""

    def say(text: str) -> None:
        typer.echo(text, nl=False)

    name = cluster.submit(submission, say)
    data_root = ["--data-root", submission.data_root] if submission.data_root else []
    given = ["submit", str(submission.file), "--address", cluster.address, "--results", submission.results, *data_root]
    again = shlex.join(["sparse-search", *given])
    ways = f"follow it:  {again}\nlook:       {again} --status\nend it:     {again} --stop"
    if not wait:
        typer.echo(ways)
        return 0
    try:
        return cluster.follow(name, say)
    except KeyboardInterrupt:
        typer.echo(f"\nleft; the sweep goes on there\n{ways}")
        return 130


CLUSTER_COMMANDS: Mapping[str, Callable[..., None]] = {"submit": submit_command}
"""Commands by name, in the order of the help."""
