"""Every declared condition is true: where it fails, the field changes nothing, bit for bit.

That each field changes something where its conditions hold is `test_no_dead_knob`, in `trainables.testing.checks`.
"""

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch

from search_spaces.core.config import write_config
from search_spaces.core.ranges import conditions_of, inactive_fields, space_of
from trainables.components import segmentation_model as mask_trainee
from trainables.core.method import find_method, method_names
from trainables.nets.trans_unet import TransUNet
from trainables.testing.knobs import other_values
from trainables.testing.subject import Subject, weights

from .nets.test_trans_unet import tiny_hybrid


def conditions_above(name, field):
    """The field's own conditions and those of its parents: each is enough to make it inactive."""
    conditions = conditions_of(find_method(name).config)
    own = conditions.get(field, ())
    return [*own, *(when for parent in own for when in conditions_above(name, parent.name))]


def cases():
    return [
        (name, field, when)
        for name in method_names()
        for field in space_of(find_method(name).config)
        for when in dict.fromkeys(conditions_above(name, field))
    ]


def failing(config, when):
    """The configuration with a value at which the condition fails."""
    options = get_args(get_type_hints(type(config))[when.name]) or (False, True)
    candidates = options if when.above is None else (type(getattr(config, when.name))(when.above),)
    return replace(config, **{when.name: next(value for value in candidates if not when.holds(value))})


@pytest.fixture(autouse=True)
def _with_a_tiny_transformer(monkeypatch):
    """TransUNet on a small encoder: timm has none, and the published one has a hundred million weights."""

    def build_tiny(encoder, *, image_size, channels, num_classes, dropout, **options):
        return TransUNet(tiny_hybrid(image_size, channels), num_classes=num_classes, dropout=dropout)

    monkeypatch.setattr(mask_trainee, "build_trans_unet", build_tiny)


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.mark.parametrize(("name", "field", "when"), cases(), ids=str)
def test_a_field_has_no_effect_where_its_condition_fails(name, field, when, known):
    config = failing(Subject(name).config(), when)
    assert field in inactive_fields(type(config), write_config(config))
    if (name, when) not in known:
        known[name, when] = trained(Subject(name), config)
    losses, *tensors = known[name, when]
    changed = replace(config, **{field: other_values(config, field)[-1]})
    other_losses, *others = trained(Subject(name), changed)
    assert losses == other_losses
    assert all(map(torch.equal, tensors, others))


def trained(subject, config):
    """Losses, state and predictions after two epochs, of generators at their end."""
    task = subject.task(num_unlabelled=16)
    learner = subject.build(task, config)
    epochs = iter(learner.epochs())
    losses = [dict(next(epochs)) for _ in range(subject.num_epochs(config, task) if subject.method.scorer else 2)]
    return losses, weights(learner), *learner.predict(task.validation.images_NCHW).values()
