"""What searching itself costs: ours against Ray Tune's own OptunaSearch, in turn in one process on one Ray.

    python bench/overhead.py            # about seven minutes on two idle cores
    python bench/overhead.py --quick    # tiny counts, to see that it runs
    python bench/overhead.py --only ask

Three questions, each answered beside its bar:

- wall: seconds for trials that do nothing, and for trials that sleep a second, two at a time. The space, the sampler's
  options, the first configuration and the objective are the same. Ours also does what it does in every sweep: loads the
  task, scores the validation images, writes a checkpoint, a record and the journal. The rival is what the manual of Ray
  shows, with its defaults; and the same with `reuse_actors=True`, which ours has too. Both start their workers inside
  the time; Ray is started before it.
- state: what a searcher writes so that a restart loses nothing. Ours appends to a journal: bytes for each of the last
  trials. OptunaSearch pickles all it knows, every ten seconds or less often: bytes of one pickle, as of one a trial.
- ask: the next trial and its parameters when so many trials are known. Ours goes through the journal file, with a new
  sampler for each ask, and refuses what is known; the rival is an Optuna study in memory that knows the same trials.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from optuna.samplers import BaseSampler
from ray import cloudpickle, tune
from ray.tune.search.optuna import OptunaSearch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import trivial
from search_spaces.core.ranges import Space
from sparse_search.distributions import distribution_of, suggest
from sparse_search.execution.run import plan_studies, run
from sparse_search.search.choices import new_sampler
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.outcomes import Result
from sparse_search.search.sweep import Study, Sweep
from sparse_search.search.sweep_file import parse_sweep

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2
COMMON = {
    "name": "overhead", "datasets": ["digits"], "shots": [2], "image_size": 16, "images": 20, "evaluate_every": 20,
    "label_sets": [0], "confirm": 0, "pruner": "none",
}  # fmt: skip
SEARCHED = (
    "lr", "lr_ratio_critic", "lr_ratio_classifier", "weight_decay", "dropout", "batch_size", "mu", "unsup_fraction",
    "n_critic", "w_entropy", "w_mixup", "ens_temperature",
)  # fmt: skip
"""Twelve of SPARSE's parameters, of every kind; none has a condition that fails."""


@dataclass(frozen=True)
class Sleepers:
    """Trials that only sleep."""

    num_trials: int
    seconds: float
    bar: str = ""


@dataclass(frozen=True)
class Counts:
    """How much of everything."""

    wall: tuple[Sleepers, ...]

    known: tuple[int, ...]
    """Numbers of trials at which the state is measured; at the last one also the ask."""

    window: int
    """Trials over which what ours appends is averaged."""

    asks: int
    state_bar: str = ""
    ask_bar: str = ""


FULL = Counts(
    wall=(Sleepers(100, 0.0, "at least 10x less"), Sleepers(60, 1.0, "at least 2x less")),
    known=(10, 100, 1000),
    window=10,
    asks=31,
    state_bar="at least 20x less",
    ask_bar="at most 1.5x the cost",
)
QUICK = Counts(wall=(Sleepers(2, 0.0),), known=(15, 30, 60), window=5, asks=3)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    ours: str
    rival: str
    rival_is: str
    ratio: str
    bar: str = ""


# What is searched: all that depends on the keys of a sweep and on how a trial ends


def trivial_sweep(sleepers: Sleepers) -> Sweep:
    """One epoch, one evaluation and one checkpoint for each trial."""
    plan = {"trials": sleepers.num_trials, "settings": {"seconds": sleepers.seconds}}
    return parse_sweep(COMMON | {"workers": WORKERS, "methods": {f"{trivial.__name__}:METHOD": plan}})


def sparse_study(num_trials: int, folder: Path) -> Study:
    """A search over `SEARCHED`."""
    plan = {"trials": num_trials, "presets": [], "search": list(SEARCHED)}
    (study,) = plan_studies(parse_sweep(COMMON | {"methods": {"sparse": plan}}), folder)
    return study


def stock_sampler(sweep: Sweep, num_trials: int) -> BaseSampler:
    """With the options that ours has."""
    return new_sampler(sweep.sampler, seed=0, num_known=0, num_planned=num_trials)


def stock_space(space: Space) -> dict[str, Any]:
    return {name: distribution_of(range_) for name, range_ in space.items()}


def complete(journal: StudyJournal, trial: optuna.Trial, value: float) -> None:
    """As the driver ends a trial, with all that it notes."""
    measures = {"train_seconds": 12.3456789, "seconds_per_image": 0.00123456789, "peak_memory_bytes": 1_234_567_890}
    journal.complete(trial, value, Result(measures, (value - 0.0123456789, value + 0.0123456789)))


# Wall time


def measure_wall(counts: Counts) -> Iterator[Line]:
    with ray_of_two():
        for sleepers in counts.wall:
            stock = seconds_of(run_stock, sleepers)
            ours = seconds_of(run_ours, sleepers)
            reusing = seconds_of(run_stock, sleepers, reuse_actors=True)
            what = f"{sleepers.num_trials} trials of {sleepers.seconds:g} s"
            for rival, rival_is, bar in ((stock, "stock", sleepers.bar), (reusing, "stock, reuse_actors=True", "")):
                times = (f"{taken:.1f} s, {sleepers.num_trials / taken:.2f} trials/s" for taken in (ours, rival))
                yield Line(what, *times, rival_is, less(ours, rival), bar)


@contextmanager
def ray_of_two() -> Iterator[None]:
    """Ray on two CPUs, whose workers can import `bench`; ready when it has run something on both."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    cloudpickle.register_pickle_by_value(trivial)  # so that a stock worker does not import torch for the objective
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=WORKERS, **quiet)  # never the cluster that another process has started
    try:
        ray.get([ray.remote(lambda: time.sleep(0.1)).remote() for _ in range(WORKERS)])
        yield
    finally:
        ray.shutdown()


def seconds_of(search: Callable[..., None], sleepers: Sleepers, **options: Any) -> float:
    """Of a search from the call to its end. What it prints is lost, and the environment is as it was before."""
    before = dict(os.environ)
    started = time.perf_counter()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        search(sleepers, **options)
    taken = time.perf_counter() - started
    os.environ.clear()
    os.environ.update(before)
    return taken


def run_ours(sleepers: Sleepers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary = run(trivial_sweep(sleepers), folder, data_root=folder)
    finished = sum(status.complete for status in summary.studies)
    if finished != sleepers.num_trials:
        raise RuntimeError(f"{finished} of {sleepers.num_trials} trials are complete: {summary.failures}")


def run_stock(sleepers: Sleepers, **tune_options: Any) -> None:
    sweep = trivial_sweep(sleepers)
    (plan,) = sweep.methods
    objective, seconds = trivial.objective, sleepers.seconds

    def train(config: dict[str, Any]) -> None:
        time.sleep(seconds)
        tune.report({"value": objective(config)})

    search = OptunaSearch(
        stock_space(plan.space),
        metric="value",
        mode="max",
        points_to_evaluate=[{name: getattr(plan.settings, name) for name in plan.space}],
        sampler=stock_sampler(sweep, sleepers.num_trials),
    )
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=sleepers.num_trials,
                max_concurrent_trials=WORKERS,
                **tune_options,
            ),
            run_config=tune.RunConfig(name="overhead", storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    if len(results) != sleepers.num_trials or results.errors:
        raise RuntimeError(f"{len(results)} of {sleepers.num_trials} trials are complete: {results.errors}")


# State and ask


def measure_state_and_ask(counts: Counts, asked: bool = True) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        study = sparse_study(counts.known[-1] + 2 * counts.asks, Path(folder))
        file = Path(folder, "journal.log")
        journal = StudyJournal(study, Journal(file))
        appended = bytes_appended(journal, file, counts)
        yield from state_lines(counts, appended, bytes_pickled(study, counts, Path(folder)))
        if asked:
            yield ask_line(journal, study, file, counts)


def bytes_appended(journal: StudyJournal, file: Path, counts: Counts) -> list[float]:
    """To the journal, for each of the last trials before every count; leaves it with the last count of trials."""
    sizes = [file.stat().st_size]
    for value in values(counts.known[-1]):
        trial, _ = journal.ask()
        complete(journal, trial, value)
        sizes.append(file.stat().st_size)
    return [(sizes[count] - sizes[count - counts.window]) / counts.window for count in counts.known]


def bytes_pickled(study: Study, counts: Counts, folder: Path) -> list[float]:
    """By one `save` of OptunaSearch after each count of trials."""
    space = stock_space(study.plan.space)
    sampler = stock_sampler(study.sweep, study.plan.trials)
    search = OptunaSearch(space, metric="value", mode="max", sampler=sampler)
    sizes = []
    for number, value in enumerate(values(counts.known[-1]), start=1):
        trial_id, result = f"{number:08x}", {"value": value, "training_iteration": 1}
        search.suggest(trial_id)
        search.on_trial_result(trial_id, result)
        search.on_trial_complete(trial_id, result)
        if number in counts.known:
            search.save(str(folder / "stock.pkl"))
            sizes.append((folder / "stock.pkl").stat().st_size)
    return sizes


def values(count: int) -> list[float]:
    return np.random.default_rng(0).uniform(0.5, 0.9, count).tolist()


def state_lines(counts: Counts, appended: Sequence[float], pickled: Sequence[float]) -> Iterator[Line]:
    _, middle, last = counts.known  # the first trials are random, and their sampler notes less
    for count, ours, stock in zip(counts.known, appended, pickled, strict=True):
        sizes = f"{ours:,.0f} bytes", f"{stock:,.0f} bytes"
        bar = counts.state_bar if count == last else ""
        yield Line(f"state for a trial, {count} known", *sizes, "OptunaSearch.save", less(ours, stock), bar)
    growths = (f"{sizes[2] / sizes[1]:.2f}x" for sizes in (appended, pickled))
    yield Line(f"its growth from {middle} to {last}", *growths, "OptunaSearch.save", "", "none of ours")


def ask_line(journal: StudyJournal, study: Study, file: Path, counts: Counts) -> Line:
    """Ours and the rival's in turn; each trial asked for is told at once."""
    memory = optuna.create_study(direction="maximize", sampler=stock_sampler(study.sweep, study.plan.trials))
    memory.add_trials(optuna.load_study(study_name=study.name, storage=Journal(file)).trials)
    own_seconds, memory_seconds = [], []
    for value in values(counts.asks):
        started = time.perf_counter()
        own_trial, _ = journal.ask()
        own_seconds.append(time.perf_counter() - started)
        complete(journal, own_trial, value)

        started = time.perf_counter()
        trial = memory.ask()
        for name, range_ in study.plan.space.items():
            suggest(trial, name, range_)
        memory_seconds.append(time.perf_counter() - started)
        memory.tell(trial, value)
    ours, rival = statistics.median(own_seconds), statistics.median(memory_seconds)
    times = f"{1e3 * ours:.1f} ms", f"{1e3 * rival:.1f} ms"
    what = f"ask, {len(SEARCHED)} parameters, {counts.known[-1]} known"
    return Line(what, *times, "Optuna in memory", f"{ours / rival:.2f}x the cost", counts.ask_bar)


# The table


def less(ours: float, rival: float) -> str:
    return f"{rival / ours:.1f}x less" if ours < rival else f"{ours / rival:.2f}x more"


def print_table(lines: Sequence[Line]) -> None:
    """As Markdown, the columns aligned."""
    header = ("what", "ours", "rival's", "rival", "ratio", "bar")
    rows = [header, *((each.what, each.ours, each.rival, each.rival_is, each.ratio, each.bar) for each in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny counts, to see that it runs")
    parser.add_argument("--only", choices=("wall", "state", "ask"), help="one of the three questions")
    given = parser.parse_args()
    counts = QUICK if given.quick else FULL
    load = os.getloadavg()[0]
    print(f"ray {ray.__version__}, optuna {optuna.__version__}, {os.cpu_count()} CPUs, load {load:.1f} at the start\n")
    lines: list[Line] = []
    if given.only != "wall":
        lines += measure_state_and_ask(counts, asked=given.only != "state")
    if given.only in (None, "wall"):
        lines += measure_wall(counts)
    print_table(lines)


if __name__ == "__main__":
    main()
