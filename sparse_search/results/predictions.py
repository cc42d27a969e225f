"""Predictions of a finished run for each validation image or patch: one Parquet file a run.

    artefacts/dataset=…/shots=…/method=…/RUN_ID/predictions.parquet

A run is known by what determines its result, so writing it again changes nothing. The files are not brought together:
they are read for a few runs at a time, to judge pictures by their patches in another way, to draw where findings are
likely, or to count in an own way. Test images have no such file.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.results.catalog import KEYS, SetAsideWarning, partition_of
from sparse_search.results.files import write_table
from sparse_search.results.mirror import fetched
from sparse_search.results.object_store import is_uri

if TYPE_CHECKING:  # a leaderboard reads predictions, and shall not wait for torch
    from torch import Tensor

    from trainables.core.method import Labelled, PoolMeans

_FILE = "predictions.parquet"

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string()),
        *(pa.field(key, pa.int64() if key == "shots" else pa.string()) for key in KEYS),
        pa.field("predictor", pa.string()),
        pa.field("image", pa.int64()),  # of the validation images of the run, from 0
        pa.field("source_index", pa.int64()),  # of the image in train, with `official` validation in val
        pa.field("source_group", pa.int64()),  # of the image, such as its patient; null where none are known
        pa.field("row", pa.int64()),  # of a patch in its image; 0 for whole images
        pa.field("column", pa.int64()),
        pa.field("label", pa.int64()),  # of the image or patch
        pa.field("probabilities", pa.list_(pa.float64())),  # by class
        pa.field("pool_mean", pa.list_(pa.float64())),  # by class: of the unlabelled images; null where there are none
    ]
)


def artefact_folder(results: Path, run: Mapping[str, Any]) -> Path:
    """Return the folder of the artefacts of a run, given its `run_id`, `dataset`, `shots` and `method`."""
    return results / "artefacts" / partition_of(run) / str(run["run_id"])


def artefacts_of(results: Path | str, run: Mapping[str, Any], file: str = "") -> Path:
    """Fetch the artefacts of a run, or one file of them, to this machine; return their folder.

    Raises:
        ResultsError: the storage does not answer, or refuses.
    """
    return fetched(results, artefact_folder(Path(), run).as_posix(), file)


def has_predictions(results: Path | str) -> bool:
    """Return False where there are surely none, as nothing but records was ever kept."""
    return is_uri(results) or (Path(results) / "artefacts").is_dir()


def fetch_predictions(results: Path | str, dataset: str, shots: int) -> Path:
    """Fetch the predictions on a data set at a number of shots to this machine; return its results folder.

    Raises:
        ResultsError: the storage does not answer, or refuses.
    """
    cell = partition_of({"dataset": dataset, "shots": shots, "method": ""}).rpartition("/")[0]
    return fetched(results, f"artefacts/{cell}", _FILE).parents[len(f"artefacts/{cell}".split("/")) - 1]


def write_predictions(
    results: Path,
    run: Mapping[str, Any],
    images: "Labelled",
    predictions: Mapping[str, NDArray[np.float64]],
    pool_means: "PoolMeans",
) -> None:
    """Write predictions (N, K) by predictor of the images or patches of a run, and what it says of unlabelled images in
    the mean (K,); OSError if that fails."""
    columns = images.grid.columns if images.grid else 1
    patches = images.grid.num_patches if images.grid else 1
    index_N = np.arange(len(images))
    tables = [
        pa.table(
            {
                **{name: pa.repeat(pa.scalar(run[name]), len(index_N)) for name in ("run_id", *KEYS)},
                "predictor": pa.repeat(pa.scalar(predictor), len(index_N)),
                "image": index_N // patches,
                "source_index": _of_pictures(images.indices_I, index_N // patches),
                "source_group": _of_pictures(images.groups_I, index_N // patches),
                "row": index_N % patches // columns,
                "column": index_N % columns,
                "label": images.labels_N.numpy(),
                "probabilities": pa.FixedSizeListArray.from_arrays(probs_NK.ravel(), probs_NK.shape[1]),
                "pool_mean": _repeated(pool_means.get(predictor), len(index_N)),
            }
        ).cast(PREDICTION_SCHEMA)
        for predictor, probs_NK in predictions.items()
    ]
    write_table(artefact_folder(results, run) / _FILE, pa.concat_tables(tables), on_disk=True)


def all_predictions(results: Path | str) -> pa.Table:
    """Read the predictions of every run; damaged ones are left out, each named in a warning.

    Raises:
        ResultsError: the storage does not answer.
    """
    found = [PREDICTION_SCHEMA.empty_table()]
    for path in sorted(fetched(results, "artefacts", _FILE).glob(f"*/*/*/*/{_FILE}")):
        try:
            found.append(_read(path))
        except ResultsError as problem:
            warnings.warn(f"{problem}; left out", SetAsideWarning, stacklevel=2)
    return pa.concat_tables(found)


def read_predictions(
    results: Path | str, runs: Iterable[Mapping[str, Any]], columns: Sequence[str] = PREDICTION_SCHEMA.names
) -> pa.Table:
    """Read the predictions of some runs, given their `run_id`, `dataset`, `shots` and `method`.

    Args:
        results: The results folder, or its URI.
        runs: Which runs.
        columns: Only these; thousands of files are then read in half the time.

    Raises:
        ResultsError: there are none of a run, or they are damaged.
    """
    return pa.concat_tables(_read(artefacts_of(results, run, _FILE) / _FILE, columns) for run in runs)


def _read(path: Path, columns: Sequence[str] = PREDICTION_SCHEMA.names) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            known = file.schema_arrow.names
            table = file.read([name for name in columns if name in known], use_threads=False)
            return _of_today(table, columns).cast(pa.schema([PREDICTION_SCHEMA.field(name) for name in columns]))
    except FileNotFoundError as problem:
        raise ResultsError(
            f"no predictions at {path}; name the results folder with --results in which the run was trained"
        ) from problem
    except (OSError, ValueError, pa.ArrowException) as problem:
        why = (str(problem).splitlines() or ["unreadable"])[0]
        raise ResultsError(f"{path} is damaged ({why}); train the run again") from problem


def _of_today(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Columns of the schema; null where an earlier version wrote none."""
    for name in ("pool_mean", "source_index", "source_group"):
        if name in columns and name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), PREDICTION_SCHEMA.field(name).type))
    return table.select(list(columns))


def _of_pictures(numbers_I: "Tensor | None", picture_N: NDArray[np.int64]) -> pa.Array:
    """What is known of each image's picture; null where nothing is."""
    return pa.nulls(len(picture_N), pa.int64()) if numbers_I is None else pa.array(numbers_I.numpy()[picture_N])


def _repeated(pool_mean_K: NDArray[np.float64] | None, count: int) -> pa.Array:
    kind = pa.list_(pa.float64())
    value = pa.scalar(None if pool_mean_K is None else pool_mean_K.tolist(), kind)
    return pa.repeat(value, count)
