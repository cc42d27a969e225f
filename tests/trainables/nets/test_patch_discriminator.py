import pytest
import torch

from trainables.nets.patch_discriminator import PatchDiscriminator, num_strided_convolutions


@pytest.mark.parametrize("num_classes", [2, 4, 5, 7, 8, 9, 11])
def test_has_as_many_parameters_as_the_paper_code(num_classes):
    with torch.device("meta"):
        network = PatchDiscriminator(channels=3, num_classes=num_classes, side=128)
    assert sum(p.numel() for p in network.parameters()) == 44_721_088 + 8_192 * num_classes


@pytest.mark.parametrize(
    ("side", "strided", "patches"), [(16, 3, 2), (28, 3, 3), (32, 4, 2), (64, 5, 2), (128, 6, 2), (224, 6, 3)]
)
def test_every_side_ends_in_a_few_patches(side, strided, patches):
    assert num_strided_convolutions(side) == strided
    network = PatchDiscriminator(channels=1, num_classes=5, side=side, width=2)
    discriminator_map, logits = network(torch.rand(2, 1, side, side))
    assert discriminator_map.shape == (2, 1, patches, patches)
    assert logits.shape == (2, 5)


def test_an_image_is_judged_alone_and_patches_are_the_forward_map():
    network = PatchDiscriminator(channels=3, num_classes=2, side=32, width=4)
    images = torch.rand(4, 3, 32, 32)
    discriminator_map, logits = network(images)
    alone_map, alone_logits = network(images[2:3])
    torch.testing.assert_close(alone_map, discriminator_map[2:3])
    torch.testing.assert_close(alone_logits, logits[2:3])
    torch.testing.assert_close(network.patches(images), discriminator_map)
