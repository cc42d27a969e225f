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


def train(one, first, last):
    epochs = one.epochs()
    for epoch in range(first, last):
        torch.manual_seed(epoch)
        losses = next(epochs)
    return losses


def test_it_learns_its_labelled_images():
    one = learner(lr=3e-3, dropout=0.0, flip=False, w_mixup=0.0, beta1=0.9)
    first = train(one, 0, 1)
    last = train(one, 1, 40)
    assert last["loss"] < 0.5 * first["loss"]
    probs = one.predict(task().labelled.images_NCHW)["supervised"]
    assert probs.shape == (6, 3)
    torch.testing.assert_close(probs.sum(1), torch.ones(6))
    assert probs.argmax(1).equal(task().labelled.labels_N)


def test_without_mixup_the_loss_is_the_plain_one():
    assert train(learner(w_mixup=0.0), 0, 1)["loss"] == train(learner(w_mixup=0.0), 0, 1)["cross_entropy"]
    mixed = train(learner(w_mixup=1.0), 0, 1)
    assert mixed["loss"] > mixed["cross_entropy"]


def test_a_resumed_run_is_the_undisturbed_one(tmp_path):
    straight, stopped, resumed = learner(), learner(), learner()
    train(straight, 0, 4)
    train(stopped, 0, 2)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, 2, 4)
    images = task().labelled.images_NCHW
    assert resumed.predict(images)["supervised"].equal(straight.predict(images)["supervised"])


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
