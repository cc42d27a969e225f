"""Examination of a node by the doctor: looks at it, and tries what a trial will do there.

Arguments and answers are plain values: what unpacks them may be another version of this package.
"""

import math
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from search_spaces.core.errors import UserError
from sparse_search.results.mirror import store_at
from sparse_search.results.object_store import is_uri, objects_at
from trainables.core.kind import Kind

Facts = dict[str, Any]

PACKAGES = ("ray", "optuna", "torch", "sparse-search")
FOLDERS = ("sparse_search", "trainables", "search_spaces")

NOTE = "driver"
"""File that the driver writes for the nodes to read."""

PATIENCE_SECONDS = 5.0
"""Time that a network file system may take to show a file that another machine wrote."""

TRAIN_SECONDS = 30.0
"""Time after which a first trial has trained enough, at the end of its epoch."""


def examine(
    node: str = "",
    common: str = "",
    results: str = ".",
    data_root: str = ".",
    datasets: Iterable[str] = (),
    kind: Kind = "classification",
) -> Facts:
    """Return facts about this machine.

    Args:
        node: Its name, to sign with.
        common: Folder in which the driver left its note, and whose lock it holds, or its name below a URI; empty:
            storage is not tried.
        results: The results folder, or URI.
        data_root: Folder of the data files.
        datasets: Names to look for.
        kind: The kind of task that they are for.
    """
    return {
        "versions": software(),
        "storage": _tried(results, common, node),
        "free": {"results": free_bytes(store_at(results).folder), "temp": free_bytes(Path(tempfile.gettempdir()))},
        "data": look_for(datasets, Path(data_root), kind=kind),
        "time": time.time(),  # last: it is compared with the clock of the driver on arrival
    }


def software() -> dict[str, str]:
    """Return versions by package; `code` is a hash of this project's files, which change while its version stays."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    here = Path(__file__).resolve().parents[2]
    content = sha256()
    for path in sorted(path for folder in FOLDERS for path in (here / folder).rglob("*.py")):
        content.update(str(path.relative_to(here)).encode() + path.read_bytes())
    return found | {"code": content.hexdigest()[:8]}


def _tried(results: str, common: str, node: str) -> Facts:
    if not common:
        return {}
    return use_objects(results, common, node) if is_uri(results) else use_storage(Path(common), node)


def use_objects(results: str, common: str, node: str) -> Facts:
    """Read what the driver wrote below a URI, write an object and list both."""
    try:
        objects = objects_at(results)
        if objects.get(f"{common}/{NOTE}") is None:
            return {"problem": "it does not see what the driver wrote", "lock": ""}
        objects.put(f"{common}/{node}", node.encode())
        listed = f"{common}/{node}" in objects.sizes(common)
    except OSError as problem:
        return {"problem": str(problem).removeprefix(f"{results}: "), "lock": ""}
    return {"problem": "" if listed else "it does not see what it wrote", "lock": ""}


def use_storage(common: Path, node: str) -> Facts:
    """Read what the driver wrote, write and rename a file, and try the lock that the driver holds."""
    if not is_seen(common / NOTE):
        return {"problem": "it does not see what the driver wrote"}
    try:
        waiting = common / f".{node}"
        waiting.write_text(node)
        waiting.replace(common / node)
    except OSError as problem:
        return {"problem": f"it cannot write there ({problem.strerror})"}
    try:
        with FileLock(common / "lock", timeout=0):
            return {"problem": "", "lock": "is not seen"}
    except Timeout:
        return {"problem": "", "lock": ""}
    except (OSError, NotImplementedError) as problem:
        return {"problem": "", "lock": f"cannot be asked for ({problem})"}


def is_seen(path: Path) -> bool:
    """Return True where a file is there, or comes into sight soon."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def free_bytes(path: Path) -> int | None:
    """Return the free disk space at a folder that exists or would be made."""
    existing = next((each for each in (path, *path.parents) if each.is_dir()), None)
    return shutil.disk_usage(existing).free if existing else None


def look_for(
    datasets: Iterable[str],
    data_root: Path,
    tell: Callable[[int, int], None] | None = None,
    kind: Kind = "classification",
) -> dict[str, dict[str, str]]:
    """Return, by data set, the `hash` of its content or the `problem`; `tell` hears of every prepared picture."""
    from trainables.data.source import open_source  # numpy and more, which is not needed to look at a machine

    found = {}
    for dataset in datasets:
        try:
            found[dataset] = {"hash": open_source(dataset, data_root, tell, kind).content_hash}
        except (UserError, OSError) as problem:
            found[dataset] = {"problem": str(problem)}
    return found


def try_gpu() -> Facts:
    """Make one training step in bf16 on the GPU that Ray gave; return its `name`, or the `problem`."""
    import torch

    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        return {
            "problem": f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) sees no GPU where Ray has one "
            f"(CUDA_VISIBLE_DEVICES {visible})"
        }
    try:
        layer = torch.nn.Linear(64, 64, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            loss = layer(torch.ones(8, 64, device="cuda")).square().mean()
        loss.backward()
        torch.optim.AdamW(layer.parameters()).step()
        is_finite = math.isfinite(loss.item())
    except RuntimeError as problem:
        return {"problem": str(problem).strip().splitlines()[0]}
    return {"name": torch.cuda.get_device_name(), "problem": "" if is_finite else "a step in bf16 gave no finite loss"}


def try_trial(trial: Mapping[str, Any], images: int, data_root: str) -> Facts:
    """Train a trial for so many images, or `TRAIN_SECONDS`, in a fresh process, and measure its memory.

    Returns:
        `images` trained and `peak_bytes` of the process; for a GPU `gpu_bytes`, used by whomever, and `gpu_total`; for
        a CPU trial `touched`, whether it touched a GPU; or the `problem`.
    """
    import torch

    from trainables.training.prediction import DivergedError
    from trainables.training.run import runs_of_trial
    from trainables.training.trial import Trial

    ends = time.monotonic() + TRAIN_SECONDS
    trained = 0
    try:
        run = runs_of_trial(Trial.from_dict(trial))[0]
        for progress in run.train(run.task(Path(data_root))):
            trained = progress.images
            if progress.budget_images >= images or time.monotonic() > ends:
                break
    except (UserError, DivergedError, RuntimeError, OSError) as problem:  # torch.OutOfMemoryError is a RuntimeError
        return {"problem": (str(problem).strip() or type(problem).__name__).splitlines()[0]}
    facts: Facts = {"problem": "", "images": trained, "peak_bytes": _peak_bytes()}
    if trial["device"] == "gpu":
        free, total = torch.cuda.mem_get_info()
        return facts | {"gpu_bytes": total - free, "gpu_total": total}
    return facts | {"touched": bool(torch.cuda.is_initialized())}  # type: ignore[no-untyped-call]


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
