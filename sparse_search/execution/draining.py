"""Nodes that are about to leave: their machine is recalled, or no longer needed."""

import ray
from ray.exceptions import RayError

ANSWER_SECONDS = 2.0


class NodeLeavesError(Exception):
    """Ends a trial at a checkpoint, so that it goes on where there is still time."""

    def __init__(self) -> None:
        super().__init__("its node is about to leave")


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that Ray was told to drain, as clouds and Kubernetes do before they take one back.

    None where there is no Ray or it does not answer in time. Ray has no public way to ask.
    """
    if not ray.is_initialized():
        return frozenset()
    client = ray._private.worker.global_worker.gcs_client
    try:
        return frozenset(client.get_draining_nodes(timeout=ANSWER_SECONDS))
    except RayError:
        return frozenset()


def is_leaving() -> bool:
    """Whether that is so of the node on which this runs."""
    leaving = draining_nodes()
    return bool(leaving) and ray.get_runtime_context().get_node_id() in leaving
