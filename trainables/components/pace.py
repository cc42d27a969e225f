"""Where in its budget a training is, and the step size that belongs there."""

from collections.abc import Callable, Mapping

from search_spaces.core.schedule import Schedule, ScheduledConfig
from trainables.components.schedules import cosine_decay, linear_decay, poly_decay


class Pace:
    """The share of the budget that is behind, at every step, and the scale of step sizes there.

    The driver says where an epoch begins; who trains says how many images each of its batches has. Nothing of it needs
    to be kept: a resumed run hears where it stands.
    """

    def __init__(self, scale_at: Callable[[float], float]) -> None:
        self._scale_at = scale_at
        self._seen, self._budget = 0.0, 0
        self.share = 0.0
        """Share of the budget behind the middle of the batch at hand."""

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take from the driver how many images of the budget are behind."""
        self._seen, self._budget = float(max(seen, 0)), max(budget, 1)
        self.share = min(1.0, self._seen / self._budget)

    def advance(self, images: int) -> None:
        """Go on by a batch, before the steps on it."""
        if self._budget:
            self.share = min(1.0, (self._seen + images / 2) / self._budget)
            self._seen += images

    @property
    def scale(self) -> float:
        """Scale of step sizes now; 1 as long as nobody said how long the budget is."""
        return self._scale_at(self.share) if self._budget else 1.0


def pace_of(config: ScheduledConfig) -> Pace:
    """Return the pace that a configuration asks for."""
    falls: Mapping[Schedule, Callable[[float], float]] = {
        "constant": lambda share: 1.0,
        "cosine": cosine_decay,
        "linear": lambda share: linear_decay(share, config.decay_start),
        "poly": poly_decay,
    }
    fall, warm_up = falls[config.schedule], config.warm_up

    def scale_at(share: float) -> float:
        return fall(share) * (min(1.0, share / warm_up) if warm_up else 1.0)

    return Pace(scale_at)
