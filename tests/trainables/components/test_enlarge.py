import pytest
import torch

from trainables.components.enlarge import enlarging, num_synthetic

XRAY, BREAST = (1341, 3875), (147, 399)


@pytest.mark.parametrize(
    ("counts", "ratio", "synthetic", "final"),
    [
        (XRAY, 0.0, [2534, 0], 3875),
        (XRAY, 0.2, [3309, 775], 4650),
        (XRAY, 0.5, [4471, 1937], 5812),
        (BREAST, 0.0, [252, 0], 399),
        (BREAST, 0.2, [331, 79], 478),
        (BREAST, 0.5, [451, 199], 598),
    ],
)
def test_the_published_arithmetic(counts, ratio, synthetic, final):
    assert num_synthetic(counts, ratio) == synthetic
    assert [a + b for a, b in zip(counts, synthetic, strict=True)] == [final, final]


@pytest.mark.parametrize(("shots", "ratio", "each"), [(5, 0.2, 1), (5, 0.19, 0), (5, 50.0, 250), (10, 0.7, 7)])
def test_few_shots_of_every_class(shots, ratio, each):
    assert num_synthetic([shots] * 4, ratio) == [each] * 4


def test_a_class_above_the_target_is_only_given_the_extra_images():
    assert num_synthetic([10, 30], 0.1, target=20) == [12, 2]


def bank(value, count):
    return torch.full((count, 1, 2, 2), value, dtype=torch.uint8)


def test_a_prefix_of_each_bank_with_its_label():
    images, labels = enlarging([bank(7, 5), None, bank(9, 5)], [2, 0, 3])
    assert images[:, 0, 0, 0].tolist() == [7, 7, 9, 9, 9]
    assert labels.tolist() == [0, 0, 2, 2, 2]


@pytest.mark.parametrize("banks", [[bank(1, 3), bank(2, 1)], [bank(1, 3), None]])
def test_a_bank_that_is_too_small_is_an_error(banks):
    with pytest.raises(ValueError, match=r"2 synthetic images of class 1 are needed, but its bank holds [01]"):
        enlarging(banks, [3, 2])
