"""Numbers that the papers printed, as one table: context for a leaderboard, not truth.

The tables lie in `published_tables/`, one file per paper; whatever was unreadable, or wrong on the page, is left out.
"""

from collections.abc import Iterator, Mapping
from csv import DictReader
from functools import cache
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

PUBLISHED_SCHEMA = pa.schema(
    [
        ("paper", pa.string()),
        ("method", pa.string()),
        ("dataset", pa.string()),  # scored on
        ("trained_on", pa.string()),  # null where that is the same dataset
        ("shots", pa.int64()),  # labelled images per class, where the paper counts so
        ("labelled", pa.int64()),  # labelled images or volumes in all, where the paper counts so
        ("labelled_unit", pa.string()),
        ("setting", pa.string()),  # what else tells cells of a table apart
        ("of_class", pa.string()),  # the one class that the value is about
        ("metric", pa.string()),
        ("value", pa.float64()),  # a fraction; a distance for `fid`
        ("deviation", pa.float64()),  # printed standard deviation over runs
        ("num_runs", pa.int64()),
        ("n_eval", pa.int64()),  # test images, or patches, per run
        ("source", pa.string()),
        ("note", pa.string()),  # what to know before comparing
    ]
)
"""Columns of `published`. Null where a paper does not say."""

NOTES: Mapping[str, str] = {
    "sparse": (
        "test scores, one run per cell; breastmnist and pneumoniamnist values are multiples of 1/96 and 1/480, so "
        "they were measured on a part of the test images; validated on the full validation split; several "
        "competitors collapsed; chestmnist is any finding against none"
    ),
    "ssl_gan": (
        "test scores, mean and standard deviation over 5 draws of the labelled images; they overlap at 10 images; "
        "the pre-trained network sees whole images"
    ),
    "ssgnet": (
        "test scores of all labelled images, one run, best policy or round chosen on the test images; foreground and "
        "two-class means are different metrics; the class names of breastmnist are interchanged; specificity and "
        "sensitivity of VM-UNet rows do not fit their own accuracy"
    ),
    "semantic_gan": (
        "test scores without deviations: differences of 0.01 say nothing; "
        "U-Net has the same value for 30 and 150 labelled images on metfaces"
    ),
}
"""Per paper, what a reader must know before setting its numbers beside others."""


def published(dataset: str | None = None, shots: int | None = None, *, in_all: bool = False) -> pa.Table:
    """The printed numbers, all or those of a dataset or number of shots; columns as in `PUBLISHED_SCHEMA`.

    Shots are labelled images per class, or `in_all`: papers count in one way or the other.

    They are test scores of the papers, ours are validation scores: never rank them together.
    """
    table = _everything()
    for name, value in (("dataset", dataset), ("labelled" if in_all else "shots", shots)):
        if value is not None:
            table = table.filter(pc.field(name) == value)
    return table


@cache
def _everything() -> pa.Table:
    return pa.Table.from_pylist([row for paper in NOTES for row in _rows(paper)], schema=PUBLISHED_SCHEMA)


def _rows(paper: str) -> Iterator[dict[str, Any]]:
    types = {field.name: field.type for field in PUBLISHED_SCHEMA}
    read = {pa.int64(): int, pa.float64(): float, pa.string(): str}
    text = (files("sparse_search.analysis") / "published_tables" / f"{paper}.csv").read_text(encoding="utf-8")
    for row in DictReader(text.splitlines()):
        yield {name: read[types[name]](value) for name, value in row.items() if value} | {
            "paper": paper,
            "note": NOTES[paper],
        }
