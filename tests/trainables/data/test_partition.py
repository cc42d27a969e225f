import numpy as np
import pytest

from trainables.data.partition import random_order, shuffled_class, three_way_split

LABELS = np.repeat([0, 1, 2], [100, 50, 10])


def test_an_order_never_changes():
    """Pinned: another order would silently label other images than earlier results did."""
    assert random_order(10, "abc", 0).tolist() == [5, 0, 4, 3, 1, 8, 9, 7, 2, 6]


def test_an_order_is_a_permutation_that_depends_on_every_word():
    orders = {tuple(random_order(30, *words)) for words in [("a", 0), ("a", 1), ("b", 0), ("a", 0, 0)]}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(30)) for order in orders)


@pytest.mark.parametrize("count", [0, 1])
def test_tiny_orders(count):
    assert random_order(count, "x").tolist() == list(range(count))


def test_every_position_is_equally_likely():
    firsts = np.bincount([random_order(4, "seed", n)[0] for n in range(4000)], minlength=4)
    assert (abs(firsts - 1000) < 120).all()


def test_a_class_does_not_depend_on_the_others():
    relabelled = np.where(LABELS == 2, 1, LABELS)
    assert np.array_equal(shuffled_class(LABELS, 0, "s"), shuffled_class(relabelled, 0, "s"))


def test_three_way_split_is_a_stratified_partition():
    parts = three_way_split(LABELS, "seed", val_share=0.1, test_share=0.2)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(160))
    assert np.bincount(LABELS[parts["train"]]).tolist() == [70, 35, 7]
    assert np.bincount(LABELS[parts["val"]]).tolist() == [10, 5, 1]
    assert np.bincount(LABELS[parts["test"]]).tolist() == [20, 10, 2]
    other = three_way_split(LABELS, "another", val_share=0.1, test_share=0.2)
    assert not np.array_equal(other["test"], parts["test"])
