"""What a budget counts is what a learner takes from its images."""

from dataclasses import replace

import pytest

from trainables.testing.subject import Subject


class Counting:
    """Images on the device that count how many of them are used."""

    def __init__(self, images, counted):
        self.images, self.counted = images, counted

    def to(self, device):
        return self

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index_B):
        self.counted.append(len(index_B))
        return self.images[index_B]


@pytest.mark.parametrize("name", ["sparse", "supervised", "resnet", "segmenter"])
@pytest.mark.parametrize(("num_unlabelled", "mu"), [(24, 2), (24, 0), (1, 1)])
def test_an_epoch_sees_as_many_images_as_a_budget_counts(name, num_unlabelled, mu):
    subject, counted = Subject(name), []
    task, config = subject.task(num_unlabelled=num_unlabelled), subject.config(mu=mu, unsup_fraction=0.5)
    labelled = replace(task.labelled, images_NCHW=Counting(task.labelled.images_NCHW, counted))
    counting = replace(task, labelled=labelled, unlabelled_NCHW=Counting(task.unlabelled_NCHW, counted))
    epochs = iter(subject.build(counting, config).epochs())
    for epoch in range(3):
        counted.clear()
        next(epochs)
        sizes = len(task.labelled), num_unlabelled
        assert sum(counted) == subject.method.epoch_images(config, *sizes, epoch)
