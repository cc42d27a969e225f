"""A network whose last layer is fitted first predicts what logistic regression on its features predicts."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from search_spaces.core.errors import ConfigError
from search_spaces.supervised import SupervisedConfig
from trainables.components.probed_start import start_as_probe
from trainables.data.augment import to_unit
from trainables.nets.backbone import build_classifier, normalisation
from trainables.nets.fine_tuned import FineTunedNetwork
from trainables.testing.tasks import make_task


@pytest.mark.parametrize("classes", [2, 3])
def test_it_predicts_what_logistic_regression_does(classes):
    task = make_task(num_classes=classes)
    torch.manual_seed(0)
    network = build_classifier("test_resnet", channels=task.channels, num_classes=classes)
    tuned = FineTunedNetwork(network, SupervisedConfig(), *normalisation(network, "", task.channels))
    start_as_probe(tuned, task, side=16, c=0.1)
    tuned.eval()

    def features(images_NCHW):
        with torch.no_grad():
            return tuned.features(to_unit(images_NCHW, 16)).double().numpy()

    pool_MD, labelled_ND = features(task.unlabelled_NCHW), features(task.labelled.images_NCHW)
    mean_D, spread_D = pool_MD.mean(0), pool_MD.std(0)
    spread_D[spread_D == 0] = 1.0  # of features that no image has
    plain = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
    plain.fit((labelled_ND - mean_D) / spread_D, task.labelled.labels_N.numpy())
    with torch.no_grad():
        probs_BK = tuned(to_unit(task.validation.images_NCHW, 16)).softmax(1).numpy()
    expected_BK = plain.predict_proba((features(task.validation.images_NCHW) - mean_D) / spread_D)
    assert np.allclose(probs_BK, expected_BK, atol=1e-4)


def test_without_a_pool_it_goes_by_the_labelled_images():
    task = make_task(num_classes=3, num_unlabelled=0)
    network = build_classifier("test_resnet", channels=task.channels, num_classes=3)
    tuned = FineTunedNetwork(network, SupervisedConfig(), *normalisation(network, "", task.channels))
    start_as_probe(tuned, task, side=16, c=10.0)
    tuned.eval()
    with torch.no_grad():
        named_N = tuned(to_unit(task.labelled.images_NCHW, 16)).argmax(1)
    assert named_N.equal(task.labelled.labels_N)


def test_it_needs_a_linear_last_layer():
    task = make_task(num_classes=3)
    network = build_classifier("test_resnet", channels=task.channels, num_classes=3)
    network.fc = torch.nn.Linear(network.fc.in_features, 3, bias=False)
    tuned = FineTunedNetwork(network, SupervisedConfig(), *normalisation(network, "", task.channels))
    with pytest.raises(ConfigError, match="linear layer"):
        start_as_probe(tuned, task, side=16, c=0.1)
