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
from trainables.heads.head import Features, evenly
from trainables.heads.standard import standardise
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
    labelled_ND = _features(network, task.labelled.images_NCHW, side)
    pool_NCHW = evenly(task.unlabelled_NCHW, _POOL_IMAGES)
    pool_RD = _features(network, pool_NCHW, side) if len(pool_NCHW) else labelled_ND[:0]
    standard = standardise(labelled_ND, pool_RD, each=True)
    head = logistic.fit(Features(standard.apply(labelled_ND), task.labelled.labels_N, pool_RD, task.num_classes), c=c)
    weights_DK = head.weights_DK / standard.spreads_E[:, None]
    biases_K = torch.where(head.biases_K.isfinite(), head.biases_K, 0.0) - standard.means_D @ weights_DK
    last.weight.copy_(weights_DK.T)
    last.bias.copy_(biases_K)


def _features(network: FineTunedNetwork, images_NCHW: Tensor, side: int) -> Tensor:
    """Features (N, D) in float64 on the CPU."""
    device = next(network.parameters()).device
    with evaluated(network):
        parts = [network.features(to_unit(part.to(device), side)) for part in torch.split(images_NCHW, _BATCH)]
    return torch.cat(parts).double().cpu()
