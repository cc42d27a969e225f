"""Shared by the tests of one method: a task, the run that others are compared with, a cache, a baseline of settings."""

import gc
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, final

from trainables.core.method import Task
from trainables.testing.knobs import Knobs
from trainables.testing.subject import Subject
from trainables.training.train import Progress

EPOCHS = 4
"""Epochs of the undisturbed run, from the end of the first cycle on."""

MAX_VALUES = 8
"""Values of a field of which one must show: the ends of a range, or so many options."""


class FolderMaker(Protocol):
    """pytest's `tmp_path_factory`, as far as it is needed here."""

    def mktemp(self, basename: str) -> Path:
        """Return a new empty folder."""


@final
class Lab:
    """Everything is made when the first test asks for it, and kept."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._cache: Path | None = None

    def open_cache(self, folders: FolderMaker) -> Path:
        """Return the folder for what methods make once for all trials; the first call makes it."""
        if self._cache is None:
            self._cache = folders.mktemp("conformance")
            _freeze()
        return self._cache

    @cached_property
    def task(self) -> Task:
        """The task of tests that do not need a certain one."""
        return self._subject.task(num_classes=2, shots=2, num_unlabelled=8)

    @cached_property
    def before(self) -> int:
        """Epochs before the one that ends the first cycle of phases."""
        return self._subject.epochs_before(self._subject.config())

    @cached_property
    def straight(self) -> list[Progress]:
        """The undisturbed run with seed 0."""
        progress = list(self.start())
        _freeze()  # a first run loads further libraries
        return progress

    def start(self, **options: Any) -> Generator[Progress]:
        """Return a run like the undisturbed one but for the options, which are those of `Subject.start`."""
        return self._subject.start(self.task, epochs=self.before + EPOCHS, selection="mean3", **options)

    def is_alive(self, field: str) -> bool:
        """Return True if a searched field changes what is learned; most show on a batch or two."""
        return self._few_batches.is_alive(field) or self._many_batches.is_alive(field)

    @cached_property
    def _few_batches(self) -> Knobs:
        task = self._subject.task(channels=3, num_classes=2, shots=2, num_unlabelled=8)
        knobs = Knobs(self._subject, task, epochs=4, max_values=1)
        _freeze()  # the baseline stays
        return knobs

    @cached_property
    def _many_batches(self) -> Knobs:
        """A setting may need more images than fill a batch, or some updates, as a decay does."""
        return Knobs(self._subject, self._subject.task(channels=3, num_unlabelled=16), epochs=16, max_values=MAX_VALUES)


def _freeze() -> None:
    """Keep what is loaded from garbage collections: every run makes some, and to look through libraries takes long."""
    gc.collect()
    gc.freeze()
