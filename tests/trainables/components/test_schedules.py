import pytest
import torch

from trainables.components.schedules import Plateau, linear_decay


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1.0), (999, 1.0), (1000, 1.0), (1050, 0.75), (1100, 0.5), (1199, 0.005), (1200, 0.0)]
)
def test_the_papers_schedule(epoch, factor):
    assert linear_decay(epoch / 1200, 1000 / 1200) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(("share", "start", "factor"), [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.25, 0.0, 0.75)])
def test_the_ends_of_its_start(share, start, factor):
    assert linear_decay(share, start) == factor


def scales(plateau, losses):
    found = []
    for loss in losses:
        plateau.update(loss)
        found.append(plateau.scale)
    return found


def test_a_plateau_by_hand():
    losses = [5.0, 4.0, 4.0, 4.5, 3.0, 3.0, 3.1, 3.2, 2.9, 2.9, 2.9, 2.9]
    expected = [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert scales(Plateau(3, 0.5), losses) == expected


def test_progress_too_small_to_count():
    assert scales(Plateau(1, 0.5), [1.0, 0.99995, 0.9998]) == [1, 0.5, 0.5]


@pytest.mark.parametrize("patience", [1, 2, 10])
def test_it_is_torchs_plateau_with_a_patience_of_one_less(patience):
    losses = (2 + torch.randn(200, generator=torch.Generator().manual_seed(0)).cumsum(0).abs()).tolist()
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=patience - 1, eps=0.0)
    expected = []
    for loss in losses:
        theirs.step(loss)
        expected.append(optimiser.param_groups[0]["lr"])
    assert scales(Plateau(patience, 0.5), losses) == expected
    assert expected[-1] < 1


@pytest.mark.parametrize("stopped", [0, 1, 5, 7])
def test_a_plateau_resumes_anywhere(stopped, tmp_path):
    losses = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0]
    straight, before, after = Plateau(2, 0.1), Plateau(2, 0.1), Plateau(2, 0.1)
    scales(before, losses[:stopped])
    torch.save(before.state_dict(), tmp_path / "state.pt")
    after.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert scales(after, losses[stopped:]) == scales(straight, losses)[stopped:]
