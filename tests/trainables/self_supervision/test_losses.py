"""Losses of pretext tasks beside plain loops in float64."""

from math import exp, log

import numpy as np
import pytest
import torch

from trainables.self_supervision.losses import info_nce, neighbour_accuracy, nt_xent, squared_distance, uniformity


def draws(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize(("batch", "temperature"), [(1, 0.1), (2, 0.5), (5, 0.07)])
def test_nt_xent_names_the_other_view_among_all_others(batch, temperature):
    first, second = draws(batch, 7), draws(batch, 7, seed=1)
    views = [*first, *second]
    expected = 0.0
    for one in range(2 * batch):
        terms = {two: exp(cosine(views[one], views[two]) / temperature) for two in range(2 * batch) if two != one}
        expected -= log(terms[(one + batch) % (2 * batch)] / sum(terms.values())) / (2 * batch)
    assert float(nt_xent(first, second, temperature)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_its_gradient_is_finite_for_a_single_image():
    first, second = (draws(1, 3, seed=seed).requires_grad_() for seed in (0, 1))
    nt_xent(first, second, 0.1).backward()
    assert first.grad.abs().max() < 1e-12


@pytest.mark.parametrize("queued", [0, 1, 9])
def test_info_nce_names_the_other_view_beside_a_queue(queued):
    query, key, queue = draws(4, 5), draws(4, 5, seed=1), draws(queued, 5, seed=2)
    expected = 0.0
    for one, other in zip(query, key, strict=True):
        right = exp(cosine(one, other) / 0.2)
        expected -= log(right / (right + sum(exp(cosine(one, old) / 0.2) for old in queue))) / 4
    assert float(info_nce(query, key, queue, 0.2)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_distances_and_uniformity_are_those_of_directions():
    first, second = draws(6, 4), draws(6, 4, seed=1)
    expected = np.mean([2 - 2 * cosine(a, b) for a, b in zip(first, second, strict=True)])
    assert float(squared_distance(first, second)) == pytest.approx(expected, rel=1e-12)
    pairs = [exp(-2 * (2 - 2 * cosine(first[a], first[b]))) for a in range(6) for b in range(a)]
    assert float(uniformity(first)) == pytest.approx(log(np.mean(pairs)), rel=1e-5)
    assert float(uniformity(first[:1])) == 0.0
    assert float(uniformity(first[:1].repeat(3, 1))) == pytest.approx(0.0, abs=1e-6)


def test_neighbours_vote_without_the_image_itself_and_nearer_ones_decide_ties():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6])
    points = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([1.0, 5.0, 2.0, 1.0, 9.0])[:, None]
    assert neighbour_accuracy(points, torch.tensor([0, 0, 0, 1, 1]), neighbours=1) == 1.0
    assert neighbour_accuracy(points, torch.tensor([0, 1, 0, 1, 0]), neighbours=1) == 0.0
    assert neighbour_accuracy(points, torch.tensor([0, 0, 0, 1, 1])) == pytest.approx(0.6)  # all four others vote
    assert neighbour_accuracy(points, torch.tensor([0, 0, 0, 1, 1]), neighbours=2) == 1.0  # a tie for the last two
