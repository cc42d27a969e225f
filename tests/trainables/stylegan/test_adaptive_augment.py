from math import pi, sqrt

import pytest
import torch

from search_spaces.core.errors import ConfigError
from trainables.stylegan.adaptive_augment import (
    COLOUR,
    GEOMETRIC,
    HIGHEST,
    SYM6,
    Augmentation,
    AugmentRandom,
    Controller,
    Disturbance,
    disturbed,
    doubling,
    margin_of,
)

MOVES = {name: move for group in GEOMETRIC.values() for name, move in group.items()}
SHADES = {name: shade for group in COLOUR.values() for name, shade in group.items()}
MANY = 20_000


def new_dice(p, batch=MANY):
    return AugmentRandom(batch, p, torch.Generator().manual_seed(0))


def changes(matrices):
    return (matrices - torch.eye(matrices.shape[-1])).abs().amax((1, 2)) > 1e-6


def alone(geometry=None, colour=None, margin=8, batch=1):
    geometry = torch.eye(3).repeat(batch, 1, 1) if geometry is None else geometry
    colour = torch.eye(4).repeat(batch, 1, 1) if colour is None else colour
    return Disturbance(geometry, colour, margin)


# How often


@pytest.mark.parametrize("p", [0.2, 0.7])
@pytest.mark.parametrize("name", [*MOVES, *SHADES])
def test_an_operation_befalls_its_share_of_images(name, p):
    matrices = MOVES[name](new_dice(p), 64) if name in MOVES else SHADES[name](new_dice(p))
    visible = {"x_flip": 1 / 2, "quarter_turn": 3 / 4, "luma_flip": 1 / 2, "pixel_shift": 1 - (1 / 16) ** 2}
    expected = 1 - sqrt(1 - p) if name.endswith("turn") and name != "quarter_turn" else p * visible.get(name, 1.0)
    assert abs(changes(matrices).float().mean() - expected) < 0.015


def test_one_of_both_turns_befalls_its_share():
    dice = new_dice(0.4)
    either = changes(MOVES["first_turn"](dice, 64)) | changes(MOVES["last_turn"](dice, 64))
    assert abs(either.float().mean() - 0.4) < 0.015


# How much


def test_geometric_operations_have_the_published_spreads():
    dice = new_dice(1.0)
    shift = MOVES["shift"](dice, 64)[:, :2, 2]
    assert abs(shift.std() / 64 - 0.125) < 0.003
    whole = MOVES["pixel_shift"](dice, 64)[:, :2, 2]
    assert whole.equal(whole.round())
    assert whole.unique().tolist() == list(range(-8, 9))
    scale = MOVES["scale"](dice, 64)
    torch.testing.assert_close(scale[:, 0, 0], scale[:, 1, 1])
    assert abs(scale[:, 0, 0].log2().std() - 0.2) < 0.005
    stretch = MOVES["stretch"](dice, 64)
    torch.testing.assert_close(stretch[:, 0, 0] * stretch[:, 1, 1], torch.ones(MANY))
    turn = MOVES["first_turn"](dice, 64)
    angles = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    assert abs(angles.std() - pi / sqrt(3)) < 0.02


def colour_of(name):
    return SHADES[name](new_dice(1.0))[:, :3]


def test_colour_operations_have_the_published_spreads():
    grey = torch.tensor([0.5, 0.5, 0.5, 1.0])
    coloured = torch.tensor([0.3, -0.2, -0.1, 1.0])
    assert abs((colour_of("brightness") @ grey - 0.5).std() - 0.2) < 0.005
    assert abs((colour_of("contrast") @ grey * 2)[:, 0].log2().std() - 0.5) < 0.01
    flips = (colour_of("luma_flip") @ grey)[:, 0]
    torch.testing.assert_close(flips.abs(), torch.full((MANY,), 0.5))
    torch.testing.assert_close(colour_of("luma_flip") @ coloured, coloured[:3].expand(MANY, -1))
    for name in ("hue", "saturation"):
        torch.testing.assert_close(colour_of(name) @ grey, grey[:3].expand(MANY, -1))
    hues = colour_of("hue") @ coloured
    torch.testing.assert_close(hues.norm(dim=1), coloured[:3].norm().expand(MANY))
    assert hues.mean(0).abs().max() < 0.01
    saturations = (colour_of("saturation") @ coloured).norm(dim=1) / coloured[:3].norm()
    assert abs(saturations.log2().std() - 1) < 0.02


# What it does


def test_the_wavelet_is_orthogonal_with_six_vanishing_moments():
    taps = torch.tensor(SYM6, dtype=torch.float64)
    assert abs(taps.sum() - sqrt(2)) < 1e-12
    for shift in range(0, 12, 2):
        assert abs((taps[shift:] * taps[: 12 - shift]).sum() - float(shift == 0)) < 1e-11
    tap = torch.arange(12, dtype=torch.float64)
    for moment in range(6):
        assert abs(((-1) ** tap * tap**moment * taps).sum()) < 1e-8
    matrix = doubling(20, 0)
    torch.testing.assert_close(matrix.T @ matrix / 2, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("margin", [0, 5, 15])
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_changes_nothing(channels, margin):
    images = torch.rand(2, channels, 16, 16)
    torch.testing.assert_close(disturbed(images, alone(margin=margin, batch=2)), images, rtol=0, atol=1e-5)


def test_at_p_0_nothing_is_drawn():
    random = torch.Generator().manual_seed(3)
    before = random.get_state()
    assert Augmentation(3).draw(8, 32, 0.0, random) is None
    assert random.get_state().equal(before)


def smooth(side=32):
    place = torch.arange(side) / side
    return (torch.sin(5 * place)[:, None] + torch.cos(4 * place) * place)[None, None]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0, -4], [0, 1, 2], [0, 0, 1]], lambda x: x.roll((-2, 4), (2, 3))),
        ([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], lambda x: x.flip(3)),
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], lambda x: x.rot90(1, (2, 3))),
    ],
)
def test_pixels_go_where_the_matrix_says(matrix, expected):
    geometry = torch.tensor([matrix], dtype=torch.float32)
    found = disturbed(smooth(), alone(geometry, margin=margin_of(geometry, 32)))
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(found[inside], expected(smooth())[inside], rtol=0, atol=0.02)


def test_borders_are_reflected_as_far_as_needed():
    geometry = torch.tensor([[[1.0, 0, 8], [0, 1, 0], [0, 0, 1]]])  # shows what lies 8 px further right
    found = disturbed(smooth(), alone(geometry, margin=margin_of(geometry, 32)))
    torch.testing.assert_close(found[..., 24:31], smooth()[..., 24:31].flip(3), rtol=0, atol=0.02)
    assert margin_of(torch.eye(3)[None], 32) <= 8
    assert margin_of(torch.diag(torch.tensor([9.0, 9.0, 1.0]))[None], 32) == 31


def test_grey_images_get_the_mean_of_colours():
    colour = torch.eye(4)[None] * 0.5
    colour[0, :3, 3] = torch.tensor([0.1, 0.2, 0.3])
    images = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(disturbed(images, alone(colour=colour, margin=None)), 0.5 * images + 0.2)
    flip = SHADES["luma_flip"](new_dice(1.0, batch=20))
    found = disturbed(images.repeat(20, 1, 1, 1), alone(colour=flip, margin=None))
    assert {-1, 1} == set((found / images).round().flatten().tolist())


def test_groups_choose_operations():
    names = {
        groups: [*Augmentation(3, groups).geometric, *Augmentation(3, groups).colour] for groups in ("b", "bg", "")
    }
    assert names["b"] == ["x_flip", "quarter_turn", "pixel_shift"]
    assert names["bg"] == [*names["b"], "scale", "first_turn", "stretch", "last_turn", "shift"]
    assert names[""] == []
    assert list(Augmentation(1, "c", luma_flip=False).colour) == ["brightness", "contrast"]
    assert Augmentation(3, "c").draw(2, 16, 0.5, torch.Generator()).margin is None
    with pytest.raises(ConfigError, match="'x' is unknown"):
        Augmentation(3, "bx")
    with pytest.raises(ConfigError, match="1 or 3 channels, not 4"):
        Augmentation(4)


def test_gradients_of_gradients():
    random = torch.Generator().manual_seed(0)
    what = Augmentation(3).draw(2, 8, 0.9, random)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda x: disturbed(x, what).square(), (images,), fast_mode=True)


# The controller


def test_p_rises_by_the_images_seen_and_falls_not_below_0():
    controller = Controller("ada", kimg=2.0)
    for step in range(1, 9):
        controller.observe(torch.ones(32))
        assert controller.p == (step // 4) * 32 * 4 / 2000
    assert controller.overfitting == 1.0
    for _ in range(12):
        controller.observe(-torch.ones(32))
    assert controller.p == 0.0


def test_p_stays_below_its_limit_and_where_the_target_is():
    controller = Controller("ada", kimg=0.1)
    for _ in range(40):
        controller.observe(torch.ones(32))
    assert controller.p == HIGHEST
    controller = Controller("ada", kimg=1.0, target=0.5)
    for _ in range(8):
        controller.observe(torch.tensor([1.0, 2.0, 3.0, -1.0]))
    assert (controller.overfitting, controller.p) == (0.5, 0.0)


@pytest.mark.parametrize(("mode", "p"), [("fixed", 0.3), ("none", 0.0)])
def test_other_modes_only_watch(mode, p):
    controller = Controller(mode, p=0.3)
    for _ in range(4):
        controller.observe(torch.ones(8))
    assert (controller.p, controller.overfitting) == (p, 1.0)
    with pytest.raises(ConfigError, match="'often' is unknown"):
        Controller("often")


def test_a_controller_goes_on_between_adjustments():
    one, other = Controller("ada", kimg=1.0), Controller("ada", kimg=1.0)
    for _ in range(6):
        one.observe(torch.ones(8))
    other.load_state_dict(one.state_dict())
    for controller in (one, other):
        controller.observe(torch.ones(8))
        controller.observe(-torch.ones(8))
    assert one.state_dict() == other.state_dict()
    assert (one.p, one.overfitting) == (0.0, 0.5)
