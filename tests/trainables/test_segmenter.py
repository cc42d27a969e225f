from dataclasses import replace

import pytest
import torch
from torch import nn

from search_spaces.core.augmentation import NO_MOTION
from search_spaces.core.errors import ConfigError
from search_spaces.segmenter import SegmenterConfig
from trainables import segmenter
from trainables.components import segmentation_model as mask_trainee
from trainables.components.segmentation_model import pixels_and_masks
from trainables.core.method import Labelled, Provenance, Task
from trainables.data.readers.shapes import shapes
from trainables.training.accelerator import new_accelerator

SMALL = SegmenterConfig(
    image_size=16,
    network="vm_unet",
    features=8,
    stages=2,
    d_state=2,
    drop_path=0.0,
    batch_size=4,
    steps_per_epoch=4,
    lr=1e-2,
    warm_up=0.0,
    average=0.0,
    **NO_MOTION,
)


def task(num_labelled=8, side=16):
    images, masks = shapes(num_labelled, side, seed=0)
    images_NCHW = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    labelled = Labelled(images_NCHW, torch.zeros(len(images), dtype=torch.int64), masks_IHW=torch.from_numpy(masks) > 0)
    provenance = Provenance("", False, num_labelled, 0, 0, "realistic", "", num_labelled, shots_in_all=True)
    return Task("shapes", "segmentation", 2, 3, labelled, images_NCHW[:0], labelled, provenance)


def learner(config=SMALL, own=None):
    torch.manual_seed(1)
    return segmenter.build(config, own or task(), new_accelerator(precision="no", cpu=True))


def train(one, epochs):
    found, images = one.epochs(), one._config.steps_per_epoch * one._config.batch_size
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        one.begin_epoch(epoch * images, epochs * images)
        losses = next(found)
    return losses


@pytest.mark.parametrize("changes", [{}, {"loss": "adaptive_tvmf_dice"}])
def test_it_learns_its_labelled_pictures(changes):
    own = task(side=32)
    one = learner(replace(SMALL, image_size=32, flip=False, **changes), own)
    train(one, 20)
    named = one.predict(own.labelled.images_NCHW)["segmenter"] >= 0.5
    both, sizes = (named & own.labelled.masks_IHW).sum(), named.sum() + own.labelled.masks_IHW.sum()
    assert 2 * both / sizes > 0.8


def test_trans_unet_learns_with_sgd(monkeypatch):
    """With one convolution for the network, which is tested on its own."""
    asked = {}

    def build(encoder, **options):
        asked.update(options, encoder=encoder)
        return nn.Conv2d(3, options["num_classes"], 1)

    monkeypatch.setattr(mask_trainee, "build_trans_unet", build)
    paper = SegmenterConfig.preset("trans_unet", image_size=32, pretrained="orig_in21k", steps_per_epoch=4)
    one = learner(paper)
    assert asked == {"encoder": "vit_base_r50_s16_224", "num_classes": 2, "channels": 3, "image_size": 32,
                     "pretrained": "orig_in21k", "dropout": 0.1}  # fmt: skip
    optimiser = one.state_dict()["segmenter"]["network"]["optimiser"]
    assert optimiser["param_groups"][0]["momentum"] == 0.9
    assert optimiser["param_groups"][0]["weight_decay"] == 1e-4
    images = task().labelled.images_NCHW
    before = one.predict(images)["segmenter"]
    train(one, 1)
    assert not torch.equal(one.predict(images)["segmenter"], before)


def test_kappa_follows_the_training_batches_from_zero():
    one = learner(replace(SMALL, loss="adaptive_tvmf_dice"))
    kappa = one.state_dict()["segmenter"]["kappa"]["kappa_K"]
    assert not kappa.any()
    train(one, 8)
    assert (kappa > 0).all()
    assert (kappa <= SMALL.kappa_scale).all()


def test_the_scans_own_rates_do_not_decay():
    groups = learner().state_dict()["segmenter"]["network"]["optimiser"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [SMALL.weight_decay, 0.0]
    assert groups[1]["params"]


@pytest.mark.parametrize("changes", [{"rotation": 180.0}, {"flip_vertical": True}, {"shift": 0.3}, {"zoom": 0.4}])
def test_a_mask_moves_with_its_picture(changes):
    masks = torch.zeros(6, 24, 24)
    masks[:, 3:12, 5:11] = 1
    augmented = learner(replace(SMALL, **changes))._segmenter.augmented
    torch.manual_seed(0)
    images, moved = augmented(masks[:, None].repeat(1, 3, 1, 1), masks)
    assert torch.equal((images[:, 0] >= 0.5).float(), moved)
    assert len({mask.numpy().tobytes() for mask in moved}) > 1


def test_light_changes_pictures_alone():
    images, masks = torch.rand(6, 3, 8, 8), torch.rand(6, 8, 8).round()
    relit, still = learner(replace(SMALL, flip=False, brightness=0.2, contrast=0.2))._segmenter.augmented(images, masks)
    assert not torch.equal(relit, images)
    assert torch.equal(still, masks)


def test_nothing_moves_where_nothing_is_asked():
    images, masks = torch.rand(2, 3, 8, 8), torch.ones(2, 8, 8)
    still = learner(replace(SMALL, flip=False))._segmenter.augmented(images, masks)
    assert torch.equal(still[0], images)
    assert torch.equal(still[1], masks)


def test_sizes():
    images, masks = shapes(2, 32, seed=0)
    bytes_BCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
    unit, small = pixels_and_masks(bytes_BCHW, torch.from_numpy(masks) > 0, 16)
    assert unit.shape == (2, 3, 16, 16)
    assert set(small.unique().tolist()) == {0.0, 1.0}
    one = learner(own=task(side=40))
    assert one.predict(task(side=40).labelled.images_NCHW)["segmenter"].shape == (8, 40, 40), (
        "at the size of the pictures"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"image_size": 40, "network": "vm_unet"},
            "image_size: 40 is impossible with this network, expected a multiple of 16, or stages below 3",
        ),
        ({"network": "trans_unet", "image_size": 40}, "expected a multiple of 16, or network unet"),
        ({"image_size": 40}, "expected a multiple of 16, or encoder_depth below 4"),
        ({"features": 10}, "features: 10 is impossible, expected a multiple of 4"),
    ],
)
def test_impossible_sizes(changes, words):
    with pytest.raises(ConfigError, match=words):
        SegmenterConfig(**changes)
