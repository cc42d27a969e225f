"""Records real tiny runs, once, as the table on which `search_quality.py` simulates searches.

    python bench/record_replay.py record FOLDER --label-sets 5 --minutes 45 --part 0/2
    python bench/record_replay.py collect FOLDER bench/data/replay.parquet

A run is one configuration on one label set, trained once for the full budget by the real driver. As nothing in
training depends on the budget's end, its first 1/27, 1/9 and 1/3 are the runs with these budgets: four rows. Each has
the balanced accuracy of the method's main predictor on the validation images, all that a search may see, and on test
images, by which a search is judged afterwards. Recording can be killed and resumed; parts share a folder.
"""

import argparse
import gc
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from timm.models import register_model
from torch import nn

from search_spaces.core.config import MethodConfig, canonical_json, read_config, write_config
from search_spaces.core.ranges import Choice, Float, Int, Range, narrow, space_of
from trainables.core.conditions import Conditions
from trainables.core.method import Labelled, Learner, find_method
from trainables.data.tasks import test_set
from trainables.metrics.scoring import score_all
from trainables.training.accelerator import new_accelerator
from trainables.training.prediction import DivergedError, Oracle
from trainables.training.run import Run, runs_of_trial
from trainables.training.train import Budget, train
from trainables.training.trial import Trial

IMAGES = 2700
SHARES = (27, 9, 3, 1)
"""Budgets: the full one divided by each."""

MIN_LABEL_SETS = 5
MAX_TEST_IMAGES = 500
TINY = {"image_size": 16, "classifier": "replay_cnn", "drop_path": 0.0, "batch_size": 32}

SCHEMA = pa.schema(
    [
        ("cell", pa.dictionary(pa.int8(), pa.string())),
        ("config", pa.int16()),
        ("config_json", pa.dictionary(pa.int16(), pa.string())),
        ("label_set", pa.int8()),
        ("images", pa.int32()),
        ("budget", pa.float32()),
        ("validation", pa.float32()),
        ("test", pa.float32()),
        ("train_seconds", pa.float32()),
    ]
)


class ReplayCnn(nn.Sequential):
    """Three strided convolutions: a third of the time of timm's smallest network, and it learns from fewer steps."""

    def __init__(self, in_chans: int, num_classes: int, drop_rate: float) -> None:
        stages = [
            nn.Sequential(nn.Conv2d(fewer, more, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(more), nn.ReLU())
            for fewer, more in pairwise((in_chans, 16, 32, 64))
        ]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop_rate), nn.Linear(64, num_classes))
        super().__init__(*stages, *head)


@register_model
def replay_cnn(*, in_chans: int, num_classes: int, drop_rate: float, **_pretrained: Any) -> ReplayCnn:
    """As timm makes its networks; there are no pretrained weights."""
    return ReplayCnn(in_chans, num_classes, drop_rate)


@dataclass(frozen=True)
class Cell:
    """A method on a dataset, with what is tiny about it."""

    method: str
    dataset: str
    shots: int
    base: Mapping[str, Any]
    """Of every configuration, presets included."""

    ranges: Mapping[str, Any]
    """What differs from the method's own: learning rates for a hundred steps, cycles that fit the first rung, and no
    batches so small that their steps would take most of the recording.
    """

    num_configs: int
    """A run of SPARSE takes five times as long, so it has fewer."""

    @property
    def name(self) -> str:
        return f"{self.method}/{self.dataset}"


def _supervised(dataset: str, shots: int) -> Cell:
    ranges = {"lr": {"low": 3e-4, "high": 2e-2}, "batch_size": [16, 32, 64]}
    return Cell("supervised", dataset, shots, TINY, ranges, 60)


def _sparse(dataset: str, shots: int, fractions: tuple[float, float]) -> Cell:
    ranges = {
        "lr": {"low": 3e-4, "high": 2e-2},
        "batch_size": [32, 64],
        "mu": [1, 2, 5],
        "unsup_warmup": {"low": 0, "high": 5},
        "unsup_fraction": {"low": fractions[0], "high": fractions[1]},
    }
    base = TINY | {"width": 4, "critic_width": 8, "unsup_fraction": fractions[1]}
    return Cell("sparse", dataset, shots, base, ranges, 15)


CELLS = (
    _supervised("digits", 5),
    _sparse("digits", 5, (0.02, 0.045)),
    _supervised("pneumoniamnist", 20),
    _sparse("pneumoniamnist", 20, (0.005, 0.0125)),
)


def config_of(cell: Cell, number: int) -> MethodConfig:
    """The default, then the presets that differ from it, then draws from the ranges."""
    kind: type[MethodConfig] = find_method(cell.method).config
    known = [{}, *filter(None, kind.presets.values())]
    if number < len(known):
        return read_config(kind, {**known[number], **cell.base})
    space = space_of(kind)
    ranges = {**space, **narrow(space, cell.ranges)}
    draw = np.random.default_rng([zlib.crc32(cell.name.encode()), number])
    return read_config(kind, {**cell.base, **{name: _drawn(range_, draw) for name, range_ in ranges.items()}})


def _drawn(range_: Range, draw: np.random.Generator) -> Any:
    match range_:
        case Float(low, high, log):
            return float(np.exp(draw.uniform(np.log(low), np.log(high))) if log else draw.uniform(low, high))
        case Int(low, high):
            return int(draw.integers(low, high, endpoint=True))
        case Choice(options):
            return options[int(draw.integers(len(options)))]


@dataclass(frozen=True)
class RungBudget(Budget):
    """Looks only where a rung ends: the other evaluations change nothing and take time."""

    def evaluations(self, epoch_images: Callable[[int], int], cycle_ends: Callable[[int], bool]) -> dict[int, int]:
        every = super().evaluations(epoch_images, cycle_ends)
        return {epoch: end for epoch, end in every.items() if end in {self.images // share for share in SHARES}}


@cache
def test_images(dataset: str) -> Labelled:
    """At most 500, always the same."""
    whole = test_set(dataset)
    chosen_N = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:MAX_TEST_IMAGES]
    return Labelled(whole.images_NCHW[chosen_N], whole.labels_N[chosen_N])


def curve(run: Run) -> Iterator[tuple[int, float, float, float]]:
    """(images, validation, test, seconds) at each budget; ends early where training diverges."""
    method, learners = run.trial.find_method(), list[Learner]()

    def build(*parts: Any) -> Learner:
        learners.append(method.build(*parts))
        return learners[0]

    main, unseen = method.predictors[0], test_images(run.trial.dataset)
    budget = RungBudget(run.trial.conditions.images, run.trial.conditions.evaluate_every)
    accelerator = new_accelerator(precision="no", cpu=True)
    watched, task, statistics = replace(method, build=build), run.task(None), run.trial.conditions.statistics
    oracle = Oracle(task, statistics)
    options: dict[str, Any] = {"seed": run.seed, "accelerator": accelerator, "statistics": statistics}
    try:
        for progress in train(watched, run.trial.config, task, budget, **options):
            if progress.budget_images:
                asked = oracle.ask(learners[0], unseen, progress.epoch, with_pool=False)
                scores = score_all(asked.predictions, {}, unseen, run.trial.picture_rule)
                test = scores[main].metric("balanced_accuracy")
                validation = progress.scores[main].metric("balanced_accuracy")
                yield progress.budget_images, validation, test, progress.train_seconds
    except DivergedError:
        return


def runs_of(cell: Cell, number: int, label_sets: range) -> tuple[Run, ...]:
    """The runs of a configuration, seeded as in a real search."""
    config = config_of(cell, number)
    trial = Trial(
        method=cell.method,
        config=config,
        dataset=cell.dataset,
        shots=cell.shots,
        label_sets=tuple(label_sets),
        conditions=Conditions(images=IMAGES, evaluate_every=IMAGES // max(SHARES)),
    )
    return runs_of_trial(trial)


def record(folder: Path, label_sets: range, minutes: float, part: int, parts: int) -> None:
    """One line of JSON for each run, in the order that leaves a balanced table wherever it is stopped."""
    torch.set_num_threads(1)
    gc.freeze()  # the driver collects after every run: half a second of looking at modules
    folder.mkdir(parents=True, exist_ok=True)
    known = {(line["cell"], line["config"], line["label_set"]) for line in recorded(folder)}
    end = time.monotonic() + 60 * minutes
    order = sorted(((cell, n) for cell in CELLS for n in range(part, cell.num_configs, parts)), key=_place)
    with (folder / f"runs-{part}-{label_sets.start}.jsonl").open("a") as file:
        for cell, number in order:
            for run in runs_of(cell, number, label_sets):
                if time.monotonic() > end:
                    return
                if (cell.name, number, run.label_set) not in known:
                    line = {"cell": cell.name, "config": number, "label_set": run.label_set}
                    of_run = {"config_json": canonical_json(write_config(run.trial.config)), "curve": list(curve(run))}
                    file.write(json.dumps(line | of_run) + "\n")
                    file.flush()


def _place(configuration: tuple[Cell, int]) -> float:
    return configuration[1] / configuration[0].num_configs


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Every whole line; a kill may have left half of one."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


def collect(folder: Path, file: Path) -> None:
    """One Parquet file of the configurations with at least five label sets; NaN from where a run diverged."""
    lines = {(line["cell"], line["config"], line["label_set"]): line for line in recorded(folder)}
    rows = []
    for (cell, number, _), line in sorted(lines.items()):
        if all((cell, number, label_set) in lines for label_set in range(MIN_LABEL_SETS)):
            scores = {images: rest for images, *rest in line.pop("curve")}
            for images in (IMAGES // share for share in SHARES):
                named = zip(("validation", "test", "train_seconds"), scores.get(images, [np.nan] * 3), strict=True)
                rows.append({**line, "images": images, "budget": images / IMAGES, **dict(named)})
    protocol = {
        "what": "balanced accuracy of the main predictor, validation 'realistic'; test: a fixed draw of test images",
        "cells": {cell.name: {"shots": cell.shots, "base": cell.base, "ranges": cell.ranges} for cell in CELLS},
        "images": IMAGES,
        "most_test_images": MAX_TEST_IMAGES,
        "recorded_by": "bench/record_replay.py",
    }
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"protocol": json.dumps(protocol)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, compression="zstd", compression_level=19)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--label-sets", type=int, default=5)
    recording.add_argument("--first-label-set", type=int, default=0)
    recording.add_argument("--minutes", type=float, default=600)
    recording.add_argument("--part", default="0/1", help="which share of the configurations: 0/2 and 1/2 are two")
    collecting = commands.add_parser("collect")
    collecting.add_argument("folder", type=Path)
    collecting.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.folder, given.file)
        return
    part, parts = map(int, given.part.split("/"))
    label_sets = range(given.first_label_set, given.first_label_set + given.label_sets)
    record(given.folder, label_sets, given.minutes, part, parts)


if __name__ == "__main__":
    main()
