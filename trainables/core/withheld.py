"""Secrets that are kept from a learner while it is built, trains or predicts: the test set, and hidden labels.

It guards against mistakes: what a learner reads past `trainables.data`, or in a thread of its own, is not noticed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from search_spaces.core.errors import ConfigError

_learner_is_at_work = ContextVar("learner_is_at_work", default=False)


@contextmanager
def learner_at_work() -> Iterator[None]:
    """Refuse inside, to whoever asks, what learners must not see; as a decorator, during a function."""
    token = _learner_is_at_work.set(True)
    try:
        yield
    finally:
        _learner_is_at_work.reset(token)


def refuse_to_learners(what: str, instead: str) -> None:
    """Do nothing, unless a learner asks.

    Args:
        what: The secret.
        instead: Remedy, or who alone may see it.

    Raises:
        ConfigError: a learner is at work.
    """
    if _learner_is_at_work.get():
        raise ConfigError(f"a method read {what}: {instead}")
