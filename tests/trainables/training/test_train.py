import errno
import os
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from trainables.core.method import Method
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import DivergedError
from trainables.training.train import Budget, seed_everything, train


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    """Diverges in an epoch, if asked to."""

    bad_loss_at: int = 0
    bad_prediction_at: int = 0
    cycle: int = 0
    num_named: int = 1
    """Classes that it names."""


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
        logits = torch.linspace(0, float(self.walk), self.num_classes).repeat(len(images_BCHW), 1)
        logits[:: len(logits), : self.config.num_named - 1] += 100
        scale = float("nan") if self.epoch == self.config.bad_prediction_at else 1.0
        return {"toy": (logits * scale).softmax(1)}

    def state_dict(self):
        return {"epoch": self.epoch, "walk": self.walk}

    def load_state_dict(self, state):
        self.epoch, self.walk = state["epoch"], state["walk"]


class PseudoLearner(ToyLearner):
    """Names all unlabelled images 0 in the third epoch, all but one none in the second, and all none in the first."""

    def __init__(self, config, task):
        super().__init__(config, task)
        self.size = len(task.unlabelled_NCHW)

    def pseudo_labels(self):
        labels = {1: [-1] * self.size, 2: [2] + [-1] * (self.size - 1), 3: [0] * self.size}
        return torch.tensor(labels[self.epoch]) if self.epoch in labels else None


class ScheduledLearner(ToyLearner):
    """Its loss is the share of the budget that it was told."""

    def begin_epoch(self, seen, budget):
        self.share = seen / budget

    def epochs(self):
        for losses in super().epochs():
            yield losses | {"share": self.share}


def cycle_ends(config, epochs):
    return config.cycle > 0 and epochs % config.cycle == 0


def one_image(config, num_labelled, num_unlabelled, epochs):
    """Epochs of one image: budgets below count epochs."""
    return 1


TOY = Method(
    ToyConfig,
    ("classification",),
    lambda c, t, a: ToyLearner(c, t),
    ("toy",),
    epoch_images=one_image,
    cycle_ends=cycle_ends,
)
BUDGET = Budget(images=7, evaluate_every=3)


@pytest.fixture
def start(make_task):
    def begin(config=None, seed=0, checkpoints=None, budget=BUDGET, method=TOY, **options):
        accelerator = new_accelerator(precision="no", cpu=True)
        task = make_task()
        return train(
            method,
            config or ToyConfig(),
            task,
            budget,
            seed=seed,
            accelerator=accelerator,
            checkpoints=checkpoints,
            **options,
        )

    return begin


def strip(progress):
    return [(p.epoch, p.scores, p.budget_images, p.selected, p.collapse) for p in progress if p.scores]


@pytest.mark.parametrize(
    ("epochs", "every", "ends", "expected"),
    [
        (7, 3, [], {3: 3, 6: 6, 7: 7}),
        (6, 3, [], {3: 3, 6: 6}),
        (7, 3, range(1, 8), {3: 3, 6: 6, 7: 7}),
        (7, 3, [2, 4, 6], {2: 3, 6: 6, 7: 7}),
        (10, 5, [4, 8, 12], {4: 5, 8: 10}),
        (12, 4, [6, 11, 16], {4: 4, 6: 8, 11: 12}),  # after a warm-up of one epoch
        (9, 4, [1, 5, 9], {4: 4, 8: 8, 9: 9}),  # too early in their windows: too little would be trained
        (2, 5, [1], {1: 2}),
    ],
)
def test_an_evaluation_is_at_the_last_end_of_a_cycle_in_the_second_half_of_its_window(epochs, every, ends, expected):
    found = Budget(images=epochs, evaluate_every=every).evaluations(lambda epoch: 1, lambda epoch: epoch in ends)
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("images", "every", "sizes", "ends", "expected"),
    [
        (100, 30, [10], [], {3: 30, 6: 60, 9: 90, 10: 100}),
        (100, 50, [40, 10, 10], [], {2: 50, 4: 100}),  # 40, 50, 60, 100: no more than the budget
        (100, 50, [40, 15, 15], [], {1: 50, 3: 100}),  # 40, 55, 70, 110: the one before the budget is overdrawn
        (100, 20, [45, 5], [], {2: 60, 4: 100}),  # 45, 50, 95, 100: nothing ends in the first two windows
        (100, 20, [45, 50, 60], [], {1: 60, 2: 100}),
        (100, 20, [250], [], {1: 100}),  # at least one epoch
        (100, 50, [10], [3, 6, 9], {3: 50, 9: 100}),
        (100, 50, [10], [2, 7, 8], {5: 50, 8: 100}),  # 20 is too early: too little would be trained
    ],
)
def test_a_budget_counts_images(images, every, sizes, ends, expected):
    budget = Budget(images=images, evaluate_every=every)
    found = budget.evaluations(lambda epoch: sizes[epoch % len(sizes)], lambda epoch: epoch in ends)
    assert found == expected


def test_progress_counts_the_images_of_the_method(start, tmp_path):
    sizes = [4, 1, 3]
    method = replace(TOY, epoch_images=lambda config, labelled, unlabelled, epochs: sizes[epochs % 3])
    budget = Budget(images=14, evaluate_every=7)
    seen = [(p.epoch, p.images, p.budget_images) for p in start(method=method, budget=budget)]
    assert seen == [(1, 4, 0), (2, 5, 7), (3, 8, 0), (4, 12, 0), (5, 13, 14)]
    first = start(method=method, budget=budget, checkpoints=Checkpoints(tmp_path))
    assert [next(first).epoch for _ in range(3)] == [1, 2, 3]
    first.close()
    resumed = start(method=method, budget=budget, checkpoints=Checkpoints(tmp_path))
    assert [(p.epoch, p.images, p.budget_images) for p in resumed] == [seen[1], *seen[2:]]


def test_training_ends_with_the_last_cycle(start):
    progress = list(start(ToyConfig(cycle=4), budget=Budget(images=10, evaluate_every=5)))
    assert [p.epoch for p in progress] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [(p.epoch, p.budget_images) for p in progress if p.scores] == [(4, 5), (8, 10)]
    assert not any(p.budget_images or p.selected or p.collapse for p in progress if not p.scores)


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
    first = start(checkpoints=checkpoints, selection="mean3")
    for _ in range(killed_after):
        next(first)
    first.close()
    torch.rand(17)  # what the next process drew before
    second = list(start(checkpoints=checkpoints, selection="mean3"))
    trained = [(p.epoch, dict(p.losses)) for p in second if not p.replayed]
    assert trained == [step for step in undisturbed if step[0] > killed_after // 3 * 3 and killed_after != 7]
    assert strip(second) == strip(start(selection="mean3"))


def test_an_evaluation_brings_the_losses_of_every_epoch_since_the_one_before(start, tmp_path):
    every = [{"epoch": p.epoch, **p.losses} for p in start()]
    first = start(checkpoints=Checkpoints(tmp_path))
    for _ in range(4):
        next(first)
    first.close()
    for run in (start(), start(checkpoints=Checkpoints(tmp_path))):
        evaluations = [p for p in run if p.scores]
        assert [entry for p in evaluations for entry in p.log] == every
        assert all(p.log[-1]["epoch"] == p.epoch for p in evaluations)


def test_many_short_epochs_are_logged_a_few_at_a_time(start):
    (evaluation,) = (p for p in start(budget=Budget(images=40, evaluate_every=40)) if p.scores)
    losses = [p.losses["loss"] for p in start(budget=Budget(images=40, evaluate_every=40))]
    assert [entry["epoch"] for entry in evaluation.log] == [*range(3, 40, 3), 40]
    assert evaluation.log[0]["loss"] == pytest.approx(sum(losses[:3]) / 3)
    assert evaluation.log[-1]["loss"] == losses[-1]


def test_a_selection_averages_the_last_evaluations(start):
    evaluations = [p for p in start(selection="mean3", budget=Budget(images=8, evaluate_every=2)) if p.scores]
    losses = [p.scores["toy"].metric("log_loss") for p in evaluations]
    selected = [p.selected["toy"].metric("log_loss") for p in evaluations]
    assert selected[0] == losses[0]
    assert selected[1:] == pytest.approx([sum(losses[:2]) / 2, sum(losses[:3]) / 3, sum(losses[1:]) / 3])
    assert all(p.selected == p.scores for p in start())


def test_a_collapse_is_told_at_the_end_with_its_reason(start):
    told = [p.collapse for p in start() if p.scores]
    assert told == ["", "", "toy names class 2 for all 9 validation images"]
    assert not list(start(ToyConfig(num_named=2)))[-1].collapse
    assert not list(start(method=replace(TOY, names_one_class=True)))[-1].collapse


def test_pseudo_labels_are_compared_with_hidden_ones(start):
    method = replace(TOY, build=lambda c, t, a: PseudoLearner(c, t))
    hidden_labels_M = torch.tensor([2, 0, 0] + [1] * 21)
    losses = [dict(p.losses) for p in start(method=method, hidden_labels_M=hidden_labels_M)]
    assert [each.pop("pseudo_accuracy", None) for each in losses] == [None, 1.0, 2 / 24, None, None, None, None]
    assert losses == [dict(p.losses) for p in start(method=method)]
    assert all(p.losses.keys() == {"loss"} for p in start(hidden_labels_M=hidden_labels_M))


def test_only_the_main_process_saves(start, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    list(start(checkpoints=Checkpoints(tmp_path)))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    list(start(checkpoints=Checkpoints(tmp_path)))
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    assert all(p.replayed for p in start(checkpoints=Checkpoints(tmp_path)))


@pytest.mark.parametrize("close", [True, False])
def test_it_ends_when_what_was_saved_is_on_disk(start, tmp_path, monkeypatch, close):
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: time.sleep(0.2) or sync(file))
    training = start(checkpoints=Checkpoints(tmp_path), budget=Budget(images=3, evaluate_every=3))
    if close:
        assert [next(training).epoch for _ in range(3)] == [1, 2, 3]
        training.close()
    else:
        list(training)
    assert [path.name[:12] for path in tmp_path.iterdir()] == ["epoch-000003"]


def test_a_full_disk_is_told_but_hides_no_divergence(start, tmp_path, monkeypatch, caplog):
    def fail(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        list(start(checkpoints=Checkpoints(tmp_path), budget=Budget(images=3, evaluate_every=3)))
    with pytest.raises(DivergedError, match="in epoch 4"):
        list(start(ToyConfig(bad_loss_at=4), checkpoints=Checkpoints(tmp_path)))
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


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
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device gpu: there is none here"):
            new_accelerator(precision="no", cpu=False)
    new_accelerator(precision="no", cpu=True)


def test_each_run_gets_its_own_accumulation_and_compilation(monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    plain = new_accelerator(precision="no", cpu=True)
    assert (plain.gradient_accumulation_steps, plain.state.dynamo_plugin.backend) == (1, "NO")
    other = new_accelerator(precision="no", cpu=True, accumulate=3, compile=True)
    assert (other.gradient_accumulation_steps, other.state.dynamo_plugin.backend) == (3, "INDUCTOR")


def test_seeds_differ_by_epoch():
    seed_everything(0, 1)
    first = torch.rand(1)
    seed_everything(0, 2)
    assert not torch.equal(first, torch.rand(1))


def test_a_learner_hears_the_share_of_the_budget_that_is_behind_also_after_a_resume(start, tmp_path):
    method = replace(TOY, build=lambda c, t, a: ScheduledLearner(c, t), epoch_images=lambda *_: 2)

    def shares(**options):
        return [p.losses["share"] for p in start(method=method, budget=Budget(images=8, evaluate_every=2), **options)]

    assert shares() == [0.0, 0.25, 0.5, 0.75]
    run = start(method=method, budget=Budget(images=8, evaluate_every=2), checkpoints=Checkpoints(tmp_path))
    next(run), next(run)
    run.close()
    assert shares(checkpoints=Checkpoints(tmp_path)) == [0.0, 0.25, 0.5, 0.75]


class BiasedLearner(ToyLearner):
    """Says of every image what it says of the first unlabelled one, but of validation images a little else."""

    def __init__(self, config, task):
        super().__init__(config, task)
        self.held_out = task.validation.images_NCHW
        self.asked = []

    def predict(self, images_BCHW):
        self.asked.append(len(images_BCHW))
        probs = [0.5, 0.26, 0.24] if images_BCHW is self.held_out else [0.6, 0.3, 0.1]
        return {"toy": torch.tensor(probs).repeat(len(images_BCHW), 1)}


@pytest.mark.parametrize(
    ("decision", "named", "asked"),
    [("argmax", 0, [9, 9, 9, 24]), ("pool", 2, [9, 24, 9, 24, 9, 24])],  # 0.24 / 0.1 is the largest
)
def test_a_class_is_named_beside_what_is_said_of_unlabelled_images(start, decision, named, asked):
    learners = []
    method = replace(TOY, build=lambda c, t, a: learners.append(BiasedLearner(c, t)) or learners[0])
    evaluations = [p for p in start(method=method, decision=decision) if p.scores]
    assert evaluations[-1].collapse == f"toy names class {named} for all 9 validation images"
    assert learners[0].asked == asked, "unlabelled images are asked for where they are needed, and at the end"
    assert [sorted(p.pool_means) for p in evaluations] == [[], [], ["toy"]]
    assert evaluations[-1].pool_means["toy"] == pytest.approx([0.6, 0.3, 0.1])


def test_a_decision_by_the_pool_needs_one(make_task):
    task = replace(make_task(), unlabelled_NCHW=make_task().unlabelled_NCHW[:0])
    accelerator = new_accelerator(precision="no", cpu=True)
    with pytest.raises(ConfigError, match="decision pool needs unlabelled images, and synthetic has none left"):
        next(train(TOY, ToyConfig(), task, BUDGET, seed=0, accelerator=accelerator, decision="pool"))


def test_a_finished_run_says_again_what_it_says_of_unlabelled_images(start, tmp_path):
    method = replace(TOY, build=lambda c, t, a: BiasedLearner(c, t))
    first, again = (list(start(method=method, checkpoints=Checkpoints(tmp_path)))[-1] for _ in range(2))
    assert again.replayed
    assert again.pool_means["toy"].tolist() == first.pool_means["toy"].tolist()
    assert again.predictions["toy"].tolist() == first.predictions["toy"].tolist()


def test_r10_a_learner_gets_a_task_without_the_labels_of_its_validation_images(start, make_task):
    seen = []
    method = replace(TOY, build=lambda c, t, a: seen.append(t) or ToyLearner(c, t))
    run = start(method=method)
    next(run)
    run.close()
    (task,) = seen
    assert len(task.validation) == len(task.validation.images_NCHW) == len(make_task().validation)
    for secret in (task.validation.labels_N, task.validation.masks_IHW):
        for look in (lambda held: held.clone(), len):
            with pytest.raises(ConfigError, match="read labels of validation images"):
                look(secret)
