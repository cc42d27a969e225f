"""What a learner must not see is refused to it, and to nobody else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.method import Method
from trainables.data import tasks
from trainables.data.source import open_source
from trainables.data.tasks import few_shot_task, hidden_labels
from trainables.training.accelerator import new_accelerator
from trainables.training.train import Budget, train

TESTS = "a method read the test set: only `evaluate` may, once its networks are trained"
HIDDEN = "a method read labels of unlabelled images: they are for diagnosis only"
LOOKS = {
    "test_set": (lambda: tasks.test_set("digits"), TESTS),
    "images": (lambda: open_source("digits").images("test"), TESTS),
    "labels": (lambda: open_source("digits").labels("test"), TESTS),
    "class_counts": (lambda: open_source("digits").class_counts("test"), TESTS),
    "masks": (lambda: open_source("digits").masks("test", np.arange(1)), TESTS),
    "hidden_labels": (lambda: hidden_labels("digits", 1, 0), HIDDEN),
}


class Cheat:
    """Looks, in one of its functions, at what it must not see; else its loss is 1."""

    def __init__(self, task, where, look):
        self.num_classes, self.where, self.look = task.num_classes, where, look
        self.pause("build")

    def pause(self, where):
        if where == self.where:
            self.look()

    def begin_epoch(self, seen, budget):
        self.pause("begin_epoch")

    def epochs(self):
        while True:
            self.pause("epochs")
            yield {"loss": 1.0}

    def predict(self, images_BCHW):
        self.pause("predict")
        return {"cheat": torch.eye(self.num_classes)[torch.arange(len(images_BCHW)) % self.num_classes]}

    def artefacts(self):
        self.pause("artefacts")
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Lister(Cheat):
    """Does its work when it is asked for epochs, not when these are taken."""

    def epochs(self):
        self.pause("epochs")
        return iter([{"loss": 1.0}])


def run(task, where, look=lambda: tasks.test_set("digits"), learner=Cheat):
    """Train for an epoch of one image."""
    method = Method(MethodConfig, ("classification",), lambda c, t, a: learner(t, where, look), ("cheat",))
    method = replace(method, epoch_images=lambda *_: 1)
    accelerator = new_accelerator(precision="no", cpu=True)
    return list(train(method, MethodConfig(), task, Budget(1, 1), seed=0, accelerator=accelerator))


@pytest.fixture(scope="module")
def task():
    return few_shot_task("digits", 1, 0)


@pytest.mark.parametrize("where", ["build", "begin_epoch", "epochs", "predict", "artefacts"])
def test_r10_a_learner_gets_no_test_set_wherever_it_asks(task, where):
    with pytest.raises(ConfigError) as caught:
        run(task, where)
    assert str(caught.value) == TESTS
    assert len(tasks.test_set("digits")) > 0, "others get it, also after a learner was refused"


def test_a_learner_that_makes_its_epochs_at_once_gets_none_either(task):
    with pytest.raises(ConfigError, match="read the test set"):
        run(task, "epochs", learner=Lister)


@pytest.mark.parametrize("look", LOOKS)
def test_no_way_of_the_data_leads_a_learner_to_what_is_hidden(task, look):
    ask, told = LOOKS[look]
    ask()
    with pytest.raises(ConfigError) as caught:
        run(task, "epochs", ask)
    assert str(caught.value) == told


def test_what_runs_beside_a_learner_may_look_between_its_epochs(task):
    assert len(run(task, "never")) == 1
    method = Method(MethodConfig, ("classification",), lambda c, t, a: Cheat(t, "", None), ("cheat",))
    accelerator = new_accelerator(precision="no", cpu=True)
    progress = train(
        replace(method, epoch_images=lambda *_: 1), MethodConfig(), task, Budget(2, 1), seed=0, accelerator=accelerator
    )
    for _ in progress:
        assert len(tasks.test_set("digits")) > 0


def test_pictures_that_a_learner_may_see_are_not_refused(task):
    shapes = []
    run(task, "epochs", lambda: shapes.append(open_source("digits").images("train").shape))
    assert shapes
