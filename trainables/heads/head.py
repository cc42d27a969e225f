"""Heads on frozen features: what they learn from, and what they are when they have learnt.

Shapes: B batch, N labelled images, U unlabelled images of the pool, D features, K classes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol, Self, final

import torch
from torch import Tensor

MAX_POOL = 3_000
"""Images of the pool that a head looks at: more of them cost seconds and change little."""


@final
@dataclass(frozen=True)
class Features:
    """Features of a task's images, standardised, in any floating type; heads compute in float64."""

    labelled_ND: Tensor
    labels_N: Tensor
    """int64, in 0..K-1; a class may have no image, which has probability 0 then."""

    pool_UD: Tensor
    """Of unlabelled images; may have no row."""

    num_classes: int

    def __post_init__(self) -> None:
        if not len(self.labels_N) or len(self.labelled_ND) != len(self.labels_N):
            raise ValueError(f"{len(self.labelled_ND)} rows of features and {len(self.labels_N)} labels")
        if self.labelled_ND.shape[1] != self.pool_UD.shape[1]:
            raise ValueError(f"{self.labelled_ND.shape[1]} features with labels, {self.pool_UD.shape[1]} without")

    def some_of_pool(self, count: int = MAX_POOL) -> Tensor:
        """At most so many rows of the pool, at equal distances, float64; always the same."""
        return evenly(self.pool_UD, count).double()

    def members_NK(self) -> Tensor:
        """One where an image is of a class, else zero, float64."""
        return torch.nn.functional.one_hot(self.labels_N, self.num_classes).double()

    def known_K(self) -> Tensor:
        """True for classes that have a labelled image."""
        return torch.bincount(self.labels_N, minlength=self.num_classes) > 0


class Head(Protocol):
    """A classifier of features that has been fitted."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """All that it is made of, as `state`."""
        ...

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """Probabilities (B, K), float64, rows sum to 1."""
        ...


@dataclass(frozen=True, eq=False)
class Tensors:
    """Dataclass of tensors only, which a checkpoint can keep."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """All that it is made of, as `state`."""
        return self.state()

    def state(self) -> dict[str, Tensor]:
        """Tensors by the name of their field."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """Make again what gave this state, on the CPU."""
        return cls(**{field.name: state[field.name].cpu() for field in fields(cls)})


def evenly(rows_UD: Tensor, count: int) -> Tensor:
    """At most so many rows, at equal distances, from the first to the last."""
    if len(rows_UD) <= count:
        return rows_UD
    return rows_UD[torch.linspace(0, len(rows_UD) - 1, count, dtype=torch.float64).round().long()]


def class_means(features_ND: Tensor, members_NK: Tensor) -> Tensor:
    """Means (K, D) of the rows, weighted by membership; zero where nothing is a member."""
    weights_K = members_NK.sum(0)
    return members_NK.T @ features_ND / torch.where(weights_K > 0, weights_K, 1.0)[:, None]


def barred(known_K: Tensor) -> Tensor:
    """Biases (K,): 0 for a class that is known, minus infinity for another."""
    return torch.zeros(len(known_K), dtype=torch.float64).masked_fill(~known_K, -torch.inf)


def mean_of(predictions: Iterable[Tensor]) -> Tensor:
    """Mean of the probabilities (B, K) of several heads, whatever features each of them has."""
    return torch.stack([*predictions]).mean(0)
