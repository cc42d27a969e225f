from copy import deepcopy
from math import exp

import pytest
import torch
from torch import nn

from search_spaces.core.ranges import space_of
from search_spaces.core.schedule import ScheduledConfig
from trainables.components.optimised_model import OptimisedModel
from trainables.components.pace import Pace
from trainables.components.weight_average import WeightAverage
from trainables.core.method import find_method, method_names
from trainables.testing.small import small_config
from trainables.testing.tasks import make_task
from trainables.training.accelerator import new_accelerator
from trainables.training.train import Budget, train

TIME_CONSTANT = 0.07
SHARES = [0.01, 0.02, 0.02, 0.05, 0.2, 0.21, 0.9, 1.0]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def change(net, number):
    """Other weights, other statistics."""
    torch.manual_seed(number)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    net(torch.randn(5, 3, dtype=torch.float64))


def plain(states):
    """The average by its definition, from the states of the network: the first, and one for each of SHARES."""
    first, *others = states
    average, before = {name: value.clone() for name, value in first.items()}, 0.0
    for number, (state, share) in enumerate(zip(others, SHARES, strict=True)):
        decay = min(exp(-(share - before) / TIME_CONSTANT), (1 + number) / (10 + number))
        for name, value in state.items():
            counts = "num_batches" in name
            average[name] = value.clone() if counts else decay * average[name] + (1 - decay) * value
        before = share
    return average


def followed(net, average, first=0, end=None):
    states = []
    for number in range(len(SHARES))[first:end]:
        change(net, number)
        states.append(deepcopy(net.state_dict()))
        average.update(SHARES[number])
    return states


def test_it_is_its_definition_for_weights_and_buffers():
    net = network()
    start, average = deepcopy(net.state_dict()), WeightAverage(net, TIME_CONSTANT)
    expected = plain([start, *followed(net, average)])
    found = average.network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    assert found["1.num_batches_tracked"] == len(SHARES)
    assert not torch.allclose(found["1.running_var"], net.state_dict()["1.running_var"], rtol=0.01)
    assert all(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in average.network.parameters())


@pytest.mark.parametrize("stopped", range(len(SHARES)))
def test_it_goes_on_where_it_stopped(stopped, tmp_path):
    net = network()
    average = WeightAverage(net, TIME_CONSTANT)
    followed(net, average, 0, stopped)
    torch.save({"net": net.state_dict(), "average": average.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed_net = network()
    resumed = WeightAverage(resumed_net, TIME_CONSTANT)
    resumed_net.load_state_dict(state["net"])
    resumed.load_state_dict(state["average"])
    for pair in ((net, average), (resumed_net, resumed)):
        followed(*pair, stopped)
    for name, value in average.network.state_dict().items():
        assert value.equal(resumed.network.state_dict()[name])


# How much of the first weights predicts


TAKE_IN = WeightAverage.update


class Probe:
    """An average of one number, 1 before the first step and 0 from then on: the share of the first weights."""

    def __init__(self, time_constant):
        net = nn.Linear(1, 1, bias=False)
        nn.init.ones_(net.weight)
        self.average, self.shares = WeightAverage(net, time_constant), []
        nn.init.zeros_(net.weight)

    def update(self, share):
        self.shares.append(share)
        TAKE_IN(self.average, share)

    @property
    def left(self):
        return float(self.average.network.weight)


def averaging():
    """Every method with an average, as its default and its presets have it."""
    for name in method_names():
        config = find_method(name).config
        if not issubclass(config, ScheduledConfig):
            continue
        presets = {preset: config.preset(preset) for preset in config.presets}
        for which, one in {"default": config(), **presets}.items():
            if one.average:
                yield pytest.param(name, one, id=f"{name}-{which}")


def small(name, config):
    """The configuration with small networks, but the batches, the epochs and the average that it has."""
    method = find_method(name)
    kept = {f: getattr(config, f) for f in ("average", "batch_size", "steps_per_epoch", "batch_unlabelled", "schedule")
            if hasattr(config, f)}  # fmt: skip
    tiny = {"encoder": "test_resnet", "encoder_depth": 3, "decoder_width": 2, "drop_path": 0.0, "ddi": False}
    return method, small_config(method, kept, **tiny)


@pytest.mark.parametrize(("name", "config"), list(averaging()))
def test_no_budget_from_a_thousand_images_on_predicts_with_mostly_first_weights(name, config, monkeypatch):
    """A run of a thousand images, beside those of generators and earlier rounds, and what it says of longer ones."""
    method, config = small(name, config)
    task = make_task(kind=method.kind, shots=5, num_unlabelled=600)
    sizes = len(task.labelled), len(task.unlabelled_NCHW)
    probes = {}

    def update(average, share):
        probes.setdefault(average, Probe(average._time_constant)).update(share)
        TAKE_IN(average, share)

    monkeypatch.setattr(WeightAverage, "update", update)
    ends = [epoch for epoch in range(1, 99) if method.cycle_ends(config, epoch)] if hasattr(config, "rounds") else [0]
    before = sum(method.epoch_images(config, *sizes, epoch) for epoch in range(max(ends)))
    budget = Budget(images=1000 + before, evaluate_every=1000 + before)
    accelerator = new_accelerator(precision="no", cpu=True)
    list(train(method, config, task, budget, seed=0, accelerator=accelerator))
    assert probes
    for probe in probes.values():
        assert probe.left < 0.05
    most = max(space_of(type(config))["average"].ends())
    for images in (1000, 2000, 5000, 9000, 27_000):  # more steps, closer together
        count = min(len(probe.shares) for probe in probes.values()) * images // 1000
        for time_constant in (config.average, most):
            longer = Probe(time_constant)
            for step in range(count):
                longer.update((step + 0.5) / count)
            assert longer.left < 0.05


# In a model


def model(accumulate=1, average=0.5, pace=None):
    torch.manual_seed(0)
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=accumulate)
    return OptimisedModel(nn.Linear(2, 1), accelerator, lr=0.1, beta1=0.5, weight_decay=0.0, average=average, pace=pace)


@pytest.mark.parametrize(("losses", "updates"), [(1, 0), (2, 1), (3, 2), (4, 2)])
def test_an_average_follows_steps_not_losses(losses, updates):
    one, taken = model(accumulate=2), []
    one._average.update = taken.append
    for _ in range(losses):
        one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert len(taken) == losses // 2
    one.finish()
    assert len(taken) == updates + (losses == 1)


def test_an_average_hears_the_share_of_its_pace():
    pace = Pace(lambda share: 1.0)
    one, taken = model(pace=pace), []
    one._average.update = taken.append
    pace.begin_epoch(4, 16)
    for _ in range(2):
        pace.advance(4)
        one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert taken == [6 / 16, 10 / 16]


def test_the_average_goes_round_with_the_rest_and_predicts():
    one, other = model(), model()
    start = one.module.weight.detach().clone()
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    torch.testing.assert_close(one.predicting.weight, 0.1 * start + 0.9 * one.module.weight.detach())
    other.load_state_dict(one.state_dict())
    assert other.predicting.weight.equal(one.predicting.weight)
    assert not other.predicting.weight.equal(other.module.weight)
    inputs = torch.ones(3, 2)
    assert one.predict(inputs).equal(one.predicting(inputs))
    assert not one.predict(inputs).equal(one(inputs))


def test_without_an_average_the_network_itself_predicts():
    one = model(average=0.0)
    assert set(one.state_dict()) == {"network", "optimiser", "lr"}
    assert one.predicting is one.module
    inputs = torch.ones(3, 2)
    assert one.predict(inputs).equal(one(inputs))


def test_a_step_size_holds_from_then_on():
    one = model()
    one.set_lr(0.0)
    before = one.module.weight.detach().clone()
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert one.module.weight.equal(before)
    one.set_lr(0.25)
    one.backward_and_step(one(torch.ones(3, 2)).sum())
    assert not one.module.weight.equal(before)
