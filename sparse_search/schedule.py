"""Resources and concurrency become a Tuner; Ray is started here, quietly."""

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.error import TuneError

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.searcher import JournalPruner, JournalSearcher
from sparse_search.sweep import Sweep
from sparse_search.worker import run_trial

MOST_BREAKDOWNS = 3
"""Times in a row that Tune may give up without a trial ending in between."""

_OBJECT_STORE_BYTES = 256 * 2**20
"""Little travels through it: every worker reads its images from disk."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its table cannot be switched off
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records are the log
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in a worker as in the driver
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: the journal needs no saving
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a result decides about early stopping at once
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a CPU trial says so itself
}


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a sweep: the cluster that RAY_ADDRESS names, else this machine; left as it was found."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a dead worker is told by us, without a traceback
    started = not ray.is_initialized()
    if started and "RAY_ADDRESS" in os.environ:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    elif started:
        ray.init(
            address="local",  # else Ray joins what was started on this machine, or says that it is gone
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def num_workers(sweep: Sweep) -> int:
    """Trials at the same time: what the resources allow, or fewer when the sweep says so.

    Raises:
        ConfigError: not even one trial fits.
    """
    total = ray.cluster_resources()
    wanted = {name: count for name, count in _resources(sweep).items() if count}
    fit = min(int(total.get(name, 0) / count + 1e-9) for name, count in wanted.items())
    if fit < 1:
        want, have = (_resources_text({name: r.get(name, 0) for name in wanted}) for r in (wanted, total))
        raise ConfigError(
            f"a trial asks for {want}, but there are {have}; lower cpus_per_trial, gpus_per_trial or memory_per_trial"
        )
    return min(fit, sweep.workers or fit)


def execute(
    sweep: Sweep,
    searcher: JournalSearcher,
    workers: int,
    folder: Path,
    callback: tune.Callback,
    say: Callable[[str], None] = print,
) -> None:
    """Runs until the searcher is finished. `folder` is Tune's scratch space: made here, removed at the end.

    When Tune itself gives up, as it does when Ray kills a worker for want of memory, the trials that were in training
    are tried again under a new Tuner, fewer at a time.

    Raises:
        ResultsError: the sweep had to end early; the same command goes on.
    """
    for left in folder.glob("tune-*"):
        shutil.rmtree(left, ignore_errors=True)
    broken = 0
    while True:
        before = searcher.num_ended
        problem = _fit(sweep, searcher, workers, folder, callback)
        if searcher.problem:
            raise ResultsError(f"{searcher.problem}; mend this, and the same command goes on")
        if not problem:
            return
        broken = broken + 1 if searcher.num_ended == before else 1
        if broken == MOST_BREAKDOWNS:  # what was in training stays so in the journal, and the next start adopts it
            raise ResultsError(f"{problem}; {MOST_BREAKDOWNS} times in a row. Mend this, and the same command goes on")
        workers = max(1, workers - 1)
        say(f"{problem}; what was in training is tried again, {workers} at a time")
        searcher.lost(problem)


def _fit(sweep: Sweep, searcher: JournalSearcher, workers: int, folder: Path, callback: tune.Callback) -> str:
    """Runs one Tuner; why it broke down, or nothing."""
    scratch = folder / f"tune-{uuid4().hex[:8]}"
    resources = {name.lower(): count for name, count in _resources(sweep).items()}
    tuner = tune.Tuner(
        tune.with_resources(run_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=JournalPruner(searcher),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=scratch.name,
            storage_path=str(folder.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),  # retries go through the journal
            callbacks=[callback],
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tune's advice on features that are not used
        try:
            tuner.fit()
        except TuneError as problem:
            return _reason(str(problem))
        except RuntimeError as problem:  # Tune knows no such end of a worker
            if not isinstance(problem.__cause__, OutOfMemoryError):
                raise
            return _reason(str(problem))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return ""


def _reason(text: str) -> str:
    if "running low on memory" in text:
        return "a worker was killed because its node ran low on memory (raise memory_per_trial)"
    return f"Ray Tune gave up: {text.strip().splitlines()[-1]}"


def _resources(sweep: Sweep) -> dict[str, float]:
    """Of one trial, by Ray's names."""
    memory = int(sweep.memory_per_trial * 1e9)
    return {"CPU": sweep.cpus_per_trial, "GPU": sweep.gpus_per_trial, "memory": memory}


def _resources_text(resources: Mapping[str, float]) -> str:
    texts = {
        name: f"{count / 1e9:.1f} GB" if name == "memory" else f"{count:g} {name}s" for name, count in resources.items()
    }
    return " and ".join(texts.values())
