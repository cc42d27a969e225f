"""Tables of labels as `bench/fuzz.py` damages them: CSV and Parquet that name six pictures, and their folder."""

import io
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from bench.mutations import TEXTS, changed_bytes
from trainables.core.shots import ALL_SHOTS
from trainables.data.draw import draw_few_shot
from trainables.data.source import open_source

COLUMNS = ("path", "label", "patient", "split")


def rows() -> list[list[str]]:
    """Ten pictures of two classes, of which the last two are of the pool."""
    described = [[f"{n}.png", ("calm", "ill", "")[n % 2 if n < 8 else 2], f"p{n // 2}", ""] for n in range(10)]
    described[6][3] = described[7][3] = "test"
    return described


def as_csv(table: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in table).encode(errors="surrogatepass")


@cache
def as_parquet() -> bytes:
    content = io.BytesIO()
    columns = [list(column) for column in zip(*rows(), strict=True)]
    parquet.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), content)
    return content.getvalue()


def make_table(rng: Random) -> tuple[str, bytes]:
    """Suffix and bytes of a table."""
    if rng.random() < 0.3:
        return "parquet", changed_bytes(rng, as_parquet())
    table: list[list[Any]] = [[*COLUMNS], *rows()]
    for _ in range(rng.randint(0, 2)):
        row = rng.choice(table)
        row[rng.randrange(len(row))] = rng.choice((*TEXTS, *rng.choice(table)))
    content = as_csv(table)
    return "csv", content if rng.random() < 0.6 else changed_bytes(rng, content)


def read_table(given: tuple[str, bytes], folder: Path) -> bool:
    """Read a table as a sweep does, beside the pictures."""
    suffix, content = given
    for number in range(10):
        Image.fromarray(np.full((6, 6), number, dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / f"own.{suffix}").write_bytes(content)
    source = open_source(str(folder / f"own.{suffix}"))
    for split in source.splits:
        source.class_counts(split)
    draw_few_shot(str(folder / f"own.{suffix}"), ALL_SHOTS, 0, "labelled-cv")
    return bool(source.content_hash)
