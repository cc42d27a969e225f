"""Prototypes and a balanced assignment of the pool, in turn.

    P ← Sinkhorn(exp(cos(x_u, c_k) / temperature)): rows sum to 1, columns to U / (number of known classes)
    c_k ← (1 - share) · labelled mean of class k + share · mean of the pool weighted by column k of P

The column scales of the last assignment stay as biases, so that a new image is judged as those of the pool were.

Source: Cuturi, NeurIPS 2013, for the assignment; Hu et al., ICANN 2021, for the alternation.

Shapes: N labelled images, U images of the pool, D features, K classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainables.heads.head import Features, barred, class_means
from trainables.heads.prototype import PrototypeHead

_MAX_SCALINGS = 200
_TOLERANCE = 1e-9
"""Largest change of a bias at which the assignment is balanced."""


def fit(features: Features, *, temperature: float = 0.3, share: float = 0.2, rounds: int = 10) -> PrototypeHead:
    """The head; `temperature` above 0, `share` of the pool in 0..1, `rounds` of assignment and new prototypes."""
    labelled_ND = normalize(features.labelled_ND.double(), dim=1)
    pool_UD, barred_K = normalize(features.some_of_pool(), dim=1), barred(features.known_K())
    known_KD = means_KD = normalize(class_means(labelled_ND, features.members_NK()), dim=1)
    biases_K = barred_K
    for _ in range(rounds if len(pool_UD) else 0):
        logits_UK = pool_UD @ means_KD.T / temperature + barred_K
        biases_K = balancing(logits_UK, biases_K)  # begins where the last one ended
        pulled_KD = normalize(class_means(pool_UD, (logits_UK + biases_K).softmax(1)), dim=1)
        means_KD = normalize((1 - share) * known_KD + share * pulled_KD, dim=1)
    return PrototypeHead(means_KD, biases_K, torch.tensor(temperature, dtype=torch.float64))


def balancing(logits_UK: Tensor, biases_K: Tensor) -> Tensor:
    """Biases (K,) with which the softmax of the rows names all known classes equally often, on average.

    Args:
        logits_UK: minus infinity in the columns of unknown classes.
        biases_K: to begin with, minus infinity for unknown classes.
    """
    known_K = biases_K.isfinite()
    target = torch.log(torch.tensor(len(logits_UK) / int(known_K.sum()), dtype=torch.float64))
    for _ in range(_MAX_SCALINGS):
        steps_K = target - (logits_UK + biases_K).softmax(1).sum(0).log()
        biases_K = torch.where(known_K, biases_K + steps_K, biases_K)
        if steps_K[known_K].abs().max() < _TOLERANCE:
            break
    return biases_K
