"""Class probabilities of many images, a chunk at a time.

Shapes: B images, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

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
