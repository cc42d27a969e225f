"""What a trial asks of a node, by Ray's names: CPU, GPU, memory in bytes."""

from collections.abc import Mapping

from sparse_search.search.sweep import Sweep


def resources_of(sweep: Sweep) -> dict[str, float]:
    """What one trial asks for, as far as it asks."""
    asked = {"CPU": sweep.cpus_per_trial, "GPU": sweep.gpus_per_trial, "memory": int(sweep.memory_per_trial * 1e9)}
    return {name: count for name, count in asked.items() if count}


def num_trials(asked: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Trials that fit on a node at the same time; parts of a GPU are all of the same one."""
    return min(_times(name, node.get(name, 0), count) for name, count in asked.items())


def resources_text(resources: Mapping[str, float]) -> str:
    """`2 CPUs, 0.5 GPUs and 2.0 GB`."""
    texts = [
        f"{count / 1e9:.1f} GB" if name == "memory" else f"{count:g} {name}{'s' * (count != 1)}"
        for name, count in resources.items()
    ]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _times(name: str, there: float, count: float) -> int:
    if name == "GPU" and count < 1:
        return int(there) * int(1 / count + 1e-9)
    return int(there / count + 1e-9)
