"""Modes of a network for a moment: evaluated, frozen, or passed over more than once."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_gathers_statistics = ContextVar("gathers_statistics", default=False)


@contextmanager
def gathering_statistics() -> Iterator[None]:
    """Inside, networks that are `evaluated` normalise by the batch at hand, and BatchNorm's statistics take it in."""
    token = _gathers_statistics.set(True)
    try:
        yield
    finally:
        _gathers_statistics.reset(token)


@contextmanager
def evaluated(*networks: nn.Module) -> Iterator[None]:
    """The networks in evaluation mode; what was training trains again afterwards."""
    before = [network.training for network in networks]
    try:
        for network in networks:
            network.eval()
            if _gathers_statistics.get():
                for module in network.modules():
                    if isinstance(module, _BatchNorm):
                        module.train()
        yield
    finally:
        for network, training in zip(networks, before, strict=True):
            network.train(training)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """The network passes gradients on but gathers none in its parameters; those that learned learn again afterwards."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def batch_norm_counts(network: nn.Module, passes: int) -> Iterator[None]:
    """A forward pass inside counts for BatchNorm's running statistics like so many passes of the same batch.

    Repeating m ← (1 - a) m + a x for the same x n times is one step with 1 - (1 - a)ⁿ.
    """
    norms = [(m, m.momentum) for m in network.modules() if isinstance(m, _BatchNorm) and m.momentum is not None]
    try:
        for norm, momentum in norms:
            norm.momentum = 1 - (1 - momentum) ** passes
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum
