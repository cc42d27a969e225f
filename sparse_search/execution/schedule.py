"""Tuner of a sweep from its resources and concurrency; Ray is started here, quietly."""

import logging
import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

import psutil
import ray
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune.error import TuneError

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.execution.draining import draining_nodes
from sparse_search.execution.ray_log import ray_log
from sparse_search.execution.ray_watch import ray_watched
from sparse_search.execution.resources import asked_text, num_trials, num_trials_of, resources_of, resources_text
from sparse_search.execution.searcher import JournalPruner, JournalSearcher
from sparse_search.execution.worker import run_trial
from sparse_search.search.sweep import Sweep

MAX_BREAKDOWNS = 3
"""Times in a row that Tune may give up without a trial ending in between."""

LOOK_SECONDS = 2.0
"""Least time between two looks at the nodes of the cluster."""

WAITING_SECONDS = 60.0
"""Time between two words on a cluster without a node."""

LOST_SECONDS = 20.0
"""Time without a node after which Ray, where it was started for one sweep on one machine, is taken for dead."""

MAX_STARTING = 32
"""Trials that may wait for their worker to start."""

_OBJECT_STORE_BYTES = 256 * 2**20
"""Size of Ray's object store. Little travels through it: every worker reads its images from disk."""

_AGAIN = "nothing is lost: the same command starts it anew and goes on"
_LOST = "Ray on this machine has ended, perhaps for want of memory, or as the machine is too busy"

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its table cannot be switched off
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records are the log
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in a worker as in the driver
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: the journal needs no saving
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a result decides about early stopping at once
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a CPU trial says so itself
}


class LostRayError(KeyboardInterrupt):
    """Ray of this machine is gone. Like Ctrl-C it passes through Tune, which catches every plain exception."""


@contextmanager
def ray_session(log: Path | None = None) -> Iterator[bool]:
    """Join the cluster that RAY_ADDRESS names, or start Ray on this machine, for the time of a sweep.

    The context is False where Ray is of this sweep alone: no other node will ever join.

    Args:
        log: File for what Ray says; not where it runs in this process already.

    Raises:
        ConfigError: the folder for Ray's sockets has too long a name.
        ResultsError: Ray of this machine does not start, or dies.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    _silence()
    if ray.is_initialized():
        yield True
        return
    address, where = os.environ.get("RAY_ADDRESS"), f" (what it said: {log})" if log else ""
    with ExitStack() as stack:
        if log:
            stack.enter_context(ray_log(log))
        stack.enter_context(_terminated_as_interrupted())
        if address:
            stack.callback(ray.shutdown)
            ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
        else:
            stack.enter_context(ray_watched(f"{_LOST}; {_AGAIN}{where}"))
            _start_ray(where)
        yield bool(address)


def _silence() -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a dead worker is told by us, without a traceback


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt for the exit that Ray's start makes of SIGTERM."""
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from end


def _start_ray(where: str) -> None:
    try:
        ray.init(
            address="local",  # else Ray joins what was started on this machine, or says that it is gone
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    except Exception as problem:  # Ray raises plain ones
        if "AF_UNIX" in str(problem):
            raise ConfigError(
                f"the temporary folder {gettempdir()} has too long a name for sockets of Ray; set RAY_TMPDIR to a "
                "short one, such as RAY_TMPDIR=/tmp"
            ) from problem
        raise ResultsError(f"Ray did not start: {_first_sentence(str(problem))}; {_AGAIN}{where}") from problem


def is_machine_shared() -> bool:
    """Return True if Ray is about to be started for a sweep on a machine where another one runs already."""
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return False
    return any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"]))


def num_workers(sweep: Sweep) -> int:
    """Count the trials that run at the same time: as many as the nodes allow, or fewer when the sweep says so.

    0 where a cluster has no node yet of the kind that a trial asks for (with CPUs, with GPUs): one may still come.

    Raises:
        ConfigError: not even one trial fits on any node.
    """
    wanted = resources_of(sweep)
    nodes = _nodes()
    fit = num_trials_of(sweep, nodes)
    of_the_kind = sum(all(node.get(name) for name in wanted) for node in nodes)
    may_come = bool(os.environ.get("RAY_ADDRESS")) and of_the_kind < sweep.nodes_per_trial
    if fit < 1 and not may_come:
        names = "nodes_per_trial, " * (sweep.nodes_per_trial > 1) + "cpus_per_trial, gpus_per_trial or memory_per_trial"
        raise ConfigError(f"a trial asks for {asked_text(sweep)}, but {_there(wanted, nodes)}; lower {names}")
    return min(fit, sweep.workers or fit)


def _there(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """Say what the nodes have of what a trial asks for, which is not enough."""
    if able := sum(num_trials(wanted, node) > 0 for node in nodes):
        return f"only {able} of {len(nodes)} nodes can give that" if len(nodes) > 1 else "there is only one node"
    there = dict.fromkeys(resources_text({name: node.get(name, 0) for name in wanted}) for node in nodes)
    return f"there are {'; '.join(there)}" if len(there) == 1 else f"no node has them: {'; '.join(there)}"


class Slots:
    """Number of trials that can be trained at the same time, as nodes come and go; tells when it changes.

    Raises:
        LostRayError: when asked, where no node has been alive for a while and none `may_come`.
    """

    def __init__(self, sweep: Sweep, workers: int, say: Callable[[str], None], *, may_come: bool = True) -> None:
        self._sweep, self._say, self._may_come = sweep, say, may_come
        self._last_node = time.monotonic()
        self._now, self._most = workers, sys.maxsize
        self._last_look = self._said = -math.inf

    def __call__(self) -> int:
        """Return the number, at least 1: without a node Tune waits with a trial at hand, for an autoscaler to see."""
        if time.monotonic() - self._last_look > LOOK_SECONDS:
            self._last_look = time.monotonic()
            nodes = _nodes()
            self._watch(nodes)
            self._note(min(num_trials_of(self._sweep, nodes), self._limit))
        return max(1, self._now)

    def lower(self) -> int:
        """Allow one less than now, and never more again; return the number."""
        self._most = max(1, self() - 1)
        self._now = min(self._now, self._most)
        return self()

    def _watch(self, nodes: Sequence[Mapping[str, float]]) -> None:
        now = time.monotonic()
        self._last_node = now if nodes else self._last_node
        if not self._may_come and now - self._last_node > LOST_SECONDS:
            raise LostRayError(_LOST)

    @property
    def _limit(self) -> int:
        return min(self._most, self._sweep.workers or sys.maxsize)

    def _note(self, count: int) -> None:
        before, self._now = self._now, count
        if not count and time.monotonic() - self._said > WAITING_SECONDS:
            self._said = time.monotonic()
            single = self._sweep.nodes_per_trial == 1
            lacks = "no node can train a trial" if single else "there are not enough nodes for a trial"
            self._say(f"{lacks} ({asked_text(self._sweep)}); waiting for {'one' if single else 'more'}")
        elif count and count != before:
            self._said = -math.inf
            self._say(f"{'more' if count > before else 'fewer'} nodes: {count} trials at a time from now on")


def execute(
    sweep: Sweep,
    searcher: JournalSearcher,
    workers: int,
    folder: Path,
    callback: tune.Callback,
    say: Callable[[str], None] = print,
    *,
    may_come: bool = True,
) -> None:
    """Run until the searcher is finished. `folder` is Tune's scratch space: made here, removed at the end.

    When Tune itself gives up, as it does when Ray kills a worker for want of memory, the trials that were in training
    are tried again under a new Tuner, fewer at a time. Without a node it waits for one if one `may_come`.

    Raises:
        ResultsError: the sweep had to end early; the same command goes on.
    """
    for left in folder.glob("tune-*"):
        shutil.rmtree(left, ignore_errors=True)
    searcher.slots = slots = Slots(sweep, workers, say, may_come=may_come)
    broken = 0
    while True:
        before = searcher.num_ended
        try:
            problem = _fit(sweep, searcher, folder, callback)
        except LostRayError as lost:
            raise ResultsError(f"{lost}; {_AGAIN}") from lost
        if searcher.problem:
            raise ResultsError(f"{searcher.problem}; mend this, and the same command goes on")
        if not problem:
            return
        broken = broken + 1 if searcher.num_ended == before else 1
        if broken == MAX_BREAKDOWNS:  # what was in training stays so in the journal, and the next start adopts it
            raise ResultsError(f"{problem}; {MAX_BREAKDOWNS} times in a row. Mend this, and the same command goes on")
        say(f"{problem}; what was in training is tried again, {slots.lower()} at a time")
        searcher.lost(problem)


def _fit(sweep: Sweep, searcher: JournalSearcher, folder: Path, callback: tune.Callback) -> str:
    """Run one Tuner; return why it broke down, or nothing."""
    scratch = folder / f"tune-{uuid4().hex[:8]}"
    strategy = "PACK" if sweep.nodes_per_trial == 1 else "STRICT_SPREAD"
    resources = tune.PlacementGroupFactory([resources_of(sweep)] * sweep.nodes_per_trial, strategy=strategy)
    tuner = tune.Tuner(
        tune.with_resources(run_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=JournalPruner(searcher),
            num_samples=-1,
            max_concurrent_trials=MAX_STARTING,  # that many wait at most; the searcher's slots say how many there are
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


def _first_sentence(text: str) -> str:
    return text.strip().partition("\n")[0].partition(". ")[0].rstrip(".") or "it gave no reason"


def _nodes() -> list[Mapping[str, float]]:
    """Return the resources of every node that is alive and stays."""
    leaving = draining_nodes()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
