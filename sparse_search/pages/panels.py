"""The figures of the report about one ranking, each with what to read from it."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import log
from operator import and_
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from sparse_search.analysis.curves import best_so_far_of, learning_curves_of
from sparse_search.analysis.importance import Importance
from sparse_search.pages.figures import (
    Axis,
    Line,
    best_so_far_figure,
    curves_figure,
    importance_figure,
    parallel_coordinates_figure,
)
from sparse_search.pages.tables import Question, active_settings
from sparse_search.results.predictions import artefacts_of
from sparse_search.results.texts import setting_text
from trainables.metrics.table import METRICS

if TYPE_CHECKING:
    import pandas as pd

_HEALTH = {
    "pseudo_accuracy": "right", "coverage": "kept", "agreement": "voters agree", "pseudo_balance": "balance of classes",
    "pseudo_entropy": "entropy of the vote",
}  # fmt: skip
"""Diagnoses of pseudo-labels in the order of their colours, and what the figure calls them."""

_MARKED = "outlined in cyan: what was marked by hand, which training did not see"
_SHEETS = {
    "image": ("heat_maps.png", "Where findings are seen", f"Validation pictures and what their patches say; {_MARKED}"),
    "mask": (
        "masks.png",
        "What was marked",
        f"Validation pictures and the masks that were found, outlined in yellow; {_MARKED}",
    ),
    "generator": (
        "class-*.png",
        "What was generated",
        "Of each class up to eight labelled images in the first row, and what its generator makes below",
    ),
}
"""By level: the files of a run's sheets, their title, and what they show."""

_MAX_LINES, _MAX_DOTS, _MAX_METHODS, _MAX_AXES = 200, 400, 3, 14
_MIN_LINES = 4


@dataclass(frozen=True)
class Panel:
    """A figure with the words below it."""

    title: str
    svg: Markup
    caption: str
    wide: bool = False


def panels(question: Question) -> Iterator[Panel]:
    """The figures that its records are enough for."""
    here = reduce(and_, (pc.field(name) == question.shared[name] for name in ("dataset", "shots")))
    question = replace(question, curves=question.curves.filter(here))
    for drawn in (_learning_curves, _best_so_far, _importance, _health, _sheets):
        panel = drawn(question)
        if panel is not None:
            yield panel
    yield from _parallel_coordinates(question)


def _learning_curves(question: Question) -> Panel | None:
    best = list(question.best_of_methods().values())[:_MAX_METHODS]
    methods = [row["method"] for row in best]
    starts = [row for row in question.rows if row["start"] == "default" and row["method"] in methods]
    wanted = {(row["trial_id"], row["predictor"]): row for row in [*best, *_one_each(starts)]}
    frame = learning_curves_of(question.runs, question.curves, [key[0] for key in wanted], question.metric)
    lines = []
    for key, row in wanted.items():
        own = frame[(frame["trial_id"] == key[0]) & (frame["predictor"] == key[1])].dropna(subset=["score"])
        if len(own):
            is_best = any(row is found for found in best)
            words = f"{row['predictor']}, {'best' if is_best else 'default'}"
            words += ", which is the default" if is_best and row["start"] == "default" else ""
            lines.append(_mean_line(own, words, question.series[row["method"]], dashed=not is_best))
    if max((len(line.x) for line in lines), default=0) < 2:  # generators are evaluated once
        return None
    metric = METRICS[question.metric].title
    return Panel(
        "Learning curves",
        curves_figure(lines, x_label="images seen in training", y_label=metric),
        f"{metric.capitalize()} on validation images at each evaluation. Solid: the best configuration of a method; "
        "dashed: its default; thin: single label sets. A curve that still climbs at its end asks for a larger budget; "
        "one that jumps asks for more validation images.",
    )


def _one_each(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The best row of each method."""
    return list({row["method"]: row for row in reversed(rows)}.values())


def _mean_line(frame: "pd.DataFrame", label: str, series: int, *, dashed: bool) -> Line:
    parts = [part for _, part in frame.groupby(["label_set", "fold"])]
    mean = frame.groupby("epoch")[["images", "score"]].agg({"images": "mean", "score": ["mean", "count"]})
    mean = mean[mean["score", "count"] == len(parts)]
    if not len(mean):  # their evaluations fall on different epochs
        return Line(label, series, parts[0]["images"].tolist(), parts[0]["score"].tolist(), dashed)
    faint = [(part["images"].tolist(), part["score"].tolist()) for part in parts] if len(parts) > 1 else []
    return Line(label, series, mean["images", "mean"].tolist(), mean["score", "mean"].tolist(), dashed, faint)


def _best_so_far(question: Question) -> Panel | None:
    if question.is_confirmation():
        return None
    frame = best_so_far_of(question.runs, question.metric)
    counts = frame[frame["score"].notna()].groupby("method").size()
    frame = frame[frame["method"].isin(counts[counts >= _MIN_LINES].index)]
    if not len(frame):
        return None
    panels: dict[str, list[Line]] = {"seconds of training": [], "images seen": []}
    dots: dict[str, list[Line]] = {name: [] for name in panels}
    for method, own in frame.groupby("method"):
        series = question.series[str(method)]
        steps = own[
            own["best"].notna() & ((own["best"] != own["best"].shift()) | (np.arange(len(own)) == len(own) - 1))
        ]
        ranked = own[own["score"].notna()]
        ranked = ranked.iloc[:: -(-len(ranked) // _MAX_DOTS)]
        for name, column in zip(panels, ("train_seconds", "images_done"), strict=True):
            panels[name].append(Line(str(method), series, steps[column].tolist(), steps["best"].tolist()))
            dots[name].append(Line("", series, ranked[column].tolist(), ranked["score"].tolist()))
    metric = METRICS[question.metric].title
    return Panel(
        "Best so far",
        best_so_far_figure(panels, dots, y_label=metric),
        f"The best {metric} found by then against what the search had spent, early-stopped trials included; a dot is "
        "one configuration. A line that is flat for long says that more of the same search will bring little.",
    )


def _importance(question: Question) -> Panel | None:
    return importance_panel([one for one in question.importances if one.shared == question.shared], question.series)


def importance_panel(importances: Sequence[Importance], series: Mapping[str, int]) -> Panel | None:
    """Bars of those that can be told, and words for those that cannot."""
    told = {
        one.method: [(s.name, s.share, s.clear) for s in one.settings[:_MAX_AXES]]
        for one in importances
        if one.settings
    }
    doubts = "; ".join(f"{one.method}: {one.doubt}" for one in importances if one.doubt)
    if not told:
        return None
    return Panel(
        "Which settings mattered",
        importance_figure(told, series),
        "PED-ANOVA: how far the best trials agree on a setting, as a share of what all settings have beyond chance. "
        f"Hollow bars cannot be told from chance.{' ' + doubts + '.' if doubts else ''}",
    )


def doubts(importances: Sequence[Importance], shared: Mapping[str, Any]) -> list[str]:
    """Why importance is not shown, a sentence per method."""
    return [f"{one.method}: {one.doubt}." for one in importances if one.shared == shared and not one.settings]


def _parallel_coordinates(question: Question) -> Iterator[Panel]:
    for method, first in question.best_of_methods().items():
        rows = [row for row in question.rows if row["method"] == method and row["predictor"] == first["predictor"]]
        values = [active_settings(row) for row in rows[:_MAX_LINES]]
        names = [n for n in question.searched[method] if len({setting_text(own.get(n)) for own in values}) > 1]
        if len(values) < _MIN_LINES or len(names) < 2:
            continue
        axes = [Axis(name, [own.get(name) for own in values]) for name in names[:_MAX_AXES]]
        axes.append(Axis(METRICS[question.metric].title, [row[question.metric] for row in rows[:_MAX_LINES]]))
        default = next((n for n, row in enumerate(rows[:_MAX_LINES]) if row["start"] == "default"), None)
        best = range(max(1, min(5, len(values) // 4)))
        left_out = [f"the best {_MAX_LINES} of {len(rows)}"] if len(rows) > _MAX_LINES else []
        left_out += [f"{_MAX_AXES} of {len(names)} settings"] if len(names) > _MAX_AXES else []
        yield Panel(
            f"Configurations of {first['predictor']}",
            parallel_coordinates_figure(axes, best=best, default=default, series=question.series[method]),
            "A line is a configuration. Where the coloured lines bundle, the best agree on a setting; where they "
            f"spread, it mattered less.{' Shown: ' + ', '.join(left_out) + '.' if left_out else ''}",
            wide=len(axes) > 6,
        )


def _health(question: Question) -> Panel | None:
    """Pseudo-labels of the best configuration of the best method that makes some."""
    for row in question.best_of_methods().values():
        frame = learning_curves_of(question.runs, question.curves, [row["trial_id"]], question.metric)
        own = frame[frame["predictor"] == row["predictor"]]
        num_classes = len(json.loads(row["confusion_json_list"][0])["confusion"])
        lines = _health_lines(own, num_classes)
        if lines:
            return Panel(
                "Pseudo-label health",
                curves_figure(lines, x_label="images seen in training", y_label="share", limits=(-0.03, 1.03)),
                _diagnosis(row, {line.label: line.y[-1] for line in lines}),
            )
    return None


def _sheets(question: Question) -> Panel | None:
    """Pictures that the best configuration left, on its first label set."""
    best, level = question.rows[0], question.shared["level"]
    if level not in _SHEETS:
        return None
    pattern, title, words = _SHEETS[level]
    run = {**question.shared, "method": best["method"], "run_id": best["run_id_list"][0]}
    file = "" if "*" in pattern else pattern
    try:
        contents = [path.read_bytes() for path in sorted(artefacts_of(question.results, run, file).glob(pattern))]
    except OSError:
        return None
    if not contents:
        return None
    image = Markup('<img alt="{}" src="data:image/png;base64,{}">')
    return Panel(
        title,
        Markup("\n").join(image.format(words, base64.b64encode(content).decode()) for content in contents),
        f"{words}. By {best['predictor']} {best['config_id'][:6]} on label set {best['label_set_list'][0]}.",
        wide=True,
    )


def _health_lines(frame: "pd.DataFrame", num_classes: int) -> list[Line]:
    found: dict[str, dict[int, list[float]]] = {name: {} for name in _HEALTH}
    for images, text in zip(frame["images"], frame["losses_json"], strict=True):
        epochs = json.loads(text)
        for name in found:
            values = [epoch[name] for epoch in epochs if epoch.get(name) is not None]
            if values:
                scale = log(num_classes) if name == "pseudo_entropy" else 1.0
                found[name].setdefault(images, []).append(fmean(values) / scale)
    return [
        Line(words, series, sorted(found[name]), [fmean(found[name][images]) for images in sorted(found[name])])
        for series, (name, words) in enumerate(_HEALTH.items())
        if found[name]
    ]


def _diagnosis(row: Mapping[str, Any], ends: Mapping[str, float]) -> str:
    words = [f"Pseudo-labels of {row['predictor']} {row['config_id'][:6]}, the best of its method."]
    if "right" in ends:
        words.append(f"At the end {100 * ends['right']:.0f} % of those kept are right (the learner never sees this)")
        words[-1] += f", and {100 * ends['kept']:.0f} % of the images are kept." if "kept" in ends else "."
    if "balance of classes" in ends:
        balance = ends["balance of classes"]
        verdict = "the classes are kept in similar numbers" if balance > 0.8 else "some classes are kept far more often"
        words.append(f"Balance {balance:.2f}: {'almost only one class is kept' if balance < 0.3 else verdict}.")
    if "entropy of the vote" in ends:
        words.append("Entropy is a share of its largest value: 1 says that the vote knows nothing.")
    return " ".join(words)
