"""Settings that change nothing are found by training beside a baseline until something differs.

What predicts counts: two trainings differ where their predictions on the validation images do. Before what predicts has
learned anything, while generators are made, or where nothing ever predicts, the state of what trains counts instead.
Predictions are looked at after each step of an optimiser, so that a setting that has shown is trained no further.

A training that makes a stage which trials share has another state than one that finds it in the cache. So there are two
baselines where there are such stages, one that made them and one that found them, and a training must differ from both.
"""

from dataclasses import replace
from typing import Any, final

from search_spaces.core.config import MethodConfig
from search_spaces.core.ranges import Choice, Scalar, space_of
from trainables.core.method import Task
from trainables.data.cache import cache_root
from trainables.testing.small import activating
from trainables.testing.subject import Subject
from trainables.testing.trajectory import Baseline, Trajectory, leaves

_SEED = 1
"""Of the trainings that are compared: another one than that of other tests, whose stages would be found."""


def other_values(config: MethodConfig, field: str) -> list[Scalar]:
    """Return the ends of a searched field's range, or its options, but for the value that the configuration has."""
    range_ = space_of(type(config))[field]
    options = range_.options if isinstance(range_, Choice) else range_.ends()
    return [value for value in options if value != getattr(config, field)]


@final
class Knobs:
    """A method's searched fields, each compared with a baseline in which it has an effect.

    Args:
        epochs: Within which a field must show, from the end of the first cycle on.
        max_values: Values of a field that are tried.
    """

    def __init__(self, subject: Subject, task: Task, *, epochs: int, max_values: int) -> None:
        self._subject, self._task, self._config = subject, task, subject.telling_config()
        self._max_values, self._epochs = max_values, epochs
        self._baselines: dict[MethodConfig, list[Baseline]] = {}

    def is_alive(self, field: str) -> bool:
        """Return True if the field changes what is learned at some end of its range."""
        config = activating(self._config, field)
        values = other_values(config, field)[: self._max_values]
        changes: list[dict[str, Any]] = [{field: value} for value in values]
        baselines = self._baselines_of(config)
        return any(self._differs(replace(config, **change), baselines) for change in changes)

    def _differs(self, config: MethodConfig, baselines: list[Baseline]) -> bool:
        other, num_epochs = self._trajectory(config), self._num_epochs(config, self._epochs)
        try:
            return any(leaves(other, baselines, epoch) for epoch in range(1, num_epochs + 1))
        finally:
            other.close()

    def _baselines_of(self, config: MethodConfig) -> list[Baseline]:
        if config not in self._baselines:
            made = [Baseline(self._trajectory(config))]
            # Stages that trials share are made now: while the baseline is at one, others would wait for it.
            made[0].mark(self._num_epochs(config, 1))
            if any(cache_root().glob("*")):
                made.append(Baseline(self._trajectory(config)))
            self._baselines[config] = made
        return self._baselines[config]

    def _trajectory(self, config: MethodConfig) -> Trajectory:
        num_epochs = self._num_epochs(config, self._epochs)
        return Trajectory(self._subject, self._task, config, seed=_SEED, num_epochs=num_epochs)

    def _num_epochs(self, config: MethodConfig, after: int) -> int:
        """Return the epochs before the one that ends the first cycle, and so many; all where a method has its end."""
        if self._subject.method.scorer:
            return self._subject.num_epochs(self._config, self._task)
        return self._subject.epochs_before(config) + after
