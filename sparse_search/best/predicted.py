"""Files predicted by a saved model, as CSV or Parquet, with drawings where they are asked for."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from search_spaces.core.errors import ConfigError, ModelError
from sparse_search.results.files import write_atomically, write_table
from trainables.core.grid import Grid
from trainables.core.method import Labelled
from trainables.data.patches import cut
from trainables.model import Model, load_model
from trainables.model.inputs import unseen
from trainables.model.rows import Batch, Row, Wanted, check_output, columns_of, rows_of, write_csv

ENDINGS = (".csv", ".parquet")
"""Endings of the files that are written."""


class Counts(NamedTuple):
    """Numbers of pictures."""

    num_pictures: int
    num_unread: int


def predict_files(
    model: Path | str,
    paths: Sequence[Path | str],
    output: Path | str,
    *,
    coverage: float | None = None,
    masks: Path | str | None = None,
    heat_maps: Path | str | None = None,
    own_code: bool = False,
    tell: Callable[[str, float], None] | None = None,
) -> Counts:
    """Predict pictures, and write a row for each, also for those that cannot be read.

    Args:
        model: The folder of a model.
        paths: Pictures, folders of pictures, .npz files with an array `images`, tables with a column `path`.
        output: The file to write, .csv or .parquet; `trainables.model.rows` names its columns.
        coverage: The share of images in whose set of classes the true one shall be; None for no sets.
        masks: A folder for what is marked in each picture.
        heat_maps: A folder for drawings of where findings are seen, by models that judge pictures by their patches.
        own_code: Import a method that is no part of this package.
        tell: Called with what is done and the share of everything that is done.

    Raises:
        ConfigError: the model has not what is asked for, or another ending of the file.
        DataError: no picture is there.
        ModelError: the model cannot be read, or a file cannot be written.
    """
    output = Path(output)
    if output.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{output} ends in '{output.suffix}'; expected {' or '.join(ENDINGS)}")
    check_output(output, map(Path, paths))
    loaded = load_model(model, own_code=own_code)
    see = _drawer(loaded, Path(heat_maps)) if heat_maps else None
    wanted = Wanted(coverage=coverage, masks=Path(masks) if masks else None, see=see)
    columns = columns_of(loaded, wanted)

    def told(done: int, total: int) -> None:
        if tell:
            tell(f"{done} of {total} pictures", done / total)

    rows = list(rows_of(loaded, unseen(paths), wanted, told))
    if output.suffix.lower() == ".csv":
        write_csv(output, columns, rows)
    else:
        _write_parquet(output, columns, rows)
    return Counts(len(rows), sum(row["reason"] is not None for row in rows))


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    numbers = ("probability_", "marked_share")
    kinds = {name: pa.float64() if name.startswith(numbers) else pa.string() for name in columns}
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(list(kinds.items())))
    try:
        write_table(path, table)
    except OSError as problem:
        raise ModelError(f"cannot write {path}: {problem.strerror or problem}") from problem


def _drawer(model: Model, folder: Path) -> Callable[[Batch], None]:
    """Return what draws the heat maps of a batch.

    Raises:
        ConfigError: the model has none.
    """
    facts = model.facts
    if facts.grid is None or facts.threshold is None:
        raise ConfigError("heat maps need a model that judges pictures by patches of two classes: leave them out")
    return partial(_draw, model, facts.grid, facts.threshold, folder, count())


def _draw(model: Model, grid: Grid, threshold: float, folder: Path, numbers: "count[int]", batch: Batch) -> None:
    from sparse_search.results.heat_maps import overlays  # matplotlib takes its time

    assert batch.prediction.patches_NP is not None
    probs_N = batch.prediction.patches_NP.reshape(-1)
    patches = torch.from_numpy(cut(batch.pictures_NCSS, grid))
    named = torch.from_numpy(np.repeat(batch.prediction.named_N, grid.num_patches))
    images = Labelled(patches, named, grid)
    drawn = overlays(images, np.stack([1 - probs_N, probs_N], 1), model.facts.rule, threshold)
    for place, (_, content) in zip(batch.places, drawn, strict=True):
        path = folder / f"{next(numbers):05d}-{Path(place).stem}.png"
        try:
            write_atomically(path, content)
        except OSError as problem:
            raise ModelError(f"cannot write {path}: {problem.strerror or problem}") from problem
