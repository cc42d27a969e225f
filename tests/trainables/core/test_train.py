from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.checkpoint import Checkpoints
from trainables.core.method import Method
from trainables.core.train import Budget, DivergedError, new_accelerator, seed_everything, train


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    """Diverges in an epoch, if asked to."""

    bad_loss_at: int = 0
    bad_prediction_at: int = 0


class ToyLearner:
    """A random walk: its state shows which random numbers it drew."""

    def __init__(self, config, task):
        self.config, self.num_classes = config, task.num_classes
        self.epoch, self.walk = 0, torch.rand(1)

    def epochs(self):
        while True:
            self.epoch += 1
            self.walk = self.walk + torch.rand(1)
            yield {"loss": float("nan") if self.epoch == self.config.bad_loss_at else float(self.walk)}

    def predict(self, images_BCHW):
        logits = torch.linspace(0, float(self.walk), self.num_classes).expand(len(images_BCHW), -1)
        scale = float("nan") if self.epoch == self.config.bad_prediction_at else 1.0
        return {"toy": (logits * scale).softmax(1)}

    def state_dict(self):
        return {"epoch": self.epoch, "walk": self.walk}

    def load_state_dict(self, state):
        self.epoch, self.walk = state["epoch"], state["walk"]


TOY = Method(ToyConfig, ("classification",), lambda c, t, a: ToyLearner(c, t), ("toy",))
BUDGET = Budget(epochs=7, evaluate_every=3)


@pytest.fixture
def start(make_task):
    def begin(config=None, seed=0, checkpoints=None, budget=BUDGET):
        accelerator = new_accelerator(precision="no", cpu=True)
        task = make_task()
        return train(
            TOY,
            config or ToyConfig(),
            task,
            budget,
            seed=seed,
            accelerator=accelerator,
            checkpoints=checkpoints,
        )

    return begin


def strip(progress):
    return [(p.epoch, p.scores) for p in progress if p.scores]


def test_evaluates_when_due_and_at_the_end(start):
    progress = list(start())
    assert [p.epoch for p in progress] == [1, 2, 3, 4, 5, 6, 7]
    assert [p.epoch for p in progress if p.scores] == [3, 6, 7]
    assert progress[-1].scores["toy"].num_images == 9
    assert all(a.train_seconds <= b.train_seconds for a, b in pairwise(progress))


def test_the_seed_decides(start):
    assert strip(start(seed=1)) == strip(start(seed=1))
    assert strip(start(seed=1)) != strip(start(seed=2))


@pytest.mark.parametrize("killed_after", [1, 3, 4, 6, 7])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(start, tmp_path, killed_after):
    undisturbed = [(p.epoch, dict(p.losses)) for p in start()]
    checkpoints = Checkpoints(tmp_path)
    first = start(checkpoints=checkpoints)
    for _ in range(killed_after):
        next(first)
    first.close()
    torch.rand(17)  # what the next process drew before
    second = list(start(checkpoints=checkpoints))
    trained = [(p.epoch, dict(p.losses)) for p in second if not p.replayed]
    assert trained == [step for step in undisturbed if step[0] > killed_after // 3 * 3 and killed_after != 7]
    assert strip(second) == strip(start())


def test_a_finished_run_trains_nothing(start, tmp_path):
    list(start(checkpoints=Checkpoints(tmp_path)))
    again = list(start(checkpoints=Checkpoints(tmp_path)))
    assert all(p.replayed for p in again)
    assert again[-1].epoch == 7


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ToyConfig(bad_loss_at=2), "'loss' became nan in epoch 2"),
        (ToyConfig(bad_prediction_at=3), "not finite after epoch 3"),
    ],
)
def test_divergence_is_an_outcome_with_a_reason(start, config, words):
    with pytest.raises(DivergedError, match=words):
        list(start(config))


def test_a_method_is_not_asked_for_what_it_does_not_do(make_task):
    task = replace(make_task(), kind="segmentation")
    with pytest.raises(ConfigError, match="does classification, but synthetic is segmentation"):
        next(train(TOY, ToyConfig(), task, BUDGET, seed=0, accelerator=new_accelerator(precision="no", cpu=True)))


def test_each_run_gets_its_own_precision():
    assert new_accelerator(precision="bf16", cpu=True).mixed_precision == "bf16"
    assert new_accelerator(precision="no", cpu=True).mixed_precision == "no"
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        new_accelerator(precision="fp16", cpu=True)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device gpu: there is none here"):
            new_accelerator(precision="no", cpu=False)
    new_accelerator(precision="no", cpu=True)


def test_seeds_differ_by_epoch():
    seed_everything(0, 1)
    first = torch.rand(1)
    seed_everything(0, 2)
    assert not torch.equal(first, torch.rand(1))
