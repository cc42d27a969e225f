"""Every head of the table, on what is awkward."""

import io

import pytest
import torch

from tests.trainables.heads.features import clusters, new_images
from trainables.heads import HEADS
from trainables.heads.head import MAX_POOL, Features

each_head = pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)


def constant(labelled, pool):
    return Features(torch.ones(4, 3) * labelled, torch.tensor([0, 0, 1, 2]), torch.ones(5, 3) * pool, 3)


AWKWARD = {
    "one label in a class": clusters((1, 6, 2)),
    "no pool": clusters(pool=0),
    "a class without labels": clusters((3, 0, 2)),
    "one image": clusters((0, 1), pool=4),
    "one image and no pool": clusters((0, 1, 0), pool=0),
    "one unlabelled image": clusters(pool=1),
    "one feature": clusters(size=1),
    "all alike": constant(2.0, 2.0),
    "all zero": constant(0.0, 0.0),
    "all twice": Features(
        *(torch.cat([each] * 2) for each in (clusters().labelled_ND, clusters().labels_N)),
        torch.cat([clusters().labelled_ND] * 3),
        3,
    ),
    "half precision of what a network gives": Features(
        clusters().labelled_ND.float(), clusters().labels_N, clusters().pool_UD.float(), 3
    ),
}


@each_head
@pytest.mark.parametrize("features", AWKWARD.values(), ids=AWKWARD)
def test_probabilities_are_such_and_a_class_without_labels_has_none(kind, features):
    rows = torch.cat([new_images(features), torch.zeros_like(new_images(features, 1)), features.labelled_ND])
    probs = kind.fit(features).probabilities(rows)
    assert probs.shape == (len(rows), features.num_classes)
    assert probs.dtype == torch.float64
    assert probs.isfinite().all()
    torch.testing.assert_close(probs.sum(1), torch.ones(len(rows), dtype=torch.float64))
    assert (probs >= 0).all()
    assert (probs[:, ~features.known_K()] < 1e-12).all()


@each_head
def test_clear_clusters_are_told_apart(kind):
    features = clusters(spread=0.1)
    truth = torch.arange(len(features.pool_UD)) % 3
    assert (kind.fit(features).probabilities(features.pool_UD).argmax(1) == truth).all()


@each_head
def test_what_is_kept_predicts_the_same(kind):
    features = clusters()
    head, file = kind.fit(features), io.BytesIO()
    torch.save(head.weights, file)
    file.seek(0)
    kept = kind.of(torch.load(file, weights_only=True))
    rows = new_images(features)
    assert torch.equal(kept.probabilities(rows), head.probabilities(rows))
    assert not torch.equal(kept.probabilities(rows), kind.fit(clusters(seed=3)).probabilities(rows))


@each_head
def test_no_image_has_no_probabilities(kind):
    assert kind.fit(clusters()).probabilities(torch.zeros(0, 6)).shape == (0, 3)


@each_head
def test_nothing_is_drawn_and_nothing_is_written_into_the_features(kind):
    features, rows = clusters(), new_images(clusters())
    before, state = features.labelled_ND.clone(), torch.get_rng_state()
    first = kind.fit(features).probabilities(rows)
    assert torch.equal(kind.fit(features).probabilities(rows), first)
    assert torch.equal(features.labelled_ND, before)
    assert torch.equal(torch.get_rng_state(), state)


@each_head
def test_of_a_large_pool_some_thousands_are_looked_at(kind):
    looked_at = torch.linspace(0, 99_999, MAX_POOL, dtype=torch.float64).round().long()
    pool = torch.full((100_000, 2), torch.nan).index_copy_(0, looked_at, torch.randn(MAX_POOL, 2))
    head = kind.fit(Features(clusters(size=2).labelled_ND, clusters().labels_N, pool, 3))
    assert all(not tensor.isnan().any() for tensor in head.weights.values())


def test_names_and_settings():
    assert {name: kind.settings for name, kind in HEADS.items()} == {
        "logistic": ("c",),
        "prototype": ("temperature",),
        "knn": ("k", "temperature"),
        "label_propagation": ("k", "alpha", "gamma", "local"),
        "transductive": ("temperature", "share", "rounds"),
        "discriminant": ("shrinkage", "pooled"),
    }


CHANGED = {"c": 9.0, "temperature": 0.7, "k": 2, "alpha": 0.5, "gamma": 4.0, "local": False, "share": 0.8}
CHANGED |= {"rounds": 1, "shrinkage": 0.05, "pooled": True}


@pytest.mark.parametrize(("name", "setting"), [(name, each) for name, kind in HEADS.items() for each in kind.settings])
def test_every_setting_matters(name, setting):
    features, kind = clusters(), HEADS[name]
    rows = new_images(features)
    value = not kind.defaults[setting] if isinstance(kind.defaults[setting], bool) else CHANGED[setting]
    changed = kind.fit(features, **{setting: value}).probabilities(rows)
    assert (changed - kind.fit(features).probabilities(rows)).abs().max() > 1e-4
