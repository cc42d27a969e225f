"""Transactions on a journal: each waits for the disk once, and what was computed before holds until the next."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sparse_search.search.journal_file import Journal

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Transactional")


class Transactional:
    """Base of what works on a journal in transactions, or looks only."""

    def __init__(self, storage: Journal, *, look_only: bool) -> None:
        self._storage = storage
        self._look_only = look_only
        self._num_steps = 0
        self._counted: dict[str, tuple[int, Any]] = {}
        """Results of methods by name, each with the number of transactions after which it was found."""

    @property
    def storage(self) -> Journal:
        """Journal that it works on."""
        return self._storage


def transaction(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Make a method wait for the disk once, when all that it writes is written, and forget cached results."""

    @wraps(method)
    def stepping(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with self._storage.step():
                return method(self, *args, **kwargs)
        finally:
            self._num_steps += 1

    return stepping


def cached_until_write(method: Callable[[S], R]) -> Callable[[S], R]:
    """Cache a method until the next transaction, as only the one driver writes; who looks only, computes each time."""

    @wraps(method)
    def counting(self: S) -> R:
        num_steps = self._num_steps  # first: what another thread counts during a step is not kept beyond it
        known = self._counted.get(method.__name__)
        if known is None or known[0] != num_steps or self._look_only:
            known = self._counted[method.__name__] = (num_steps, method(self))
        return cast(R, known[1])

    return counting
