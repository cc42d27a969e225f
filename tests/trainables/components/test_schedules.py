import pytest
import torch

from trainables.components.schedules import Plateau, cosine_decay, linear_decay, poly_decay


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1.0), (999, 1.0), (1000, 1.0), (1050, 0.75), (1100, 0.5), (1199, 0.005), (1200, 0.0)]
)
def test_the_papers_schedule(epoch, factor):
    assert linear_decay(epoch / 1200, 1000 / 1200) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(("share", "start", "factor"), [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.25, 0.0, 0.75)])
def test_the_ends_of_its_start(share, start, factor):
    assert linear_decay(share, start) == factor


@pytest.mark.parametrize("decay", [cosine_decay, poly_decay])
def test_from_one_to_zero(decay):
    assert (decay(0.0), decay(1.0)) == (1.0, 0.0)
    assert cosine_decay(1 / 3) == pytest.approx(0.75)
    assert poly_decay(0.5) == pytest.approx(0.5358867)


NUM_EPOCHS = 256
"""Of a budget; their shares are exact."""


def scales(plateau, losses, first=0):
    found = []
    for number, loss in enumerate(losses, start=first):
        plateau.update(loss, number / NUM_EPOCHS)
        found.append(plateau.scale)
    return found


def patient(epochs, factor):
    """A plateau that is patient for so many of those epochs."""
    return Plateau(epochs / NUM_EPOCHS, factor)


def test_a_plateau_by_hand():
    losses = [5.0, 4.0, 4.0, 4.5, 3.0, 3.0, 3.1, 3.2, 2.9, 2.9, 2.9, 2.9]
    expected = [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert scales(patient(3, 0.5), losses) == expected


def test_patience_is_a_share_of_the_budget_however_many_epochs_that_is():
    few, many = Plateau(0.25, 0.5), Plateau(0.25, 0.5)
    found = {}
    for plateau, count in ((few, 8), (many, 80)):
        fallen = []
        for number in range(count + 1):
            plateau.update(1.0, number / count)
            fallen.append(plateau.scale)
        found[count] = fallen
    assert found[8] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625]
    assert found[80][::10] == found[8]


def test_a_patience_of_the_whole_budget_never_ends():
    plateau = Plateau(1.0, 0.1)
    for number in range(11):
        plateau.update(1.0, (number + 0.5) / 11)
    assert plateau.scale == 1.0


def test_progress_too_small_to_count():
    assert scales(patient(1, 0.5), [1.0, 0.99995, 0.9998]) == [1, 0.5, 0.5]


@pytest.mark.parametrize("patience", [1, 2, 10])
def test_it_is_torchs_plateau_with_a_patience_of_one_less(patience):
    losses = (2 + torch.randn(200, generator=torch.Generator().manual_seed(0)).cumsum(0).abs()).tolist()
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=patience - 1, eps=0.0)
    expected = []
    for loss in losses:
        theirs.step(loss)
        expected.append(optimiser.param_groups[0]["lr"])
    assert scales(patient(patience, 0.5), losses) == expected
    assert expected[-1] < 1


@pytest.mark.parametrize("stopped", [0, 1, 5, 7])
def test_a_plateau_resumes_anywhere(stopped, tmp_path):
    losses = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0]
    straight, before, after = patient(2, 0.1), patient(2, 0.1), patient(2, 0.1)
    scales(before, losses[:stopped])
    torch.save(before.state_dict(), tmp_path / "state.pt")
    after.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert scales(after, losses[stopped:], first=stopped) == scales(straight, losses)[stopped:]
