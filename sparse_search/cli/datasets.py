"""Command that says which data there are, what is in them, and what they look like."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_spaces.core.errors import DataError
from sparse_search.cli.options import DataRoot
from sparse_search.cli.printing import console, print_lines

if TYPE_CHECKING:
    from trainables.data.description import Description


def datasets_command(
    dataset: Annotated[str | None, typer.Argument(metavar="[PATH]", help="Images of yours, or a data set.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write some pictures of each class into this file.")
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make a folder of few labels to try: bundled digits, most unlabelled."),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """List the data sets, or say what is in one, or at a path.

    The list says which are on this machine. What is in one is: its classes, splits and groups, how many images are
    labelled, what was passed over, and which pictures are there more than once.
    """
    if example is not None:
        from trainables.data.example import example_in_words, write_example

        typer.echo(f"{example_in_words()} are in {write_example(example)}")
        dataset = dataset or str(example)
    if dataset is None:
        print_datasets(data_root)
        return
    print_description(dataset, data_root)
    if sheet is not None:
        from trainables.data.sheet import write_contact_sheet

        typer.echo(f"{write_contact_sheet(dataset, sheet, data_root)} pictures of train are in {sheet}")


def print_datasets(root: Path | None) -> None:
    """Print the catalogue, and what of it is on this machine."""
    from rich.table import Table

    from trainables.data.catalog import CATALOG
    from trainables.data.source import available_sides, data_root
    from trainables.data.storages import OWN_FORMS

    table = Table(caption=f"files are looked for in {data_root(root)}; your own images: a path to {OWN_FORMS}")
    for column in ("data set", "what it is"):
        table.add_column(column, no_wrap=True)
    for column in ("train / val / test", "licence", "here at"):
        table.add_column(column)
    for name, info in CATALOG.items():
        sizes = " / ".join(f"{size:,}" for size in info.split_sizes)
        here = ", ".join(f"{side} px" for side in available_sides(name, root)) or "-"
        if here != "-" and info.side_range:
            here += ", or any from {} to {}".format(*info.side_range)
        kind = "masks" if info.kind == "segmentation" else f"{info.num_classes} classes"
        table.add_row(name, f"{kind}, {'grey' if info.channels == 1 else 'RGB'}", sizes, info.licence, here)
    console().print(table)


def print_description(dataset: str, root: Path | None) -> None:
    """Print what is in a data set, or at a path."""
    from trainables.data.description import describe, kinds_of

    kinds = kinds_of(dataset, root)
    for kind in kinds:
        try:
            _print_found(describe(dataset, root, kind))
        except DataError as problem:
            if len(kinds) == 1:
                raise
            print_lines([f"not for {kind}: {problem}"])


def _print_found(found: "Description") -> None:
    from rich.table import Table

    form = f"{found.channels} × {found.side} × {found.side}"
    print_lines([f"{found.name} for {found.kind}, {form}, data {found.content_hash[:8]}"])
    table = Table()
    grouped = bool(found.group_counts)
    for column in ("", *found.class_names, "in all", *["groups"] * grouped):
        table.add_column(column, justify="right" if column else "left")
    empty = ("",) * len(found.class_names)
    for split, size in found.sizes.items():
        counts = found.class_counts.get(split, empty)
        groups = [f"{found.group_counts.get(split, 0):,}"] * grouped
        table.add_row(split, *map(str, counts), f"{size:,}", *groups)
    if found.num_unlabelled or found.kind == "classification":
        table.add_row("unlabelled", *empty, f"{found.num_unlabelled:,}", *[""] * grouped)
    console().print(table)
    print_lines([*_what_follows(found), *found.notes])


def _what_follows(found: "Description") -> Iterator[str]:
    """Yield what follows from splits that are not there, and from the rarest class."""
    if "val" not in found.sizes:
        yield "no val images: validate by realistic or labelled-cv, with shots: all by labelled-cv"
    if "test" not in found.sizes:
        yield "no test images: nothing can be evaluated on it"
    if found.num_folds:
        yield f"with shots: all, labelled-cv deals the labelled images out to {found.num_folds} folds"
