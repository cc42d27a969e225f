"""Demands on a method's predictions, and on how it takes tasks of awkward sizes."""

from dataclasses import replace

import pytest
import torch

from trainables.core.method import Labelled, SavesPrediction, Task, TaskForm
from trainables.testing.checks import Checks
from trainables.testing.small import lean
from trainables.testing.subject import weights


class PredictionChecks(Checks):
    """Tests of a method that predicts classes or masks of images."""

    @pytest.mark.parametrize(("channels", "num_classes"), [(1, 2), (3, 2), (3, 5)])
    def test_predicts_probabilities_without_changing_anything(self, channels: int, num_classes: int) -> None:
        """Predictions have the promised shape, sum to 1, and are the same again."""
        task = self.subject.task(channels=channels, num_classes=num_classes, shots=2, num_unlabelled=8)
        config = self.subject.config(**lean(num_classes))
        learner = self.subject.build(task, config)
        next(self.subject.advance(learner, 1, config, task))
        before = weights(learner)
        first, second = (learner.predict(task.validation.images_NCHW) for _ in range(2))
        assert tuple(first) == self.subject.method.predictors
        for predictor, probs in first.items():
            if task.validation.masks_IHW is not None:
                assert probs.shape == task.validation.masks_IHW.shape
                assert ((probs >= 0) & (probs <= 1)).all()
            else:
                assert probs.shape == (len(task.validation), num_classes)
                assert torch.allclose(probs.sum(1), torch.ones(len(probs)).to(probs), atol=1e-5)
            assert torch.equal(probs, second[predictor])
        assert torch.equal(before, weights(learner))

    def test_a_prediction_does_not_depend_on_its_company(self) -> None:
        """An image is predicted alone as it is among others."""
        learner = self.subject.build(self.lab.task)
        next(self.subject.advance(learner, 1, self.subject.config(), self.lab.task))
        images_NCHW = self.lab.task.validation.images_NCHW
        alone = [learner.predict(image_CHW[None]) for image_CHW in images_NCHW]
        for predictor, probs in learner.predict(images_NCHW).items():
            assert torch.allclose(probs, torch.cat([each[predictor] for each in alone]), atol=1e-5)

    def test_what_is_saved_predicts_the_same(self) -> None:
        """Tensors of its state, in what the method builds without data, predict what the learner does."""
        method, config, task = self.subject.method, self.subject.config(), self.lab.task
        if method.predictor is None:
            pytest.skip(f"of {self.subject.name} no model can be saved: it offers no predictor")
        learner = self.subject.build(task)
        next(self.subject.advance(learner, 1, config, task))
        assert isinstance(learner, SavesPrediction)
        state = {name: tensor.detach().clone().contiguous() for name, tensor in learner.prediction_state().items()}
        predictor = method.predictor(config, TaskForm.of(task))
        predictor.load_state_dict(state)
        images_NCHW = task.validation.images_NCHW
        saved = predictor.predict(images_NCHW)
        assert tuple(saved) == method.predictors
        for name, probs in learner.predict(images_NCHW).items():
            assert torch.allclose(saved[name].double(), probs.double(), rtol=0, atol=1e-6), name
        with pytest.raises((KeyError, RuntimeError)):
            predictor.load_state_dict(dict(list(state.items())[1:]))

    def test_it_is_judged_by_the_mean_of_evaluations(self) -> None:
        """Of the last three evaluations, where a run is so selected."""
        main = self.subject.method.predictors[0]
        metric = "log_loss" if self.subject.method.kind == "classification" else "mdice_2"
        last = [each.scores[main].metric(metric) or 0.0 for each in self.lab.straight[-3:]]
        assert self.lab.straight[-1].selected[main].metric(metric) == pytest.approx(sum(last) / 3)

    @pytest.mark.parametrize(
        ("shots", "num_unlabelled"), [(1, 0), (1, 1), (1, 2), (3, 5), (7, 9)], ids=lambda value: str(value)
    )
    def test_awkward_sizes(self, shots: int, num_unlabelled: int) -> None:
        """Labelled sets below a batch, none or hardly any unlabelled images, batches that do not divide them.

        Where there are most of one class, there are two of the other.
        """
        task = _skewed(self.subject.task(shots=shots, num_unlabelled=num_unlabelled, num_classes=2), 2)
        assert list(self.subject.start(task, self.subject.config(**lean())))[-1].scores


def _skewed(task: Task, most: int) -> Task:
    """Return a task with at most so many labelled images of class 1; one of masks as it is."""
    few, kept = task.labelled, task.labelled.labels_N != 1
    if few.masks_IHW is not None:
        return task
    kept[(few.labels_N == 1).nonzero()[:most, 0]] = True
    return replace(task, labelled=Labelled(few.images_NCHW[kept], few.labels_N[kept]))


class GeneratorChecks(Checks):
    """Tests of a method that is judged by a `scorer` of its own, at its end."""

    def test_it_is_evaluated_once_at_its_end(self) -> None:
        """Before the last epoch there is nothing to judge."""
        task = self.lab.task
        assert len(self.lab.straight) == self.subject.num_epochs(self.subject.config(), task)
        assert [bool(each.scores) for each in self.lab.straight] == [False] * (len(self.lab.straight) - 1) + [True]
        assert set(self.lab.straight[-1].scores) == set(self.subject.method.predictors)

    def test_what_it_makes_is_the_same_again(self) -> None:
        """To ask for images draws no random numbers and changes nothing."""
        task = self.lab.task
        config = self.subject.config(**lean())
        learner = self.subject.build(task, config)
        for _ in self.subject.advance(learner, self.subject.num_epochs(config, task), config, task):
            pass
        before = weights(learner)
        first, second = (learner.predict(task.validation.images_NCHW) for _ in range(2))
        assert tuple(first) == self.subject.method.predictors
        assert all(torch.equal(made, second[predictor]) for predictor, made in first.items())
        assert torch.equal(before, weights(learner))

    @pytest.mark.parametrize(("channels", "num_classes"), [(1, 2), (3, 3)])
    def test_it_trains_for_any_number_of_channels_and_classes(self, channels: int, num_classes: int) -> None:
        """Grey and colour, two classes and more."""
        task = self.subject.task(channels=channels, num_classes=num_classes, shots=2, num_unlabelled=8)
        assert list(self.subject.start(task, self.subject.config(**lean(num_classes))))[-1].scores

    @pytest.mark.parametrize(("shots", "num_unlabelled"), [(2, 0), (5, 9)])
    def test_awkward_sizes(self, shots: int, num_unlabelled: int) -> None:
        """Few images, batches that do not divide them, no unlabelled ones, images of another size."""
        task = self.subject.task(shots=shots, num_unlabelled=num_unlabelled, num_classes=2, side=28)
        assert list(self.subject.start(task, self.subject.config(**lean())))[-1].scores
