from dataclasses import replace

import pytest
import torch

from search_spaces.core.augmentation import NO_MOTION, AugmentedConfig, MovedConfig
from trainables.components import augmentation
from trainables.components.augmentation import ImageAugmentation, WeakAugmentation
from trainables.core.method import find_method, method_names
from trainables.data.augment import affine, affine_maps
from trainables.data.catalog import CATALOG
from trainables.data.rand_augment import NO_COLOUR, OPERATIONS, cut_out
from trainables.data.tasks import few_shot_task
from trainables.testing.subject import Subject

SIDE = 8
STILL = {"flip": False, "image_size": SIDE, **NO_MOTION}
BOTH = ("horizontal", "vertical")


def task(make_task, asymmetric=(), channels=3):
    return replace(make_task(channels=channels, side=SIDE), asymmetric=asymmetric)


def images(count=300):
    """Images without any symmetry."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def same(first, second):
    """Which of the images are equal."""
    return (first - second).abs().flatten(1).amax(1) < 1e-5


def seeded(seed, function, *given):
    torch.manual_seed(seed)
    return function(*given)


# Motion


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("asymmetric", [(), ("horizontal",), ("vertical",), BOTH])
def test_half_of_the_images_are_mirrored_where_that_is_asked_for_and_shows_the_same(flips, asymmetric, make_task):
    config = MovedConfig(**(STILL | {"flip": flips[0], "flip_vertical": flips[1]}))
    unit = images()
    moved = WeakAugmentation(config, task(make_task, asymmetric)).moved(unit)
    axes = [axis for axis, on, name in zip((-1, -2), flips, BOTH, strict=True) if on and name not in asymmetric]
    kinds = [unit] + [unit.flip(axis) for axis in axes] + ([unit.flip(axes)] if len(axes) == 2 else [])
    counts = [int(same(moved, kind).sum()) for kind in kinds]
    assert sum(counts) == 300
    assert all(abs(count - 300 / len(kinds)) < 30 for count in counts)


@pytest.mark.parametrize("asymmetric", [(), ("horizontal",), ("vertical",), BOTH])
def test_quarter_turns_are_for_images_without_directions(asymmetric, make_task):
    unit = images()
    moved = WeakAugmentation(MovedConfig(**STILL, quarter_turns=True), task(make_task, asymmetric)).moved(unit)
    counts = [int(same(moved, torch.rot90(unit, turns, dims=(-2, -1))).sum()) for turns in range(4)]
    assert sum(counts) == 300
    assert counts == pytest.approx([300, 0, 0, 0] if asymmetric else [75] * 4, abs=0 if asymmetric else 30)


def test_a_motion_is_its_definition(make_task):
    config = MovedConfig(image_size=SIDE, flip=True, flip_vertical=True, rotation=40.0, shift=0.2, zoom=0.3)
    weak, unit = WeakAugmentation(config, task(make_task)), images(40)
    found = seeded(5, weak.moved, unit)
    torch.manual_seed(5)
    degrees_B, shifts_B2 = (2 * torch.rand(40) - 1) * 40.0, (2 * torch.rand(40, 2) - 1) * 0.2
    zooms_B, mirrored_B2 = 1.3 ** (2 * torch.rand(40) - 1), torch.rand(40, 2) < 0.5
    for number in range(40):
        one = slice(number, number + 1)
        maps = affine_maps(degrees_B[one], shifts_B2[one], mirrored_B2[one], zooms_B[one])
        torch.testing.assert_close(found[one], affine(unit[one], maps), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "largest"), [("rotation", 180.0), ("shift", 0.3), ("zoom", 0.4), ("brightness", 0.4), ("contrast", 0.4)]
)
def test_every_change_is_drawn_anew_for_each_image(name, largest, make_task):
    still = WeakAugmentation(MovedConfig(**STILL), task(make_task))
    weak = WeakAugmentation(MovedConfig(**(STILL | {name: largest})), task(make_task))
    unit = images(1).expand(6, -1, -1, -1)
    assert still.relit(still.moved(unit)).equal(unit)
    changed = weak.relit(weak.moved(unit))
    assert not any(same(changed[i : i + 1], changed[j : j + 1]) for i in range(6) for j in range(i))


def test_light_is_its_definition(make_task):
    weak = WeakAugmentation(MovedConfig(**(STILL | {"brightness": 0.3, "contrast": 0.4})), task(make_task))
    unit = images(50)
    found = seeded(6, weak.relit, unit)
    torch.manual_seed(6)
    draws = 2 * torch.rand(50, 2) - 1
    for image, (added, scaled), one in zip(unit, draws.tolist(), found, strict=True):
        expected = (image - image.mean()) * (1 + 0.4 * scaled) + image.mean() + 0.3 * added
        torch.testing.assert_close(one, expected.clamp(0, 1), rtol=0, atol=1e-6)


def test_no_change_leaves_images_as_they_are(make_task):
    config, unit = AugmentedConfig(**STILL), torch.randint(256, (5, 3, SIDE, SIDE), dtype=torch.uint8)
    assert ImageAugmentation(config, task(make_task))(unit).equal(unit.float() / 255)


# Strong changes


def strong(make_task, channels=3, **changes):
    return ImageAugmentation(
        AugmentedConfig(**(STILL | {"strong_ops": 2} | changes)), task(make_task, channels=channels)
    )


def test_the_seed_decides_whatever_was_drawn_before(make_task):
    changes, unit = strong(make_task, flip=True, rotation=20.0, brightness=0.2), (images(30) * 255).byte()
    first = seeded(1, changes, unit)
    torch.rand(17)
    assert seeded(1, strong(make_task, flip=True, rotation=20.0, brightness=0.2), unit).equal(first)
    assert not seeded(2, changes, unit).equal(first)


@pytest.mark.parametrize(
    ("channels", "pool", "names"),
    [
        (3, "all", list(OPERATIONS)),
        (3, "no_colour", [name for name in OPERATIONS if name not in NO_COLOUR]),
        (1, "all", [name for name in OPERATIONS if name not in NO_COLOUR]),
    ],
)
def test_each_image_has_operations_of_its_own_one_after_the_other(channels, pool, names, make_task):
    unit = images(60)[:, :channels]
    found = seeded(3, strong(make_task, channels, strong_pool=pool).strong, unit)
    torch.manual_seed(3)
    draws = [(torch.randint(len(names), (60,)), torch.rand(60)) for _ in range(2)]
    expected = []
    for number in range(60):
        one = unit[number : number + 1]
        for choice_B, magnitude_B in draws:
            one = OPERATIONS[names[choice_B[number]]](one, magnitude_B[number : number + 1])
        expected.append(one)
    torch.testing.assert_close(found, cut_out(torch.cat(expected), 0.5), rtol=0, atol=1e-5)
    assert len(torch.cat([choice_B for choice_B, _ in draws]).unique()) == len(names)


def test_strength_counts_operations_and_without_any_nothing_is_cut_out(make_task, monkeypatch):
    calls = []
    spies = {name: lambda x, m, name=name: calls.append(len(x)) or x for name in OPERATIONS}
    monkeypatch.setattr(augmentation, "OPERATIONS", spies)
    unit = (images(20) * 255).byte()
    for count in (0, 1, 3):
        calls.clear()
        changed = strong(make_task, strong_ops=count, cut_out=0.5)(unit)
        assert sum(calls) == 20 * count
        assert changed.equal(unit.float() / 255) == (count == 0)


# Data sets


def moving_methods():
    return [name for name in method_names() if issubclass(find_method(name).config, MovedConfig)]


@pytest.mark.parametrize("name", moving_methods())
def test_no_method_mirrors_what_a_data_set_forbids(name, monkeypatch):
    """Nor turns it by a quarter; and all do where nothing is said."""
    subject, pairs = Subject(name), []
    moved = WeakAugmentation.moved

    def spy(self, images_BCHW):
        pairs.append((images_BCHW, moved(self, images_BCHW)))
        return pairs[-1][1]

    monkeypatch.setattr(WeakAugmentation, "moved", spy)
    config = subject.config(**(NO_MOTION | {"flip": True, "flip_vertical": True, "quarter_turns": True}))
    for asymmetric, still in [(BOTH, True), ((), False)]:
        pairs.clear()
        learner = subject.build(replace(subject.task(), asymmetric=asymmetric), config)
        epochs = iter(learner.epochs())
        while not pairs:
            next(epochs)
        epochs.close()
        assert all(before.equal(after) for before, after in pairs) == still


def test_a_task_knows_what_its_data_set_forbids():
    assert few_shot_task("digits", 1, 0).asymmetric == BOTH
    found = {name: row.asymmetric for name, row in CATALOG.items() if row.asymmetric}
    assert found == {"digits": BOTH, "organamnist": ("horizontal",), "organcmnist": ("horizontal",)}
