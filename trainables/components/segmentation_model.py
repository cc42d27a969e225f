"""A segmentation network with its optimiser and its loss: what a method trains on pictures with masks.

Shapes: B batch, C channels, H W pixels, K classes, M maps of an image.
"""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.segmenter import SegmenterConfig
from trainables.components.augmentation import WeakAugmentation
from trainables.components.mask_losses import AdaptiveKappa, bce_dice, one_hot_masks, tvmf_dice
from trainables.components.mask_rounds import foreground, hard_masks
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import pace_of
from trainables.components.prediction import network_state, predict_in_chunks
from trainables.core.accelerator import Accelerator
from trainables.core.method import Task, TaskForm
from trainables.data.augment import to_unit
from trainables.nets.trans_unet import build_trans_unet
from trainables.nets.unet import build_unet
from trainables.nets.vm_unet import VMUNet

_MOMENTUM, _BETA1 = 0.9, 0.9
_MIN_DEVIATION = 1e-3


class SegmentationModel:
    """Network, optimiser, and κ where the loss has one.

    With BCE-Dice the network has one logit, that of the foreground; with t-vMF Dice one for each class.
    """

    def __init__(self, config: SegmenterConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._device = config, accelerator.device
        self._augmentation = WeakAugmentation(config, task)
        self.pace = pace_of(config)
        """Where in its budget the training is: to be told of every batch."""
        self._kappa = AdaptiveKappa(2, scale=config.kappa_scale, source="train_ema").to(accelerator.device)
        network = _new_network(config, task.channels, config.pretrained)
        spared = network.no_weight_decay() if isinstance(network, VMUNet) else ()
        self._network = OptimisedModel(
            network,
            accelerator,
            lr=config.lr,
            beta1=_BETA1,
            weight_decay=config.weight_decay,
            momentum=_MOMENTUM if config.optimiser == "sgd" else None,
            undecayed=spared,
            pace=self.pace,
            average=config.average,
        )

    @property
    def predicting(self) -> nn.Module:
        """The network that predicts, or its average."""
        return self._network.predicting

    def augmented(self, images_BCHW: Tensor, masks_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """Images and masks, each pair moved at random in the same way, images relit; masks stay 0 and 1."""
        images_BCHW, maps_B1HW = self.augmented_with_maps(images_BCHW, masks_BHW[:, None])
        return images_BCHW, hard_masks(maps_B1HW[:, 0]).float()

    def augmented_with_maps(self, images_BCHW: Tensor, maps_BMHW: Tensor) -> tuple[Tensor, Tensor]:
        """Images and the maps of each, moved at random in the same way; values between pixels are mixed."""
        together = self._augmentation.moved(torch.cat([images_BCHW, maps_BMHW], 1))
        channels = images_BCHW.shape[1]
        return self._augmentation.relit(together[:, :channels]), together[:, channels:]

    def training_step(self, images_BCHW: Tensor, masks_BHW: Tensor, weights_BHW: Tensor | None = None) -> Tensor:
        """One step; returns the loss.

        Args:
            images_BCHW: in [0, 1].
            masks_BHW: float, shares of the foreground.
            weights_BHW: how much each pixel counts; None for all alike.
        """
        logits_BKHW = self._network(_standardised(images_BCHW))
        if self._config.loss == "bce_dice":
            loss = bce_dice(
                logits_BKHW[:, 0], masks_BHW, dice_weight=self._config.dice_weight, pixel_weights_BHW=weights_BHW
            )
        else:
            targets_BKHW = one_hot_masks(masks_BHW, 2)
            loss = tvmf_dice(logits_BKHW, targets_BKHW, self._kappa.kappa_K, weights_BHW)
            self._kappa.see(logits_BKHW.detach(), targets_BKHW, weights_BHW)
        self._network.backward_and_step(loss)
        return loss.detach()

    def end_epoch(self) -> None:
        """Take the step for a rest of batches, and set κ."""
        self._network.finish()
        self._kappa.end_epoch()

    def predict(self, images_BCHW: Tensor) -> Tensor:
        """Probabilities (B, H, W) of the foreground, at the size of the images (uint8), on their device."""
        return _predict_foreground(self._network.predict, self.predicting, images_BCHW, self._config)

    def prediction_state(self) -> dict[str, Tensor]:
        """The network that predicts, or its average."""
        return network_state(network=self.predicting)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, κ; the tensors are the live ones, not copies."""
        return {"network": self._network.state_dict(), "kappa": self._kappa.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._network.load_state_dict(state["network"])
        self._kappa.load_state_dict(state["kappa"])


@final
class MaskPredictor:
    """A segmentation network that predicts under a name, its weights to be loaded."""

    def __init__(self, config: SegmenterConfig, form: TaskForm, *, name: str) -> None:
        self._config, self._name = config, name
        network = _new_network(config, form.channels, "").requires_grad_(False).eval()
        self._network = network.to(memory_format=torch.channels_last)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, H, W) of the foreground, at the size of the images, on their device."""
        return {self._name: _predict_foreground(self._network, self._network, images_BCHW, self._config)}

    def predict_at_once(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, H, W) of the foreground, of all images in one batch."""
        unit_BCHW, size = to_unit(images_BCHW, self._config.image_size), images_BCHW.shape[2:]
        return {self._name: _foreground(self._network, unit_BCHW, size)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of the network."""
        nn.ModuleDict({"network": self._network}).load_state_dict(dict(state))


def _predict_foreground(
    forward: Callable[[Tensor], Tensor], network: nn.Module, images_BCHW: Tensor, config: SegmenterConfig
) -> Tensor:
    """Probabilities (B, H, W) of the foreground, at the size of the images (uint8), on their device."""
    size = images_BCHW.shape[2:]
    return predict_in_chunks(
        lambda unit_BCHW: {"foreground": _foreground(forward, unit_BCHW, size)},
        images_BCHW,
        side=config.image_size,
        device=next(network.parameters()).device,
        networks=(network,),
        chunk=config.batch_size,
    )["foreground"]


def _foreground(forward: Callable[[Tensor], Tensor], unit_BCHW: Tensor, size: torch.Size) -> Tensor:
    """Probabilities (B, H, W) of the foreground of unit images, brought to a size."""
    probs_BHW = foreground(forward(_standardised(unit_BCHW)))
    if probs_BHW.shape[1:] != size:
        probs_BHW = F.interpolate(probs_BHW[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return probs_BHW


def pixels_and_masks(images_BCHW: Tensor, masks_BHW: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and masks of 0 and 1, both float and of that side; masks by the nearest pixel.

    Args:
        images_BCHW: uint8.
        masks_BHW: bool.
        side: in pixels.
    """
    marked_B1HW = masks_BHW[:, None].float()
    if marked_B1HW.shape[2:] != (side, side):
        marked_B1HW = F.interpolate(marked_B1HW, size=(side, side), mode="nearest-exact")
    return to_unit(images_BCHW, side), marked_B1HW[:, 0]


def _standardised(images_BCHW: Tensor) -> Tensor:
    """Each image with mean 0 and deviation 1, an even one with 0."""
    means_B111 = images_BCHW.mean((1, 2, 3), keepdim=True)
    deviations_B111 = images_BCHW.std((1, 2, 3), keepdim=True, correction=0)
    return (images_BCHW - means_B111) / deviations_B111.clamp(min=_MIN_DEVIATION)


def _new_network(config: SegmenterConfig, channels: int, pretrained: str) -> nn.Module:
    num_logits = 1 if config.loss == "bce_dice" else 2
    if config.network == "unet":
        return build_unet(
            config.encoder,
            channels=channels,
            num_logits=num_logits,
            depth=config.encoder_depth,
            width=config.decoder_width,
            pretrained=pretrained,
        )
    if config.network == "trans_unet":
        return build_trans_unet(
            config.encoder,
            num_classes=num_logits,
            channels=channels,
            image_size=config.image_size,
            pretrained=pretrained,
            dropout=config.dropout,
        )
    depths = (config.depth,) * config.stages
    return VMUNet(
        num_classes=num_logits,
        channels=channels,
        dims=[config.features * 2**stage for stage in range(config.stages)],
        depths=depths,
        decoder_depths=(*depths[:-1], max(1, config.depth - 1)),
        d_state=config.d_state,
        drop_path=config.drop_path,
    )
