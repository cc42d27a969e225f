"""Predictions of the trials of one ranking side by side, for the same images in the same order.

Shapes: C predictors of trials, N judged images (each once in every run that judges it), M images of a run, K classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search_spaces.core.errors import ResultsError
from sparse_search.analysis.weighted_scores import SharedPredictions
from sparse_search.results.predictions import read_predictions
from sparse_search.results.trials import RankedRow
from trainables.metrics.decisions import named

_READERS = 4
"""Files that are read at a time."""


@dataclass(frozen=True)
class Kept:
    """Rows of a ranking whose predictions are kept, and these, in the same order."""

    rows: tuple[RankedRow, ...]
    predictions: SharedPredictions | None
    """None where there are no rows."""

    num_lacking: int = 0
    """Rows whose predictions are not there, are damaged, or are of other images than those of most."""

    why_not: str = ""
    """The reason why there cannot be any, in words; empty where there can."""


class _Run(NamedTuple):
    """Predictions of one run by one predictor."""

    probs_MK: NDArray[np.float64]
    named_M: NDArray[np.int64]
    labels_M: NDArray[np.int64]
    sources_M: NDArray[np.int64] | None
    """Indices of the images in their split; None in files of before."""

    groups_M: NDArray[np.int64] | None
    """Groups of the images; None where none are known."""

    pool_mean_K: NDArray[np.float64] | None


_COLUMNS = ("predictor", "image", "source_index", "source_group", "label", "probabilities", "pool_mean")

_Layout = tuple[str, ...]
"""Names of what is labelled and what validates, run by run."""


def kept_predictions(results: Path | str, rows: Sequence[RankedRow]) -> Kept:
    """Read the predictions of rows of one ranking, in their order; rows without are counted.

    The images are those of the layout that most rows share: where each configuration has label sets of its own there is
    no such layout, and nothing to compare.

    Args:
        results: The results folder, or its URI.
        rows: Of one ranking, as `rank` gives them.
    """
    if why_not := _why_not(rows):
        return Kept((), None, len(rows), why_not)
    layout, shared = Counter(map(_layout, rows)).most_common(1)[0]
    if shared == 1 < len(rows):
        return Kept((), None, len(rows), "each configuration has label sets of its own")
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(lambda row: _runs(results, row) if _layout(row) == layout else None, rows))
    found = [(row, runs) for row, runs in zip(rows, read, strict=True) if runs]
    like_most = [(row, runs) for row, runs in found if _is_alike(runs, found[0][1])]
    if not like_most:
        return Kept((), None, len(rows))
    predictions = _joined([runs for _, runs in like_most], rows[0])
    return Kept(tuple(row for row, _ in like_most), predictions, len(rows) - len(like_most))


def _why_not(rows: Sequence[RankedRow]) -> str:
    level = rows[0]["level"]
    if level != "image":
        return {"patch": "patches of a picture are alike", "mask": "predictions of masks are not kept"}.get(
            level, "generators predict nothing"
        )
    return "pictures are judged by their patches" if rows[0]["patch_labels"] else ""


def _layout(row: RankedRow) -> _Layout:
    return tuple(hash_ for hash_, _ in _ordered_runs(row))


def _ordered_runs(row: RankedRow) -> list[tuple[str, str]]:
    """What is labelled and validates, and the run, for each run in an order that all rows share."""
    runs = zip(row["label_set_list"], row["label_set_hash_list"], row["run_id_list"], strict=True)
    return [(hash_, run_id) for _, hash_, run_id in sorted(runs)]


def _runs(results: Path | str, row: RankedRow) -> list[_Run] | None:
    """Return the predictions of the runs of a row; None where one is not there or damaged."""
    about = {name: row[name] for name in ("dataset", "shots", "method")}
    try:
        return [_run(results, {**about, "run_id": run_id}, row) for _, run_id in _ordered_runs(row)]
    except (ResultsError, OSError, ValueError):
        return None


def _run(results: Path | str, run: Mapping[str, Any], row: RankedRow) -> _Run:
    table = read_predictions(results, [run], _COLUMNS)
    own = table.filter(pc.equal(table["predictor"], row["predictor"]))
    own = own if (np.diff(own["image"].to_numpy()) > 0).all() else own.sort_by("image")
    labels_M = own["label"].to_numpy()
    if not len(own) or len(pc.unique(own["image"])) < len(own):
        raise ValueError(f"{run['run_id']} has no prediction by {row['predictor']} for each image")
    probs_MK = _probabilities(own["probabilities"], len(own))
    if not np.isfinite(probs_MK).all():
        raise ValueError(f"{run['run_id']} has a prediction that is no number")
    pool_mean = own["pool_mean"][0].as_py()
    pool_mean_K = None if pool_mean is None else np.array(pool_mean, np.float64)
    named_M = named(row["decision"], probs_MK, pool_mean_K)
    sources_M, groups_M = (_known(own[name]) for name in ("source_index", "source_group"))
    return _Run(probs_MK, named_M, labels_M, sources_M, groups_M, pool_mean_K)


def _known(column: pa.ChunkedArray) -> NDArray[np.int64] | None:
    return None if column.null_count else np.asarray(column.to_numpy(), np.int64)


def _probabilities(column: pa.ChunkedArray, count: int) -> NDArray[np.float64]:
    return np.asarray(pc.list_flatten(column).to_numpy(), np.float64).reshape(count, -1)


def _is_alike(runs: Sequence[_Run], others: Sequence[_Run]) -> bool:
    return all(
        np.array_equal(run.labels_M, other.labels_M) and run.probs_MK.shape == other.probs_MK.shape
        for run, other in zip(runs, others, strict=True)
    )


def _joined(runs_CR: Sequence[Sequence[_Run]], row: RankedRow) -> SharedPredictions:
    """All runs of all rows, one run after the other."""
    first = runs_CR[0]
    sizes = [len(run.labels_M) for run in first]
    pool_means = [[run.pool_mean_K for run in runs] for runs in runs_CR]
    knows_pool = not any(mean is None for means in pool_means for mean in means)
    return SharedPredictions(
        probs_CNK=np.array([np.concatenate([run.probs_MK for run in runs]) for runs in runs_CR]),
        named_CN=np.array([np.concatenate([run.named_M for run in runs]) for runs in runs_CR]),
        labels_N=np.concatenate([run.labels_M for run in first]),
        runs_N=np.repeat(np.arange(len(first)), sizes),
        images_N=_identities(runs_CR, sizes, same_images=row["validation"] == "official"),
        groups_N=_first_known([[run.groups_M for run in runs] for runs in runs_CR]),
        pool_means_CRK=np.array(pool_means, np.float64) if knows_pool else None,
    )


def _identities(runs_CR: Sequence[Sequence[_Run]], sizes: Sequence[int], *, same_images: bool) -> NDArray[np.int64]:
    """Numbers of the images, equal where they are the same.

    Files of before do not say which they are: then those of `official` validation are the same in all runs, and any
    others are different.
    """
    sources_N = _first_known([[run.sources_M for run in runs] for runs in runs_CR])
    if sources_N is not None:
        return np.asarray(np.unique(sources_N, return_inverse=True)[1])
    return np.concatenate([np.arange(size) for size in sizes]) if same_images else np.arange(sum(sizes))


def _first_known(numbers_CRM: Sequence[Sequence[NDArray[np.int64] | None]]) -> NDArray[np.int64] | None:
    """Numbers of all images by the first row that knows them in every run; None where no row does."""
    for runs in numbers_CRM:
        known = [numbers_M for numbers_M in runs if numbers_M is not None]
        if len(known) == len(runs):
            return np.concatenate(known)
    return None
