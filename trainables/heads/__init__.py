"""Heads by name: how each is fitted, with which settings, and how it is made again from its state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from types import MappingProxyType
from typing import Any, final

from torch import Tensor

from trainables.heads import discriminant, knn, label_propagation, logistic, prototype, transductive
from trainables.heads.head import Head
from trainables.heads.linear import LinearHead


@final
@dataclass(frozen=True)
class HeadKind:
    """A way to fit a head to `Features`."""

    fit: Callable[..., Head]
    """`fit(features, setting=value, …)`."""

    of: Callable[[Mapping[str, Tensor]], Head]
    """Make a head again from its state."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the settings of `fit`."""
        return tuple(self.defaults)

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings with their defaults."""
        return {
            each.name: each.default
            for each in signature(self.fit).parameters.values()
            if each.kind == each.KEYWORD_ONLY
        }


HEADS: Mapping[str, HeadKind] = MappingProxyType(
    {
        "logistic": HeadKind(logistic.fit, LinearHead.of),
        "prototype": HeadKind(prototype.fit, prototype.PrototypeHead.of),
        "knn": HeadKind(knn.fit, knn.NeighbourHead.of),
        "label_propagation": HeadKind(label_propagation.fit, label_propagation.GraphHead.of),
        "transductive": HeadKind(transductive.fit, prototype.PrototypeHead.of),
        "discriminant": HeadKind(discriminant.fit, LinearHead.of),
    }
)
