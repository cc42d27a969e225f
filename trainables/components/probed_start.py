"""A last layer that begins as the probe of its network's features would end.

Shapes: B batch, N labelled images, R images that features are standardised by, D features, K classes.
"""

import torch
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError
from trainables.components.modes import evaluated
from trainables.core.method import Task
from trainables.data.augment import to_unit
from trainables.heads import logistic
from trainables.heads.head import Features
from trainables.nets.fine_tuned import FineTunedNetwork

_POOL_IMAGES, _BATCH = 256, 64


@torch.no_grad()
def start_as_probe(network: FineTunedNetwork, task: Task, *, side: int, c: float) -> None:
    """Fit the last layer to the labelled images' features, standardised by at most 256 unlabelled images'.

    A class without a labelled image keeps a bias of 0, and weights of 0.

    Args:
        c: inverse L2 penalty of the logistic regression.

    Raises:
        ConfigError: the network ends in something else than a linear layer.
    """
    last = network.last
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise ConfigError("head_start: probe needs a classifier that ends in a linear layer; set it to random")
    pool_NCHW = task.unlabelled_NCHW
    spaced = torch.linspace(0, len(pool_NCHW) - 1, min(_POOL_IMAGES, len(pool_NCHW))).long()
    labelled_ND = _features(network, task.labelled.images_NCHW, side)
    reference_RD = _features(network, pool_NCHW[spaced], side) if len(spaced) else labelled_ND
    mean_D = reference_RD.mean(0)
    spread_D = reference_RD.std(0, correction=0)
    spread_D = torch.where(spread_D > 0, spread_D, 1.0)
    standard = Features((labelled_ND - mean_D) / spread_D, task.labelled.labels_N, reference_RD[:0], task.num_classes)
    head = logistic.fit(standard, c=c)
    weights_DK = head.weights_DK / spread_D[:, None]
    biases_K = torch.where(head.biases_K.isfinite(), head.biases_K, 0.0) - mean_D @ weights_DK
    last.weight.copy_(weights_DK.T)
    last.bias.copy_(biases_K)


def _features(network: FineTunedNetwork, images_NCHW: Tensor, side: int) -> Tensor:
    """Features (N, D) in float64 on the CPU."""
    device = next(network.parameters()).device
    with evaluated(network):
        parts = [network.features(to_unit(part.to(device), side)) for part in torch.split(images_NCHW, _BATCH)]
    return torch.cat(parts).double().cpu()
