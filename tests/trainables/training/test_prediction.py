"""Predictions by statistics that belong to the weights, and what they leave behind."""

from copy import deepcopy
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import nn

from trainables.components.prediction import predict_in_chunks
from trainables.core.conditions import Conditions
from trainables.core.method import PredictsByNetworks, method_names
from trainables.testing.subject import Subject
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import DivergedError, Oracle

SIDE, CHUNK, HALF = 4, 64, 128
METHODS = ["supervised", "sparse", "resnet", "segmenter", "ssgnet", "ssgnet_segmenter"]
"""Those that predict by networks with BatchNorm, or may."""


class Normed:
    """BatchNorm of pixels and a head, in float64, at images of whole chunks."""

    def __init__(self, reached=True, momentum=0.1):
        torch.manual_seed(0)
        self.norm, self.idle = nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3)
        self.network = nn.Sequential(self.norm, nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * SIDE**2, 2)).double()
        self.reached, self.seen = reached, []
        with torch.no_grad():
            self.network(torch.randn(8, 3, SIDE, SIDE).double())  # statistics of something else

    def predict(self, images_BCHW):
        def predict(unit_BCHW):
            self.seen.append((self.norm.training, unit_BCHW))
            logits_BK = self.network(unit_BCHW.double())
            self.used = deepcopy(self.norm.state_dict())
            return {"normed": logits_BK.softmax(1)}

        options = {"side": SIDE, "device": torch.device("cpu"), "networks": (self.network,), "chunk": CHUNK}
        return predict_in_chunks(predict, images_BCHW, **options)

    def predicting_networks(self):
        return (self.network,) if self.reached else (self.network, self.idle)

    def state_dict(self):
        return {"network": self.network.state_dict()}


def pictures(count, seed):
    return torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def task(make_task):
    """Labelled, unlabelled and validation images of different light."""
    plain = make_task(channels=3, side=SIDE, num_unlabelled=300)
    labelled = replace(plain.labelled, images_NCHW=pictures(9, 1) // 3)
    return replace(plain, labelled=labelled, unlabelled_NCHW=pictures(300, 2) // 2 + 100)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return list(chain.from_iterable(map(tensors, children)))


def spaced(images, most):
    return images[[number * len(images) // min(most, len(images)) for number in range(min(most, len(images)))]]


def references(task):
    """Images that statistics come from, by hand, by condition."""
    labelled, pool = task.labelled.images_NCHW, task.unlabelled_NCHW
    half = spaced(pool, HALF)
    pairs = [torch.stack([one, labelled[number % len(labelled)]]) for number, one in enumerate(half)]
    return {"labelled": labelled, "unlabelled": spaced(pool, 2 * HALF), "both": torch.cat(pairs)}


@pytest.mark.parametrize("statistics", ["labelled", "unlabelled", "both"])
def test_statistics_are_those_of_training_images_and_of_no_others(statistics, task):
    learner = Normed()
    found = Oracle(task, statistics).ask(learner, task.validation, 1, with_pool=False).predictions["normed"]
    reference = references(task)[statistics].double() / 255
    chunks = reference.tensor_split(-(-len(reference) // CHUNK))
    mean = torch.stack([chunk.mean((0, 2, 3)) for chunk in chunks]).mean(0)
    variance = torch.stack([chunk.transpose(0, 1).flatten(1).var(1, correction=1) for chunk in chunks]).mean(0)
    torch.testing.assert_close(learner.used["running_mean"], mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(learner.used["running_var"], variance, rtol=1e-6, atol=0)
    unit = task.validation.images_NCHW.double() / 255
    scale, head = (variance + 1e-5).sqrt()[:, None, None], learner.network[3]
    expected = head(((unit - mean[:, None, None]) / scale).flatten(1)).softmax(1)
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), rtol=1e-5, atol=1e-7)
    gathered = [unit for training, unit in learner.seen if training]
    assert torch.cat(gathered).equal(reference.float())


def test_running_statistics_are_those_that_training_left(task):
    learner = Normed()
    before = deepcopy(learner.norm.state_dict())
    Oracle(task, "running").ask(learner, task.validation, 1, with_pool=False)
    assert all(value.equal(before[name]) for name, value in learner.used.items())
    assert not any(training for training, _ in learner.seen)


def test_where_there_is_no_pool_labelled_images_serve(task):
    without = replace(task, unlabelled_NCHW=task.unlabelled_NCHW[:0])
    learners = {name: Normed() for name in ("labelled", "unlabelled", "both")}
    for name, learner in learners.items():
        assert not Oracle(without, name).ask(learner, task.validation, 1, with_pool=True).pool_means
    assert len({str(learner.used["running_mean"]) for learner in learners.values()}) == 1


def test_a_single_training_image_has_no_statistics(task):
    one = replace(task.labelled, images_NCHW=task.labelled.images_NCHW[:1], labels_N=task.labelled.labels_N[:1])
    alone = replace(task, labelled=one, unlabelled_NCHW=task.unlabelled_NCHW[:0])
    learner = Normed()
    before = deepcopy(learner.norm.state_dict())
    Oracle(alone, "both").ask(learner, task.validation, 1, with_pool=True)
    assert all(value.equal(before[name]) for name, value in learner.used.items())


@pytest.mark.parametrize(("side", "count"), [(64, 256), (96, 113), (128, 64), (512, 64)])
def test_large_images_are_fewer(side, count, task):
    counts = []

    class Counting(Normed):
        def predict(self, images_BCHW):
            counts.append(len(images_BCHW))
            return super().predict(images_BCHW[..., :SIDE, :SIDE])

    large = torch.zeros(1, 3, side, side, dtype=torch.uint8).expand(600, -1, -1, -1)
    Oracle(replace(task, unlabelled_NCHW=large), "unlabelled").ask(Counting(), task.validation, 1, with_pool=False)
    assert counts == [count, 9]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_what_was_asked_is_as_before(task, momentum):
    learner = Normed(momentum=momentum)
    before, random_state = tensors(learner.state_dict()), torch.get_rng_state()
    addresses = [tensor.data_ptr() for tensor in learner.network.state_dict().values()]
    first, second = (Oracle(task, "both").ask(learner, task.validation, 1, with_pool=True) for _ in range(2))
    assert all(map(torch.equal, tensors(learner.state_dict()), before))
    assert [tensor.data_ptr() for tensor in learner.network.state_dict().values()] == addresses
    assert learner.norm.momentum == momentum
    assert all(module.training for module in learner.network.modules())
    assert torch.get_rng_state().equal(random_state)
    assert first.predictions["normed"].tolist() == second.predictions["normed"].tolist()
    assert first.pool_means["normed"].tolist() == second.pool_means["normed"].tolist()


def test_even_a_failed_prediction_leaves_all_as_before(task):
    class Failing(Normed):
        def predict(self, images_BCHW):
            if images_BCHW is task.validation.images_NCHW:
                raise MemoryError
            return super().predict(images_BCHW)

    learner = Failing()
    before = tensors(learner.state_dict())
    with pytest.raises(MemoryError):
        Oracle(task, "both").ask(learner, task.validation, 1, with_pool=False)
    assert all(map(torch.equal, tensors(learner.state_dict()), before))
    assert learner.norm.momentum == 0.1


def test_the_mean_of_the_pool_is_that_of_its_images_by_the_same_statistics(task):
    learner = Normed()
    found = Oracle(task, "both").ask(learner, task.validation, 1, with_pool=True).pool_means["normed"]
    own = Oracle(task, "both")
    of_pool = own.ask(learner, replace(task.labelled, images_NCHW=task.unlabelled_NCHW,
                                       labels_N=torch.zeros(300).long()), 1, with_pool=False)  # fmt: skip
    assert found.shape == (2,)
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(of_pool.predictions["normed"]).mean(0))


def test_a_norm_that_predictions_do_not_reach_is_told(task):
    learner = Normed(reached=False)
    before = tensors(learner.idle.state_dict())
    with pytest.raises(TypeError, match="names a BatchNorm that predict"):
        Oracle(task, "both").ask(learner, task.validation, 1, with_pool=False)
    assert all(map(torch.equal, tensors(learner.idle.state_dict()), before))


def test_a_prediction_that_is_not_finite_is_an_outcome(task):
    learner = Normed()
    nn.init.constant_(learner.network[3].bias, float("nan"))
    with pytest.raises(DivergedError, match="predictions of 'normed' are not finite after epoch 7"):
        Oracle(task, "running").ask(learner, task.validation, 7, with_pool=False)


@pytest.mark.parametrize(("dtype", "kept"), [("bfloat16", "float64"), ("float16", "float64"), ("uint8", "uint8")])
def test_predictions_of_any_precision_are_read(dtype, kept, task):
    class Rounded(Normed):
        def predict(self, images_BCHW):
            return {"normed": torch.ones(len(images_BCHW), 3, dtype=getattr(torch, dtype))}

    (found,) = Oracle(task).ask(Rounded(), task.validation, 1, with_pool=False).predictions.values()
    assert found.dtype == kept
    assert (found == 1).all()


# Methods


def has_norms(network):
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def test_methods_that_predict_by_networks_say_so():
    """Those that do not have no BatchNorm in what predicts: their networks normalise weights, or there are none."""
    found = []
    for name in method_names():
        subject = Subject(name)
        learner = subject.build(subject.task())
        if isinstance(learner, PredictsByNetworks):
            found.append(name)
    assert sorted(found) == sorted(METHODS)
    for name, part in [("convnet", "_network"), ("ssl_gan", "_discriminator")]:
        assert not has_norms(vars(Subject(name).build(Subject(name).task()))[part].predicting)


@pytest.mark.parametrize("average", [0.0, 0.1])
@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_predicts_leaves_no_trace(name, average):
    subject = Subject(name)
    task, config = subject.task(), subject.config(average=average, synthetic=False)
    learner = subject.build(task, config)
    for _ in subject.advance(learner, 2, config, task):
        pass
    before = tensors(learner.state_dict())
    networks = learner.predicting_networks()
    modes = [module.training for network in networks for module in network.modules()]
    predicted = Oracle(task, "both").ask(learner, task.validation, 1, with_pool=True)
    assert all(map(torch.equal, tensors(learner.state_dict()), before))
    assert [module.training for network in networks for module in network.modules()] == modes
    if any(map(has_norms, networks)):
        running = Oracle(task, "running").ask(learner, task.validation, 1, with_pool=True)
        assert any((predicted.predictions[key] != each).any() for key, each in running.predictions.items())


@pytest.mark.parametrize("statistics", ["both", "unlabelled"])
@pytest.mark.parametrize("name", ["supervised", "sparse", "resnet"])
def test_a_resumed_run_is_the_undisturbed_one(name, statistics, tmp_path):
    subject = Subject(name)
    task = subject.task()

    def outcomes(stop=None, **options):
        found = []
        run = subject.start(task, epochs=4, statistics=statistics, decision="pool", **options)
        for progress in run:
            means = {key: value.tolist() for key, value in progress.pool_means.items()}
            predictions = {key: value.tolist() for key, value in progress.predictions.items()}
            found.append((dict(progress.losses), progress.scores, means, predictions))
            if progress.epoch == stop:
                run.close()
        return found

    straight = outcomes()
    assert outcomes(stop=2, checkpoints=Checkpoints(tmp_path)) == straight[:2]
    assert outcomes(checkpoints=Checkpoints(tmp_path)) == straight
    plain = [(dict(p.losses), p.scores) for p in subject.start(task, epochs=4, statistics="running")]
    assert [losses for losses, _ in plain] == [losses for losses, *_ in straight], "training knows nothing of it"
    assert [scores for _, scores in plain] != [scores for _, scores, *_ in straight]


def test_both_is_what_is_done_unless_it_is_said_otherwise():
    assert Conditions().statistics == "both"
