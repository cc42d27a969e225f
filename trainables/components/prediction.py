"""Class probabilities of many images, a chunk at a time.

Shapes: B images, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
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
        chunks = [
            predict(to_unit(images_BCHW[start : start + chunk].to(device), side))
            for start in range(0, len(images_BCHW), chunk)
        ]
    return {name: torch.cat([chunk[name] for chunk in chunks]).to(images_BCHW.device) for name in chunks[0]}


def predict_by_classifier(
    classifier: OptimisedModel[Any], images_BCHW: Tensor, *, name: str, side: int
) -> dict[str, Tensor]:
    """Probabilities (B, K), under that name, of a classifier of unit images of that side, given bytes."""
    return predict_in_chunks(
        lambda unit_BCHW: {name: classifier(unit_BCHW).softmax(1)},
        images_BCHW,
        side=side,
        device=next(classifier.module.parameters()).device,
        networks=(classifier.module,),
    )
