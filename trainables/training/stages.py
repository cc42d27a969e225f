"""A stage of a method that does not depend on what follows it, made once for all trials that need the same one.

A learner asks a stage for its epochs one after the other. Whoever comes first trains them; who comes later is told the
losses of each, so that both report the same curve and count the same images. Costs stay honest in both: images are
those that the method needs, whoever trained on them, and seconds are those that passed in this trial, waiting included.
What was found rather than made is logged and told by `origin`.

Where another trial is at a stage, this one waits, and may meanwhile do something of what it needs later.

An epoch draws its random numbers from a seed of its own, so the stage is the same, bit for bit on CPU, whoever trains
which of its epochs. A trial that ends in the middle leaves the networks in the cache, where another goes on.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from trainables.core.accelerator import Accelerator
from trainables.training.accelerator import from_main
from trainables.training.stage_cache import StageEntry
from trainables.training.train import seed_everything

log = logging.getLogger(__name__)

SAVE_SECONDS = 120.0
"""Time after which a stage at work is saved, for whoever goes on after a kill."""

HELP_SECONDS = 60.0
"""Time for which a trial that waits for one stage works on another before it looks again."""

_POLL_SECONDS = 5.0
"""Several processes of a run wait for each other: none may wait for another trial so long that it seems dead."""


def execution(accelerator: Accelerator) -> dict[str, Any]:
    """Circumstances of a run that its digits depend on."""
    device = accelerator.device.type
    return {
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else 0,
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "accumulate": accelerator.gradient_accumulation_steps,
        "torch": torch.__version__,
    }


class StageWork(Protocol):
    """Work of a stage, done by the trial that makes it. All processes of a run do the same."""

    def train_epoch(self) -> Mapping[str, float]:
        """Train an epoch; return its mean losses. Draws random numbers from the global generators."""

    def result(self) -> dict[str, Any]:
        """Return what is kept of the whole stage, readable by `torch.load(weights_only=True)`."""

    def state_dict(self) -> dict[str, Any]:
        """All state between two epochs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""


class SharedStage:
    """One stage of one trial, found in the cache or made for it.

    Args:
        name: In messages.
        entry: Its place in the cache.
        num_epochs: How many it has; none where there is nothing but a result.
        seed: Of its random numbers; part of what determines the entry.
        begin: Builds what makes it; not called where it is found.
        accelerator: Of the run, whose processes all take part.
    """

    def __init__(
        self,
        name: str,
        entry: StageEntry,
        *,
        num_epochs: int,
        seed: int,
        begin: Callable[[], StageWork],
        accelerator: Accelerator,
    ) -> None:
        self.name, self.num_epochs, self.entry = name, num_epochs, entry
        self._seed, self._new_work, self._accelerator = seed, begin, accelerator
        self._work: StageWork | None = None
        self._own: dict[str, Any] = {}
        self._losses: list[dict[str, float]] = []
        self._made = False
        self._seconds, self._saved_at = 0.0, 0.0
        self.meanwhile: Callable[[], bool] = lambda: False
        """Work to do while another trial is at it; returns False if there was none."""
        self.origin = ""
        """`found` in the cache, `made` by this trial, `continued` from where another left it; empty before that."""

    @property
    def losses(self) -> list[dict[str, float]]:
        """Losses of the epochs that are known so far."""
        return [dict(losses) for losses in self._losses]

    def epoch(self, number: int) -> dict[str, float]:
        """The mean losses of its epoch of that number, from 0."""
        self._advance(number + 1)
        return dict(self._losses[number])

    def result(self) -> dict[str, Any]:
        """Return what its work gave, on the CPU; what is missing is made first, and what is damaged again.

        Raises:
            OSError: what was made twice cannot be read.
        """
        for _ in range(2):
            self._advance(self.num_epochs)
            value = from_main(self.entry.read, self._accelerator)
            if value is not None:
                result: dict[str, Any] = value["result"]
                return result
            self._made, self._losses = False, []
        raise OSError(f"{self.name}: what was just written to {self.entry.folder} cannot be read")

    def state_dict(self) -> dict[str, Any]:
        """State of its work, or what is told of it where it is made. The tensors are the live ones."""
        if self._made:
            return {"key": self.entry.key, "losses": self._losses, "origin": self.origin}
        return self._state() if self._work else self._own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave, for when it is needed: the cache may know more.

        The state of another stage, as of one that was begun by other code, is not used: this one begins anew.
        """
        self.close()
        self._made, self._losses, self._own, self.origin = False, [], {}, ""
        if state.get("key") != self.entry.key:
            return
        if "work" in state:
            self._own = state
        else:  # `result` makes it again where the cache has lost it
            self._made, self._losses, self.origin = True, list(state["losses"]), state["origin"]

    def close(self) -> None:
        """Leave what is trained in the cache, and let others go on from there."""
        if self.entry.is_taken:
            try:
                if self._work and self._losses and self._accelerator.is_main_process:
                    self.entry.begun.save(len(self._losses), self._state())
                    self.entry.begun.wait()
            finally:
                self.entry.release()
        if self._work:
            self._own = self._state()
        self._work, self._losses = None, self._losses if self._made else []

    def _state(self) -> dict[str, Any]:
        assert self._work is not None
        known = {"key": self.entry.key, "losses": self._losses, "seconds": self._seconds}
        return known | {"work": self._work.state_dict()}

    def _advance(self, num_epochs: int) -> None:
        """Go on until so many epochs are done; end the stage with its last one."""
        if not self._made and self._work is None:
            self._begin()
        while not self._made and len(self._losses) < num_epochs:
            self._train_epoch()
        if not self._made and len(self._losses) == self.num_epochs:
            self._finish()

    def help(self) -> bool:
        """Make it for some seconds if nobody else is at it, then lets go of it; whether it did."""
        if self._made or self._work or self._agreed(partial(self._look, 0.0)) != "make":
            return False
        self._start()
        until = time.monotonic() + HELP_SECONDS
        while len(self._losses) < self.num_epochs:
            if self._agreed(lambda: "enough" if time.monotonic() > until else "") == "enough":
                self.close()
                self._own = {}  # it is in the cache
                self._accelerator.free_memory()  # it holds on to the networks, and a trial may help every minute
                return True
            self._train_epoch()
        self._finish()
        return True

    def _begin(self) -> None:
        """Find the stage, or start to make it where whoever was at it left it."""
        patience = 0.0
        while (word := self._agreed(partial(self._look, patience))) != "make":
            if word == "found" and (value := from_main(self.entry.read, self._accelerator)) is not None:
                self._take_over(value)
                return
            if word == "taken":
                if self.origin != "waits":
                    self._say(f"{self.name}: another trial is at it; this one waits")
                self.origin = "waits"
                patience = 0.0 if self.meanwhile() else _POLL_SECONDS
        self._start()

    def _start(self) -> None:
        work = self._new_work()
        begun = from_main(self.entry.begun.load, self._accelerator)
        states = [state for state in (begun[1] if begun else {}, self._own) if state]
        newest = max(states, key=lambda state: len(state["losses"]), default=None)
        if newest:
            work.load_state_dict(newest["work"])
            self._losses, self._seconds = list(newest["losses"]), newest["seconds"]
        self._work, self._own = work, {}
        self._saved_at = time.monotonic()
        self.origin = "continued" if newest else "made"
        if newest:
            self._say(f"{self.name}: goes on after {len(self._losses)} of {self.num_epochs} epochs")

    def _look(self, patience: float) -> str:
        """Return what the main process finds: the stage is `found`, or to `make`, or `taken` by another trial."""
        if self.entry.is_made:
            return "found"
        if not self.entry.take(patience):
            return "taken"
        if self.entry.is_made:  # by the other one, in the meantime
            self.entry.release()
            return "found"
        return "make"

    def _take_over(self, value: dict[str, Any]) -> None:
        self._losses, self._made, self._own, self.origin = value["losses"], True, {}, "found"
        self._say(f"{self.name}: found in the cache, made in {value['seconds']:.1f} s")

    def _train_epoch(self) -> None:
        work = self._work
        assert work is not None
        self._work = None  # nothing half trained is ever saved
        started = time.monotonic()
        with self._own_randomness(len(self._losses)):
            losses = {name: float(loss) for name, loss in work.train_epoch().items()}
        self._seconds += time.monotonic() - started
        self._losses, self._work = [*self._losses, losses], work
        due = time.monotonic() - self._saved_at > SAVE_SECONDS and len(self._losses) < self.num_epochs
        if due and self._accelerator.is_main_process:
            self.entry.begun.save(len(self._losses), self._state())
            self._saved_at = time.monotonic()

    def _finish(self) -> None:
        work = self._work
        assert work is not None
        started = time.monotonic()
        with self._own_randomness(self.num_epochs):
            result = work.result()
        self._seconds += time.monotonic() - started
        if self._accelerator.is_main_process:
            self.entry.write({"losses": self._losses, "seconds": self._seconds, "result": result})
            self.entry.begun.remove()
        self._accelerator.wait_for_everyone()
        self._work, self._made = None, True
        if self._accelerator.device.type == "cuda":  # where memory is short; to collect garbage takes half a second
            self._accelerator.free_memory()  # it holds on to the networks
        if self.entry.is_taken:
            self.entry.release()
        self._say(f"{self.name}: made in {self._seconds:.1f} s")

    @contextmanager
    def _own_randomness(self, epoch: int) -> Iterator[None]:
        """Seed all global generators for that epoch of the stage; afterwards they are where they were."""
        gpus = [self._accelerator.device] if self._accelerator.device.type == "cuda" else []
        python, numpy = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(gpus):
                seed_everything(self._seed, epoch)
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

    def _agreed(self, decide: Callable[[], str]) -> str:
        """Return what the main process decides, in every process."""
        return from_main(decide, self._accelerator)

    def _say(self, text: str) -> None:
        if self._accelerator.is_main_process:
            log.info(text)
