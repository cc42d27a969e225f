"""How many trials fit: arithmetic only."""

from itertools import combinations, product

import pytest

from sparse_search.execution.resources import num_trials_over


def most_by_trying(fits, nodes):
    """Trials that can be placed, each on so many different nodes: the most of all ways to place them."""
    if sum(fit > 0 for fit in fits) < nodes:
        return 0
    ways = combinations([node for node, fit in enumerate(fits) if fit], nodes)
    return 1 + max(most_by_trying([fit - (n in way) for n, fit in enumerate(fits)], nodes) for way in ways)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_as_many_as_can_be_placed(nodes):
    for fits in product(range(4), repeat=3):
        assert num_trials_over(fits, nodes) == most_by_trying(fits, nodes), fits


@pytest.mark.parametrize(
    ("fits", "nodes", "expected"), [((), 2, 0), ((100, 1), 2, 1), ((100,) * 3, 2, 150), ((7,) * 1000, 8, 875)], ids=str
)
def test_large_and_empty_clusters(fits, nodes, expected):
    assert num_trials_over(fits, nodes) == expected
