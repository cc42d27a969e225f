import pytest
import torch

from trainables.components.gan_losses import feature_matching, generated_loss, pull_away, real_loss, realness


def explicit(logits_BK):
    """Log-probabilities of K + 1 classes, the last one with the logit 0."""
    return torch.cat([logits_BK, torch.zeros_like(logits_BK[:, :1])], 1).log_softmax(1)


@pytest.mark.parametrize("num_classes", [2, 7])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_k_logits_are_k_plus_1_classes(num_classes, scale):
    torch.manual_seed(0)
    logits = scale * torch.randn(50, num_classes, dtype=torch.float64)
    log_probs = explicit(logits)
    z = realness(logits)
    torch.testing.assert_close(generated_loss(z), -log_probs[:, -1].mean())
    torch.testing.assert_close(real_loss(z), -log_probs[:, :-1].logsumexp(1).mean())
    torch.testing.assert_close(z.sigmoid(), log_probs[:, :-1].exp().sum(1))
    classes = log_probs[:, :-1] - log_probs[:, :-1].logsumexp(1, keepdim=True)
    torch.testing.assert_close(logits.softmax(1), classes.exp())
    torch.testing.assert_close(real_loss(z), (generated_loss(z) - z.mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-1e4, 1e4])
@pytest.mark.parametrize("loss", [real_loss, generated_loss])
def test_gradients_are_finite_at_any_size(loss, size, dtype):
    logits = torch.tensor([[size, 0.0], [size, -size], [size, size]], dtype=dtype, requires_grad=True)
    value = loss(realness(logits))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum(1).max() <= 1 / 3 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_left_before_anything_is_summed(dtype):
    logits = torch.randn(8, 3).to(dtype)
    z = realness(logits)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, logits.float().logsumexp(1))
    features = (100 * torch.rand(400, 5)).to(dtype)
    for value in (feature_matching(features, features + 1), pull_away(features)):
        assert value.dtype == torch.float32
    expected = (features.float().mean(0) - (features + 1).float().mean(0)).abs().mean()
    torch.testing.assert_close(feature_matching(features, features + 1), expected)


def test_feature_matching_moves_only_what_is_generated():
    real, generated = (torch.tensor(rows, requires_grad=True) for rows in ([[1.0, 4.0], [3.0, 0.0]], [[0.0, 0.0]]))
    loss = feature_matching(real, generated)
    loss.backward()
    assert loss == 2.0
    assert real.grad is None
    torch.testing.assert_close(generated.grad, torch.tensor([[-0.5, -0.5]]))


def test_pull_away_is_the_mean_squared_cosine_of_different_images():
    assert pull_away(torch.tensor([[2.0, 0.0], [5.0, 0.0]])) == 1.0
    assert pull_away(torch.tensor([[2.0, 0.0], [0.0, 3.0]])) == 0.0
    torch.testing.assert_close(
        pull_away(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])), torch.tensor(2 * (0.5 + 0.5) / 6)
    )
    nothing = torch.zeros(3, 4, requires_grad=True)
    pull_away(nothing).backward()
    assert nothing.grad.isfinite().all()
