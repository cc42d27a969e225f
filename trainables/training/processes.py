"""A run in several processes that share each batch, watched from one that trains nothing itself.

What they compute is what one process computes, to rounding (see `trainables.components.parallel`). They are
ended when the iterator is closed, and end themselves when the watching process dies. They are processes of this
machine, unless `RemoteProcesses` are given: then of several, equally many on each. Where one of them is lost the run
ends.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch
from torch import multiprocessing

from trainables.training.train import Progress

_GO_ON, _STOP = "go on", "stop"
_PATIENCE_SECONDS = 30.0
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_OF_LAUNCHERS = (*_PLACE, "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "MPI_LOCALNRANKS", "MPI_LOCALRANKID")
_PREFIXES_OF_LAUNCHERS = ("ACCELERATE_", "FSDP_", "MV2_", "OMPI_", "PMI_", "TORCHELASTIC_")


class LostProcessError(RuntimeError):
    """One of the processes of a run ended without a word."""

    def __init__(self, reason: str, *, was_killed: bool = True) -> None:
        super().__init__(reason)
        self.was_killed = was_killed
        """Whether it did not end by itself, as it does after others are gone."""


class Trainable(Protocol):
    """A run, as far as its processes need to know it; picklable."""

    @property
    def train(self) -> Callable[..., Generator[Progress]]:
        """Train it; what it yields is what `train_together` yields."""


class RemoteProcesses(Protocol):
    """Other machines that train some of a run's processes."""

    @property
    def num_machines(self) -> int:
        """Number of machines, this one included."""

    def variables(self) -> dict[str, str]:
        """Environment of the processes here: `MASTER_ADDR`, where others reach this machine, and all that they need."""

    def start(
        self, run: Any, shares: Sequence[range], place: Mapping[str, str], options: Mapping[str, Any]
    ) -> Sequence[Connection]:
        """Begin to train a share of the ranks on each machine, as `LocalRanks` do.

        Each connection brings one value when its machine has ended: what `Members.watch` returned, or what was raised.
        """

    def end(self) -> None:
        """End all of them at once."""


def is_member() -> bool:
    """Return True if this process is one of several that share batches, by whomever they were started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_launched() -> bool:
    """Return True if `torchrun`, or `accelerate launch` of several processes, has started this one."""
    return all(name in os.environ for name in (*_PLACE, "MASTER_ADDR", "MASTER_PORT"))


def forget_launcher(*, unless_launched: bool = False) -> None:
    """Forget what a launcher has left in the environment of a process that it did not start to share batches.

    `srun`, `mpirun`, a shell or a notebook leave it to whatever is started there, and Accelerate would wait for
    processes that never come, or divide batches among them.
    """
    if unless_launched and is_launched():
        return
    for name in [name for name in os.environ if name in _OF_LAUNCHERS or name.startswith(_PREFIXES_OF_LAUNCHERS)]:
        del os.environ[name]


def train_together(
    run: Trainable, processes: int, remote: RemoteProcesses | None = None, **options: Any
) -> Generator[Progress]:
    """Yield what `Run.train` does, trained by so many new processes; `options` are those of `Run.train`, all picklable.

    Tensors are shared with those of this machine, not copied. After an evaluation they wait until the next value is
    asked for.

    Raises:
        LostProcessError: a process was killed.
        Exception: whatever one of them raised.
    """
    here, *others = _shares(processes, remote.num_machines if remote else 1)
    own = remote.variables() if remote else {"MASTER_ADDR": "127.0.0.1"}
    place = {"MASTER_ADDR": own["MASTER_ADDR"], "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    members = LocalRanks(run, here, place | own, options, theirs)
    try:
        there = remote.start(run, others, place, options) if remote else ()
        members.start()
        theirs.close()
        yield from _progress_of(ours, members.awaited() | {each: each.recv for each in there})
        members.join()
    finally:
        with suppress(OSError):  # it is gone
            ours.send(_STOP)
        members.end()
        if remote:
            remote.end()
        ours.close()


class LocalRanks:
    """The processes of a run on this machine: those of some ranks.

    Args:
        run: What they train.
        ranks: Which of all processes they are.
        place: Environment variables that they share: `MASTER_ADDR`, `MASTER_PORT`, `WORLD_SIZE`.
        options: Of `Run.train`, all picklable.
        watcher: What the first of all tells its progress.
    """

    def __init__(
        self,
        run: Trainable,
        ranks: range,
        place: Mapping[str, str],
        options: Mapping[str, Any],
        watcher: Connection | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = {
            rank: context.Process(
                target=_train,
                args=(
                    dict(place) | {"RANK": str(rank), "LOCAL_RANK": str(rank - ranks.start)},
                    None if rank else watcher, run, dict(options),
                ),
                daemon=True,
            )
            for rank in ranks
        }  # fmt: skip

    def start(self) -> None:
        """Start them."""
        for process in self._processes.values():
            process.start()

    def awaited(self) -> "_Awaited":
        """Objects that become ready when a process has ended, each with what tells how: the error, or nothing."""
        return {process.sentinel: partial(self._verdict, rank) for rank, process in self._processes.items()}

    def watch(self) -> Exception | None:
        """Wait until one has ended as it should not, and return how; or until all have ended well."""
        awaited = self.awaited()
        while awaited:
            for each in wait(list(awaited)):
                if lost := awaited.pop(each)():
                    return lost
        return None

    def join(self) -> None:
        """Wait for a while until they have ended."""
        for process in self._processes.values():
            process.join(_PATIENCE_SECONDS)

    def end(self) -> None:
        """End them; the first of all may still be writing a checkpoint."""
        started = {rank: process for rank, process in self._processes.items() if process.pid is not None}
        if 0 in started:
            started[0].join(_PATIENCE_SECONDS)
        for process in started.values():
            process.kill()
        for process in started.values():
            process.join()

    def _verdict(self, rank: int) -> Exception | None:
        self._processes[rank].join(_PATIENCE_SECONDS)  # its end is seen a moment before its exit code
        code = self._processes[rank].exitcode
        if code == 0 and rank:
            return None
        killed = code is None or code < 0
        return LostProcessError(f"process {rank} of a run ended with exit code {code}", was_killed=killed)


_Awaited = dict[Any, Callable[[], Exception | None]]


def _shares(processes: int, machines: int) -> list[range]:
    """The ranks of each machine."""
    size = processes // machines
    return [range(first, first + size) for first in range(0, processes, size)]


def _progress_of(ours: Connection, awaited: _Awaited) -> Iterator[Progress]:
    """Yield what the first process tells, until it has ended or one of them is lost."""
    while True:
        ready = wait([ours, *awaited])
        if ours in ready:
            try:
                told = ours.recv()
            except EOFError:  # it is gone
                ready = wait(list(awaited), _PATIENCE_SECONDS) or [next(iter(awaited))]
            else:
                if told is None:
                    return
                if isinstance(told, Exception):
                    _raise(told, awaited)
                yield told
                if told.scores:
                    ours.send(_GO_ON)
                continue
        for each in ready:
            if lost := awaited.pop(each)():
                raise lost


def _raise(told: Exception, awaited: _Awaited) -> None:
    """Raise what the first process told; or, if that may only mean that another is gone, why that one is."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while awaited and _is_of_connection(told) and (left := until - time.monotonic()) > 0:
        for each in wait(list(awaited), left):
            lost = awaited.pop(each)()
            if lost and getattr(lost, "was_killed", True):
                raise lost from told
    raise told


def _is_of_connection(problem: Exception) -> bool:
    """Return True if it is of a kind that is raised when another process is gone."""
    return type(problem) is RuntimeError or isinstance(problem, torch.distributed.DistError)


def _train(place: Mapping[str, str], watcher: Connection | None, run: Trainable, options: dict[str, Any]) -> None:
    """Train as one of the processes."""
    forget_launcher()
    os.environ.update(place)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress = run.train(**options)
    try:
        for each in progress:
            if watcher:
                watcher.send(each)
                if (each.scores or watcher.poll()) and watcher.recv() == _STOP:
                    progress.close()
                    return
    except Exception as why:  # the boundary: the watching process raises it
        if not watcher:
            raise
        watcher.send(_picklable(why))
    else:
        if watcher:
            watcher.send(None)
    finally:
        if torch.distributed.is_initialized():
            with suppress(RuntimeError):  # another one is gone
                torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def _picklable(why: Exception) -> Exception:
    """The exception if it arrives as what it is, else its text in one that does."""
    try:
        return type(why)(*why.args)
    except TypeError:
        return RuntimeError(f"{type(why).__name__}: {why}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
