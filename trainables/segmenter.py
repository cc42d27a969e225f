"""Segmenter: a network trained on the pictures with masks alone, what must be beaten by whatever uses pictures without.

    for each batch of pictures x with masks y, moved together, x made brighter or darker:
        S: BCE-Dice(S(x), y), or t-vMF Dice(S(x), y; κ), κ_c following the Dice of class c in the training batches

The default is the network that people take first: a U-Net on a timm encoder, by segmentation-models-pytorch, whose
averaged weights predict. VM-UNet with BCE-Dice and TransUNet with the adaptive t-vMF Dice are the two segmenters of
SSGNet, and its round 0: the control "real pictures only" at the same budget. `components.mask_losses` has the losses,
`nets` the networks.

Departures from the sources, and why:
- The budget is counted in pictures seen, not in epochs: with pictures added, an epoch would be a longer training.
- κ follows the training batches, not the validation pictures: these would flatter the scores by which it is judged.
- The step size falls to 0 once; the published cosine rises again, back to its start at the end of training.
- Every picture turns by its own random angle; in the published code all turn by one, drawn once.
- The network gives logits. Every picture gets mean 0 and deviation 1; the published normalisation cancels out.

Published Dice of the foreground, VM-UNet on all labels: ISIC 2017 0.881, ISIC 2018 0.890, Kvasir-SEG 0.854. Mean Dice
of both classes, t-vMF: 0.914, 0.914, 0.924. The two must not be compared with each other.

Source: arXiv:2510.06123 (BMVC 2025); Ruan et al., arXiv:2402.02491; Kato & Hotta, arXiv:2207.07842.
Shapes: B batch, N labelled, C channels, H W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from search_spaces.segmenter import SegmenterConfig
from trainables.components.meters import Means
from trainables.components.orders import InfiniteSampler
from trainables.components.segmentation_model import MaskPredictor, SegmentationModel, pixels_and_masks
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm


@final
class SegmenterLearner:
    """One network with its optimiser, the pictures and masks on the device."""

    def __init__(self, config: SegmenterConfig, task: Task, accelerator: Accelerator) -> None:
        if task.labelled.masks_IHW is None:
            raise ValueError(f"the labelled pictures of {task.dataset} have no masks")
        self._config, self._device = config, accelerator.device
        self._images_NCHW = task.labelled.images_NCHW.to(self._device)
        self._masks_NHW = task.labelled.masks_IHW.to(self._device)
        self._segmenter = SegmentationModel(config, task, accelerator)
        self._order = InfiniteSampler(len(task.labelled))

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """A few steps per epoch."""
        while True:
            means = Means()
            for _ in range(self._config.steps_per_epoch):
                self._step(means)
            self._segmenter.end_epoch()
            yield means.read()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take note of where in its budget the training is."""
        self._segmenter.pace.begin_epoch(seen, budget)

    def predicting_networks(self) -> Sequence[nn.Module]:
        """The network, or its average."""
        return (self._segmenter.predicting,)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, H, W) of the foreground."""
        return {"segmenter": self._segmenter.predict(images_BCHW)}

    def prediction_state(self) -> dict[str, Tensor]:
        """The network, or its average."""
        return self._segmenter.prediction_state()

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, κ, pass; the tensors are the live ones, not copies."""
        return {"segmenter": self._segmenter.state_dict(), "order": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._segmenter.load_state_dict(state["segmenter"])
        self._order.load_state_dict(state["order"])

    def _step(self, means: Means) -> None:
        index_B = self._order.take(self._config.batch_size).to(self._device, non_blocking=True)
        pair = pixels_and_masks(self._images_NCHW[index_B], self._masks_NHW[index_B], self._config.image_size)
        self._segmenter.pace.advance(len(index_B))
        loss = self._segmenter.training_step(*self._segmenter.augmented(*pair))
        means.add(len(index_B), loss=loss)


def _epoch_images(config: SegmenterConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Pictures of its steps."""
    return config.steps_per_epoch * config.batch_size


def predictor(config: SegmenterConfig, form: TaskForm) -> Predictor:
    """The network, its weights to be loaded."""
    return MaskPredictor(config, form, name="segmenter")


def build(config: SegmenterConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner with a fresh network, or one on a pretrained encoder where the configuration names weights."""
    return SegmenterLearner(config, task, accelerator)


METHOD = Method(
    SegmenterConfig,
    ("segmentation",),
    build,
    predictors=("segmenter",),
    predictor=predictor,
    epoch_images=_epoch_images,
)
