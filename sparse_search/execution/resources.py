"""Resources that a trial asks of a node, by Ray's names: CPU, GPU, memory in bytes."""

from collections.abc import Iterable, Mapping, Sequence

from sparse_search.search.sweep import Sweep


def resources_of(sweep: Sweep) -> dict[str, float]:
    """Return the resources that one trial asks for on each of its nodes."""
    asked = {"CPU": sweep.cpus_per_trial, "GPU": sweep.gpus_per_trial, "memory": int(sweep.memory_per_trial * 1e9)}
    return {name: count for name, count in asked.items() if count}


def num_trials(asked: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Count the trials that fit on a node at the same time; shares of a GPU are all of the same one."""
    return min(_times(name, node.get(name, 0), count) for name, count in asked.items())


def num_trials_over(fits: Sequence[int], nodes_per_trial: int) -> int:
    """Count the trials that are trained at the same time, each on several different nodes.

    Args:
        fits: number of trials that have room, for each node.
        nodes_per_trial: number of nodes that each takes.
    """
    count, most = -1, sum(fits) // nodes_per_trial
    while count != most:  # of so many trials a node takes at most one part each, so they may be fewer than that
        count, most = most, sum(min(fit, most) for fit in fits) // nodes_per_trial
    return count


def num_trials_of(sweep: Sweep, nodes: Iterable[Mapping[str, float]]) -> int:
    """Count the trials of a sweep that fit on all nodes together."""
    asked = resources_of(sweep)
    return num_trials_over([num_trials(asked, node) for node in nodes], sweep.nodes_per_trial)


def asked_text(sweep: Sweep) -> str:
    """Return `1 CPU and 2.0 GB`, with `on each of 2 nodes` where it is so."""
    nodes = sweep.nodes_per_trial
    return resources_text(resources_of(sweep)) + (f" on each of {nodes} nodes" if nodes > 1 else "")


def resources_text(resources: Mapping[str, float]) -> str:
    """Return `2 CPUs, 0.5 GPUs and 2.0 GB`."""
    texts = [
        f"{count / 1e9:.1f} GB" if name == "memory" else f"{count:g} {name}{'s' * (count != 1)}"
        for name, count in resources.items()
    ]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _times(name: str, there: float, count: float) -> int:
    if name == "GPU" and count < 1:
        return int(there) * int(1 / count + 1e-9)
    return int(there / count + 1e-9)
