"""Fixtures for all suites: one thread, small synthetic tasks, no network."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

# Before torch: some virtual machines announce AMX and end a process that uses it, which bf16 would.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import pytest
import torch

from trainables.core.kind import Kind
from trainables.core.method import Labelled, Provenance, Task
from trainables.data.cache import CACHE_VARIABLE

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


@pytest.fixture
def make_task() -> MakeTask:
    """A maker of few-shot tasks whose classes differ in brightness; in a segmentation a bright square is marked."""

    def make(
        *,
        channels: int = 1,
        num_classes: int = 3,
        shots: int = 3,
        num_unlabelled: int = 24,
        side: int = 16,
        kind: Kind = "classification",
    ) -> Task:
        generator = torch.Generator().manual_seed(0)

        def draw(labels_N: torch.Tensor) -> torch.Tensor:
            noise = torch.randint(0, 100, (len(labels_N), channels, side, side), generator=generator)
            return (noise + (labels_N * 150 // num_classes)[:, None, None, None]).to(torch.uint8)

        labels_N = torch.arange(num_classes).repeat_interleave(shots)
        hidden_N = torch.randint(0, num_classes, (num_unlabelled,), generator=generator)
        segmentation = kind == "segmentation"

        def labelled() -> Labelled:
            images_NCHW = draw(labels_N)
            if not segmentation:
                return Labelled(images_NCHW, labels_N.clone())
            corners_N = torch.randint(0, side // 2, (len(labels_N), 2), generator=generator)
            masks_NHW = torch.zeros(len(labels_N), side, side, dtype=torch.bool)
            for mask_HW, image_CHW, (row, column) in zip(masks_NHW, images_NCHW, corners_N.tolist(), strict=True):
                spot = (slice(row, row + side // 2), slice(column, column + side // 2))
                mask_HW[spot] = True
                image_CHW[(slice(None), *spot)] = 255
            return Labelled(images_NCHW, torch.zeros_like(labels_N), masks_IHW=masks_NHW)

        return Task(
            dataset="synthetic",
            kind=kind,
            num_classes=2 if segmentation else num_classes,
            channels=channels,
            labelled=labelled(),
            unlabelled_NCHW=draw(hidden_N),
            validation=labelled(),
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
