"""Fixtures for all suites: one thread, small synthetic tasks, no network."""

import gc
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

# Before torch: some virtual machines announce AMX and end a process that uses it, which bf16 would.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import pytest
import torch

from trainables.core.method import Task
from trainables.data.cache import CACHE_VARIABLE
from trainables.testing.tasks import make_task

torch.set_num_threads(1)

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def _no_ambient_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests see no data folder of the machine they run on, except those that ask for real data."""
    if "realdata" not in request.keywords:
        monkeypatch.delenv("SPARSE_SEARCH_DATA", raising=False)


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """Folders for the caches of tests, one after the other; what tests share has a cache of its own."""
    root: Path = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(root / "shared"))
        yield (root / str(number) for number in count())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, caches: Iterator[Path]) -> Path:
    """An empty cache for every test."""
    folder = next(caches)
    folder.mkdir()
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture(name="make_task")
def _make_task() -> MakeTask:
    """A maker of few-shot tasks whose classes differ in brightness; in a segmentation a bright square is marked."""
    return make_task


def pytest_collection_finish() -> None:
    """Freeze what is imported: every training run collects garbage, and to look through modules takes a second."""
    gc.collect()
    gc.freeze()
