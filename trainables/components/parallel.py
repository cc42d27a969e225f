"""One batch, many processes: the work on it is divided, its meaning is not.

Every process holds all images and draws the same batches. What a network does with a batch is divided among the
processes and joined again, so that losses, votes, ranks and prototypes see the whole batch, and BatchNorm takes its
statistics over all of it: the result is that of one process, to rounding and to the masks of dropout. (Accelerate's
usual wrapper reduces the gradients of one forward pass; a loss here has several, some of which leave parameters out,
and one is differentiated twice.)

Each process computes the whole loss from the joined outputs. Joining is a sum over processes, whose derivative is
again a sum, so each process ends with its part of the gradient of all processes' losses together: the mean over the
processes is the gradient of the loss.

Shapes: B batch, b share of it, C features.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from trainables.core.accelerator import Accelerator


def data_parallel(function: Callable[..., Any], *inputs_B: Tensor, accelerator: Accelerator) -> Any:
    """Return what `function`, a network or part of one, gives for a batch; each process works on its share.

    A batch smaller than the number of processes is not divided: all do all of it.

    Args:
        function: from tensors to a tensor or a tuple of them, all with the batch first.
        inputs_B: equal in all processes.
    """
    processes, rank, batch = accelerator.num_processes, accelerator.process_index, len(inputs_B[0])
    if batch < processes or processes == 1:
        return function(*inputs_B)
    start, end = batch * rank // processes, batch * (rank + 1) // processes
    gpus = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(gpus), _JointStatistics():
        # Dropout must not leave the processes at different places of torch's stream, which draws their batches.
        torch.manual_seed(random.getrandbits(31) + rank)
        outputs = function(*(each[start:end] for each in inputs_B))
    if isinstance(outputs, Tensor):
        return _join(outputs, start, batch)
    return tuple(_join(output, start, batch) for output in outputs)


def average_gradients(parameters: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Replace the gradients that there are by their means over the processes, in one exchange."""
    if accelerator.num_processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean: Any = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _join(output_b: Tensor, start: int, batch: int) -> Tensor:
    after = batch - start - len(output_b)
    around = (0, 0) * (output_b.ndim - 1) + (start, after)
    return _sum_over_processes(F.pad(output_b, around))


class _SumOverProcesses(Function):
    """Its derivative is again a sum over processes, as often as is asked for."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _sum_over_processes(gradient)


def _sum_over_processes(own: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(own)
    return total


class _JointStatistics(TorchFunctionMode):
    """BatchNorm inside normalises with the statistics of all processes together."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_joint_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _joint_batch_norm(
    features_bCHW: Tensor,
    running_mean_C: Tensor,
    running_var_C: Tensor,
    *,  # by the names that torch gives them
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    if not training:
        return F.batch_norm(features_bCHW, running_mean_C, running_var_C, weight, bias, False, momentum, eps)
    exact_bCHW = features_bCHW.to(torch.promote_types(features_bCHW.dtype, torch.float32))
    all_but_C = [0, *range(2, features_bCHW.ndim)]  # BatchNorm1d and 3d too
    like_C11 = (-1, *[1] * (features_bCHW.ndim - 2))
    own_count = exact_bCHW.new_full((1,), exact_bCHW[:, 0].numel())
    sums = _sum_over_processes(torch.cat([exact_bCHW.sum(all_but_C), own_count]))
    mean_C, count = sums[:-1] / sums[-1], sums[-1]
    centred_bCHW = exact_bCHW - mean_C.view(like_C11)
    var_C = _sum_over_processes(centred_bCHW.square().sum(all_but_C)) / count
    with torch.no_grad():
        running_mean_C.lerp_(mean_C.to(running_mean_C), momentum)
        running_var_C.lerp_((var_C * count / (count - 1)).to(running_var_C), momentum)
    scale_C = weight * (var_C + eps).rsqrt()
    normalised_bCHW: Tensor = centred_bCHW * scale_C.view(like_C11) + bias.view(like_C11)
    return normalised_bCHW.to(features_bCHW.dtype)
