"""Limit on trials, shared out among studies."""

from collections.abc import Sequence


def even_shares(planned: Sequence[int], most: int | None) -> list[int]:
    """Return how many of what is planned each may have: in turn one more, until there are so many in all."""
    left = sum(planned) if most is None else most
    given = [0] * len(planned)
    while left and any(count < plan for count, plan in zip(given, planned, strict=True)):
        for position, plan in enumerate(planned):
            if left and given[position] < plan:
                given[position] += 1
                left -= 1
    return given
