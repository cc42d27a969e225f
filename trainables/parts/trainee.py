"""A network and its optimiser, as Accelerate runs them."""

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW


class Trainee:
    """A network on the device with its own AdamW (β₂ = 0.999).

    Calling it runs the network in Accelerate's precision and returns float32, so losses are in float32.
    """

    def __init__(
        self, network: nn.Module, accelerator: Accelerator, *, lr: float, beta1: float, weight_decay: float
    ) -> None:
        self.plain = network.to(accelerator.device)
        """The network itself, for its state, its modes and what must not run in reduced precision."""
        fused = accelerator.device.type in ("cpu", "cuda")  # on one CPU core a sixth of the plain loop's time
        optimiser = AdamW(network.parameters(), lr=lr, betas=(beta1, 0.999), weight_decay=weight_decay, fused=fused)
        self._prepared, self._optimiser = accelerator.prepare(network, optimiser)
        self._accelerator = accelerator

    def __call__(self, *inputs: Tensor) -> Any:
        """The network's output."""
        return self._prepared(*inputs)

    def learn(self, loss: Tensor, *others: "Trainee") -> None:
        """One step of this network, and of others that share the loss, down its gradient.

        A parameter that the loss does not reach has no gradient, rather than a zero one, and AdamW leaves it
        alone: neither decay nor moments touch it.
        """
        trainees: Sequence[Trainee] = (self, *others)
        for trainee in trainees:
            trainee._optimiser.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        for trainee in trainees:
            trainee._optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser; the tensors are the live ones, not copies."""
        return {"network": self.plain.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.plain.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
