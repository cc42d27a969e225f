"""Nodes of a trial besides the one on which its worker runs: each trains a share of the trial's processes.

Tune reserves a bundle of resources on each (a placement group spread over as many nodes). For each run of the trial an
actor takes the bundle on every further node, reads the images there, and starts and watches the processes of that node.
It ends with the run, with the worker, and with any of its processes; and a node that is gone ends the run.
"""

import os
import socket
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from search_spaces.core.errors import DataError, UserError
from sparse_search.execution.draining import NODE_LOST
from trainables.training.processes import LocalRanks, LostProcessError
from trainables.training.run import Run

LOOK_SECONDS = 2.0
"""Time between two looks at whether a node that does not answer yet is still there."""


class NodeLostError(LostProcessError):
    """Loss of a node on which a trial was trained: no fault of the trial, which goes on elsewhere."""


class RemoteRanks:
    """Ranks of a run that other nodes train; see `trainables.training.processes.RemoteProcesses`.

    Args:
        num_machines: Nodes of the trial, this one included.
        gpus: GPUs of the trial on each of them.
        data_root: Folder with the data sets, on each of them.
    """

    def __init__(self, num_machines: int, gpus: float, data_root: str | None) -> None:
        self.num_machines = num_machines
        self._gpus, self._data_root = gpus, data_root
        self._actors: list[Any] = []

    def variables(self) -> dict[str, str]:
        """Return `MASTER_ADDR` as other nodes know it, and the network that reaches it."""
        address = ray.util.get_node_ip_address()
        return {"MASTER_ADDR": address} | network_variables(address)

    def start(
        self, run: Run, shares: Sequence[range], place: Mapping[str, str], options: Mapping[str, Any]
    ) -> list[Connection]:
        """Begin to train a share of the ranks on each further node, once all of them answer.

        The images of `options` stay here: each node reads its own.

        Raises:
            NodeLostError: a node is gone before it began.
            LostProcessError: an actor could not be started.
        """
        group = get_current_placement_group()
        self._actors = [_start_actor(group, index) for index in range(1, self.num_machines)]
        _await_all(self._actors, group)
        content_hash = options["task"].provenance.content_hash
        there = {name: value for name, value in options.items() if name not in ("task", "hidden_labels_M")}
        asked = (self._gpus, self._data_root, content_hash, dict(place), there)
        trained = [actor.train.remote(run, share, *asked) for actor, share in zip(self._actors, shares, strict=True)]
        return [_connected(each) for each in trained]

    def end(self) -> None:
        """Kill the actors; their processes end with them."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


class _Node:
    """Actor that trains a node's share of a run."""

    def answer(self) -> None:
        """Answer, and so show that it is there."""

    def train(self, *asked: Any) -> Exception | None:
        """Train with the images of this node, as `LocalRanks.watch`; what is raised is returned as well."""
        try:
            return self._train(*asked)
        except UserError as why:
            return why
        except Exception:  # the boundary: the worker raises it
            return RuntimeError(traceback.format_exc())

    def _train(
        self,
        run: Run,
        ranks: range,
        gpus: float,
        data_root: str | None,
        content_hash: str,
        place: dict[str, str],
        options: dict[str, Any],
    ) -> Exception | None:
        confine(gpus)
        root = Path(data_root) if data_root else None
        task = run.task(root)
        if task.provenance.content_hash != content_hash:
            raise DataError(
                f"{task.dataset} on node {socket.gethostname()} differs from that of the other nodes of a trial: "
                "copy the same files to each"
            )
        own = network_variables(ray.util.get_node_ip_address())
        images = {"task": task, "hidden_labels_M": run.hidden_labels(root)}
        local_ranks = LocalRanks(run, ranks, place | own, options | images)
        try:
            local_ranks.start()
            return local_ranks.watch()
        finally:
            local_ranks.end()


def confine(gpus: float) -> None:
    """Confine the process to what its trial asked for: no GPU, or no more of one's memory than its share."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(gpus)


def network_variables(address: str) -> dict[str, str]:
    """Return variables with which gloo and NCCL use the network of an address, unless the user has set them.

    Gloo would take the one that the host's name stands for, which on many machines only they themselves can reach.
    """
    for name, own in psutil.net_if_addrs().items():
        if any(each.address == address for each in own):
            wanted = {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"}
            return {variable: value for variable, value in wanted.items() if variable not in os.environ}
    return {}


def _start_actor(group: PlacementGroup, index: int) -> Any:
    bundle = dict(group.bundle_specs[index])
    there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    asked = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0), "memory": bundle.get("memory", 0)}
    return ray.remote(_Node).options(scheduling_strategy=there, **asked).remote()


def _await_all(actors: Sequence[Any], group: PlacementGroup) -> None:
    """Return when all answer."""
    waiting = [actor.answer.remote() for actor in actors]
    while waiting:
        ready, waiting = ray.wait(waiting, timeout=LOOK_SECONDS)
        try:
            ray.get(ready)
        except RayError as problem:
            raise _lost(problem) from problem
        if waiting and placement_group_table(group)["state"] != "CREATED":  # a node is gone, and another sought
            raise NodeLostError("a node of a trial is gone")


def _connected(trained: Any) -> Connection:
    """Return a connection that delivers the value of an object once it is there, or why it never will be."""
    ours, theirs = Pipe(duplex=False)

    def tell(done: "Future[Exception | None]") -> None:
        problem = done.exception()
        with suppress(OSError), theirs:  # nobody listens any more
            theirs.send(_lost(problem) if problem else done.result())

    trained.future().add_done_callback(tell)
    return ours


def _lost(problem: BaseException) -> LostProcessError:
    """Return the error for an actor that does not answer, by what Ray says of it."""
    text = " ".join(str(problem).split())
    kind = NodeLostError if any(each in text for each in NODE_LOST) else LostProcessError
    return kind(f"a part of a run does not answer: {text}")
