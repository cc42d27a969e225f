"""SSGNet: generators that trials share, what they make, and a classifier of real and made images."""

import ast
import inspect
import json
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from types import ModuleType

import pytest
import torch
from PIL import Image

from search_spaces.core.errors import ConfigError
from search_spaces.ssgnet import SsgnetConfig
from trainables import ssgnet
from trainables.core.method import find_method
from trainables.data.augment import to_unit
from trainables.stylegan import generator_stages
from trainables.stylegan.gan_training import GeneratorTraining
from trainables.stylegan.generator_config import GeneratorConfig
from trainables.stylegan.generator_stages import GeneratorPlan, cropped, to_bytes, to_generator
from trainables.training.accelerator import new_accelerator
from trainables.training.checkpoint import Checkpoints
from trainables.training.stage_cache import StageEntry
from trainables.training.train import Budget, train

SMALL = {
    "image_size": 16, "generator_images": 6 * 8, "generator_batch": 8, "generator_width": 8,
    "generator_channel_base": 64, "z_dim": 16, "steps_per_epoch": 1, "classifier": "test_resnet", "batch_size": 16,
    "lr": 1e-3, "score_images": 1, "extra_ratio": 2.0,
}  # fmt: skip
STAGES = 6
"""Epochs of generators: two of each of three."""


def config_of(**changes):
    return SsgnetConfig(**{**SMALL, **changes})


def run(task, epochs=STAGES + 3, seed=0, checkpoints=None, **changes):
    config = config_of(**changes)
    images = sum(find_method("ssgnet").epoch_images(config, 0, 0, epoch) for epoch in range(epochs))
    accelerator = new_accelerator(precision="no", cpu=True)
    return train(find_method("ssgnet"), config, task, Budget(images, 1), seed=seed, accelerator=accelerator,
                 checkpoints=checkpoints)  # fmt: skip


def curve(progress):
    return [(dict(each.losses), each.scores, each.images) for each in progress]


def build(task, seed=0, **changes):
    torch.manual_seed(seed)
    return ssgnet.build(config_of(**changes), task, new_accelerator(precision="no", cpu=True))


def advance(learner, epochs):
    iterator = iter(learner.epochs())
    losses = []
    for _ in range(epochs):
        torch.manual_seed(learner._epoch)
        losses.append(next(iterator))
    return losses


def entries(cache, kind):
    return sorted(path.name for path in (cache / "stages").glob(f"{kind}-*") if path.is_dir())


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of generators."""
    counted, step = Counter(), GeneratorTraining.step

    def counting(self, real_BCHW):
        counted["steps"] += 1
        return step(self, real_BCHW)

    monkeypatch.setattr(GeneratorTraining, "step", counting)
    return counted


# Sharing


def test_trials_that_differ_downstream_share_generators(make_task, cache, steps, caplog):
    task = make_task()
    first = curve(run(task))
    made = entries(cache, "generator")
    assert (len(made), steps["steps"]) == (3, STAGES)
    with caplog.at_level(logging.INFO):
        other = curve(run(task, extra_ratio=5.0, lr=1e-2, synthetic_weight=0.5))
    assert (entries(cache, "generator"), steps["steps"]) == (made, STAGES)
    assert first[:STAGES] == other[:STAGES]
    assert first[STAGES:] != other[STAGES:]
    for label in range(3):
        assert f"generator {label}: found in the cache" in caplog.text


@pytest.mark.parametrize("change", [{"r1_weight": 2.0}, {"truncation": 0.7}, {"seed": 1}], ids=str)
def test_what_changes_a_generator_or_its_bank_makes_another(change, make_task, cache):
    task = make_task()
    list(run(task))
    before = entries(cache, "generator"), entries(cache, "bank")
    list(run(task, **change))
    generators, banks = entries(cache, "generator"), entries(cache, "bank")
    assert len(banks) == 2 * len(before[1])
    assert len(generators) == (len(before[0]) if "truncation" in change else 2 * len(before[0]))


def test_other_labelled_images_make_other_generators(make_task, cache):
    list(run(make_task(), epochs=STAGES))
    list(run(make_task(shots=4), epochs=STAGES))
    assert len(entries(cache, "generator")) == 6


def test_other_code_makes_other_generators(make_task, monkeypatch):
    keys = []
    for code in ("old", "new"):
        monkeypatch.setattr(generator_stages, "_code", lambda code=code: code)
        keys.append(build(make_task())._generators._stages()[0].entry.key)
    assert keys[0] != keys[1]


def test_the_code_of_all_that_takes_part_counts():
    """What a generator's training imports is in its key, but for what only carries it out or is hashed otherwise."""
    told = {part.__name__ for part in generator_stages._CODE if isinstance(part, ModuleType)} | {
        generator_stages.__name__
    }
    apart = {
        "trainables.training.stages",
        "trainables.training.stage_cache",
        "trainables.training.train",
        "trainables.nets.backbone",
        "trainables.core.accelerator",
    }
    for name in told:
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[name]))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("trainables"):
                modules = {node.module} | {f"{node.module}.{each.name}" for each in node.names}
                used = {module for module in modules if isinstance(sys.modules.get(module), ModuleType)}
                files = {module for module in used if not hasattr(sys.modules[module], "__path__")}
                assert files <= told | apart, name


def test_found_or_made_the_curve_is_the_same(make_task, steps):
    task = make_task()
    made, found = curve(run(task)), curve(run(task))
    assert made == found
    assert steps["steps"] == STAGES


def test_a_damaged_generator_and_a_damaged_bank_are_made_again(make_task, cache, caplog):
    task = make_task()
    made = curve(run(task))
    for path in (cache / "stages").glob("*/made-*.pt"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert curve(run(task)) == made
    assert caplog.text.count("set aside damaged") == 6


def test_a_trial_that_waits_for_one_generator_makes_the_others(make_task, steps, cache):
    task = make_task()
    first = run(task)
    next(first)  # and holds the first generator
    second = run(task, lr=1e-2)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(lambda: curve(second))
        deadline = time.monotonic() + 60
        while len(list((cache / "stages").glob("generator-*/made-*.pt"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        first.close()
        told = rest.result(timeout=60)
    assert steps["steps"] == STAGES
    assert told == curve(run(task, lr=1e-2))
    assert steps["steps"] == STAGES


# Going on


@pytest.mark.parametrize("cache_survives", [True, False])
@pytest.mark.parametrize("done", [1, 3, STAGES, STAGES + 1])
def test_interrupted_in_any_stage_it_goes_on(done, cache_survives, make_task, tmp_path, monkeypatch):
    task = make_task()
    straight = curve(run(task, epochs=STAGES + 2))
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "first"))
    interrupted = run(task, epochs=STAGES + 2, checkpoints=Checkpoints(tmp_path / "run"))
    for _ in range(done):
        next(interrupted)
    interrupted.close()
    if not cache_survives:
        monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "second"))
    resumed = list(run(task, epochs=STAGES + 2, checkpoints=Checkpoints(tmp_path / "run")))
    assert [each.replayed for each in resumed] == [epoch < done for epoch in range(STAGES + 2)]
    assert curve(resumed) == straight


def test_another_trial_takes_over_an_unfinished_generator(make_task, steps):
    task = make_task()
    interrupted = run(task)
    next(interrupted)
    interrupted.close()
    list(run(task, lr=1e-2))
    assert steps["steps"] == STAGES


# What is learned


def test_the_classifier_sees_every_class_as_often_as_the_arithmetic_says(make_task):
    task = make_task(shots=4)
    learner = build(task)
    advance(learner, STAGES + 1)
    images_MCHW, labels_M = learner._synthetic
    assert labels_M.bincount().tolist() == [8, 8, 8]
    assert images_MCHW.shape == (24, 1, 16, 16)
    assert images_MCHW.dtype == torch.uint8


def imbalanced(make_task, counts=(1, 3, 2)):
    task = make_task(shots=3)
    chosen = torch.cat([torch.arange(3 * label, 3 * label + count) for label, count in enumerate(counts)])
    few = task.labelled
    return replace(task, labelled=replace(few, images_NCHW=few.images_NCHW[chosen], labels_N=few.labels_N[chosen]))


def test_balance_only_fills_up(make_task):
    learner = build(imbalanced(make_task), extra_ratio=0.0)
    assert learner._wanted_K == [2, 0, 1]
    advance(learner, STAGES + 1)
    assert learner._synthetic[1].tolist() == [0, 0, 2]


def test_a_class_without_images_gets_none(make_task, cache):
    learner = build(imbalanced(make_task, (0, 3, 2)))
    assert learner._wanted_K == [0, 6, 7]
    advance(learner, STAGES + 1)
    assert len(entries(cache, "generator")) == 2


def test_the_control_trains_no_generator(make_task, cache):
    losses = advance(build(make_task(), synthetic=False), 2)
    assert not (cache / "stages").exists()
    assert all(set(each) == {"loss", "real"} for each in losses)


def test_batches_keep_the_share_of_synthetic_images(make_task):
    learner = build(make_task(), extra_ratio=2.0)  # 18 beside 9
    drawn = [learner._num_synthetic_until(step + 1) - learner._num_synthetic_until(step) for step in range(300)]
    assert set(drawn) == {10, 11}
    assert sum(drawn) == int(300 * 16 * 2 / 3)
    assert build(make_task(), max_synthetic=0.25)._num_synthetic_until(10) == 40


def test_a_batch_may_be_of_synthetic_images_alone(make_task):
    learner = build(make_task(), extra_ratio=50.0)  # 450 beside 9
    assert {learner._num_synthetic_until(step + 1) - learner._num_synthetic_until(step) for step in range(9)} == {
        15,
        16,
    }
    losses = advance(learner, STAGES + 4)[STAGES:]
    assert ["real" in each for each in losses] == [True, False, False, True]
    assert all(torch.tensor(each["loss"]).isfinite() for each in losses)


def test_the_loss_weighs_synthetic_images(make_task):
    full, half = (advance(build(make_task(), synthetic_weight=w), STAGES + 1)[-1] for w in (1.0, 0.5))
    assert full["real"] == half["real"]
    count = int(16 * 2 / 3)
    expected = (0.5 * count * half["synthetic"] + (16 - count) * half["real"]) / 16
    assert half["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_frozen_backbone_keeps_all_but_the_last_layer(make_task):
    learner = build(make_task(), freeze="backbone", synthetic=False)
    before = {name: tensor.clone() for name, tensor in learner._classifier.module.state_dict().items()}
    advance(learner, 2)
    after = learner._classifier.module.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}


def test_generators_start_at_the_common_one(make_task, cache, caplog):
    task = make_task()
    changes = {"generator_init": "unlabelled_pretrain", "pretrain_images": 2 * 8}
    losses = curve(run(task, epochs=2 + STAGES + 1, **changes))
    assert len(entries(cache, "generator")) == 4
    with caplog.at_level(logging.INFO):
        assert curve(run(task, epochs=2 + STAGES + 1, **changes)) == losses
    assert "generator pool: found in the cache" in caplog.text
    other = curve(run(task, epochs=2 + STAGES + 1, **changes, freeze_critic=2))
    assert other[:2] == losses[:2]
    assert other[2:] != losses[2:]


# To look at


def test_a_run_ends_with_a_sheet_of_each_class(make_task):
    progress = list(run(make_task(channels=3), score_images=16))
    assert not any(each.artefacts for each in progress[:-1])
    files = dict(progress[-1].artefacts)
    stages = json.loads(files.pop("stages.json"))
    assert sorted(files) == ["class-0.png", "class-1.png", "class-2.png"]
    for content in files.values():
        with Image.open(BytesIO(content)) as sheet:
            assert sheet.size == (8 * 16, 2 * 16)  # 3 real ones, 6 synthetic ones
            assert sheet.mode == "RGB"
            assert max(sheet.crop((3 * 16, 0, 8 * 16, 16)).convert("L").getextrema()) == 0
    assert list(stages) == ["generator 0", "generator 1", "generator 2"]
    for stage in stages.values():
        assert [len(stage[name]) for name in ("kid", "fid", "nearness")] == [2, 1, 1]
        assert len(stage["features"]) == 16
    assert {stage["origin"] for stage in stages.values()} == {"made"}
    again = json.loads(list(run(make_task(channels=3), score_images=16))[-1].artefacts["stages.json"])
    assert {stage["origin"] for stage in again.values()} == {"found"}
    assert [stage["kid"] for stage in again.values()] == [stage["kid"] for stage in stages.values()]


@pytest.mark.parametrize("done", [STAGES + 1, STAGES + 3])
def test_who_is_interrupted_shows_the_same(done, make_task, tmp_path):
    task = make_task()
    shown = list(run(task, score_images=16, checkpoints=Checkpoints(tmp_path / "straight")))[-1].artefacts
    interrupted = run(task, score_images=16, checkpoints=Checkpoints(tmp_path / "run"))
    for _ in range(done):
        next(interrupted)
    interrupted.close()
    again = list(run(task, score_images=16, checkpoints=Checkpoints(tmp_path / "run")))[-1].artefacts
    assert again.keys() == shown.keys()
    assert all(again[name] == shown[name] for name in shown if name != "stages.json")
    first, second = (json.loads(files["stages.json"]) for files in (shown, again))
    assert [each["kid"] for each in second.values()] == [each["kid"] for each in first.values()]
    assert {each["origin"] for each in second.values()} == {"found"}


def test_the_control_has_nothing_to_show(make_task):
    assert list(run(make_task(), epochs=1, synthetic=False))[-1].artefacts == {}


# Budgets and mistakes


def test_generators_count_alike_whatever_the_number_of_classes(make_task):
    config = config_of()
    seen = [find_method("ssgnet").epoch_images(config, 9, 24, epoch) for epoch in range(STAGES + 2)]
    assert seen == [8] * STAGES + [16, 16]
    ends = [find_method("ssgnet").cycle_ends(config, epoch) for epoch in range(1, STAGES + 3)]
    assert ends == [False] * STAGES + [True, True]
    for num_classes in (2, 3):
        stages = build(make_task(num_classes=num_classes))._generators._stages()
        assert sum(stage.num_epochs for stage in stages) == STAGES


def test_steps_take_as_many_images_as_a_budget_counts(make_task, monkeypatch):
    counted, step = [], GeneratorTraining.step
    monkeypatch.setattr(
        GeneratorTraining, "step", lambda self, real_BCHW: counted.append(len(real_BCHW)) or step(self, real_BCHW)
    )
    learner = build(make_task(), steps_per_epoch=2, generator_images=6 * 16)
    batch = learner._batch
    monkeypatch.setattr(learner, "_batch", lambda count: counted.append(len(batch(count)[1])) or batch(count))
    expected = [find_method("ssgnet").epoch_images(learner._config, 9, 24, epoch) for epoch in range(STAGES + 2)]
    advance(learner, STAGES + 2)
    assert [sum(pair) for pair in zip(counted[::2], counted[1::2], strict=True)] == expected


def test_too_few_images_for_all_generators(make_task):
    with pytest.raises(ConfigError, match=r"generator_images: 48 are 6 epochs of 8 for 9 generators; .* at least 72"):
        build(make_task(num_classes=9))


def test_a_budget_that_ends_before_the_classifier_is_told(make_task, caplog):
    list(run(make_task(), epochs=STAGES))
    assert caplog.text.count("the budget ends before the classifier learns anything") == 1
    caplog.clear()
    list(run(make_task(), epochs=STAGES + 1))
    assert "the budget ends" not in caplog.text


def test_a_ratio_that_adds_no_image_is_told(make_task, caplog):
    build(make_task(), extra_ratio=0.2)
    assert "extra_ratio 0.2 of 3 images adds none" in caplog.text
    caplog.clear()
    build(make_task(), extra_ratio=0.4)
    build(make_task(), extra_ratio=0.2, synthetic=False)
    assert caplog.text == ""


# Images


@pytest.mark.parametrize(("side", "larger"), [(16, 16), (28, 32), (25, 32), (9, 16)])
def test_images_are_mirrored_to_the_generators_side_and_cropped_back(side, larger):
    config = config_of(image_size=side)
    assert config.generator_side == larger
    plan = GeneratorPlan(GeneratorConfig(resolution=larger), side, 1, 1, "random", 1)
    images = torch.randint(0, 256, (2, 1, side, side), dtype=torch.uint8)
    padded = to_generator(images, plan)
    assert padded.shape == (2, 1, larger, larger)
    assert padded.min() >= -1
    assert padded.max() <= 1
    assert torch.equal(to_bytes(cropped(padded, side)), images)
    if side == 28:
        signed = to_unit(images, side) * 2 - 1
        assert torch.equal(padded[:, :, :2, 2:-2], signed[:, :, 1:3].flip(2))


def test_images_of_28_px_end_to_end(make_task):
    progress = list(run(make_task(side=28), image_size=28, epochs=STAGES + 1))
    assert progress[-1].scores


def test_copies_are_near():
    real = torch.rand(20, 8)
    assert generator_stages.nearness(real[:5], real) == 0
    assert generator_stages.nearness(real[:5] + 1e-3, real) < 0.05
    assert generator_stages.nearness(torch.rand(200, 8), real) == pytest.approx(1, abs=0.3)
    assert generator_stages.nearness(real, real[:1].repeat(4, 1)) == 0


def test_nearness_is_exact_where_features_are_alike():
    real, fake = 5 + torch.rand(200, 192) / 100, 5 + torch.rand(50, 192) / 100
    shifted = generator_stages.nearness(fake - 5, real - 5)
    assert generator_stages.nearness(fake, real) == pytest.approx(shifted, rel=1e-3)


def test_scores_by_other_features_are_other_entries(make_task):
    keys = {build(make_task(), score_images=2, feature_network=name)._generators._stages()[0].entry.key
            for name in ("random", "timm:test_resnet", "timm:test_vit")}  # fmt: skip
    assert len(keys) == 3


def test_an_entry_says_what_determines_it(make_task):
    stage = build(make_task())._generators._stages()[0]
    assert isinstance(stage.entry, StageEntry)
    for part in ('"gamma":1.0', '"images":"', '"precision":"no"', '"resolution":16', '"torch":"'):
        assert part in stage.entry._about


@pytest.mark.slow
def test_end_to_end_with_the_tiny_profile(make_task):
    """0.5 kimg for each of two classes at 16 px, then a ResNet-18: seconds on one core."""
    tiny = {
        "generator_images": 1000, "generator_width": 16, "generator_channel_base": 128, "z_dim": 32,
        "steps_per_epoch": 10, "classifier": "resnet18", "score_images": 64,
    }  # fmt: skip
    task = make_task(num_classes=2, shots=8)
    progress = list(run(task, epochs=15, **tiny))
    kid = [[each.losses[name] for each in progress if name in each.losses] for name in ("kid_0", "kid_1")]
    assert [len(values) for values in kid] == [generator_stages.LOOKS] * 2
    assert sum(values[-1] for values in kid) < sum(values[0] for values in kid) / 2
    assert progress[-1].scores["ssgnet"].metric("balanced_accuracy") >= 0.5
