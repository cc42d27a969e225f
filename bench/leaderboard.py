"""How long a leaderboard takes over a million runs, and compaction of ten thousand new records.

    python bench/leaderboard.py            # a million rows; some minutes, most of them to make the rows
    python bench/leaderboard.py --quick    # thousands of rows, to see that it runs

Compared to what one would type without this program, `pandas.read_parquet` and a groupby on the same tables, in turn
in one process: mean over label sets, then the best configuration per data set, shots and method. Seconds are of the
wall clock; a ratio is the median over the repeats of pandas / ours. Rows are made up, under the real schema.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from search_spaces.core.config import canonical_json, short_hash
from sparse_search.analysis.leaderboard import board
from sparse_search.results.catalog import Catalog, Part, table_path
from sparse_search.results.compaction import commit
from sparse_search.results.files import write_table
from sparse_search.results.rows import RUN_SCHEMA, SCHEMA_VERSION, SEARCHED
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING
from trainables.core.conditions import Conditions
from trainables.metrics.table import METRICS

DATASETS = (
    "pathmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist", "bloodmnist", "tissuemnist",
    "organamnist", "organcmnist", "organsmnist",
)  # fmt: skip
SHOTS = (5, 10, 20, 50)
METHODS = ("sparse", "supervised", "ssl_gan", "ssgnet", "fixmatch", "mean_teacher")
SETTINGS = ("lr", "weight_decay", "dropout", "momentum", "temperature", "ramp", "w_consistency", "image_size")
SCORED = ("balanced_accuracy", "accuracy", "macro_f1", "auroc", "calibration_error", "log_loss")
LABEL_SETS = 5
COMMAND = "import sys; from sparse_search.cli.app import main; sys.argv[0] = 'sparse-search'; main()"


@dataclass(frozen=True)
class Sizes:
    """How much there is of everything."""

    rows: int
    records: int
    predictors: int
    repeats: int
    datasets: tuple[str, ...] = DATASETS

    def partitions(self) -> list[dict]:
        """Every data set at every number of shots with every method."""
        cells = product(self.datasets, SHOTS, METHODS)
        return [{"dataset": dataset, "shots": shots, "method": method} for dataset, shots, method in cells]


FULL, QUICK = Sizes(1_000_000, 10_000, 2, 3), Sizes(2_000, 100, 2, 1, DATASETS[:2])


# What is made up


def configs(random: np.random.Generator, count: int) -> list[dict]:
    values = random.uniform(1e-4, 1.0, (count, len(SETTINGS) - 1))
    return [dict(zip(SETTINGS, [*map(float, each), 32], strict=True)) for each in values]


def scores(random: np.random.Generator) -> dict:
    """Scores of 40 validation images of two classes; whole ones, so nothing is located in them."""
    right = random.binomial(20, 0.75, 2)
    confusion = [[int(right[0]), int(20 - right[0])], [int(20 - right[1]), int(right[1])]]
    share = float(right.sum()) / 40
    metrics = {name: float(random.uniform()) for name in SCORED} | dict.fromkeys(("localisation", "patch_localisation"))
    return metrics | {"num_images": 40, "accuracy": share, "balanced_accuracy": share, "confusion": confusion}


def cell_table(random: np.random.Generator, keys: dict, count: int) -> pa.Table:
    """`count` run rows of one partition, as compaction would write them."""
    num_trials = max(1, count // LABEL_SETS)
    trial = np.repeat(np.arange(num_trials), LABEL_SETS)
    label_set = np.tile(np.arange(LABEL_SETS), num_trials)
    made = configs(random, num_trials)
    cell = "-".join(map(str, keys.values()))
    ids = [short_hash({"cell": cell, "trial": number}) for number in range(num_trials)]
    texts = [canonical_json(each) for each in made]
    outcome = [scores(random) for _ in trial]
    columns = {
        "trial_id": np.array(ids, object)[trial],
        "run_id": [f"{ids[t]}{s}" for t, s in zip(trial, label_set, strict=True)],
        "record_id": [f"{s}{ids[t]}-complete" for t, s in zip(trial, label_set, strict=True)],
        "config_id": np.array(ids, object)[trial],
        "config_json": np.array(texts, object)[trial],
        "number": trial,
        "start": np.array(["default", "paper", ""])[np.minimum(trial, 2)],
        "label_set": label_set,
        "label_set_hash": [f"hash{s}" for s in label_set],
        "fold": np.zeros(len(trial), np.int64),
        "confusion_json": [json.dumps({"confusion": each["confusion"]}) for each in outcome],
        "train_seconds": random.uniform(10, 100, len(trial)),
        **{name: [each.get(name) for each in outcome] for name in (*METRICS, "num_images")},
    }
    same = {
        "schema_version": SCHEMA_VERSION, "predictor": keys["method"], "level": "image", "sweep": "all", "study": cell,
        "inactive": "",
        "source": keys["dataset"], "content_hash": f"hash-{keys['dataset']}", "official": True, "num_runs": LABEL_SETS,
        "label_sets": "0, 1, 2, 3, 4", "label_budget": 40, "patch_labels": "",
        "shots_in_all": False, "picture_threshold": None, "image_size": 32,
        "pretrained": "", "status": "complete", "reason": "", "images_done": 1000, "epochs_done": 10,
        "protocol": 1, "wall_seconds": 60.0, "gpu_seconds": 0.0,
        "peak_memory_bytes": 10**9, "device": "cpu", "host": "here", "versions_json": '{"torch":"2"}',
        "finished_at": "2026-01-01T00:00:00+00:00", **Conditions(images=1000, evaluate_every=100).as_columns(), **keys,
    }  # fmt: skip
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.repeat(pa.scalar(same[field.name], field.type), len(trial))
        for field in RUN_SCHEMA
    ]
    settings = [pa.array(np.array([each[name] for each in made])[trial]) for name in SETTINGS]
    names = [*RUN_SCHEMA.names, *(SEARCHED + name for name in SETTINGS)]
    return pa.Table.from_arrays([*arrays, *settings], names=names).sort_by("trial_id")


def compacted(folder: Path, sizes: Sizes) -> Store:
    """A store with so many run rows in one part per data set, shots and method."""
    random, parts = np.random.default_rng(0), {}
    cells, rows = sizes.partitions(), sizes.rows
    for number, keys in enumerate(cells):
        partition = "/".join(f"{key}={value}" for key, value in keys.items())
        table = cell_table(random, keys, rows // len(cells))
        stem = f"part-{number:016x}"
        footer = write_table(table_path(folder, "runs", partition, stem), table)
        parts[partition] = [Part(stem, len(table), {"runs": footer})]
        progress(f"making {rows:,} rows", number + 1, len(cells))
    commit(folder, Catalog({}, {}), parts)
    return Store(folder)


def new_records(store: Store, sizes: Sizes) -> None:
    """Writes records one by one, as a driver does: per predictor a run row and four rows of its curve."""
    random = np.random.default_rng(1)
    nothing = {"s": "", "i": 1, "d": 0.5, "b": False}
    same = {field.name: nothing[{"string": "s", "int64": "i", "double": "d", "bool": "b"}[str(field.type)]]
            for field in RUN_SCHEMA}  # fmt: skip
    predictors = [f"predictor{number}" for number in range(sizes.predictors)]
    cells, count = sizes.partitions(), sizes.records
    for number, config in enumerate(configs(random, count)):
        each = {name: scores(random) for name in predictors}
        keys = {
            **cells[number % len(cells)],
            "record_id": f"{short_hash({'record': number})}-complete",
            "run_id": f"run{number}",
            "trial_id": f"trial{number}",
            "status": "complete",
            "kind": "classification",
            "predictors": predictors,
            "patch_predictors": [],
            "config": config,
            "versions": {},
            "curve": [
                {"epoch": e, "images": 10 * e, "seconds": 1.0 * e, "losses": [], "scores": each, "selected": each}
                for e in range(1, 5)
            ],
        }
        store.write(same | keys)
        if number % 100 == 99:
            progress(f"writing {count:,} records", number + 1, count)


def progress(what: str, done: int, total: int) -> None:
    end = "\n" if done == total else "\r"
    if sys.stderr.isatty() or done == total:
        print(f"{what}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)


# The two sides


def ours(store: Store, **filters: object) -> int:
    return len(board(store, **filters).ranked)


def with_pandas(store: Store) -> int:
    """Mean per trial, best trial per data set, shots and method, and a normal interval over its label sets."""
    runs = pd.read_parquet(store.folder / "tables" / "runs", partitioning=None)
    runs = runs[runs["status"] == "complete"]
    trials = runs.groupby([*RANKING, "method", "predictor", "trial_id"], observed=True)["balanced_accuracy"]
    means = trials.agg(["mean", "std", "count"]).reset_index()
    best = means.loc[means.groupby(["dataset", "shots", "method"])["mean"].idxmax()]
    half = 1.96 * best["std"] / best["count"] ** 0.5
    return len(best.assign(low=best["mean"] - half, high=best["mean"] + half))


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def command_seconds(folder: Path, *arguments: str) -> float:
    """Of the whole command in a process of its own."""
    command = [sys.executable, "-c", COMMAND, "leaderboard", "--results", str(folder), *arguments]
    root = Path(__file__).resolve().parents[1]
    return seconds(lambda: subprocess.run(command, check=True, cwd=root, stdout=subprocess.DEVNULL))


def questions(folder: Path, sizes: Sizes) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and target of each line of the table."""
    store = compacted(folder / "compacted", sizes)
    cold = [command_seconds(store.folder) for _ in range(sizes.repeats)]
    yield f"`sparse-search leaderboard`, {sizes.rows:,} rows, new process", statistics.median(cold), "< 1.5 s"
    one_cell = {"dataset": DATASETS[1], "shots": SHOTS[1]}
    warm = [seconds(lambda: ours(store, **one_cell)) for _ in range(sizes.repeats + 1)][1:]
    yield "one data set and shot count of them, warm", statistics.median(warm), "< 0.05 s"
    turns = [(seconds(lambda: ours(store)), seconds(lambda: with_pandas(store))) for _ in range(sizes.repeats)]
    mine, theirs = zip(*turns, strict=True)
    yield "best of each data set, shots and method, all", statistics.median(mine), ""
    yield "the same with pandas.read_parquet and groupby", statistics.median(theirs), ""
    yield "pandas / ours", statistics.median(b / a for a, b in turns), "> 3 (no seconds)"
    scattered = Store(folder / "records")
    new_records(scattered, sizes)
    yield f"compaction of {sizes.records:,} new records", seconds(scattered.compact), "< 10 s, once"
    yield f"best of their {sizes.records * sizes.predictors * 5:,} rows after it", seconds(lambda: ours(scattered)), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="thousands of rows, to see that it runs")
    parser.add_argument("--rows", type=int, help="compacted rows instead")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else FULL
    if asked.rows:
        sizes = replace(sizes, rows=asked.rows)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    print(f"pyarrow {pa.__version__}, pandas {pd.__version__}, {pa.cpu_count()} threads {threads and '(as asked)'}")
    print(f"{'question':70s} {'seconds':>8s}  target")
    with tempfile.TemporaryDirectory() as folder:
        for name, taken, target in questions(Path(folder), sizes):
            print(f"{name:70s} {taken:8.3f}  {target}", flush=True)


if __name__ == "__main__":
    main()
