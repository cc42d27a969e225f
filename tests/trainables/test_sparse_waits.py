"""An epoch of SPARSE never waits for the device before its end."""

from collections import Counter

import pytest
import torch
from torch.distributions import Distribution
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.sparse import SparseConfig
from trainables import sparse
from trainables.components.meters import Means
from trainables.training.accelerator import new_accelerator

from .test_sparse import TINY, build, make_task, train

WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "equal",
    "is_nonzero",
    "repeat_interleave.Tensor",
)


class Waits(TorchDispatchMode):
    """Counts operations whose result the host has to look at."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.")
        by_mask = name.startswith("index") and any(p is not None and p.dtype == torch.bool for p in _positions(args))
        self.counts[name] += name.startswith(WAITS) or by_mask
        return func(*args, **(kwargs or {}))

    def total(self):
        return sum(self.counts.values())


def _positions(args):
    return args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()


@pytest.fixture
def strict(monkeypatch):
    """Nothing may be brought to the host, but for the reading of the means at the end of an epoch.

    Without the checks of mixup's distribution, which look at numbers on the host, where they are drawn.
    """

    def refuse(*args, **options):
        raise AssertionError("brings a tensor to the host")

    monkeypatch.setattr(Distribution, "_validate_args", False)
    monkeypatch.setattr(Means, "read", lambda means: {})
    for name in ("tolist", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, refuse)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "reference"}, {"mask_scope": "labels"}, {"n_critic": 2, "unsup_fraction": 0.7}, {"accumulate": 2}],
    ids=str,
)
def test_an_epoch_looks_at_nothing(options):
    learner = build(**options)
    with Waits() as waits:
        train(learner, 0, 2)
    assert waits.total() == 0, waits.counts


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).all()),
        lambda x: x.unique(),
    ],
)
def test_the_counter_sees_what_waits(wait):
    with Waits() as waits:
        wait(torch.ones(3))
    assert waits.total() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_on_a_gpu_nothing_waits_for_it(precision):
    config = SparseConfig(**TINY)
    learner = sparse.build(config, make_task(), new_accelerator(precision=precision, cpu=False))
    next(learner.epochs())  # kernels are loaded
    index = torch.arange(6, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner._supervised_step(index, Means())
        learner._unsupervised_step(index, True, Means())
    finally:
        torch.cuda.set_sync_debug_mode("default")
