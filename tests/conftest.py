"""Fixtures for all suites: one thread, small synthetic tasks, no network."""

import os
from collections.abc import Callable
from pathlib import Path

# Before torch: some virtual machines announce AMX and end a process that uses it, which bf16 would.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import pytest
import torch

from trainables.core.method import Labelled, Provenance, Task
from trainables.data.cache import CACHE_VARIABLE

torch.set_num_threads(1)

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def _no_ambient_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests see no data folder of the machine they run on, except those that ask for real data."""
    if "realdata" not in request.keywords:
        monkeypatch.delenv("SPARSE_SEARCH_DATA", raising=False)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache for every test."""
    folder: Path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def make_task() -> MakeTask:
    """A maker of few-shot tasks whose classes differ in brightness."""

    def make(
        *, channels: int = 1, num_classes: int = 3, shots: int = 3, num_unlabelled: int = 24, side: int = 16
    ) -> Task:
        generator = torch.Generator().manual_seed(0)

        def draw(labels_N: torch.Tensor) -> torch.Tensor:
            noise = torch.randint(0, 100, (len(labels_N), channels, side, side), generator=generator)
            return (noise + (labels_N * 150 // num_classes)[:, None, None, None]).to(torch.uint8)

        labels_N = torch.arange(num_classes).repeat_interleave(shots)
        hidden_N = torch.randint(0, num_classes, (num_unlabelled,), generator=generator)
        return Task(
            dataset="synthetic",
            kind="classification",
            num_classes=num_classes,
            channels=channels,
            labelled=Labelled(draw(labels_N), labels_N),
            unlabelled_NCHW=draw(hidden_N),
            validation=Labelled(draw(labels_N), labels_N.clone()),
            provenance=Provenance(
                content_hash="synthetic",
                official=False,
                shots=shots,
                label_set=0,
                fold=0,
                validation="realistic",
                label_set_hash="none",
                label_budget=2 * shots * num_classes,
            ),
        )

    return make
