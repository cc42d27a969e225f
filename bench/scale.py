"""Where one driver ends: the real searcher, journal and store with trials that are only simulated.

    python bench/scale.py                             # 10,000 trials over 1,000 slots, a few minutes on an idle core
    python bench/scale.py --trials 500 --slots 50     # fewer
    python bench/scale.py --profile                   # and which functions took the time

A sweep of four methods on five data sets at one number of shots (20 studies, five label sets, the default sampler and
pruner) is driven as Ray Tune drives it: asked for a trial whenever a slot is free, told of every rung, of every sign of
life in between and of every end. No trial is trained and Ray is not started: a clock of its own says whose report is
next, and a trial's scores are drawn. The journal is the file that a sweep has, on disk after every step; the records
have up to 27 evaluations and are written one by one. Only the calls of the searcher are timed, not what a worker does.

A decision is an ask, a report at a rung or the end of a trial. What Ray Tune itself needs for each comes on top.
"""

import argparse
import cProfile
import json
import os
import pstats
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search_spaces.core.config import write_config
from sparse_search.analysis.leaderboard import board
from sparse_search.execution.searcher import JournalPruner, JournalSearcher
from sparse_search.execution.worker import Job, record_id
from sparse_search.results.store import Store
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.sweep import DatasetFacts, Study, Sweep
from sparse_search.search.sweep_file import parse_sweep
from sparse_search.versions import versions
from trainables.core.conditions import PROTOCOL
from trainables.training.run import Run, runs_of_trial
from trainables.training.trial import Trial

METHODS = ("sparse", "supervised", "convnet", "ssl_gan")
DATASETS = ("pneumoniamnist", "dermamnist", "bloodmnist", "octmnist", "breastmnist")
SHOTS = 10
LABEL_SETS = 5
NUM_CLASSES = 4
PEOPLE = 20
"""Images of each class in a validation set."""

TRIAL_SECONDS = 600.0
"""Of a trial at its full budget, in the middle."""

LINES = 10
"""Of the table."""


@dataclass(frozen=True, order=True)
class Event:
    """The next report of a trial in a slot."""

    at: float
    trial_id: str
    rung: int = field(compare=False)
    since: float = field(compare=False)
    """When it reported last."""


@dataclass
class Spent:
    """Seconds that the driver was busy, and how often, by what it did."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, seconds: float) -> None:
        self.seconds[what] += seconds
        self.calls[what] += 1

    def mean(self, what: str) -> float:
        return self.seconds[what] / max(self.calls[what], 1)


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What it returns, and the seconds that it took."""
    started = time.perf_counter()
    returned = call(*arguments)
    return returned, time.perf_counter() - started


# What is made up


def sweep_of(num_trials: int) -> Sweep:
    plan = {"trials": -(-num_trials // (len(METHODS) * len(DATASETS)))}
    return parse_sweep(
        {
            "name": "scale",
            "datasets": list(DATASETS),
            "shots": [SHOTS],
            "label_sets": list(range(LABEL_SETS)),
            "confirm": 0,
            "max_trials": num_trials,
            "methods": dict.fromkeys(METHODS, plan),
        }
    )


def scores(random_: random.Random, quality: float) -> dict[str, Any]:
    """Of a validation set on which about so much of every class is right."""
    right = [sum(random_.random() < quality for _ in range(PEOPLE)) for _ in range(NUM_CLASSES)]
    wrong = [PEOPLE - count for count in right]
    share = sum(right) / (NUM_CLASSES * PEOPLE)
    return {
        "num_images": NUM_CLASSES * PEOPLE, "accuracy": share, "balanced_accuracy": share, "macro_f1": share,
        "auroc": random_.uniform(share, 1), "calibration_error": random_.random(), "log_loss": random_.random(),
        "localisation": None, "patch_localisation": None, "threshold": None,
        "confusion": [
            [right[row] if column == row else wrong[row] * (column == (row + 1) % NUM_CLASSES)
             for column in range(NUM_CLASSES)]
            for row in range(NUM_CLASSES)
        ],
    }  # fmt: skip


def record_of(job: Job, run: Run, images: int, content_hash: str, random_: random.Random, quality: float) -> dict:
    """What a worker says of a run that was trained so far."""
    trial = run.trial
    predictors = trial.find_method().predictors
    found = {name: scores(random_, quality) for name in predictors}
    run_id = run.run_id(content_hash)
    losses = {f"loss{number}": random_.random() for number in range(6)}
    same = {name: getattr(trial, name) for name in ("method", "shots", "dataset")}
    return same | trial.conditions.as_columns() | {
        "record_id": record_id(run_id, job.study, job.number, job.sweep), "run_id": run_id, "trial_id": trial.trial_id,
        "sweep": job.sweep, "study": job.study, "number": job.number, "start": job.start, "label_sets": job.label_sets,
        "num_runs": len(runs_of_trial(trial)), "kind": "classification", "predictors": list(predictors),
        "patch_predictors": [],
        "config": write_config(trial.config), "inactive": "", "source": trial.dataset, "content_hash": content_hash,
        "official": True, "label_set": run.label_set, "fold": run.fold, "label_set_hash": f"hash{run.label_set}",
        "label_budget": 2 * SHOTS * NUM_CLASSES, "shots_in_all": False, "patch_labels": "", "protocol": PROTOCOL,
        "device": "simulated", "host": "simulated", "versions": versions(),
        "wall_seconds": 100.0, "gpu_seconds": 0.0, "peak_memory_bytes": 10**9,
        "finished_at": "2026-01-01T00:00:00+00:00",
        "curve": [
            {"epoch": epoch, "images": epoch * trial.conditions.evaluate_every, "seconds": 3.7 * epoch,
             "losses": [{"epoch": epoch, **losses}], "scores": found, "selected": found}
            for epoch in range(1, images // trial.conditions.evaluate_every + 1)
        ],
    }  # fmt: skip


@dataclass
class Worker:
    """A trial that is trained in no time."""

    job: Job
    content_hash: str
    random_: random.Random

    def __post_init__(self) -> None:
        self.trial = Trial.from_dict(self.job.trial)
        self.quality = self.random_.betavariate(6, 3)
        self.pace = self.random_.lognormvariate(0, 0.3) * TRIAL_SECONDS / self._work(len(self.job.rungs) - 1)

    def seconds_to(self, rung: int) -> float:
        """From the rung before."""
        return self.pace * (self._work(rung) - (self._work(rung - 1) if rung else 0))

    def report(self, number: int) -> dict[str, Any]:
        rung, final = self.job.rungs[number], number == len(self.job.rungs) - 1
        noise = self.random_.gauss(0, 0.1) / rung.num_label_sets**0.5
        quality = min(
            1.0, max(0.0, self.quality * (1 - 0.3 * (1 - rung.images / self.trial.conditions.images)) + noise)
        )
        runs = [
            run for run in runs_of_trial(self.trial) if run.label_set in self.trial.label_sets[: rung.num_label_sets]
        ]
        records = [record_of(self.job, run, rung.images, self.content_hash, self.random_, quality) for run in runs]
        told = {"value": quality, "step": rung.step, "at_rung": True, "share": 0.5, "final": final}
        return told | {"outcome": "", "reason": "", "retry": False, "records": json.dumps(records)}

    def _work(self, rung: int) -> int:
        return self.job.rungs[rung].images * self.job.rungs[rung].num_label_sets


SIGN_OF_LIFE = {
    "value": 0.5, "step": 0, "at_rung": False, "share": 0.5, "final": False, "outcome": "", "reason": "",
    "retry": False, "records": "[]",
}  # fmt: skip


# The driver


class Cluster:
    """Slots whose workers need no time, and a searcher that is driven as Tune drives it."""

    def __init__(self, sweep: Sweep, slots: int, folder: Path) -> None:
        self.store = Store(folder / "results")
        self.store.prepare()
        self.path = folder / "journal.log"
        storage = Journal(self.path)
        studies = sweep.studies({(name, SHOTS): DatasetFacts(f"hash-{name}", 10 * SHOTS, 4000) for name in DATASETS})
        searches = [StudyJournal(study, storage) for study in studies]
        confirmations = [StudyJournal(study.confirming(), storage) for study in studies]
        for journal in searches:
            journal.propose_starts()
        self.searcher = JournalSearcher(
            searches, confirmations, self.store, checkpoints=folder / "checkpoints", data_root=None
        )
        self.pruner = JournalPruner(self.searcher)
        self.studies: dict[str, Study] = {study.name: study for study in studies}
        self.spent = Spent()
        self.ended = self.asked = 0
        self._slots = slots
        self._now = 0.0
        self._workers: dict[str, Worker] = {}
        self._events: list[Event] = []
        self._random = random.Random(0)

    def run(self) -> Iterator[int]:
        """Until the sweep is complete; the number of trials that ended, after each."""
        while self._fill() or self._events:
            event = heappop(self._events)
            self._now = event.at
            if self._live_through(event):
                self.ended += 1
                yield self.ended
        if self.searcher.problem:
            raise RuntimeError(self.searcher.problem)

    def _fill(self) -> bool:
        """Asks for trials while slots are free."""
        while len(self._workers) < self._slots:
            trial_id = f"{self.asked:08x}"
            suggested, seconds = timed(self.searcher.suggest, trial_id)
            if suggested is None or suggested == Searcher.FINISHED:
                self.spent.note("nothing to train", seconds)
                break
            self.spent.note("ask", seconds)
            self.asked += 1
            job = Job.from_json(suggested["job"])
            content_hash = self.studies[job.study].facts.content_hash
            self._workers[trial_id] = worker = Worker(job, content_hash, self._random)
            heappush(self._events, Event(self._now + worker.seconds_to(0), trial_id, 0, self._now))
        return bool(self._workers)

    def _live_through(self, event: Event) -> bool:
        """The trial's signs of life since its last report, and this one; whether it has ended."""
        tune_trial, worker = SimpleNamespace(trial_id=event.trial_id), self._workers[event.trial_id]
        for _ in range(int((event.at - event.since) / worker.job.quiet_seconds)):
            self.spent.note("sign of life", timed(self.pruner.on_trial_result, None, tune_trial, SIGN_OF_LIFE)[1])
        report = worker.report(event.rung)
        what = "sign of life" if report["final"] else "report"
        decision, seconds = timed(self.pruner.on_trial_result, None, tune_trial, report)
        self.spent.note(what, seconds)
        if not report["final"] and decision == TrialScheduler.CONTINUE:
            rung = event.rung + 1
            heappush(self._events, Event(event.at + worker.seconds_to(rung), event.trial_id, rung, event.at))
            return False
        self.spent.note("end", timed(self.searcher.on_trial_complete, event.trial_id, report)[1])
        del self._workers[event.trial_id]
        return True


# The table

COLUMNS = (
    "ended", "ask ms", "report ms", "end ms", "sign of life ms", "decisions/s", "s/trial", "trials/h", "journal MB",
    "records MB", "memory MB",
)  # fmt: skip


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cells(cluster: Cluster, spent: Spent, ended: int) -> list[str]:
    """A line of the table: what the last `ended` trials took, and how much there is now."""
    decisions = "ask", "report", "end"
    busy, per_trial = sum(spent.seconds[name] for name in decisions), sum(spent.seconds.values()) / ended
    sizes = cluster.path.stat().st_size, bytes_below(cluster.store.folder / "records"), memory_bytes()
    return [
        f"{cluster.ended:,}",
        *(f"{1e3 * spent.mean(name):.1f}" for name in decisions),
        f"{1e3 * spent.mean('sign of life'):.3f}",
        f"{sum(spent.calls[name] for name in decisions) / busy:,.0f}",
        f"{per_trial:.4f}",
        f"{3600 / per_trial:,.0f}",
        *(f"{size / 1e6:,.1f}" for size in sizes),
    ]


def print_row(row: list[str] | tuple[str, ...]) -> None:
    print("| " + " | ".join(cell.rjust(len(name)) for cell, name in zip(row, COLUMNS, strict=True)) + " |", flush=True)


def print_table(cluster: Cluster, num_trials: int) -> float:
    """Drives the sweep to its end, a line for each part of it; seconds of driver for one of the last trials."""
    print_row(COLUMNS)
    print_row(["-" * len(name) for name in COLUMNS])
    every, per_trial = max(1, num_trials // LINES), 0.0
    last = 0
    for ended in cluster.run():
        if ended % every == 0 or ended == num_trials:
            print_row(cells(cluster, cluster.spent, ended - last))
            per_trial = sum(cluster.spent.seconds.values()) / (ended - last)
            cluster.spent, last = Spent(), ended
    return per_trial


def verdict(num_trials: int, slots: int, per_trial: float) -> str:
    """Where one driver ends."""
    return (
        f"At {num_trials:,} known trials one driver is busy the whole time at {3600 / per_trial:,.0f} trials an hour, "
        f"Ray Tune's own work not counted: {slots:,} slots stay busy while their trials take "
        f"{slots * per_trial:,.1f} s or longer on average."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--profile", action="store_true", help="which functions took the time")
    given = parser.parse_args()
    sweep = sweep_of(given.trials)
    print(
        f"{given.trials:,} trials in {len(METHODS) * len(DATASETS)} studies over {given.slots:,} slots, "
        f"optuna {optuna.__version__}, load {os.getloadavg()[0]:.1f} at the start, {memory_bytes() / 1e6:.0f} MB before"
    )
    profiler = cProfile.Profile() if given.profile else None
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(sweep, given.slots, Path(folder))
        with profiler or nullcontext():
            per_trial = print_table(cluster, given.trials)
        first, again = timed(board, cluster.store)[1], timed(board, cluster.store)[1]
        size = bytes_below(cluster.store.folder / "tables")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\nleaderboard: {first:.2f} s with the compaction of all records, {again:.2f} s after it; tables "
          f"{size / 1e6:,.1f} MB; peak memory {peak / 1e6:,.0f} MB\n")  # fmt: skip
    print(verdict(given.trials, given.slots, per_trial))
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
