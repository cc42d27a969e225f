"""Options that several commands of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

from trainables.core.shots import read_shots

Results = Annotated[
    str,
    typer.Option(
        metavar="PLACE",
        help="Folder that keeps records, tables, journals and leaderboards; or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the data files [default: $SPARSE_SEARCH_DATA, else ~/.medmnist]"),
]
SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep file; see examples/sweeps.")]
OnlyDataset = Annotated[str | None, typer.Option("--dataset", help="Only this data set.")]
OnlyShots = Annotated[
    int | None,
    typer.Option(
        "--shots", parser=read_shots, metavar="N|all", help="Only this many labelled images, counted as in the sweep."
    ),
]
OnlyMethod = Annotated[str | None, typer.Option("--method", help="Only this method.")]
OnlyPretrained = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Only with, or without, pretrained weights."),
]
ByMetric = Annotated[str, typer.Option(help="What is best: a score on validation images.")]
Exported = Annotated[Path, typer.Argument(metavar="BEST.yaml", help="A file that `export` wrote.")]
DEFAULT_RESULTS = "results"
