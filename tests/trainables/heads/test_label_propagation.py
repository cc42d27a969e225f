import numpy as np
import pytest
import scipy.linalg
import torch

from tests.trainables.heads.features import clusters, new_images, unit
from trainables.heads.label_propagation import fit

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}
"""Directions are kept in float32."""


def plain(features, queries, k, alpha, gamma, local):
    """The same with dense matrices and loops: probabilities of the images of the graph, and of the queries."""
    nodes, queries = unit(torch.cat([features.labelled_ND, features.pool_UD])).numpy(), unit(queries).numpy()

    def neighbours(row, left_out):
        distances = np.linalg.norm(nodes - row, axis=1)
        order = [each for each in np.argsort(distances) if each != left_out][:k]
        return order, distances[order]

    near = [neighbours(row, index) for index, row in enumerate(nodes)]

    def weights(row, order, distances):
        if not local:
            return np.maximum(nodes[order] @ row, 0) ** gamma
        return np.exp(-(distances**2) * gamma / (distances[-1] * np.array([near[each][1][-1] for each in order])))

    graph = np.zeros((len(nodes), len(nodes)))
    for index, (order, distances) in enumerate(near):
        graph[index, order] = weights(nodes[index], order, distances)
    graph = np.maximum(graph, graph.T)
    degrees = np.diag(graph.sum(1) ** -0.5)
    seeds = np.zeros((len(nodes), features.num_classes))
    seeds[np.arange(len(features.labels_N)), features.labels_N] = 1 - alpha
    probs = scipy.linalg.solve(np.eye(len(nodes)) - alpha * degrees @ graph @ degrees, seeds)
    probs = probs / probs.sum(0)
    probs = probs / probs.sum(1, keepdims=True)
    votes = []
    for row in queries:
        order, distances = neighbours(row, None)
        votes.append(weights(row, order, distances) @ probs[order])
    return torch.from_numpy(probs), torch.from_numpy(np.stack(votes) / np.stack(votes).sum(1, keepdims=True))


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(("k", "alpha", "gamma"), [(5, 0.8, 1.0), (9, 0.99, 2.5)])
def test_it_is_the_dense_solution(k, alpha, gamma, local):
    features = clusters((1, 4, 2), spread=2.0)
    rows = new_images(features, 20)
    probs, votes = plain(features, rows, k, alpha, gamma, local)
    head = fit(features, k=k, alpha=alpha, gamma=gamma, local=local)
    torch.testing.assert_close(head.probs_MK, probs, **TOLERANCE)
    torch.testing.assert_close(head.probabilities(rows), votes, **TOLERANCE)


def test_what_no_label_reaches_may_be_any_known_class():
    features = clusters((1, 1, 0), pool=0, size=2)
    head = fit(features, local=False)
    away = -features.labelled_ND.mean(0, keepdim=True)
    turned = torch.eye(2)[:1] * 0.0
    torch.testing.assert_close(head.probabilities(turned), torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64))
    assert head.probabilities(away).sum().item() == pytest.approx(1)
