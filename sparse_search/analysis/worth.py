"""Worth of what was tried: what each method adds to the average, and what a search of so many brought.

Shapes: B draws, M members.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_search.analysis.average_estimates import Draws
from sparse_search.analysis.estimate import Expected
from trainables.metrics.table import METRICS, sign_of

WORTH_DRAWS = 200
"""Draws for the curves over numbers of configurations, each of which needs as many averages."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Addition:
    """What a method adds to the average: its score with the method less that without, by draws of images."""

    method: str
    num_members: int
    """Candidates of this method."""

    alone: Expected | None
    without: Expected | None
    gain: Expected | None
    """Paired over draws; positive where the method makes the average better."""


def additions(drawn: Draws, methods: Sequence[str], rule: str) -> list[Addition]:
    """Return what each method adds to the average of all, the most first; nothing of a single method.

    Args:
        drawn: All candidates.
        methods: of each candidate (M,).
        rule: of the averages.
    """
    named_M, with_all_B = np.array(methods), drawn.by_rule(rule)
    found = []
    for method in sorted(set(methods)) if len(set(methods)) > 1 else ():
        own_1M = (named_M == method)[None]
        without_B = drawn.by_rule(rule, ~own_1M)
        alone, gain = drawn.expect(drawn.by_rule(rule, own_1M)), drawn.expect_gain(with_all_B, without_B)
        found.append(Addition(method, int(own_1M.sum()), alone, drawn.expect(without_B), gain))
    return sorted(found, key=lambda each: (-(each.gain.score if each.gain else 0.0), each.method))


@dataclass(frozen=True)
class Worth:
    """Worth of having tried so many: scores of the best of n, and of the average of n, for growing n."""

    sizes: tuple[int, ...]
    best: tuple[Expected | None, ...]
    average: tuple[Expected | None, ...]
    from_search: Expected | None
    """Paired gain of the best of all over one at random."""

    from_averaging: Expected | None
    """Paired gain of the average of all over the best of all."""

    risen_until: int
    """Least n from which on neither rises by more than `MIN_RISE`."""


MIN_RISE = 0.005
"""Rise of a score that counts as one."""


def worth(drawn: Draws, rule: str, seed: int = 0) -> Worth:
    """Return what having tried more was worth, from orders of the candidates that are drawn anew with the images."""
    count, num_draws = len(drawn.candidates.names), len(drawn.times_BN)
    sizes = (*(2**power for power in range(count.bit_length()) if 2**power < count), count)
    place_BM = np.random.default_rng(seed).permuted(np.tile(np.arange(count), (num_draws, 1)), axis=1)
    best = {size: drawn.by_choice(place_BM < size) for size in sizes}
    average = {size: drawn.by_rule(rule, place_BM < size) for size in sizes}
    return Worth(
        sizes,
        tuple(drawn.expect(best[size]) for size in sizes),
        tuple(drawn.expect(average[size]) for size in sizes),
        drawn.expect_gain(best[count], best[1]),
        drawn.expect_gain(average[count], best[count]),
        _risen_until(sizes, (best, average), sign_of(drawn.metric)),
    )


def _risen_until(sizes: tuple[int, ...], curves: tuple[Mapping[int, _Array], ...], sign: int) -> int:
    """Return the least size from which on no later one is better by more than `MIN_RISE` in any curve."""
    means = [[sign * np.nanmean(curve[size]) if np.isfinite(curve[size]).any() else 0.0 for size in sizes]
             for curve in curves]  # fmt: skip
    for place, size in enumerate(sizes):
        if all(max(each[place:]) - each[place] <= MIN_RISE for each in means):
            return size
    return sizes[-1]


def worth_lines(found: Worth, metric: str) -> Iterator[str]:
    """Sentences on whether the search was worth it."""
    size = found.sizes[-1]
    if found.from_search and found.from_averaging:
        yield (
            f"{METRICS[metric].title} of {size} tried: choosing the best is worth {gain_text(found.from_search)} over "
            f"one at random, averaging {gain_text(found.from_averaging)} over choosing"
        )
    if found.risen_until < size:
        yield f"after {found.risen_until} tries nothing rose"


def gain_text(each: Expected) -> str:
    """Return a difference with its interval, in words."""
    return f"{each.score:+z.3f} (95 %: {each.low:+z.3f} to {each.high:+z.3f})"
