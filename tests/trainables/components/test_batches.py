import pytest
import torch

from trainables.components.batches import even_batches


@pytest.mark.parametrize(
    ("num_items", "batch_size", "sizes"),
    [
        (0, 24, []), (1, 24, [1]), (2, 24, [2]), (10, 24, [10]), (24, 24, [24]), (25, 24, [13, 12]),
        (35, 24, [18, 17]), (49, 24, [17, 16, 16]), (5, 2, [3, 2]), (3, 2, [3]), (4, 2, [2, 2]),
    ],
)  # fmt: skip
def test_nothing_is_dropped_and_no_batch_is_one(num_items, batch_size, sizes):
    batches = even_batches(num_items, batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(num_items))


def test_a_share_is_drawn_anew_without_repetition():
    torch.manual_seed(0)
    first, second = (torch.cat(even_batches(100, 8, share=0.2)) for _ in range(2))
    assert len(first) == len(first.unique()) == 20
    assert not first.sort().values.equal(second.sort().values)
    assert sum(map(len, even_batches(100, 8, share=1e-4))) == 2


def test_order_comes_from_the_global_generator():
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(torch.cat(even_batches(50, 8)))
    assert draws[0].equal(draws[1])
