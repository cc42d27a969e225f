"""Nodes that are about to leave, as their machine is recalled or no longer needed, and those of the trial at work."""

import ray
from ray.exceptions import RayError
from ray.util.placement_group import get_current_placement_group, placement_group_table

ANSWER_SECONDS = 2.0

NODE_LOST = ("its node has died", "is temporarily unavailable")
"""Words of Ray for an actor that did not end by itself: the second until it knows why a node is silent."""


class NodeLeavesError(Exception):
    """Signal that ends a trial at a checkpoint, so that it goes on on a node that stays."""

    def __init__(self) -> None:
        super().__init__("its node is about to leave")


def draining_nodes() -> frozenset[str]:
    """Return the ids of the nodes that Ray drains, as clouds and Kubernetes ask before they take one back.

    Empty where there is no Ray or it does not answer in time. Ray has no public way to ask.
    """
    if not ray.is_initialized():
        return frozenset()
    client = ray._private.worker.global_worker.gcs_client
    try:
        return frozenset(client.get_draining_nodes(timeout=ANSWER_SECONDS))
    except RayError:
        return frozenset()


def is_leaving() -> bool:
    """Return True where a node on which the trial at work here is trained is drained."""
    leaving = draining_nodes()
    return bool(leaving) and not leaving.isdisjoint(trial_nodes())


def trial_nodes() -> frozenset[str]:
    """Return the ids of the nodes on which the trial at work here is trained, this one among them."""
    group = get_current_placement_group()
    places = placement_group_table(group)["bundles_to_node_id"].values() if group else ()
    return frozenset((ray.get_runtime_context().get_node_id(), *places))
