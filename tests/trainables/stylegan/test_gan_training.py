import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces.core.errors import ConfigError
from trainables.stylegan.gan_training import GeneratorTraining, new_networks, update_ema
from trainables.stylegan.generator_config import PROFILES, GeneratorConfig
from trainables.stylegan.generator_scores import features_of, kernel_distance
from trainables.training.accelerator import new_accelerator

SMALL = GeneratorConfig(
    resolution=16, channels=1, num_layers=4, channel_base=64, channel_max=4, z_dim=16, margin=4, batch=8,
    penalty_interval=3, ada_kimg=0.2, average_kimg=0.05, magnitude_kimg=0.1,
)  # fmt: skip


def new_training(config=SMALL, *, seed=1, precision="no"):
    return GeneratorTraining(config, new_accelerator(precision=precision, cpu=True), seed=seed)


def images(num=8, side=16, channels=1, seed=0):
    """Discs."""
    random = torch.Generator().manual_seed(seed)
    place = torch.arange(side) + 0.5
    centre = side / 2 + (torch.rand(num, 2, generator=random) - 0.5) * side / 4
    radius = side * (1 / 6 + torch.rand(num, generator=random) / 8)
    row, column = (place - centre[:, axis, None] for axis in (0, 1))
    distance = (row.square()[:, :, None] + column.square()[:, None]).sqrt()
    discs = 1.6 * torch.sigmoid(radius[:, None, None] - distance) - 0.8
    return discs[:, None].expand(-1, channels, -1, -1).contiguous()


def train(training, steps, start=0):
    return [training.step(images(training.config.batch, seed=start + step)) for step in range(steps)]


def flat(state, name=""):
    if isinstance(state, dict):
        return {key: value for part, each in state.items() for key, value in flat(each, f"{name}.{part}").items()}
    return {name: state}


def assert_same(one, other):
    one, other = flat(one.state_dict()), flat(other.state_dict())
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


# Steps


def test_a_step_moves_both_networks_and_says_how():
    training = new_training()
    before = copy.deepcopy(training.state_dict())
    first, second = train(training, 2)
    assert set(first) - set(second) == {"penalty"}
    assert set(second) == {"g_loss", "d_loss", "real_frac", "fake_frac", "augment_p"}
    assert all(value.isfinite() for value in [*first.values(), *second.values()])
    after = training.state_dict()
    for name in ("generator", "critic"):
        for key, value in after[name]["network"].items():
            moved = not value.equal(before[name]["network"][key])
            assert moved == (key not in ("waves.frequencies_O2", "waves.phases_O")), key
    assert training.images_seen == 16


@pytest.mark.parametrize("changes", [{}, {"augment": "fixed", "augment_p": 0.5, "mirror": True}])
def test_going_on_is_bit_exact(changes):
    config = replace(SMALL, **changes)
    straight, first = new_training(config), new_training(config)
    train(straight, 9)
    train(first, 5)
    second = new_training(config, seed=7)
    torch.rand(3)  # the global generator is no part of it
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(second, 4, start=5)
    assert_same(second, straight)
    assert second.sample(3).equal(straight.sample(3))
    assert straight.augment_p > 0


def test_a_state_is_plain_data(tmp_path):
    training = new_training()
    train(training, 1)
    torch.save(training.state_dict(), tmp_path / "state.pt")
    loaded = new_training(seed=3)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same(loaded, training)


def test_seeds_make_the_difference():
    one, same, other = new_training(), new_training(), new_training(seed=2)
    state = torch.get_rng_state()
    for training in (one, same, other):
        train(training, 1)
    assert_same(one, same)
    assert not one.sample(2).equal(other.sample(2))
    assert torch.get_rng_state().equal(state)


def test_losses_are_those_of_logits(monkeypatch):
    training = new_training(replace(SMALL, augment="none"))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1, bias=False), nn.Flatten(0))
    monkeypatch.setattr(training._discriminator, "forward_share", discriminator)
    monkeypatch.setattr(training._discriminator, "backward_and_step", lambda loss: None)
    made = []
    generate = training._generate
    monkeypatch.setattr(training, "_generate", lambda *of, **how: made.append(generate(*of, **how)) or made[-1])
    real = images()
    numbers = training.step(real)
    with torch.no_grad():
        for_generator, for_discriminator, on_real = discriminator(made[0]), discriminator(made[1]), discriminator(real)
    torch.testing.assert_close(numbers["g_loss"], F.softplus(-for_generator).mean())
    torch.testing.assert_close(numbers["d_loss"], (F.softplus(for_discriminator) + F.softplus(-on_real)).mean())
    torch.testing.assert_close(numbers["real_frac"], (on_real > 0).float().mean())
    torch.testing.assert_close(numbers["penalty"], discriminator[1].weight.detach().square().sum())


def test_the_penalty_is_weighed_by_its_rarity(monkeypatch):
    config = replace(SMALL, augment="none", gamma=3.0, penalty_interval=5)
    training, losses = new_training(config), []
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    monkeypatch.setattr(training._discriminator, "forward_share", discriminator)
    monkeypatch.setattr(training._discriminator, "backward_and_step", losses.append)
    training._penalty_step(images())
    gamma = 3.0 * 16**2 / 32768
    torch.testing.assert_close(losses[0], 5 * gamma / 2 * discriminator[1].weight.square().sum())
    losses[0].backward()
    torch.testing.assert_close(discriminator[1].weight.grad, 5 * gamma * discriminator[1].weight.detach())


def test_optimisers_know_of_the_penalty():
    training = new_training(replace(SMALL, penalty_interval=16))
    (g_group,) = training._generator._optimiser.param_groups
    (d_group,) = training._discriminator._optimiser.param_groups
    assert (g_group["lr"], g_group["betas"], g_group["eps"]) == (0.0025, (0.0, 0.99), 1e-8)
    assert d_group["lr"] == pytest.approx(0.001882, abs=1e-6)
    assert d_group["betas"] == (0.0, pytest.approx(0.990585, abs=1e-6))


def test_every_batch_is_a_step_whatever_is_accumulated():
    ends = []
    for accumulate in (1, 4):
        accelerator = new_accelerator(precision="no", cpu=True, accumulate=accumulate)
        training = GeneratorTraining(SMALL, accelerator, seed=1)
        train(training, 1)
        ends.append(training.sample(2))
    assert ends[0].equal(ends[1])


def test_gradients_that_are_no_numbers_are_replaced():
    training = new_training()
    weight = training._discriminator.module.output.bias_O
    for value, step in [(float("nan"), 0.0), (float("inf"), -1.0)]:
        before = weight.detach().clone()
        training._discriminator.backward_and_step(weight.sum() * value)
        assert float((weight.detach() - before).sign()) == step


def test_real_images_are_mirrored_half_of_the_time(monkeypatch):
    training, seen = new_training(replace(SMALL, mirror=True, augment="none")), []
    monkeypatch.setattr(training, "_discriminator_step", lambda real: seen.append(real) or {})
    left = torch.zeros(8, 1, 16, 16)
    left[..., :8] = 1.0
    for _ in range(20):
        training._steps = 1
        training.step(left)
    share = torch.cat(seen)[:, 0, 0, 0].mean()
    assert 0.35 < share < 0.65


@pytest.mark.parametrize("batch", [6, 10])
def test_a_batch_is_whole_groups(batch):
    with pytest.raises(ConfigError, match=f"batch {batch}: it must be a multiple"):
        replace(SMALL, batch=batch)
    with pytest.raises(ValueError, match="no multiple of the group, 4"):
        new_training()._penalty_step(images(batch))


# The average


def test_the_average_has_its_half_life_and_the_statistics_of_the_network():
    network, average = (new_networks(SMALL)[0] for _ in range(2))
    start = [parameter.detach().clone() for parameter in average.parameters()]
    with torch.no_grad():
        network.layers[0].square.fill_(7.0)
    for _ in range(10):  # a half-life of 10 batches
        update_ema(average, network, 0.5 ** (1 / 10))
    for before, ours, theirs in zip(start, average.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, (before + theirs).detach() / 2)
    for ours, theirs in zip(average.buffers(), network.buffers(), strict=True):
        assert ours.equal(theirs)


def test_after_a_step_the_average_has_the_statistics_of_the_network():
    training = new_training()
    training.images_seen = 10_000
    train(training, 2)
    network = training._generator.module
    for (name, ours), theirs in zip(training.average.named_buffers(), network.buffers(), strict=True):
        assert ours.equal(theirs), name
    assert network.layers[1].square != 1.0
    assert not training.average.waves.weight_OI.equal(network.waves.weight_OI)


def test_the_average_is_the_network_first_and_slower_later(monkeypatch):
    decays = []
    training = new_training(replace(SMALL, average_kimg=1.0))
    monkeypatch.setattr("trainables.stylegan.gan_training.update_ema", lambda *of: decays.append(of[2]))
    for seen in (0, 1600, 100_000):
        training.images_seen = seen
        training._update_average(8)
    assert decays == [0.0, 0.5 ** (8 / 80), 0.5 ** (8 / 1000)]


def test_samples_are_of_the_average_and_their_numbers_of_the_seed():
    training = new_training()
    train(training, 2)
    some = training.sample(7, batch=3)
    assert some.shape == (7, 1, 16, 16)
    assert some.dtype == torch.float32
    assert some.abs().max() <= 1
    torch.testing.assert_close(training.sample(4), some[:4])
    assert not torch.allclose(training.sample(7, seed=1), some)
    with torch.no_grad():
        for parameter in training._generator.module.parameters():
            parameter.zero_()
    torch.testing.assert_close(training.sample(7), some)
    assert training.sample(5, psi=0.0).std(0).max() < 1e-6


# Going on from another training


def test_another_training_gives_its_networks_and_nothing_else():
    first = new_training()
    train(first, 4)
    config = replace(SMALL, frozen_convolutions=3, ada_kimg=1.0)
    second = new_training(config, seed=5)
    second.start_from(first.state_dict())
    assert second.sample(3).equal(first.sample(3))
    assert (second.images_seen, second.augment_p) == (0, 0.0)
    convolutions = second._discriminator.module.convolutions()
    kept = [each.weight_OIkk.detach().clone() for each in convolutions]
    train(second, 4)
    assert [each.weight_OIkk.equal(before) for each, before in zip(convolutions, kept, strict=True)] == [
        index < 3 for index in range(len(kept))
    ]
    assert second._controller._kimg == 0.2
    third = new_training(config, seed=6)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    for training in (second, third):
        train(training, 2, start=9)
    assert_same(second, third)


# Profiles


def test_profiles_are_built_as_they_are_named():
    sizes = {name: (config.resolution, config.batch, config.num_layers) for name, config in PROFILES.items()}
    assert sizes["tiny"] == (16, 8, 4)
    assert sizes["cpu-demo"] == (32, 16, 6)
    assert sizes["paper-256"] == (256, 32, 14)
    assert [PROFILES[name].penalty_weight for name in ("paper-256", "gpu-128", "gpu-64")] == [2.0, 0.5, 0.125]
    with torch.device("meta"):
        generator, discriminator = new_networks(PROFILES["cpu-max"])
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (generator, discriminator)]
    assert [round(count, -3) for count in counts] == [204_000, 289_000]


def test_short_trainings_have_short_time_constants():
    long, short = PROFILES["paper-256"], PROFILES["paper-256"].within(10)
    assert (long.average_half_life, long.ada_kimg, long.magnitude_kimg) == (10, 500, 20)
    assert (short.average_half_life, short.ada_kimg, short.magnitude_kimg) == (0.5, 1.0, 1.0)
    assert long.within(1e6) == replace(long, average_kimg=10.0)


# Slower ones


@pytest.mark.slow
def test_reduced_precision_trains_above_64_px():
    config = GeneratorConfig(
        resolution=128, channels=1, num_layers=4, channel_base=128, channel_max=4, z_dim=8, margin=4, batch=4
    )
    training = new_training(config, precision="bf16")
    for _ in range(2):
        assert all(value.isfinite() for value in training.step(images(4, side=128)).values())
    assert training.sample(2).dtype == torch.float32


@pytest.mark.slow
def test_it_learns_discs():
    config = replace(PROFILES["tiny"], channels=1, margin=4, augment="none").within(1.0)
    training, real = new_training(config), images(200)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten())
    features = features_of(real, network)

    def distance():
        return kernel_distance(features, features_of(training.sample(200), network))[0]

    before, random = distance(), torch.Generator().manual_seed(0)
    for _ in range(80):
        training.step(real[torch.randint(200, (8,), generator=random)])
    made = training.sample(200)
    assert distance() < before / 4
    assert abs(made.mean() - real.mean()) < 0.2  # 0.46 at the start
    assert abs(made.std() - real.std()) < 0.15  # 0.37 at the start


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_on_a_gpu_the_host_waits_at_every_fourth_step_alone(precision):
    config = replace(SMALL, augment="fixed", augment_p=0.5, mirror=True)
    training = GeneratorTraining(config, new_accelerator(precision=precision, cpu=False), seed=1)
    real = images(config.batch).cuda()
    for _ in range(4):
        training.step(real)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):  # with a penalty
            training.step(real)
    finally:
        torch.cuda.set_sync_debug_mode("default")
