"""Columns of the tables: one dataclass per table is its Parquet schema; a record becomes rows here.

A *record* is the small JSON document of one finished run (`store` writes it). Rows are derived from records
and nothing else, so the tables can be rebuilt at any time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from math import inf, isfinite
from types import NoneType
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from search_spaces.core.config import canonical_json, short_hash
from search_spaces.core.weights import pretraining
from trainables.core.conditions import CONDITIONS
from trainables.metrics.table import CLASSES, FAMILIES, METRICS, family_at, metric_for

SCHEMA_VERSION = 7
"""Raised with every change of a column's name, type or meaning, but for a metric that is new."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A row with scores: beside these a column for each metric of the table, null where a record or a file lacks it."""

    num_images: int | None


@dataclass(frozen=True, kw_only=True)
class RunRow(_Scored):
    """One run as one predictor ends it: a configuration on one label set and fold, scored on validation.

    Its columns in the table are these and those of `trainables.core.conditions`.
    """

    schema_version: int
    record_id: str
    run_id: str
    """Equal for runs that must give equal results."""

    trial_id: str
    """Equal for the label sets and folds of one trial."""

    sweep: str
    study: str
    number: int
    """Number of the trial in its study."""

    start: str
    """`default` or a preset's name where the configuration was not searched; else empty."""

    method: str
    predictor: str
    level: str
    """Unit that is scored: each `image`, each `patch` of the images, the `mask` of each image, or the `generator`s."""

    config_id: str
    config_json: str
    inactive: str
    """Searched settings that have no effect in this configuration."""

    dataset: str
    source: str
    """The dataset as the sweep named it: a catalogue name or a path."""

    content_hash: str
    official: bool
    shots: int
    """Labelled images per class, or in all where the dataset counts them so."""

    label_sets: str
    """Every label set of the trial, in order; `n fresh` where each configuration has n of its own."""

    num_runs: int
    """Runs of the trial: its label sets times its folds."""

    label_set: int
    fold: int
    label_set_hash: str
    label_budget: int
    shots_in_all: bool
    """True if `shots` are labelled images in all, whatever their class."""

    patch_labels: str
    """Origin of the labels of patches: `masks` of findings, or `inherited` from their pictures. Empty for whole
    images."""

    image_size: int
    pretrained: str
    """Data that weights were trained on before, or, unknown, the name of such weights; empty where all are random. Of
    generators, the network in whose features they are scored."""

    status: str
    """`complete`, `pruned`, `infeasible`, `collapsed`, `diverged` or `failed`; only complete ones are ranked."""

    reason: str
    images_done: int
    """Seen at the last evaluation; a few less than `images`, as epochs are not cut and cycles end when they end."""

    epochs_done: int

    protocol: int
    picture_threshold: float | None
    """The score above which a picture is named class 1."""

    confusion_json: str
    train_seconds: float
    wall_seconds: float
    """Training, evaluation and loading."""

    gpu_seconds: float
    """`wall_seconds` times the GPUs that the trial had."""

    peak_memory_bytes: int | None
    """Peak of the worker; unknown where several processes shared the work."""

    device: str
    """Its name."""

    host: str
    versions_json: str
    finished_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class CurveRow(_Scored):
    """One evaluation of one predictor during a run, as it is, whatever the selection."""

    schema_version: int
    record_id: str
    run_id: str
    dataset: str
    shots: int
    method: str
    predictor: str
    epoch: int
    images: int
    train_seconds: float
    losses_json: str
    """A list over the epochs since the evaluation before, a few at a time: `epoch`, mean losses, diagnoses."""


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema_of(row_type: type) -> pa.Schema:
    """The Parquet schema of a row class, with the metrics and what else is scored last; `X | None` may be null."""
    columns = {name: _column(name, hint) for name, hint in get_type_hints(row_type).items()}
    scored = [columns.pop(field.name) for field in fields(_Scored)]
    return pa.schema([*columns.values(), *(pa.field(name, pa.float64()) for name in METRICS), *scored])


def _column(name: str, hint: Any) -> pa.Field:
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] or [hint]
    return pa.field(name, _TYPES[kinds[0]], nullable=NoneType in get_args(hint))


def _with_conditions(schema: pa.Schema) -> pa.Schema:
    """Insert the conditions of a trial behind what says which data it is about."""
    columns = [pa.field(each.column, _TYPES[each.type], nullable=False) for each in CONDITIONS]
    place = schema.get_field_index("status")
    return pa.schema([*list(schema)[:place], *columns, *list(schema)[place:]])


RUN_SCHEMA = _with_conditions(schema_of(RunRow))
CURVE_SCHEMA = schema_of(CurveRow)
CONFIRMATION = " confirmation"
"""End of the name of a study that trains the best of a search again, on more label sets."""

SEARCHED = "config."
"""Prefix of the typed columns beside the schema: the scalar fields of the method's configuration."""


_MADE_HERE = {
    "schema_version", "predictor", "level", "config_id", "config_json", "image_size", "pretrained", "images_done",
    "epochs_done", "confusion_json", "train_seconds", "versions_json", "num_images", "picture_threshold",
    *METRICS,
}  # fmt: skip
"""Columns of a run row that a record does not hold."""

DEFAULTS_BEFORE = {condition.column: condition.default_before or condition.default for condition in CONDITIONS}
"""Conditions of records that were written before there was such a condition."""

_FROM_RECORD = tuple(name for name in RUN_SCHEMA.names if name not in _MADE_HERE and name not in DEFAULTS_BEFORE)


def run_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The run rows of a record, one per predictor, with the configuration as typed columns beside them."""
    config = record["config"]
    curve = record["curve"]
    last: Mapping[str, Any] = curve[-1] if curve else {"selected": {}, "seconds": 0.0, "epoch": 0, "images": 0}
    shared = {
        **{name: record.get(name, default) for name, default in DEFAULTS_BEFORE.items()},
        **{name: record[name] for name in _FROM_RECORD},
        **{SEARCHED + name: value for name, value in config.items()},
        "schema_version": SCHEMA_VERSION,
        "config_id": config_id(record["method"], config),
        "config_json": canonical_json(config),
        "image_size": config["image_size"],
        "pretrained": config.get("feature_network", "") if record["kind"] == "generation" else pretraining(config),
        "images_done": last["images"],
        "epochs_done": last["epoch"],
        "train_seconds": last["seconds"],
        "versions_json": canonical_json(record["versions"]),
    }
    for predictor in record["predictors"]:
        scores = last["selected"].get(predictor) or {}
        if scores:
            _check_counts(scores["confusion"], record["kind"])
        yield shared | {
            **{name: scores.get(name) for name in (*METRICS, "num_images")},
            "predictor": predictor,
            "level": _level(record, predictor),
            "picture_threshold": scores.get("threshold"),
            "confusion_json": canonical_json({"confusion": scores["confusion"]}) if scores else "",
        }


def _check_counts(confusion: Sequence[Sequence[float]], kind: str) -> None:
    """Refuse what is no table of counts, from true to named classes; ValueError. Generators name none."""
    if (not confusion and kind != "generation") or not all(
        len(row) == len(confusion) and all(0 <= count < inf for count in row) for row in confusion
    ):
        raise ValueError("its confusion is no table of counts")


def _level(record: Mapping[str, Any], predictor: str) -> str:
    whole, *parts = FAMILIES[record["kind"]].levels
    return parts[0] if parts and predictor in record["patch_predictors"] else whole


def curve_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The curve rows of a record, one per evaluation and predictor."""
    shared = {name: record[name] for name in ("record_id", "run_id", "dataset", "shots", "method")}
    for point in record["curve"]:
        here = {
            "schema_version": SCHEMA_VERSION,
            "epoch": point["epoch"],
            "images": point["images"],
            "train_seconds": point["seconds"],
            "losses_json": canonical_json(point["losses"]),
        }
        for predictor, scores in point["scores"].items():
            metrics = {name: scores.get(name) for name in (*METRICS, "num_images")}
            yield {**shared, **here, **metrics, "predictor": predictor}


def metric_of(runs: pa.Table, metric: str) -> str:
    """Name of what is asked of run rows: the metric, or of rows of one other family alone, what these are ranked by."""
    levels = pc.unique(runs["level"]).to_pylist()
    is_of_others = len(levels) == 1 and family_at(levels[0]) is not CLASSES and metric in METRICS
    return metric_for(levels[0], metric) if is_of_others else metric


def config_id(method: str, config: Mapping[str, Any]) -> str:
    """Twelve digits that name a configuration of a method."""
    return short_hash({"method": method, "config": config})


def table_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table: the schema's columns, then typed configuration columns; a setting of mixed types has none.

    Raises:
        TypeError: a value is of another type than its column.
        ValueError: a number is not finite, or not whole.
        OverflowError: a whole number has more than 64 bits.
    """
    columns = {field: _values(field, [row.get(field.name) for row in rows]) for field in schema}
    for name in sorted(name for name in set().union(*rows) if name.startswith(SEARCHED)):
        kind = _TYPES.get(_kind(rows, name) or NoneType)
        with suppress(OverflowError, pa.ArrowInvalid):  # too large for a column: `config_json` has every value
            if kind is not None:
                columns[pa.field(name, kind)] = pa.array([row.get(name) for row in rows], kind)
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(list(columns)))


_ALLOWED: Mapping[pa.DataType, set[type]] = {
    pa.string(): {str},
    pa.int64(): {int, float},
    pa.float64(): {int, float},
    pa.bool_(): {bool},
}
"""Types of values by that of their column."""


def _values(field: pa.Field, values: list[Any]) -> pa.Array:
    kinds = set(map(type, values)) - ({NoneType} if field.nullable else set())
    if not kinds <= _ALLOWED[field.type]:
        odd = next(value for value in values if type(value) in kinds - _ALLOWED[field.type])
        raise TypeError(f"{field.name} is {odd!r}, expected {field.type}")
    if float in kinds and not all(isfinite(value) for value in values if value is not None):
        raise ValueError(f"{field.name} is not finite")
    if float in kinds and field.type == pa.int64() and not all(value is None or value % 1 == 0 for value in values):
        raise ValueError(f"{field.name} is no whole number")
    return pa.array(values, field.type)


def _kind(rows: list[dict[str, Any]], name: str) -> type | None:
    kinds = {type(row[name]) for row in rows if row.get(name) is not None}
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else None
