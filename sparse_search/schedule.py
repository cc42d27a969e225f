"""Resources and concurrency become a Tuner; Ray is started here, quietly."""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import ray
from ray import tune
from ray.tune.error import TuneError

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.searcher import JournalPruner, JournalSearcher
from sparse_search.sweep import Sweep
from sparse_search.worker import run_trial

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
    fit = int(total.get("CPU", 0) // sweep.cpus_per_trial)
    if sweep.gpus_per_trial:
        fit = min(fit, int(total.get("GPU", 0) / sweep.gpus_per_trial))
    if fit < 1:
        have = f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
        want = f"{sweep.cpus_per_trial} CPUs and {sweep.gpus_per_trial:g} GPUs"
        raise ConfigError(f"a trial asks for {want}, but there are {have}; lower cpus_per_trial or gpus_per_trial")
    return min(fit, sweep.workers or fit)


def execute(sweep: Sweep, searcher: JournalSearcher, workers: int, folder: Path, callback: tune.Callback) -> None:
    """Runs until the searcher is finished. `folder` is Tune's scratch space: made here, removed at the end.

    Raises:
        ResultsError: the sweep had to end early; the same command goes on.
    """
    scratch = folder / f"tune-{uuid4().hex[:8]}"
    for left in folder.glob("tune-*"):
        shutil.rmtree(left, ignore_errors=True)
    resources = {"cpu": sweep.cpus_per_trial, "gpu": sweep.gpus_per_trial}
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
            raise ResultsError(f"Ray Tune gave up: {str(problem).strip().splitlines()[-1]}") from problem
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if searcher.problem:
        raise ResultsError(f"{searcher.problem}; mend this, and the same command goes on")
