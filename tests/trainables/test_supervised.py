import torch

from search_spaces.constant import ConstantConfig
from search_spaces.supervised import SupervisedConfig
from trainables import constant, supervised
from trainables.core.method import Labelled, Provenance, Task
from trainables.training.accelerator import new_accelerator

TINY = {"classifier": "test_resnet", "image_size": 32, "batch_size": 4}


def task(labels=(0, 0, 1, 1, 2, 2), channels=3):
    torch.manual_seed(0)
    images = torch.randint(256, (len(labels), channels, 32, 32), dtype=torch.uint8)
    labelled = Labelled(images, torch.tensor(labels))
    provenance = Provenance("", False, 2, 0, 0, "realistic", "", len(labels))
    return Task("noise", "classification", 3, channels, labelled, images[:0], labelled, provenance)


def learner(build=supervised.build, config=None, **changes):
    torch.manual_seed(1)
    config = config or SupervisedConfig(**(TINY | changes))
    return build(config, task(), new_accelerator(precision="no", cpu=True))


def train(one, first, last, budget=None):
    epochs, images = one.epochs(), one._config.steps_per_epoch * one._config.batch_size
    for epoch in range(first, last):
        torch.manual_seed(epoch)
        one.begin_epoch(epoch * images, (budget or last) * images)
        losses = next(epochs)
    return losses


def test_it_learns_its_labelled_images():
    one = learner(**(SupervisedConfig.presets["plain"] | {"lr": 3e-3, "flip": False}))
    first = train(one, 0, 1)
    last = train(one, 1, 10)
    assert last["loss"] < 0.5 * first["loss"]
    probs = one.predict(task().labelled.images_NCHW)["supervised"]
    assert probs.shape == (6, 3)
    torch.testing.assert_close(probs.sum(1), torch.ones(6).double())
    assert probs.argmax(1).equal(task().labelled.labels_N)


def test_without_mixup_it_learns_from_plain_labels_and_with_it_from_mixed_ones(monkeypatch):
    targets = []
    plain = supervised.soft_cross_entropy
    monkeypatch.setattr(supervised, "soft_cross_entropy", lambda logits, of: targets.append(of) or plain(logits, of))
    train(learner(mixup_alpha=0.0), 0, 1)
    assert all(((of == 0) | (of == 1)).all() for of in targets)
    targets.clear()
    train(learner(mixup_alpha=1.0), 0, 1)
    assert any(((of > 0.01) & (of < 0.99)).any() for of in targets)
    assert all(of.sum(1).allclose(torch.ones(len(of))) for of in targets)


def test_a_resumed_run_is_the_undisturbed_one(tmp_path):
    straight, stopped, resumed = learner(), learner(), learner()
    train(straight, 0, 4)
    train(stopped, 0, 2, budget=4)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, 2, 4)
    images = task().labelled.images_NCHW
    assert resumed.predict(images)["supervised"].equal(straight.predict(images)["supervised"])


def test_a_batch_holds_each_image_as_often_as_it_takes():
    one, seen = learner(batch_size=15, steps_per_epoch=2), []
    augmented = one._augmented
    one._augmented = lambda images: seen.append(len(images)) or augmented(images)
    taken = []
    take = one._order.take
    one._order.take = lambda count: taken.append(take(count)) or taken[-1]
    train(one, 0, 1)
    assert seen == [15, 15]
    assert torch.cat(taken).bincount().tolist() == [5] * 6
    assert supervised.METHOD.epoch_images(one._config, 6, 0, 0) == 30


def test_the_default_falls_to_nothing_and_predicts_by_the_average():
    one = learner(batch_size=2, steps_per_epoch=5)
    train(one, 0, 6)
    (group,) = one.state_dict()["classifier"]["optimiser"]["param_groups"]
    assert group["lr"] < 1e-2 * one._config.lr
    assert one.predicting_networks() == (one._classifier.predicting,)
    assert one._classifier.predicting is not one._classifier.module


def test_constant_predicts_the_majority_and_breaks_ties_to_the_lowest():
    for labels, majority in [((0, 1, 1, 2, 2), 1), ((2, 2, 1), 2), ((0, 1, 2), 0)]:
        one = constant.build(ConstantConfig(), task(labels), new_accelerator(precision="no", cpu=True))
        assert dict(next(one.epochs())) == {}
        one.load_state_dict(one.state_dict())
        probs = one.predict(task().labelled.images_NCHW)["constant"]
        assert probs.shape == (6, 3)
        torch.testing.assert_close(probs.sum(1), torch.ones(6))
        frequencies = torch.bincount(torch.tensor(labels), minlength=3) / len(labels)
        torch.testing.assert_close(probs[0], frequencies, atol=2e-3, rtol=0)
        assert (probs[0] == probs[0].max()).nonzero().tolist() == [[majority]]
