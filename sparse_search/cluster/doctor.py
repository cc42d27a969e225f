"""Diagnosis of a cluster before the first trial: on the driver and on every node."""

import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from filelock import FileLock
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from search_spaces.core.errors import ConfigError, DataError
from sparse_search.cluster.address import check_address
from sparse_search.cluster.checks import (
    DRIVER,
    Finding,
    check_clock,
    check_data,
    check_disk,
    check_gpu,
    check_request,
    check_storage,
    check_trial,
    check_versions,
    grouped,
)
from sparse_search.cluster.node import NOTE, Facts, examine, is_seen, look_for, try_gpu, try_trial, use_objects
from sparse_search.execution.progress import preparation
from sparse_search.execution.resources import num_trials, resources_of
from sparse_search.execution.run import RESULTS, plan_studies
from sparse_search.execution.schedule import ray_session
from sparse_search.results.mirror import MirroredStore, store_at
from sparse_search.results.object_store import Objects, StorageError, is_uri, objects_at
from sparse_search.results.store import Store
from sparse_search.search.sweep import Study, Sweep
from sparse_search.search.sweep_file import load_sweep
from trainables.data.source import data_root as resolve_root

ANSWER_SECONDS = 300.0
"""Time that a node may take to examine itself: minutes where pictures are prepared for the first time."""

TRIAL_SECONDS = 180.0
"""Time that a first trial may take, imports and data included."""


def diagnose(
    sweep: Sweep | Path | str | None = None,
    results: Path | str = RESULTS,
    *,
    data_root: Path | str | None = None,
    console: Console | None = None,
) -> list[Finding]:
    """Check this machine and the cluster that RAY_ADDRESS names; a finding that is not ok will fail a sweep.

    Writes nothing that stays. What takes a sweep to check (data, request, first trials) is left out without one.
    """
    screen = console or Console(quiet=True)
    root = resolve_root(Path(data_root) if data_root else None).resolve()
    store = store_at(results if is_uri(results) else Path(results).resolve())
    findings: list[Finding] = []
    plan = _read(sweep, findings)
    with _common_storage(store, findings) as common:
        driver = examine(results=store.address) | {"data": _prepared(plan, root, screen)}
        findings += [check_versions(DRIVER, driver, driver), *check_disk(DRIVER, driver)]
        findings += check_data(DRIVER, driver, driver)
        studies = _studies(plan, root, driver, findings)
        joining = check_address(os.environ.get("RAY_ADDRESS", ""))
        findings += joining
        if not all(finding.ok for finding in joining):
            return grouped(findings, ())
        screen.print("starting Ray …", highlight=False)
        with ray_session():
            visit = _Visit(nodes_of(ray.nodes()), driver, store.address, str(root), common, screen)
            findings += visit.look_at_all(plan)
            if plan and studies and all(finding.ok for finding in findings):
                findings += visit.train_first_trials(plan, studies)
            elif plan:
                findings.append(Finding("trial", DRIVER, True, "none was tried", "mend what failed, then ask again"))
        return grouped(findings, [node.name for node in visit.nodes])


@dataclass(frozen=True)
class Node:
    """Node of the cluster."""

    id: str
    name: str
    """Name of its host, made unlike that of any other node."""

    resources: Mapping[str, float]


def nodes_of(answer: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the living nodes in what `ray.nodes()` answers."""
    alive = [node for node in answer if node["Alive"]]
    times = Counter(node["NodeManagerHostname"] for node in alive)
    return [
        Node(
            node["NodeID"],
            host if times[host := node["NodeManagerHostname"]] == 1 else f"{host} ({node['NodeID'][:6]})",
            node["Resources"],
        )
        for node in alive
    ]


@dataclass(frozen=True)
class _Visit:
    """Visit to all nodes of a cluster."""

    nodes: Sequence[Node]
    driver: Facts
    results: str
    data_root: str
    common: str
    """Folder that driver and nodes write to, or its name below a URI; empty where there is none."""

    console: Console

    def look_at_all(self, plan: Sweep | None) -> Iterator[Finding]:
        """Check what every node says of itself, and that a trial fits."""
        used = self.nodes
        if plan:
            yield from check_request(plan, {node.name: node.resources for node in self.nodes})
            used = [node for node in self.nodes if num_trials(resources_of(plan), node.resources)]
        tasks = {node.name: self._examination(node, plan if node in used else None) for node in self.nodes}
        self.console.print(f"asking {len(tasks)} node{'s' * (len(tasks) != 1)} …", highlight=False)
        for name, facts in answers(tasks, ANSWER_SECONDS):
            yield from facts if isinstance(facts, list) else self._findings(name, facts)
        gpus = 1 if plan is None else plan.gpus_per_trial
        with_gpu = {node.name: node for node in used if gpus and node.resources.get("GPU", 0) >= gpus}
        steps = {name: _task(try_gpu, node, num_gpus=gpus) for name, node in with_gpu.items()}
        for name, facts in answers(steps, ANSWER_SECONDS):
            yield from facts if isinstance(facts, list) else [check_gpu(name, facts)]

    def _examination(self, node: Node, plan: Sweep | None) -> Callable[[], Any]:
        known = [name for name in (plan.datasets if plan else ()) if "hash" in self.driver["data"].get(name, {})]
        kind = plan.kind if plan else "classification"
        return partial(_task(examine, node), node.id, self.common, self.results, self.data_root, known, kind)

    def _findings(self, name: str, facts: Facts) -> Iterator[Finding]:
        yield check_versions(name, facts, self.driver)
        if self.common:
            node = next(node for node in self.nodes if node.name == name)
            seen = bool(facts["storage"]["problem"]) or self._sees(node)
            yield check_storage(name, facts, self.results, is_seen=seen)
        yield from check_disk(name, facts)
        yield from check_data(name, facts, self.driver)
        yield check_clock(name, facts["ahead"])

    def _sees(self, node: Node) -> bool:
        """Return True where what a node wrote is seen here."""
        if not is_uri(self.results):
            return is_seen(Path(self.common) / node.id)
        with suppress(StorageError):
            return objects_at(self.results).get(f"{self.common}/{node.id}") is not None
        return False

    def train_first_trials(self, plan: Sweep, studies: Sequence[Study]) -> Iterator[Finding]:
        """Measure the memory that each method takes with its default, on its largest data."""
        node = max(self.nodes, key=lambda node: num_trials(resources_of(plan), node.resources))
        largest: dict[str, Study] = {}
        for study in sorted(studies, key=lambda study: study.facts.num_labelled + study.facts.num_unlabelled):
            largest[study.plan.name] = study
        asked = {
            "num_cpus": plan.cpus_per_trial, "num_gpus": plan.gpus_per_trial, "memory": int(plan.memory_per_trial * 1e9)
        }  # fmt: skip
        for method, study in largest.items():
            self.console.print(f"training {study.title} for a moment …", highlight=False)
            trial = study.trial(next(iter(study.plan.starts.values())), 0).as_dict()
            trial["processes"] //= plan.nodes_per_trial  # those of one node
            train = partial(_task(try_trial, node, **asked), trial, study.rungs[0].images, self.data_root)
            for name, facts in answers({node.name: train}, TRIAL_SECONDS):
                yield from facts if isinstance(facts, list) else check_trial(method, name, facts, plan)


def answers(tasks: Mapping[str, Callable[[], Any]], seconds: float) -> Iterator[tuple[str, Facts | list[Finding]]]:
    """Yield the answers of nodes as they come, with how far ahead each clock is; or a finding why there is none."""
    names = {start(): name for name, start in tasks.items()}
    pending, until = list(names), time.monotonic() + seconds
    while pending:
        ready, pending = ray.wait(pending, num_returns=1, timeout=max(0.0, until - time.monotonic()))
        arrived = time.time()
        if not ready:
            break
        name = names[ready[0]]
        try:
            facts = ray.get(ready[0])
            yield name, facts | {"ahead": facts.get("time", arrived) - arrived}
        except RayError as problem:
            yield name, [_broken(name, str(problem))]
    for late in pending:
        ray.cancel(late, force=True)
        said = f"no answer within {seconds:.0f} s"
        remedy = "is it overloaded, or are its resources taken by others? Look there, then ask again"
        yield names[late], [Finding("answer", names[late], False, said, remedy)]


def _broken(node: str, told: str) -> Finding:
    """Return the finding on a node that could not do what it was asked."""
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "no reason given")
    missing = next((line.strip() for line in told.splitlines() if "ModuleNotFoundError" in line), "")
    if missing:
        remedy = "install the driver's version of sparse-search on that node, in the Python that starts Ray there"
        return Finding("versions", node, False, missing, remedy)
    return Finding("answer", node, False, last, "see the message, and Ray's logs on that node")


def _task(function: Callable[..., Facts], node: Node, **resources: Any) -> Callable[..., Any]:
    """Make a function a task for one node, in a process that does nothing else: memory is measured by process."""
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    options = {"num_cpus": 0} | resources
    start: Callable[..., Any] = (
        ray.remote(max_calls=1)(function).options(**options, scheduling_strategy=here, max_retries=0).remote
    )
    return start


def _read(sweep: Sweep | Path | str | None, findings: list[Finding]) -> Sweep | None:
    if sweep is None or isinstance(sweep, Sweep):
        return sweep
    try:
        return load_sweep(Path(sweep))
    except ConfigError as problem:
        findings.append(Finding("sweep", DRIVER, False, str(problem), f"change it in {sweep}, then ask again"))
        return None


def _prepared(plan: Sweep | None, root: Path, screen: Console) -> dict[str, dict[str, str]]:
    """Look for the data sets on the driver; what is missing is fetched and prepared as by a run."""
    found: dict[str, dict[str, str]] = {}
    for dataset in plan.datasets if plan else ():
        with preparation(screen, dataset) as tell:
            found |= look_for([dataset], root, tell, plan.kind if plan else "classification")
    return found


def _studies(plan: Sweep | None, root: Path, driver: Facts, findings: list[Finding]) -> tuple[Study, ...]:
    """Return the studies of a sweep; none where data is missing."""
    if plan is None or any("problem" in found for found in driver["data"].values()):
        return ()
    try:
        return plan_studies(plan, root)
    except DataError as problem:
        findings.append(Finding("data", DRIVER, False, str(problem), "change the sweep file"))
        return ()


@contextmanager
def _common_storage(store: Store, findings: list[Finding]) -> Iterator[str]:
    """Make a folder that driver and nodes both use; yield nothing where the driver cannot write."""
    if isinstance(store, MirroredStore):
        with _common_objects(store.objects, findings) as name:
            yield name
    else:
        with _common_folder(store.folder, findings) as folder:
            yield str(folder or "")


@contextmanager
def _common_objects(objects: Objects, findings: list[Finding]) -> Iterator[str]:
    """Make a folder below the URI, with a note of the driver's; removed at the end."""
    name = f"doctor/{platform.node()}-{uuid4().hex[:8]}"
    try:
        objects.put(f"{name}/{NOTE}", DRIVER.encode())
    except StorageError as problem:
        findings.append(Finding("storage", DRIVER, False, str(problem), "mend this, or choose another --results"))
        yield ""
        return
    tried = use_objects(objects.uri, name, f"{DRIVER}-too")
    findings.append(check_storage(DRIVER, {"storage": tried}, objects.uri, is_seen=True))
    try:
        yield name
    finally:
        with suppress(StorageError):
            objects.delete_folder(name)


@contextmanager
def _common_folder(results: Path, findings: list[Finding]) -> Iterator[Path | None]:
    """Make a locked folder in the results with a note of the driver's; what was made is removed at the end."""
    made = [folder for folder in (results, *results.parents) if not folder.exists()]
    common = results / f".doctor-{platform.node()}-{uuid4().hex[:8]}"
    try:
        common.mkdir(parents=True)
        waiting = common / f".{NOTE}"
        waiting.write_text(DRIVER)
        waiting.replace(common / NOTE)
        lock = FileLock(common / "lock", timeout=0)
        lock.acquire()
    except (OSError, NotImplementedError) as problem:
        said = f"cannot write results to {results}: {getattr(problem, 'strerror', None) or problem}"
        findings.append(Finding("storage", DRIVER, False, said, "choose another folder with --results"))
        _remove(common, made)
        yield None
        return
    findings.append(Finding("storage", DRIVER, True, f"{results}: read, written, renamed, locked"))
    try:
        yield common
    finally:
        lock.release()
        _remove(common, made)


def _remove(common: Path, made: Sequence[Path]) -> None:
    """Remove what was made; a folder in which something else appeared meanwhile stays."""
    shutil.rmtree(common, ignore_errors=True)
    for folder in made:
        with suppress(OSError):
            folder.rmdir()
