"""Random changes of training images, as a configuration asks for and the data set allows.

Everything is drawn on the CPU, so that all devices change the same images alike and the host does not wait.

Shapes: B batch, C channels, H W pixels; 23 two rows of three.
"""

from typing import final

import torch
from torch import Tensor

from search_spaces.core.augmentation import AugmentedConfig, MovedConfig
from trainables.core.method import Task
from trainables.data.augment import affine, affine_maps, to_unit
from trainables.data.rand_augment import NO_COLOUR, OPERATIONS, cut_out

_MAX_QUARTERS = 4


class WeakAugmentation:
    """Moves images of one task, and changes their light."""

    def __init__(self, config: MovedConfig, task: Task) -> None:
        self._config = config
        mirrors = [config.flip and "horizontal" not in task.asymmetric]
        mirrors.append(config.flip_vertical and "vertical" not in task.asymmetric)
        self._mirrors, self._turns = mirrors, config.quarter_turns and not task.asymmetric

    def moved(self, images_BCHW: Tensor) -> Tensor:
        """Mirror, turn, zoom and move images, or whatever lies on their pixels, each at random."""
        config, batch = self._config, len(images_BCHW)
        degrees_B = (2 * torch.rand(batch) - 1) * config.rotation
        if self._turns:
            degrees_B = degrees_B + 90.0 * torch.randint(_MAX_QUARTERS, (batch,))
        shifts_B2 = (2 * torch.rand(batch, 2) - 1) * config.shift
        zooms_B = (1 + config.zoom) ** (2 * torch.rand(batch) - 1)
        mirrored_B2 = (torch.rand(batch, 2) < 0.5) & torch.tensor(self._mirrors)
        if not (config.rotation or config.shift or config.zoom or self._turns):  # then pixels stay what they are
            return self._mirrored(images_BCHW, mirrored_B2)
        return affine(images_BCHW, affine_maps(degrees_B, shifts_B2, mirrored_B2, zooms_B))

    def _mirrored(self, images_BCHW: Tensor, mirrored_B2: Tensor) -> Tensor:
        for axis, mirrors, mirrored_B in zip((-1, -2), self._mirrors, mirrored_B2.unbind(1), strict=True):
            if mirrors:
                mirrored_B111 = mirrored_B.to(images_BCHW.device, non_blocking=True)[:, None, None, None]
                images_BCHW = torch.where(mirrored_B111, images_BCHW.flip(axis), images_BCHW)
        return images_BCHW

    def relit(self, unit_BCHW: Tensor) -> Tensor:
        """Make images in [0, 1] brighter or darker, richer or poorer in contrast, each at random."""
        brightness, contrast = self._config.brightness, self._config.contrast
        if not (brightness or contrast):
            return unit_BCHW
        draws_B2 = (2 * torch.rand(len(unit_BCHW), 2) - 1).to(unit_BCHW.device, non_blocking=True)
        added_B, scale_B = (draws_B2 * torch.tensor([brightness, contrast]).to(unit_BCHW)).unbind(1)
        means_B111 = unit_BCHW.mean((1, 2, 3), keepdim=True)
        centred_BCHW = (unit_BCHW - means_B111) * (1 + scale_B)[:, None, None, None]
        return (centred_BCHW + means_B111 + added_B[:, None, None, None]).clamp(0.0, 1.0)


@final
class ImageAugmentation(WeakAugmentation):
    """Changes images of one task, weakly and, where it is asked for, strongly."""

    def __init__(self, config: AugmentedConfig, task: Task) -> None:
        super().__init__(config, task)
        self._side, self._strong_ops, self._cut_out = config.image_size, config.strong_ops, config.cut_out
        grey = task.channels == 1 or config.strong_pool == "no_colour"
        self._operations = [each for name, each in OPERATIONS.items() if not (grey and name in NO_COLOUR)]

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Bytes as float images in [0, 1], of the configuration's side, each changed at random."""
        unit_BCHW = self.relit(self.moved(to_unit(images_BCHW, self._side)))
        return self.strong(unit_BCHW) if self._strong_ops else unit_BCHW

    def strong(self, unit_BCHW: Tensor) -> Tensor:
        """Apply some operations to each image, drawn with replacement, of uniform magnitude; then cut out a square."""
        for _ in range(self._strong_ops):
            choice_B, magnitude_B = torch.randint(len(self._operations), (len(unit_BCHW),)), torch.rand(len(unit_BCHW))
            changed_BCHW = unit_BCHW.clone()
            for number, operation in enumerate(self._operations):
                members = (choice_B == number).nonzero()[:, 0]
                if len(members):
                    where = members.to(unit_BCHW.device, non_blocking=True)
                    changed_BCHW[where] = operation(unit_BCHW[where], magnitude_B[members])
            unit_BCHW = changed_BCHW
        return cut_out(unit_BCHW, self._cut_out)
