from math import log

import pytest
import torch

from trainables.components.pseudo_labels import (
    TemporalEnsemble,
    class_balance,
    most_confident,
    num_kept,
    vote_health,
    weighted_vote,
)


@pytest.mark.parametrize("normalise", [True, False])
def test_vote_is_its_definition(normalise):
    torch.manual_seed(0)
    logits = [torch.randn(5, 3, dtype=torch.float64) for _ in range(2)]
    probs = [(one / 2.0).softmax(1) for one in logits]
    confidence = [1 + (p * p.log()).sum(1, keepdim=True) / log(3) for p in probs]
    total = confidence[0] * probs[0] + confidence[1] * probs[1]
    naive = total / (confidence[0] + confidence[1]) if normalise else total / 2
    vote = weighted_vote(logits, 2.0, normalise=normalise)
    torch.testing.assert_close(vote, naive, atol=2e-5, rtol=2e-5)
    if normalise:
        torch.testing.assert_close(vote.sum(1), torch.ones(5, dtype=torch.float64))


def test_a_vote_without_any_confidence_is_a_mean():
    torch.testing.assert_close(weighted_vote([torch.zeros(2, 4)] * 2, 1.0, normalise=True), torch.full((2, 4), 0.25))


def test_the_surer_voter_prevails():
    vote = weighted_vote([torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])], 1.0, normalise=True)
    assert vote.argmax() == 0


@pytest.mark.parametrize(
    ("batch", "percentile", "kept"),
    [
        (24, 0.75, 6), (24, 0.0, 24), (24, 0.05, 23), (20, 0.95, 2), (40, 0.95, 2), (60, 0.95, 3),
        (10, 0.9, 2), (2, 0.5, 2), (1, 0.5, 1),
    ],
)  # fmt: skip
def test_number_kept(batch, percentile, kept):
    assert num_kept(batch, percentile) == kept


def test_the_most_confident_are_those_above_the_quantile():
    torch.manual_seed(0)
    votes = torch.rand(24, 5)
    confidence = votes.amax(1)
    above = (confidence > confidence.quantile(0.75)).nonzero().flatten()
    assert most_confident(votes, num_kept(24, 0.75)).equal(above)
    assert most_confident(votes, 24).equal(torch.arange(24))
    assert most_confident(torch.ones(4, 2), 2).equal(torch.tensor([0, 1]))


def kept_by_class(votes_BK, count):
    """The surest of each class, then the second surest of those that have as many, as shares of the class, by hand."""
    named = votes_BK.argmax(1).tolist()
    sure = votes_BK.amax(1).tolist()
    order = sorted(range(len(named)), key=lambda i: (-sure[i], i))
    of_class = {k: [i for i in order if named[i] == k] for k in set(named)}
    places = {i: (members.index(i) + 1) / len(members) for members in of_class.values() for i in members}
    return sorted(sorted(order, key=lambda i: places[i])[:count])


@pytest.mark.parametrize("count", range(2, 25))
def test_by_class_each_keeps_its_share(count):
    torch.manual_seed(3)
    votes = torch.rand(24, 3, dtype=torch.float64)
    votes[:, 0] += 0.4  # a class that is named more often, and with more confidence
    kept = most_confident(votes, count, by_class=True)
    assert kept.tolist() == kept_by_class(votes, count)
    named = votes.argmax(1)
    shares = named[kept].bincount(minlength=3) / named.bincount(minlength=3)
    assert (shares - count / 24).abs().max() <= 1 / named.bincount(minlength=3).min()


def test_by_class_rare_ones_do_not_go_without():
    votes = torch.tensor([[0.9, 0.1]] * 8 + [[0.45, 0.55], [0.4, 0.6]])
    assert most_confident(votes, 5).tolist() == [0, 1, 2, 3, 4]
    assert most_confident(votes, 5, by_class=True).tolist() == [0, 1, 2, 3, 9]
    assert most_confident(votes, 10, by_class=True).tolist() == list(range(10))


def test_temporal_ensemble_is_a_bias_corrected_average():
    memory = TemporalEnsemble(3, 2, 0.9)
    index = torch.tensor([2, 0])
    passes = torch.rand(4, 2, 2).softmax(2)
    for votes in passes:
        memory.update(index, votes)
    weights = torch.tensor([0.9**age for age in (3, 2, 1, 0)])
    expected = (weights[:, None, None] * passes).sum(0) / weights.sum()
    current = torch.rand(2, 2).softmax(1)
    torch.testing.assert_close(memory.blend(index, current, 0.6), 0.6 * current + 0.4 * expected)
    torch.testing.assert_close(memory.blend(torch.tensor([1]), current[:1], 0.6), current[:1])


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_temporal_ensemble_does_not_depend_on_the_order(momentum):
    votes = torch.rand(3, 6, 4).softmax(2)
    memories = [TemporalEnsemble(6, 4, momentum) for _ in range(2)]
    for one in votes:
        for memory in memories:
            for index in torch.randperm(6).split(4 if memory is memories[0] else 1):
                memory.update(index, one[index])
    first, second = (m.blend(torch.arange(6), votes[0], 0.0) for m in memories)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert memories[0].num_updates_M.equal(torch.full((6,), 3.0))
    torch.testing.assert_close(first.sum(1), torch.ones(6))


def test_health():
    logits = [torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])]
    health = vote_health(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), logits)
    assert health["agreement"].item() == 0.5
    assert health["pseudo_entropy"].item() == pytest.approx(log(2) / 2)


def test_balance():
    assert class_balance(torch.tensor([3.0, 3.0, 3.0])).item() == pytest.approx(1.0)
    assert class_balance(torch.tensor([9.0, 0.0, 0.0])).item() == 0.0
