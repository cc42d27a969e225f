"""Rules that name a class, given probabilities and what a network says of unlabelled images. None sees a label.

Shapes: N images, K classes.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def _likeliest(probs_NK: _Floats, pool_mean_K: _Floats) -> NDArray[np.int64]:
    named_N: NDArray[np.int64] = probs_NK.argmax(1)
    return named_N


def _above_pool(probs_NK: _Floats, pool_mean_K: _Floats) -> NDArray[np.int64]:
    """The class whose probability is largest beside its mean over the pool.

    A network that leans to some classes, be it that it has barely learned or that its labels have the pool's shares,
    says so over the pool without a label, and the lean is taken out. A network that leans to none, but sees a pool of
    unequal classes, is pushed towards the rare ones: more of them are found, at the expense of the frequent ones.

    Source: Saerens et al., Neural Computation 14 (2002), with the mean prediction as the prior to be divided out.
    """
    return _likeliest(probs_NK / np.maximum(pool_mean_K, np.finfo(np.float64).tiny), pool_mean_K)


DECISIONS: Mapping[str, Callable[[_Floats, _Floats], NDArray[np.int64]]] = {
    "argmax": _likeliest,
    "pool": _above_pool,
}
"""The likeliest class; or the class whose probability is largest beside its mean on the unlabelled images."""


def named(rule: str, probs_NK: _Floats, pool_mean_K: _Floats | None) -> NDArray[np.int64]:
    """Return the classes (N,) that a rule names.

    Args:
        pool_mean_K: None where there is no pool, and all classes are alike in it.
    """
    if pool_mean_K is None:
        pool_mean_K = np.full(probs_NK.shape[1], 1 / probs_NK.shape[1])
    return DECISIONS[rule](probs_NK, pool_mean_K)
