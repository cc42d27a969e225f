"""A network, its optimiser and its average, as Accelerate runs them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from trainables.components.pace import Pace
from trainables.components.parallel import average_gradients, data_parallel
from trainables.components.weight_average import WeightAverage
from trainables.core.accelerator import Accelerator

N = TypeVar("N", bound=nn.Module)


class OptimisedModel(Generic[N]):
    """A network on the device with its own AdamW (β₂ = 0.999), or SGD.

    Calling it runs the network in Accelerate's precision and returns float32, so losses are in float32. With several
    processes each works on its share of the batch. With gradient accumulation the optimiser steps after that many
    losses, down their mean gradient, and `finish` takes the step for a rest.
    """

    def __init__(
        self,
        network: N,
        accelerator: Accelerator,
        *,
        lr: float,
        beta1: float,
        weight_decay: float,
        beta2: float = 0.999,
        channels_last: bool = True,
        compiled: bool = True,
        pace: Pace | None = None,
        average: float = 0.0,
        momentum: float | None = None,
        undecayed: Collection[str] = (),
        rates: Mapping[str, float] | None = None,
        max_gradient: float | None = None,
        accumulates: bool = True,
    ) -> None:
        """Take the network over.

        Args:
            channels_last: the memory layout of its weights and features.
            compiled: whether it is compiled where the accelerator compiles. Not for a network of which a loss may
                leave some outputs out: compiled, what only they need gets a zero gradient, not none.
            pace: where in the budget training is, and the scale of `lr` there; None for a constant step size.
            average: time constant of a moving average of its weights, kept beside it, as a share of the budget of
                `pace`; 0 for no average.
            momentum: of SGD; None for AdamW.
            undecayed: names of parameters without weight decay.
            rates: step sizes relative to `lr` by the names of all parameters; None for `lr` throughout.
            max_gradient: of a weight: an infinite one becomes this, one that is not a number 0. None to leave them.
            accumulates: whether a step is for as many losses as the accelerator gathers gradients of; else for each.
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.module: N = network.to(accelerator.device).to(memory_format=layout)
        """The network itself, for its state, its modes and what must not run in reduced precision."""
        # Before Accelerate puts its precision on `forward`, which a copy would share with the original.
        self._average = WeightAverage(self.module, average) if average else None
        self._pace, self._lr = pace, lr
        groups = list(_groups(network, weight_decay, undecayed, rates or {}))
        fused = accelerator.device.type in ("cpu", "cuda")  # on one CPU core a sixth of the plain loop's time
        optimiser: Optimizer = (
            AdamW(groups, lr=lr, betas=(beta1, beta2), fused=fused)
            if momentum is None
            else SGD(groups, lr=lr, momentum=momentum, fused=fused)
        )
        # Without Accelerate's wrapper for several processes: see `parallel`.
        prepared: Any = accelerator.prepare_model(network, evaluation_mode=True)
        self._prepared = prepared if compiled else accelerator.unwrap_model(prepared, keep_torch_compile=False)
        self._optimiser = accelerator.prepare_optimizer(optimiser)
        self._accelerator = accelerator
        self._losses_per_step = accelerator.gradient_accumulation_steps if accumulates else 1
        self._max_gradient = max_gradient
        self._gathered, self._scale = 0, 1.0

    def __call__(self, *inputs_B: Tensor) -> Any:
        """The network's output."""
        return data_parallel(self._prepared, *inputs_B, accelerator=self._accelerator)

    def forward_share(self, *inputs_b: Any, **options: Any) -> Any:
        """Return the network's output for what is this process's share already."""
        return self._prepared(*inputs_b, **options)

    @property
    def predicting(self) -> nn.Module:
        """The network that predicts: the average of its weights so far, else the network itself."""
        return self._average.network if self._average else self.module

    def predict(self, *inputs_B: Tensor) -> Any:
        """Output of the network that predicts; of an average without autocast."""
        return self._average.network(*inputs_B) if self._average else self(*inputs_B)

    def restart_average(self) -> None:
        """Let the average begin anew, as the network's weights were replaced."""
        if self._average:
            self._average.restart()

    def set_lr(self, lr: float) -> None:
        """The step size from now on, which the pace scales."""
        self._lr = lr
        self._set_rates()

    def _set_rates(self, scale: float = 1.0) -> None:
        rate = self._lr * scale * (self._pace.scale if self._pace else 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["rate"]

    def backward_and_step(self, loss: Tensor, *others: "OptimisedModel[Any]", scale: float = 1.0) -> None:
        """One step of this network, and of others that share the loss, down its gradient.

        A parameter that the loss does not reach has no gradient, rather than a zero one, and AdamW leaves it
        alone: neither decay nor moments touch it.

        Args:
            scale: of this step's size. A weight of the loss would not do: AdamW divides it out.
        """
        gathered = self._accelerator.gradient_accumulation_steps
        if self._losses_per_step != gathered:  # Accelerate divides a loss by the number of those it gathers
            loss = gathered * loss
        self._accelerator.backward(loss)
        for model in (self, *others):
            model._gathered, model._scale = model._gathered + 1, scale
            if model._gathered == model._losses_per_step:
                model._step()

    def finish(self) -> None:
        """Take the step for the losses since the last one, where there are any."""
        if self._gathered:
            share = self._gathered / self._losses_per_step
            torch._foreach_div_([p.grad for p in self.module.parameters() if p.grad is not None], share)
            self._step()

    def _step(self) -> None:
        average_gradients(self.module.parameters(), self._accelerator)
        self._set_rates(self._scale)
        if self._max_gradient is not None:
            for parameter in self.module.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, self._max_gradient, -self._max_gradient)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._gathered = 0
        if self._average is not None:
            self._average.update(self._pace.share if self._pace else 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, average; the tensors are the live ones, not copies."""
        state = {"network": self.module.state_dict(), "optimiser": self._optimiser.state_dict(), "lr": self._lr}
        return state if self._average is None else state | {"average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.module.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._lr = state["lr"]
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def _groups(
    network: nn.Module, weight_decay: float, undecayed: Collection[str], rates: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield parameters of one relative step size and weight decay each; of one size first those with weight decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    names = sorted(undecayed)
    named = dict(network.named_parameters())
    for name in [*(each for each in named if each not in undecayed), *names]:
        groups.setdefault((rates.get(name, 1.0), name in undecayed), []).append(named[name])
    for (rate, is_undecayed), members in groups.items():
        yield {"params": members, "weight_decay": 0.0 if is_undecayed else weight_decay, "rate": rate}
