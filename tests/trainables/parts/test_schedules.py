import pytest

from trainables.parts.schedules import linear_decay


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1.0), (999, 1.0), (1000, 1.0), (1050, 0.75), (1100, 0.5), (1199, 0.005), (1200, 0.0)]
)
def test_the_papers_schedule(epoch, factor):
    assert linear_decay(epoch / 1200, 1000 / 1200) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(("share", "start", "factor"), [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.25, 0.0, 0.75)])
def test_the_ends_of_its_start(share, start, factor):
    assert linear_decay(share, start) == factor
