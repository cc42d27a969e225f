import pytest
import torch

from tests.trainables.heads.features import clusters, new_images, unit
from trainables.heads import prototype
from trainables.heads.transductive import balancing, fit


def test_it_is_prototypes_where_nothing_is_taken_in():
    rows = new_images(clusters())
    expected = prototype.fit(clusters(), temperature=0.2).probabilities(rows)
    for features, rounds in ((clusters(pool=0), 5), (clusters(), 0)):
        head = fit(features, temperature=0.2, rounds=rounds)
        torch.testing.assert_close(
            head.probabilities(rows), prototype.fit(features, temperature=0.2).probabilities(rows)
        )
    assert not torch.allclose(fit(clusters(), temperature=0.2).probabilities(rows), expected)


def test_the_assignment_is_balanced_over_known_classes():
    torch.manual_seed(0)
    logits = 2 * torch.randn(50, 4, dtype=torch.float64) + torch.tensor([3.0, 0.0, -2.0, -torch.inf])
    biases = balancing(logits, torch.tensor([0.0, 0.0, 0.0, -torch.inf], dtype=torch.float64))
    assert (logits + biases).softmax(1).sum(0).tolist() == pytest.approx([50 / 3, 50 / 3, 50 / 3, 0], rel=1e-6)


def test_one_round_is_that_of_plain_matrix_scaling():
    features, share, temperature = clusters((1, 3, 2), spread=2.0), 0.3, 0.2
    pool, labelled = unit(features.pool_UD), unit(features.labelled_ND)
    known = unit(torch.stack([labelled[features.labels_N == k].mean(0) for k in range(3)]))
    plan = torch.exp(pool @ known.T / temperature)
    for _ in range(300):
        plan = plan / plan.sum(0) * len(pool) / 3
        plan = plan / plan.sum(1, keepdim=True)
    expected = unit((1 - share) * known + share * unit(plan.T @ pool))
    found = fit(features, temperature=temperature, share=share, rounds=1)
    torch.testing.assert_close(found.directions_KD, expected, atol=1e-6, rtol=1e-6)
    moved = fit(features, temperature=temperature, share=0.0, rounds=3)
    torch.testing.assert_close(moved.probabilities(features.pool_UD), plan, atol=1e-6, rtol=1e-6)
