"""Demands on every method: it builds, trains, is the same again, goes on where it was stopped, looks at no label.

Shapes: M unlabelled images.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from trainables.core.method import Task
from trainables.data.cache import CACHE_VARIABLE
from trainables.testing.forbidden import without_labels
from trainables.testing.lab import Lab
from trainables.testing.small import brief_config, lean
from trainables.testing.subject import Subject, weights
from trainables.training.checkpoint import Checkpoints
from trainables.training.train import Progress


class Checks:
    """Tests of any method. Within a class, trials share what methods keep in the cache, as in a search."""

    subject: ClassVar[Subject]
    lab: ClassVar[Lab]
    """Task, runs and cache that the tests of a method share."""

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """Let sums be formed in one order, and convolutions start at once: oneDNN plans longer than small ones take."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        plans, *_ = torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        yield
        torch.backends.mkldnn.set_flags(plans)  # type: ignore[no-untyped-call]
        torch.set_num_threads(threads)

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the trials of a class share a folder for what they make once."""
        monkeypatch.setenv(CACHE_VARIABLE, str(self.lab.open_cache(tmp_path_factory)))

    @pytest.fixture
    def _empty_cache(self, _cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let nothing be found: what is made again is compared."""
        assert self.lab.straight  # which is made once, for all
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    def test_its_module_tells_what_it_does(self) -> None:
        """A stranger finds the algorithm in the docstring of the module."""
        document = import_module(self.subject.module_name).__doc__
        assert document
        assert len(document.strip()) > 60

    def test_builds_and_learns_with_its_default_configuration(self) -> None:
        """The default networks take a step and predict, whatever the size of the machine's images."""
        torch.backends.mkldnn.set_flags(True)  # type: ignore[no-untyped-call]  # these convolutions are large
        method, task = self.subject.method, self.subject.task(channels=3, shots=1, num_unlabelled=4, side=32)
        learner = self.subject.build(task, brief_config(method))
        assert all(torch.tensor(loss).isfinite() for loss in next(iter(learner.epochs())).values())
        if not method.scorer:
            assert tuple(learner.predict(task.validation.images_NCHW)) == method.predictors

    @pytest.mark.usefixtures("_empty_cache")
    def test_two_epochs_and_two_more_are_four(self, tmp_path: Path) -> None:
        """A run that is stopped goes on from its checkpoint with the same digits."""
        stopped = self.lab.start(checkpoints=Checkpoints(tmp_path / "run"))
        for _ in range(self.lab.before + 2):
            next(stopped)
        stopped.close()
        resumed = list(self.lab.start(checkpoints=Checkpoints(tmp_path / "run")))
        if not self.subject.method.scorer:  # it is evaluated, and so saved, at its end only
            count = len(self.lab.straight)
            assert [each.replayed for each in resumed] == [True] * (count - 2) + [False] * 2
        assert outcomes(resumed) == outcomes(self.lab.straight)

    @pytest.mark.usefixtures("_empty_cache")
    def test_the_same_seed_gives_the_same_digits(self) -> None:
        """Nothing but the seed decides, within a process or between two."""
        again = self.lab.start()
        first = [next(again) for _ in self.lab.straight[: self.lab.before + 2]]
        again.close()
        assert outcomes(first) == outcomes(self.lab.straight[: len(first)])

    def test_it_trains_with_accumulated_gradients(self) -> None:
        """Steps may be taken every second batch."""
        self._train(self.lab.task, accumulate=2)

    def test_hidden_labels_change_nothing_but_a_diagnosis(self) -> None:
        """True labels of unlabelled images tell how right pseudo-labels are, and no more."""
        hidden_labels_M = torch.arange(len(self.lab.task.unlabelled_NCHW)) % self.lab.task.num_classes
        run = self.lab.start(hidden_labels_M=hidden_labels_M)
        for blind, told in zip(self.lab.straight[: self.lab.before + 2], run, strict=False):
            assert told.scores == blind.scores
            losses = dict(told.losses)
            assert 0 <= losses.pop("pseudo_accuracy", 0) <= 1
            assert losses == blind.losses
        run.close()

    def test_closing_early_is_clean(self) -> None:
        """A run may be left after any epoch."""
        iterator = self.subject.start(self.lab.task, epochs=100)
        next(iterator)
        iterator.close()

    def test_a_finished_run_leaves_no_network_behind(self) -> None:
        """One process serves many trials, so none may keep memory."""

        def num_networks() -> int:
            return sum(issubclass(type(thing), torch.nn.Module) for thing in gc.get_objects())

        gc.collect()
        before = num_networks()
        list(self.subject.start(self.lab.task, epochs=1))
        assert num_networks() <= before

    @pytest.mark.parametrize("side", [28, 32])
    def test_images_are_resized(self, side: int) -> None:
        """Images of any side are brought to the one that networks take."""
        task = self.subject.task(num_classes=2, shots=2, num_unlabelled=8, side=side)
        self._train(task, epochs=1)

    def _train(self, task: Task, *, synthetic: bool = True, **options: Any) -> Progress:
        """Train the lean configuration; return its end, or where that is all there is to it the first epoch.

        Generators are scored at their end alone, which takes as long as their training.
        """
        config = self.subject.config(**lean(), **({} if synthetic else {"synthetic": False}))
        run = self.subject.start(task, config, **options)
        if self.subject.method.scorer:
            first = next(run)
            run.close()
            return first
        *_, last = run
        assert last.scores
        return last

    def test_a_learner_never_reads_validation_labels_or_masks(self) -> None:
        """Held-out labels raise when they are touched."""
        task = replace(self.lab.task, validation=without_labels(self.lab.task.validation))
        learner = self.subject.build(task)
        next(iter(learner.epochs()))
        if not self.subject.method.scorer:
            learner.predict(task.validation.images_NCHW)


class LearningChecks(Checks):
    """Tests of a method that learns something."""

    def test_an_epoch_is_finite_and_changes_the_weights(self) -> None:
        """Losses are plain finite numbers, and something was learned."""
        learner = self.subject.build(self.lab.task)
        before = weights(learner)
        losses = dict(next(self.subject.advance(learner, 1, self.subject.config(), self.lab.task)))
        assert losses
        assert all(isinstance(value, float) and torch.tensor(value).isfinite() for value in losses.values())
        assert not torch.equal(before, weights(learner))

    def test_another_seed_gives_other_digits(self) -> None:
        """Weights and batches are drawn with the seed of the run, unless the method says that it draws nothing."""
        other = self.lab.start(seed=1)
        differs = dict(next(other).losses) != dict(self.lab.straight[0].losses)
        assert differs == self.subject.method.draws
        other.close()

    def test_it_trains_in_bf16(self) -> None:
        """Half precision reaches the networks of a classifier, and scores remain."""
        rounded = self._train(self.lab.task, epochs=1, precision="bf16", synthetic=False)
        if hasattr(self.subject.config(), "classifier"):  # generators keep float32 below 128 px
            assert rounded.losses != self._train(self.lab.task, epochs=1, synthetic=False).losses

    def test_no_dead_knob(self, field: str) -> None:
        """A searched field changes what is learned, if not at one end of its range then at another."""
        assert self.lab.is_alive(field), f"{self.subject.name}.{field} changes nothing"


def outcomes(run: list[Progress]) -> list[tuple[Any, Any]]:
    """Return losses and scores of every epoch of a run."""
    return [(dict(each.losses), each.scores) for each in run]
