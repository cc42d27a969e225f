"""A run in several processes of this machine that share each batch, watched from one that trains nothing itself.

What they compute is what one process computes, to rounding (see `trainables.parts.parallel`). They are ended when the
iterator is closed, and end themselves when the watching process dies.
"""

import os
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import torch
from torch import multiprocessing

from trainables.core.train import Progress

if TYPE_CHECKING:
    from trainables.core.trial import Run

_GO_ON, _STOP = "go on", "stop"
_PATIENCE_SECONDS = 30.0


class LostProcessError(RuntimeError):
    """One of the processes of a run ended without a word."""


def is_member() -> bool:
    """Whether this process is one of several that share batches, by whomever they were started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def train_together(run: "Run", processes: int, **options: Any) -> Generator[Progress]:
    """What `Run.train` yields, trained by so many new processes; `options` are those of `Run.train`, all picklable.

    Tensors are shared with them, not copied. After an evaluation they wait until the next value is asked for.

    Raises:
        LostProcessError: a process was killed.
        Exception: whatever one of them raised.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    members = [
        context.Process(target=_train, args=(rank, place, theirs if rank == 0 else None, run, options), daemon=True)
        for rank in range(processes)
    ]
    try:
        for member in members:
            member.start()
        theirs.close()
        yield from _told(ours, members)
        for member in members:
            member.join(_PATIENCE_SECONDS)
    finally:
        with suppress(OSError):  # it is gone
            ours.send(_STOP)
        if members[0].pid is not None:
            members[0].join(_PATIENCE_SECONDS)  # it may still be writing a checkpoint
        for member in members:
            if member.is_alive():
                member.kill()
        for member in members:
            if member.pid is not None:
                member.join()
        ours.close()


def _told(ours: Connection, members: list[Any]) -> Iterator[Progress]:
    sentinels = {member.sentinel: rank for rank, member in enumerate(members)}
    while True:
        ready = wait([ours, *sentinels])
        if ours in ready:
            try:
                told = ours.recv()
            except EOFError:
                ready = wait(list(sentinels), _PATIENCE_SECONDS)
            else:
                if told is None:
                    return
                if isinstance(told, Exception):
                    raise told
                yield told
                if told.scores:
                    ours.send(_GO_ON)
                continue
        rank = next((sentinels[each] for each in ready if each in sentinels), 0)
        if rank == 0 or members[rank].exitcode:
            raise LostProcessError(f"process {rank} of a run ended with exit code {members[rank].exitcode}")
        sentinels = {each: number for each, number in sentinels.items() if number != rank}


def _train(rank: int, place: dict[str, str], watcher: Connection | None, run: "Run", options: dict[str, Any]) -> None:
    """What one of the processes does."""
    os.environ.update(place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
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
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
