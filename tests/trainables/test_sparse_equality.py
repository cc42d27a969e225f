"""The learner against SPARSE in plain form (naive_sparse.py): the same weights after the same two epochs.

In double precision only a different computation can show, and nothing is left out. In single precision rounding
shows too, and is made much of: AdamW divides each gradient by its size, so one that is nothing but rounding moves
its parameter by a full ± lr, and BatchNorm, ReLU and the next step pass that on. So the measure there is how far the
plain form in single precision strays from the same form in double precision. D has no BatchNorm: its first step is
still equal to rounding.
"""

from collections import defaultdict
from copy import deepcopy
from itertools import islice, pairwise

import pytest
import torch
from torch import nn

from search_spaces.sparse import SparseConfig
from trainables import sparse
from trainables.components.meters import Means
from trainables.core.method import Labelled, Provenance, Task
from trainables.training.accelerator import new_accelerator

from . import naive_sparse as naive

NUM_CLASSES, NUM_LABELLED, NUM_UNLABELLED, SIDE = 3, 9, 16, 32
TINY = {
    "width": 4, "critic_width": 4, "classifier": "test_resnet", "image_size": SIDE, "batch_size": 8,
    "percentile": 0.7, "flip": False, "dropout": 0.0, "drop_path": 0.0,
    # So that no weight is 1 and none could be missing.
    "w_proto": 0.8, "lambda_cls_d": 0.7, "lambda_cls_g": 0.6, "lambda_cls_gg": 0.9, "w_syn": 1.2,
}  # fmt: skip
PRESETS = [("paper", "all"), ("paper", "labels"), ("reference", "all")]


def make_task():
    torch.manual_seed(0)
    images = torch.randint(256, (NUM_LABELLED + NUM_UNLABELLED, 3, SIDE, SIDE), dtype=torch.uint8)
    known = Labelled(images[:NUM_LABELLED], torch.arange(NUM_LABELLED) % NUM_CLASSES)
    provenance = Provenance("", False, 2, 0, 0, "realistic", "", NUM_LABELLED)
    return Task("noise", "classification", NUM_CLASSES, 3, known, images[NUM_LABELLED:], known, provenance)


def schedule():
    """Two epochs as (whether supervised, indices); in the second the same images in another order."""
    for order in (torch.arange(NUM_UNLABELLED), torch.arange(NUM_UNLABELLED).flip(0)):
        yield True, torch.arange(NUM_LABELLED)
        yield from ((False, index) for index in order.split(8))


def networks(learner):
    parts = (learner._generator, learner._discriminator, learner._classifier)
    return dict(zip(naive.NAMES, (part.module for part in parts), strict=True))


class Plain:
    """The plain form with the learner's weights, in a precision of its own."""

    def __init__(self, learner, task, dtype):
        self.config, self.task, self.dtype = learner._config, task, dtype
        copies = {name: deepcopy(net).to(dtype) for name, net in networks(learner).items()}
        self.nets = naive.in_published_order(copies)
        self.optimisers = naive.new_optimisers(self.nets, self.config)
        self.history = defaultdict(list)

    def step(self, supervised, index):
        known, unknown = self.task.labelled, self.task.unlabelled_NCHW
        images = (known.images_NCHW if supervised else unknown)[index].to(self.dtype) / 255
        both = (self.nets, self.optimisers, self.config, images)
        if supervised:
            naive.supervised_step(*both, known.labels_N[index])
        else:
            naive.unsupervised_step(*both, index, self.history)


def train(preset, *dtypes, num_steps=6, **options):
    """The learner, and the plain form in each precision, after the same steps with the same random numbers."""
    torch.manual_seed(1)
    config, task = SparseConfig.preset(preset, **(TINY | options)), make_task()
    learner = sparse.build(config, task, new_accelerator(precision="no", cpu=True))
    learner._augmented = lambda images_BCHW: images_BCHW.to(torch.get_default_dtype()) / 255  # which draws nothing
    plains = [Plain(learner, task, dtype) for dtype in dtypes]
    for number, (supervised, index) in enumerate(islice(schedule(), num_steps)):
        torch.manual_seed(number)
        if supervised:
            learner._supervised_step(index, Means())
        else:
            learner._unsupervised_step(index, True, Means())
        for plain in plains:
            torch.manual_seed(number)
            plain.step(supervised, index)
    return learner, *plains


def state(net):
    # How many passes BatchNorm has seen is used by no one: its momentum is fixed.
    return {name: tensor.double() for name, tensor in net.state_dict().items() if "num_batches" not in name}


def distance(first, second):
    """‖first - second‖ / ‖second‖ of the whole tensor."""
    return float((first - second).norm() / second.norm())


def distances(nets, others):
    """Relative, of all parameters of each network together; without those that BatchNorm makes meaningless."""
    joined = [
        {name: torch.cat([p.detach().double().flatten() for p in effective(net)]) for name, net in group.items()}
        for group in (nets, others)
    ]
    return {name: distance(joined[0][name], joined[1][name]) for name in nets}


def effective(net):
    """All parameters but the biases directly before a BatchNorm, which takes them out again."""
    sequences = [part for part in net.modules() if isinstance(part, nn.Sequential)]
    pairs = [pair for part in sequences for pair in pairwise(part)]
    idle = {id(conv.bias) for conv, norm in pairs if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)}
    return [p for p in net.parameters() if id(p) not in idle]


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("preset", "scope"), PRESETS)
def test_every_weight_and_statistic_is_that_of_the_plain_form(preset, scope):
    learner, plain = train(preset, torch.float64, mask_scope=scope, lr=1e-3)
    for name, net in networks(learner).items():
        expected = state(plain.nets[name])
        found = {tensor: distance(value, expected[tensor]) for tensor, value in state(net).items()}
        assert max(found.values()) < 1e-5, (name, max(found, key=found.get))


@pytest.mark.usefixtures("_double")
def test_the_votes_remembered_are_those_of_the_plain_form():
    learner, plain = train("paper", torch.float64)
    momentum, memory = learner._config.ema_momentum, learner._memory
    expected = torch.stack([naive.average(plain.history[image], momentum) for image in range(NUM_UNLABELLED)])
    assert memory.num_updates_M.eq(2).all()
    # The learner adds 1e-6 to each voter's confidence, so that two voters without any are a plain mean.
    torch.testing.assert_close(memory.average_MK / (1 - momentum**2), expected, rtol=1e-3, atol=0)


def test_predictions_are_those_of_the_plain_form():
    (learner,) = train("paper", num_steps=2)
    images = make_task().labelled.images_NCHW
    found, expected = learner.predict(images), naive.evaluate(networks(learner), images.float() / 255)
    for name, plain in [("sparse", "classifier"), ("sparse_ens", "sparse_ens")]:
        torch.testing.assert_close(found[name], expected[plain].double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("preset", "scope"), PRESETS)
def test_single_precision_strays_no_farther_than_that_of_the_plain_form(preset, scope):
    learner, single, double = train(preset, torch.float32, torch.float64, mask_scope=scope)
    ours, theirs = (distances(nets, double.nets) for nets in (networks(learner), single.nets))
    assert all(ours[name] < 3 * theirs[name] for name in naive.NAMES), (ours, theirs)


@pytest.mark.parametrize(("preset", "scope"), PRESETS)
def test_single_precision_is_equal_to_rounding_where_nothing_amplifies_it(preset, scope):
    learner, single = train(preset, torch.float32, num_steps=2, mask_scope=scope)
    assert distances(networks(learner), single.nets)["critic"] < 1e-5
