"""Class probabilities of many images, a chunk at a time.

Shapes: B images, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil
from typing import Any, final

import torch
from torch import Tensor, nn

from trainables.components.modes import evaluated
from trainables.components.optimised_model import OptimisedModel
from trainables.data.augment import to_unit

_CHUNK = 256


def predict_in_chunks(
    predict: Callable[[Tensor], Mapping[str, Tensor]],
    images_BCHW: Tensor,
    *,
    side: int,
    device: torch.device,
    networks: Sequence[nn.Module],
    chunk: int = _CHUNK,
) -> dict[str, Tensor]:
    """Return what `predict` gives for unit images of that side, joined over all images, on the images' device.

    Args:
        predict: from float images (B, C, side, side) to probabilities (B, …) by name.
        images_BCHW: uint8, any device.
        side: to which the images are resized.
        device: where the networks are.
        networks: those that `predict` calls; in evaluation mode meanwhile, and as before afterwards.
        chunk: images at a time.
    """
    with evaluated(*networks), torch.inference_mode():
        # BatchNorm may be gathering statistics, and cannot take a single image: so no rest of one.
        parts = max(1, min(ceil(len(images_BCHW) / chunk), len(images_BCHW) // 2))
        chunks = [predict(to_unit(part_BCHW.to(device), side)) for part_BCHW in images_BCHW.tensor_split(parts)]
    return {name: torch.cat([chunk[name] for chunk in chunks]).to(images_BCHW.device) for name in chunks[0]}


def class_probabilities(logits_BK: Tensor) -> Tensor:
    """Softmax in float64: in float32 saturated logits tie, and a probability of 0 costs 708 nats."""
    return logits_BK.double().softmax(1)


@final
class NetworkPredictor:
    """Networks by name that predict, in evaluation mode, without what trained them.

    Args:
        networks: as they were built.
        predict: from float images (B, C, side, side) to probabilities (B, …) by predictor; it calls the networks.
        side: to which images are resized.
        contiguous: names of those whose memory layout is not channels last, as in training: another rounds otherwise.
        chunk: images at a time.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        predict: Callable[[Tensor], Mapping[str, Tensor]],
        *,
        side: int,
        contiguous: Collection[str] = (),
        chunk: int = _CHUNK,
    ) -> None:
        self._networks = nn.ModuleDict(networks).requires_grad_(False).eval()
        for name, network in networks.items():
            network.to(memory_format=torch.contiguous_format if name in contiguous else torch.channels_last)
        self._predict, self._side, self._chunk = predict, side, chunk

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities by predictor, on the images' device."""
        device = next(self._networks.parameters()).device
        return predict_in_chunks(
            self._predict,
            images_BCHW,
            side=self._side,
            device=device,
            networks=(self._networks,),
            chunk=self._chunk,
        )

    def predict_at_once(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities by predictor, of all images in one batch."""
        return dict(self._predict(to_unit(images_BCHW, self._side)))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what `network_state` gave for networks of the same names."""
        self._networks.load_state_dict(dict(state))


@final
class TensorPredictor:
    """Tensors by name, and a function of them and of images, uint8, that predicts: where there is no network."""

    def __init__(
        self, predict: Callable[[Mapping[str, Tensor], Tensor], dict[str, Tensor]], names: Collection[str]
    ) -> None:
        self._predict, self._names = predict, frozenset(names)
        self._state: Mapping[str, Tensor] = {}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities by predictor, on the images' device."""
        return self._predict(self._state, images_BCHW)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take all of the tensors."""
        if state.keys() != self._names:
            raise KeyError(f"expected the tensors {', '.join(sorted(self._names))}, got {', '.join(sorted(state))}")
        self._state = dict(state)


def network_state(**networks: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of networks, live, each by the network's name and its own."""
    return {
        f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()
    }


def classifier_predictor(
    network: nn.Module, *, name: str, side: int, forward: Callable[[Tensor], Tensor] | None = None
) -> NetworkPredictor:
    """A classifier of unit images of that side that predicts under that name.

    Args:
        forward: from unit images to logits (B, K), where that is not the network itself.
    """
    logits = forward or network
    return NetworkPredictor(
        {"classifier": network}, lambda unit_BCHW: {name: class_probabilities(logits(unit_BCHW))}, side=side
    )


def predict_by_classifier(
    classifier: OptimisedModel[Any], images_BCHW: Tensor, *, name: str, side: int
) -> dict[str, Tensor]:
    """Probabilities (B, K), under that name, of a classifier of unit images of that side, given bytes."""
    return predict_in_chunks(
        lambda unit_BCHW: {name: class_probabilities(classifier.predict(unit_BCHW))},
        images_BCHW,
        side=side,
        device=next(classifier.module.parameters()).device,
        networks=(classifier.predicting,),
    )
