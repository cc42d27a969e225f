import pytest
import torch

from trainables.components.orders import InfiniteSampler, fair_order


@pytest.mark.parametrize("batch", [1, 3, 7, 16])
def test_every_item_comes_once_before_any_comes_again(batch):
    order = InfiniteSampler(7)
    taken = torch.cat([order.take(batch) for _ in range(21)])
    assert len(taken) == 21 * batch
    passes = taken[: len(taken) // 7 * 7].view(-1, 7)
    assert all(one.sort().values.equal(torch.arange(7)) for one in passes)
    assert len({tuple(one.tolist()) for one in passes}) > 1


def test_a_batch_may_be_empty():
    order = InfiniteSampler(5)
    before = torch.get_rng_state()
    assert order.take(0).shape == (0,)
    assert order.take(0).dtype == torch.long
    assert torch.equal(torch.get_rng_state(), before)
    assert order.take(5).sort().values.equal(torch.arange(5))


def test_it_goes_on_where_it_stopped():
    torch.manual_seed(0)
    order, other = InfiniteSampler(5), InfiniteSampler(5)
    order.take(3)
    other.load_state_dict(order.state_dict())
    expected = order.take(2)
    assert other.take(2).equal(expected)
    torch.manual_seed(1)
    expected = order.take(9)
    torch.manual_seed(1)
    assert other.take(9).equal(expected)


def test_classes_come_alike_where_that_is_asked_for():
    torch.manual_seed(0)
    classes = torch.tensor([0] * 18 + [1] + [3])
    taken = classes[InfiniteSampler(20, classes).take(3000)]
    counts = taken.bincount(minlength=4)
    assert counts[2] == 0
    assert counts[[0, 1, 3]].min() > 900
    assert classes[InfiniteSampler(20).take(2000)].bincount().tolist() == [1800, 100, 0, 100]


def test_unequal_classes_come_alike_and_equal_ones_in_plain_passes():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 20 + [1] * 7 + [3] * 2)
    counts = labels[fair_order(labels).take(3000)].bincount(minlength=4)
    assert counts[2] == 0
    assert counts[[0, 1, 3]].min() > 900
    assert fair_order(torch.tensor([0, 0, 2, 2])).take(4).sort().values.equal(torch.arange(4))
