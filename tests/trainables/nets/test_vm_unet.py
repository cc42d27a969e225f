from math import log

import pytest
import torch
import torch.nn.functional as F

from tests.trainables.naive_scan import naive_scan
from trainables.components.mask_losses import AdaptiveKappa, bce_dice, one_hot_masks, tvmf_dice
from trainables.components.mask_rounds import foreground, hard_masks
from trainables.data.readers.shapes import shapes
from trainables.metrics.masks import count_pixels, score_masks
from trainables.nets.vm_unet import SS2D, PatchExpanding, PatchMerging, VMUNet, VSSBlock, in_four_directions

SMALL = {"dims": (8, 16, 32, 64), "depths": (1, 1, 1, 1), "decoder_depths": (1, 1, 1, 1), "d_state": 4}


def size(network):
    return sum(p.numel() for p in network.parameters())


def small(**options):
    torch.manual_seed(0)
    return VMUNet(**SMALL | options)


@pytest.mark.parametrize(("dim", "expected"), [(96, 105_408), (192, 339_840), (384, 1_195_776), (768, 4_455_936)])
def test_a_block_has_as_many_parameters_as_the_published_one(dim, expected):
    with torch.device("meta"):
        assert size(VSSBlock(dim, 16, 0.0)) == expected


def test_has_as_many_parameters_as_the_published_one():
    with torch.device("meta"):
        assert size(VMUNet()) == 27_427_561
        larger = VMUNet(depths=(2, 2, 9, 2), decoder_depths=(2, 9, 2, 2))
    assert size(larger) / 1e6 == pytest.approx(44.27, abs=0.005)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_classes", [1, 2])
def test_shapes(channels, num_classes):
    network = small(channels=channels, num_classes=num_classes)
    assert network(torch.rand(2, channels, 32, 64)).shape == (2, num_classes, 32, 64)


def test_fewer_stages_take_smaller_sides():
    network = VMUNet(dims=(8, 16), depths=(1, 2), decoder_depths=(2, 1), d_state=2)
    assert network.side_multiple == 8
    assert network(torch.rand(1, 3, 24, 8)).shape == (1, 1, 24, 8)


def test_one_channel_is_three_equal_ones():
    network, image = small().eval(), torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(network(image), network(image.repeat(1, 3, 1, 1)))


def test_every_parameter_learns():
    network = small(drop_path=0.0)
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def scan_by_hand(block, sequence, direction):
    """One direction of SS2D for x (L, I), with the step loop."""
    selected = sequence @ block.select_GXI[direction].T
    rank, enter, read = selected.split(block.splits, -1)
    steps = F.softplus(rank @ block.step_GIR[direction].T + block.step_bias_GI[direction])
    decay = -block.log_decay_GIN[direction].exp()
    given = (sequence, steps, None, enter, read)
    u, delta, _, B, C = (None if each is None else each[None, None] for each in given)
    return naive_scan(u, delta, decay[None], B, C, block.through_GI[direction][None])[0, 0]


def test_ss2d_is_four_scans():
    torch.manual_seed(0)
    block, features = SS2D(6, 3).double(), torch.randn(1, 3, 4, 6, dtype=torch.float64)
    x, gate = block.enter(features).chunk(2, -1)
    x = F.silu(block.mix(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)[0]
    orders = {
        0: [(row, column) for row in range(3) for column in range(4)],
        1: [(row, column) for column in range(4) for row in range(3)],
    }
    orders |= {2: orders[0][::-1], 3: orders[1][::-1]}
    total = torch.zeros(3, 4, 12, dtype=torch.float64)
    for direction, order in orders.items():
        scanned = scan_by_hand(block, torch.stack([x[place] for place in order]), direction)
        for place, value in zip(order, scanned, strict=True):
            total[place] += value
    expected = block.leave(block.norm(total) * F.silu(gate[0]))
    torch.testing.assert_close(block(features)[0], expected, rtol=1e-10, atol=1e-10)


def test_ss2d_of_a_transposed_picture():
    """It is the transposed result, when rows and columns change places in the parameters too."""
    torch.manual_seed(0)
    block, turned = SS2D(6, 3).double(), SS2D(6, 3).double()
    state, changed = block.state_dict(), [1, 0, 3, 2]
    turned.load_state_dict({
        name: value[changed] if name in ("select_GXI", "step_GIR", "step_bias_GI", "log_decay_GIN", "through_GI")
        else value.mT if name == "mix.weight" else value
        for name, value in state.items()
    })  # fmt: skip
    with torch.no_grad():
        block.through_GI.copy_(torch.rand(4, 12))
        turned.through_GI.copy_(block.through_GI[changed])
    features = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(
        turned(features.transpose(1, 2)), block(features).transpose(1, 2), rtol=1e-10, atol=1e-10
    )
    assert not torch.allclose(block(features.transpose(1, 2)), block(features).transpose(1, 2))


def test_the_four_directions():
    sequences = in_four_directions(torch.arange(6.0).view(1, 2, 3, 1))[0, :, :, 0]
    assert sequences.int().tolist() == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]


def test_how_a_new_scan_begins():
    block = SS2D(64, 4)
    steps = F.softplus(block.step_bias_GI)
    assert 0.00099 < steps.min() < 0.0015
    assert 0.08 < steps.max() < 0.1001
    assert steps.log().mean().item() == pytest.approx(log(0.01), abs=0.2)
    torch.testing.assert_close(block.log_decay_GIN.exp(), torch.arange(1.0, 5).expand(4, 128, 4))
    assert block.step_GIR.abs().max() <= 4**-0.5
    assert (block.through_GI == 1).all()


def test_merging_sees_every_pixel_once():
    merge = PatchMerging(1)
    merge.norm, merge.reduce = torch.nn.Identity(), torch.nn.Identity()
    merged = merge(torch.arange(16.0).view(1, 4, 4, 1))
    assert merged.shape == (1, 2, 2, 4)
    assert merged[0, 0, 1].tolist() == [2, 6, 3, 7]


def test_expanding_keeps_neighbours_together():
    expand = PatchExpanding(2, 1, 2)
    with torch.no_grad():
        expand.widen.weight.copy_(torch.tensor([[1.0, 0], [1, 1], [1, 2], [1, 3]]))
    expand.norm = torch.nn.Identity()
    features = torch.tensor([[[[10.0, 1], [20.0, 1]]]])
    assert expand(features)[0, :, :, 0].tolist() == [[10, 11, 20, 21], [12, 13, 22, 23]]


def test_skips_are_what_the_encoders_stages_take_in():
    network, taken, given = small().eval(), [], []
    for stage in network.encoder:
        stage.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    for stage in network.decoder:
        stage.register_forward_hook(lambda _, inputs, output: given.append(output))
    expanded = []
    for expand in network.expands:
        expand.register_forward_pre_hook(lambda _, inputs: expanded.append(inputs[0]))
    network(torch.rand(1, 3, 64, 64))
    assert [each.shape[1] for each in taken] == [16, 8, 4, 2]
    assert len(expanded) == 3
    for place in range(3):
        torch.testing.assert_close(expanded[place], given[place] + taken[-1 - place])


def test_rates_of_drop_path():
    network = small(depths=(2, 2, 2, 2), decoder_depths=(2, 2, 2, 1), drop_path=0.2)
    encoder, decoder = ([block.drop_path.drop_prob for stage in part for block in stage]
                        for part in (network.encoder, network.decoder))  # fmt: skip
    assert encoder == pytest.approx([0.2 * n / 7 for n in range(8)])
    assert decoder == pytest.approx([0.2 * n / 6 for n in range(6, -1, -1)])
    images = torch.rand(4, 3, 32, 32)
    assert not network(images).equal(network(images))
    network.eval()
    assert network(images).equal(network(images))


def test_autocast_leaves_the_scan_in_float32(monkeypatch):
    from trainables.nets import vm_unet

    network, images, seen = small().eval(), torch.rand(1, 3, 32, 32), []
    scan = vm_unet.selective_scan

    def look(*inputs):
        output = scan(*inputs)
        seen.append((inputs[1].dtype, inputs[2].dtype, output.dtype))
        return output

    monkeypatch.setattr(vm_unet, "selective_scan", look)
    exact = network(images)
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
        logits.float().square().mean().backward()
    assert set(seen) == {(torch.float32,) * 3}
    assert all(p.grad.dtype == torch.float32 for p in network.parameters())
    assert not logits.float().equal(exact)
    assert (logits - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_what_no_decay_should_touch():
    names = small().no_weight_decay()
    assert {name.rpartition(".")[2] for name in names} == {"log_decay_GIN", "through_GI"}
    assert len(names) == 2 * 8


def test_messages():
    with pytest.raises(ValueError, match="multiples of 32, not 48 x 64"):
        small()(torch.rand(1, 3, 48, 64))
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        small(channels=2)
    with pytest.raises(ValueError, match="need one number a stage"):
        small(depths=(1, 1))
    with pytest.raises(ValueError, match="must double from stage to stage"):
        small(dims=(8, 16, 32, 48))


@pytest.mark.parametrize("loss", ["bce_dice", "tvmf"])
def test_learns_to_find_ellipses(loss):
    images_NHW3, masks_NHW = shapes(48, 32, seed=0)
    images = torch.from_numpy(images_NHW3).permute(0, 3, 1, 2).float()
    images = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
    masks = torch.from_numpy(masks_NHW)
    torch.manual_seed(0)
    sizes = {"dims": (16, 32), "depths": (1, 1), "decoder_depths": (1, 1), "d_state": 2}
    network = VMUNet(num_classes=1 if loss == "bce_dice" else 2, drop_path=0.0, **sizes)
    optimiser, kappa = torch.optim.AdamW(network.parameters(), lr=1e-2), AdaptiveKappa(2, source="train_ema", decay=0.9)

    def value(index):
        logits = network(images[index])
        if loss == "bce_dice":
            return bce_dice(logits[:, 0], masks[index])
        targets = one_hot_masks(masks[index], 2)
        kappa.see(logits, targets)
        return tvmf_dice(logits, targets, kappa.kappa_K)

    for step in range(40):
        optimiser.zero_grad()
        value(torch.arange(8) + 8 * (step % 5)).backward()
        optimiser.step()
        if step % 5 == 4:
            kappa.end_epoch()
    with torch.no_grad():
        found = hard_masks(foreground(network.eval()(images[40:])))
    assert score_masks(count_pixels(found, masks[40:]).numpy()).metric("dice_fg") > 0.8
    assert (kappa.kappa_K[1] > 15) == (loss == "tvmf")
