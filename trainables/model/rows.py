"""Predictions of files as rows of a table, one a picture, also of what could not be read.

    path, class, probability_<class name>…, set, reason          of classes; `set` where a coverage is asked for
    path, marked_share, mask, reason                              of a segmentation; `mask` where masks are written

`set` holds names of classes with ` | ` between them. `reason` is empty where a picture was predicted.

Shapes: N pictures, C channels, S pixels of a side, K classes.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError, ModelError
from trainables.metrics.masks import FOREGROUND
from trainables.model.inputs import Decoded, Unseen, as_text
from trainables.model.saved import Model, Prediction

Row = Mapping[str, Any]
TellCallback = Callable[[int, int], None]
"""Called with the number of pictures that were read, and of how many."""

_BATCH_BYTES = 2**24
_BETWEEN = " | "


class Batch(NamedTuple):
    """Pictures that were read, and what the model says of them."""

    places: Sequence[str]
    pictures_NCSS: NDArray[np.uint8]
    sizes: Sequence[tuple[int, int]]
    """Widths and heights as they are shown, in pixels."""

    prediction: Prediction


@final
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for besides probabilities."""

    coverage: float | None = None
    masks: Path | None = None
    see: Callable[[Batch], None] | None = None
    """Shown every batch."""


def columns_of(model: Model, wanted: Wanted) -> list[str]:
    """Return the names of the columns of a model's rows.

    Raises:
        ConfigError: it has not what is asked for.
    """
    if model.facts.kind == "segmentation":
        if wanted.coverage is not None:
            raise ConfigError("coverage: a model of masks has no sets of classes: leave it out")
        return ["path", "marked_share", *(["mask"] if wanted.masks else []), "reason"]
    if wanted.masks:
        raise ConfigError("masks: this model names classes and marks no pixels: leave it out")
    if wanted.coverage is not None:
        model.calibration.limit(wanted.coverage)
    sets = [] if wanted.coverage is None else ["set"]
    return ["path", "class", *(f"probability_{name}" for name in model.class_names), *sets, "reason"]


def rows_of(
    model: Model, pictures: Sequence[Unseen], wanted: Wanted | None = None, tell: TellCallback | None = None
) -> Iterator[Row]:
    """Yield a row for each picture, in their order.

    Raises:
        ConfigError: as `columns_of`.
        ModelError: a mask cannot be written.
    """
    wanted = wanted or Wanted()
    empty = dict.fromkeys(columns_of(model, wanted))
    size = max(1, _BATCH_BYTES // (model.facts.channels * model.facts.side**2))
    for first in range(0, len(pictures), size):
        part = pictures[first : first + size]
        read = []
        for number, picture in enumerate(part, start=first + 1):
            read.append(_pixels_or_reason(picture, model))
            if tell:
                tell(number, len(pictures))
        known = [n for n, each in enumerate(read) if not isinstance(each, str)]
        decoded = [each for each in read if not isinstance(each, str)]
        batch = _predicted(model, [part[n].place for n in known], decoded)
        if wanted.see and known:
            wanted.see(batch)
        filled = dict(zip(known, _rows(model, batch, wanted), strict=True))
        for number, picture in enumerate(part):
            yield {**empty, "path": picture.place, **filled.get(number, {"reason": read[number]})}


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a place where no table of rows can be written, before anything is predicted.

    Raises:
        ModelError: it is none, or would be written over one of the inputs.
    """
    try:
        if not path.name or (path.exists() and not path.is_file()):
            raise ModelError(f"cannot write {path}: it is no place for a file; name another one")
        if path.exists() and any(each.is_file() and each.samefile(path) for each in inputs):
            raise ModelError(f"cannot write {path}: it is one of what is to be predicted; name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ModelError(f"cannot write {path}: {problem.strerror or problem}") from problem


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows as a CSV file, whole or not at all; numbers with every digit.

    Raises:
        ModelError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)
    except OSError as problem:
        raise ModelError(f"cannot write {path}: {problem.strerror or problem}") from problem
    finally:
        with suppress(OSError):
            partial.unlink()


def _pixels_or_reason(picture: Unseen, model: Model) -> Decoded | str:
    try:
        return picture.read(model.preparation)
    except DataError as problem:
        return as_text(" ".join(str(problem).split()))


def _predicted(model: Model, places: Sequence[str], decoded: Sequence[Decoded]) -> Batch:
    facts = model.facts
    none = np.empty((0, facts.channels, facts.side, facts.side), np.uint8)
    pictures_NCSS = np.stack([each.pixels_CSS for each in decoded]) if decoded else none
    return Batch(places, pictures_NCSS, [each.size for each in decoded], model.predict_prepared(pictures_NCSS))


def _rows(model: Model, batch: Batch, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yield the columns of each picture of a batch that depend on its prediction."""
    if model.facts.kind == "segmentation":
        yield from _mask_rows(batch, wanted.masks)
        return
    names, found = model.class_names, batch.prediction
    sets_NK = None if wanted.coverage is None else model.sets(found, wanted.coverage)
    for number, (probs_K, label) in enumerate(zip(found.probs.tolist(), found.named_N.tolist(), strict=True)):
        row = {"class": names[label]} | {f"probability_{n}": p for n, p in zip(names, probs_K, strict=True)}
        if sets_NK is not None:
            row["set"] = _BETWEEN.join(n for n, inside in zip(names, sets_NK[number], strict=True) if inside)
        yield row


def _mask_rows(batch: Batch, folder: Path | None) -> Iterator[dict[str, Any]]:
    for place, size, probs_SS in zip(batch.places, batch.sizes, batch.prediction.probs, strict=True):
        row: dict[str, Any] = {"marked_share": float((probs_SS >= FOREGROUND).mean())}
        if folder:
            row["mask"] = str(_write_mask(_free_name(folder, place), size, probs_SS))
        yield row


def _write_mask(path: Path, size: tuple[int, int], probs_SS: NDArray[np.float64]) -> Path:
    """Write the mask of a picture of that width and height, 255 where it is marked."""
    probs_HW = np.asarray(Image.fromarray(probs_SS.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((probs_HW >= FOREGROUND).astype(np.uint8) * 255).save(path)
    except OSError as problem:
        raise ModelError(f"cannot write {path}: {problem.strerror or problem}") from problem
    return path


def _free_name(folder: Path, place: str) -> Path:
    """Return a path for what is made of a picture: its name, with a number where another one has it."""
    stem = Path(place).stem or "picture"
    names = (f"{stem}{f'-{number}' if number else ''}.png" for number in count())
    return next(folder / name for name in names if not (folder / name).exists())
