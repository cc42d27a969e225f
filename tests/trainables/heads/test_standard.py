import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from trainables.heads.standard import Standard, standardise


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return torch.randn(40, 5, dtype=torch.float64) * torch.arange(1, 6) + 3


def test_a_block_is_centred_and_divided_by_its_overall_spread(rows):
    found = standardise(rows[:2], rows).apply(rows)
    centred = rows - rows.mean(0)
    torch.testing.assert_close(found, centred / centred.square().mean().sqrt())


def test_each_feature_may_be_divided_by_its_own(rows):
    found = standardise(rows[:2], rows, each=True).apply(rows)
    torch.testing.assert_close(found, torch.from_numpy(StandardScaler().fit_transform(rows.numpy())))


def test_principal_components_are_those_of_the_pool(rows):
    found = standardise(rows[:2] * 100, rows, components=3).apply(rows)
    expected = torch.from_numpy(PCA(3, svd_solver="full").fit_transform(rows.numpy()))
    torch.testing.assert_close(found.abs(), (expected / expected.square().mean().sqrt()).abs())


def test_without_a_pool_it_is_that_of_the_labelled_images(rows):
    assert torch.equal(standardise(rows, rows[:0]).apply(rows[:3]), standardise(rows[:1], rows).apply(rows[:3]))


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("count", [1, 6])
def test_what_is_constant_is_zero(rows, each, count):
    flat = rows[:1].expand(count, 5)
    assert standardise(flat, flat[:0], components=2, each=each).apply(flat).abs().max() < 1e-12


def test_it_is_kept(rows):
    standard = standardise(rows, rows, components=2)
    assert torch.equal(Standard.of(standard.state()).apply(rows), standard.apply(rows))
