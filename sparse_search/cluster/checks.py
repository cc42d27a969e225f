"""Checks of the doctor: facts about a node become findings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from sparse_search.cluster.node import Facts
from sparse_search.execution.resources import asked_text, num_trials, num_trials_over, resources_of, resources_text
from sparse_search.results.object_store import is_uri
from sparse_search.search.sweep import Sweep

DRIVER = "driver"
CLUSTER = "cluster"

MIN_FREE_BYTES = 2e9
FREE_STEPS_GB = (1000, 100, 10, 2)
"""Steps in which free space is told, so that nodes with plenty share a line."""

MAX_SKEW_SECONDS = 2.0
SPARE = 1.25
"""Proposed memory per measured memory: other configurations take more."""


@dataclass(frozen=True)
class Finding:
    """Finding of one check on one node."""

    name: str
    node: str
    ok: bool
    said: str
    """Result of the check."""

    remedy: str = ""
    """Advice to the user; a finding that is ok and has a remedy is a warning."""


def check_versions(node: str, facts: Facts, driver: Facts) -> Finding:
    """Check that a node computes with the driver's software."""
    own, expected = facts["versions"], driver["versions"]
    others = [
        f"{name} {own.get(name, 'missing')} instead of {expected[name]}"
        for name in expected
        if name != "code" and own.get(name) != expected[name]
    ]
    if own.get("code") != expected["code"]:
        others.append("other source files of sparse-search")
    if others:
        remedy = "install the driver's versions on every node, in the Python that starts Ray there"
        return Finding("versions", node, False, ", ".join(others), remedy)
    return Finding("versions", node, True, ", ".join(f"{name} {text}" for name, text in own.items()))


def check_storage(node: str, facts: Facts, results: str, *, is_seen: bool) -> Finding:
    """Check that a node and the driver see each other's files, and locks.

    Args:
        results: The folder, or URI.
        is_seen: True where the driver found what the node wrote.
    """
    tried = facts["storage"]
    if is_uri(results):
        return _check_objects(node, tried["problem"], results, is_seen=is_seen)
    remedy = f"put {results} on storage that every node mounts at the same path and may write to, or name such a one"
    if tried["problem"]:
        return Finding("storage", node, False, f"{results}: {tried['problem']}", f"{remedy} with --results")
    if not is_seen:
        said = f"{results}: the driver does not see what it wrote"
        return Finding("storage", node, False, said, f"{remedy} with --results")
    if tried["lock"]:
        return Finding(
            "storage", node, False, f"{results}: read and written, but a lock that the driver holds {tried['lock']}",
            "mount it with locks (NFS: version 4, or 3 without `nolock`), else two drivers can run the same sweep",
        )  # fmt: skip
    return Finding("storage", node, True, f"{results}: read, written, renamed, locked")


def _check_objects(node: str, problem: str, results: str, *, is_seen: bool) -> Finding:
    if problem or not is_seen:
        remedy = "give that node credentials (AWS_…, a role, ~/.aws) and AWS_ENDPOINT_URL before Ray starts there"
        said = problem or "the driver does not see what it wrote"
        return Finding("storage", node, False, f"{results}: {said}", remedy)
    return Finding("storage", node, True, f"{results}: read, written, listed")


def check_disk(node: str, facts: Facts) -> Iterator[Finding]:
    """Check that there is room for results and temporary files."""
    remedies = {"results": "free some, or choose another --results", "temp": "free some, or set TMPDIR before Ray"}
    for place, free in facts["free"].items():
        if free is None:
            continue
        if free < MIN_FREE_BYTES:
            said = f"{place}: {free / 1e9:.1f} GB free, expected {MIN_FREE_BYTES / 1e9:.0f} or more"
            yield Finding(f"disk of {place}", node, False, said, remedies[place])
        else:
            plenty = next(step for step in FREE_STEPS_GB if free >= step * 1e9)
            yield Finding(f"disk of {place}", node, True, f"more than {plenty:,} GB free")


def check_data(node: str, facts: Facts, driver: Facts) -> Iterator[Finding]:
    """Check that a node finds the data sets, and the driver's content in them."""
    remedy = "give every node the same files below the same --data-root, or a folder that all nodes mount"
    for dataset, found in facts["data"].items():
        name = f"data {dataset}"
        expected = driver["data"][dataset].get("hash")
        if "problem" in found:
            yield Finding(name, node, False, found["problem"], remedy)
        elif expected and found["hash"] != expected:
            said = f"content {found['hash']} instead of the driver's {expected}"
            yield Finding(name, node, False, said, remedy)
        else:
            yield Finding(name, node, True, f"content {found['hash']}")


def check_clock(node: str, seconds_ahead: float) -> Finding:
    """Check that clocks agree; nothing breaks where they do not, but times in records and logs mislead."""
    if abs(seconds_ahead) <= MAX_SKEW_SECONDS:
        return Finding("clock", node, True, f"within {MAX_SKEW_SECONDS:.0f} s of the driver's")
    said = f"{abs(seconds_ahead):.0f} s {'ahead of' if seconds_ahead > 0 else 'behind'} the driver's"
    return Finding("clock", node, True, said, "set the clocks by NTP: times in records and logs mislead")


def check_gpu(node: str, facts: Facts) -> Finding:
    """Check that a GPU trains."""
    if facts["problem"]:
        remedy = "install the GPU's driver and a PyTorch built for it on that node; `nvidia-smi` must list the GPU"
        return Finding("GPU", node, False, facts["problem"], remedy)
    return Finding("GPU", node, True, f"{facts['name']}: a step in bf16 done")


def check_request(sweep: Sweep, nodes: Mapping[str, Mapping[str, float]]) -> Iterator[Finding]:
    """Check that a trial fits on a node, and count how many do at a time.

    Args:
        sweep: Says what a trial asks for.
        nodes: Resources by name of the node.
    """
    asked = resources_of(sweep)
    fit = {name: num_trials(asked, resources) for name, resources in nodes.items()}
    if not any(fit.values()):
        largest = {name: max((node.get(name, 0) for node in nodes.values()), default=0) for name in asked}
        joint = " together" if all(largest[name] >= count for name, count in asked.items()) else ""
        most = resources_text(largest)
        said = f"a trial asks for {asked_text(sweep)}, but no single node has that{joint}: the most are {most}"
        yield Finding(
            "request", CLUSTER, False, said,
            "lower cpus_per_trial, gpus_per_trial or memory_per_trial, or add a larger node: "
            "a trial runs on one node, or has that on each of its nodes_per_trial",
        )  # fmt: skip
        return
    count = num_trials_over(list(fit.values()), sweep.nodes_per_trial)
    if not count:
        said = f"a trial asks for {asked_text(sweep)}, but only {sum(map(bool, fit.values()))} can give that"
        yield Finding("request", CLUSTER, False, said, "lower nodes_per_trial, or add nodes")
        return
    count = min(count, sweep.workers or count)
    yield Finding("request", CLUSTER, True, f"a trial asks for {asked_text(sweep)}: {count} at a time")
    for name in (name for name, trials in fit.items() if not trials):
        yield Finding("request", name, True, "no trial fits on it", "fine for a head that only drives; else see above")


def check_trial(method: str, node: str, facts: Facts, sweep: Sweep) -> Iterator[Finding]:
    """Check that a first trial trains, within the memory that it reserves."""
    name = f"trial {method}"
    if facts["problem"]:
        yield Finding(name, node, False, facts["problem"], "see the message; trials of this method would fail so")
        return
    peak, reserved = facts["peak_bytes"] / 1e9, sweep.memory_per_trial
    measured = f"{peak:.1f} GB at most in {facts['images']:,} images"
    if peak > reserved:
        remedy = f"set memory_per_trial: {ceil(peak * SPARE * 10) / 10:.1f}"
        yield Finding(name, node, False, f"{measured}, but memory_per_trial is {reserved:g} GB", remedy)
    else:
        yield Finding(name, node, True, f"{measured}; memory_per_trial is {reserved:g} GB")
    if facts.get("touched"):
        remedy = "a method must take its device from the accelerator it is given"
        yield Finding(name, node, True, "a trial on CPUs woke a GPU", remedy)
    if "gpu_bytes" in facts:
        yield _gpu_share(name, node, facts, sweep.gpus_per_trial)


def _gpu_share(name: str, node: str, facts: Facts, asked: float) -> Finding:
    """Check that a trial stays within its share of a GPU; propose one that does."""
    taken, total = facts["gpu_bytes"] / 1e9, facts["gpu_total"] / 1e9
    share = min(1.0, ceil(taken * SPARE / total * 100) / 100)
    said = (
        f"{taken:.1f} of the GPU's {total:.0f} GB: gpus_per_trial: {share:g} would do, {floor(1 / share)} trials a GPU"
    )
    if taken > asked * total:
        said = f"{taken:.1f} of the GPU's {total:.0f} GB, more than gpus_per_trial: {asked:g} allows"
        return Finding(name, node, False, said, f"set gpus_per_trial: {share:g}")
    return Finding(name, node, True, said)


def grouped(findings: Sequence[Finding], nodes: Sequence[str]) -> list[Finding]:
    """Merge findings that differ in nothing but the node; where all nodes agree the merged one says so.

    Args:
        findings: In any order.
        nodes: Names of all nodes.
    """
    where: dict[Finding, list[str]] = {}
    order = list(dict.fromkeys(finding.name for finding in findings))
    for finding in sorted(findings, key=lambda finding: order.index(finding.name)):
        where.setdefault(replace(finding, node=""), []).append(finding.node)
    return [replace(finding, node=_together(places, nodes)) for finding, places in where.items()]


def _together(places: Sequence[str], nodes: Sequence[str]) -> str:
    places = list(dict.fromkeys(places))
    if len(nodes) < 2 or not set(nodes) <= set(places):
        return ", ".join(places)
    others = [place for place in places if place not in nodes]
    return ", ".join([*others, f"all {len(nodes)} nodes"])
