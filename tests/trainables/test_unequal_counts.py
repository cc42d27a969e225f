"""Methods that balance classes find a class of two labels among many of others."""

from dataclasses import replace

import pytest
import torch

from trainables.core.method import Labelled
from trainables.testing.subject import Subject
from trainables.testing.tasks import make_task

COUNTS = (2, 7, 20)


def unequal_task():
    """Twenty-nine labelled noisy images of three brightnesses, nearly too alike to tell, and no unlabelled one."""
    task = make_task(shots=COUNTS[-1], num_unlabelled=0, num_classes=len(COUNTS), side=8)
    labels_N = task.labelled.labels_N
    kept = torch.cat([(labels_N == label).nonzero()[:count, 0] for label, count in enumerate(COUNTS)])
    return replace(task, labelled=Labelled(task.labelled.images_NCHW[kept], labels_N[kept]))


@pytest.mark.parametrize("name", ["pixels", "supervised"])
def test_a_class_of_two_labels_is_found(name):
    subject = Subject(name)
    config = subject.config(image_size=8, batch_size=16, steps_per_epoch=10, lr=1e-3, average=0.0, c=1e-3)
    *_, last = subject.start(unequal_task(), config, epochs=4)
    assert last.scores[name].metric("balanced_accuracy") > 0.65
