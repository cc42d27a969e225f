"""Views: two random looks at an image, which show the same to whoever knows what matters in it.

Everything is drawn on the CPU, as by `components.augmentation`.

Shapes: B batch, C channels, H W pixels, R weights of a blur; 2 along the columns and along the rows.
"""

from math import ceil
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.core.augmentation import NO_MOTION, MovedConfig
from search_spaces.core.self_supervision import PretextConfig
from trainables.components.augmentation import WeakAugmentation
from trainables.core.method import Task
from trainables.data.augment import affine, affine_maps, to_unit
from trainables.data.rand_augment import colour

_COLOURS = 3


@final
class Views(WeakAugmentation):
    """Makes views of images of one task: a part of each, mirrored where the data set allows it, in another light."""

    def __init__(self, config: PretextConfig, task: Task) -> None:
        light = {"brightness": config.pretext_light, "contrast": config.pretext_light}
        super().__init__(MovedConfig(image_size=config.pretext_side, flip=True, **{**NO_MOTION, **light}), task)
        self._side, self._crop, self._light = config.pretext_side, config.pretext_crop, config.pretext_light
        self._blur = config.pretext_blur * config.pretext_side

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Bytes as views (B, C, side, side) in [0, 1], each drawn anew."""
        views_BCHW = self.relit(self._cropped(to_unit(images_BCHW, self._side)))
        if self._light and views_BCHW.shape[1] == _COLOURS:
            views_BCHW = colour(views_BCHW, 1 - 2 * self._light * torch.rand(len(views_BCHW)))
        return self._blurred(views_BCHW) if self._blur else views_BCHW

    def _cropped(self, unit_BCHW: Tensor) -> Tensor:
        """A square of each image, of random size and place, at the image's size."""
        batch = len(unit_BCHW)
        sides_B = (self._crop + (1 - self._crop) * torch.rand(batch)).sqrt()
        shifts_B2 = (2 * torch.rand(batch, 2) - 1) * (1 / sides_B - 1)[:, None] / 2
        mirrored_B2 = (torch.rand(batch, 2) < 0.5) & torch.tensor(self._mirrors)
        return affine(unit_BCHW, affine_maps(torch.zeros(batch), shifts_B2, mirrored_B2, 1 / sides_B))

    def _blurred(self, unit_BCHW: Tensor) -> Tensor:
        """Every second image, at random, smoothed by a Gaussian of random width."""
        batch, channels = unit_BCHW.shape[:2]
        widths_B = (0.1 + 0.9 * torch.rand(batch)) * self._blur
        chosen_B = torch.rand(batch) < 0.5
        reach = min(ceil(2 * self._blur), unit_BCHW.shape[-1] - 1)
        places_R = torch.arange(-reach, reach + 1)
        weights_BR = (-(places_R**2) / (2 * widths_B[:, None] ** 2)).exp()
        weights_BR = torch.where(chosen_B[:, None], weights_BR, places_R == 0)
        weights_BR = (weights_BR / weights_BR.sum(1, keepdim=True)).to(unit_BCHW, non_blocking=True)
        kernels = weights_BR.repeat_interleave(channels, 0)[:, None, :, None]
        smooth = F.pad(unit_BCHW, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
        for each in (kernels, kernels.transpose(2, 3)):
            smooth = F.conv2d(smooth, each, groups=batch * channels)
        return smooth[0].view_as(unit_BCHW)
