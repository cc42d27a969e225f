import pytest
import torch
from torch import nn

from trainables.components.prediction import class_probabilities, predict_in_chunks


def test_chunks_are_joined_in_evaluation_mode_without_a_trace():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(3 * 16 * 16))
    images = torch.randint(256, (300, 3, 8, 8), dtype=torch.uint8)
    options = {"side": 16, "device": torch.device("cpu"), "networks": (network,)}
    first, second = (
        predict_in_chunks(lambda x: {"mean": network(x).mean(1, keepdim=True)}, images, **options) for _ in range(2)
    )
    assert first["mean"].shape == (300, 1)
    assert first["mean"].equal(second["mean"])
    assert network.training
    assert network[2].num_batches_tracked == 0
    assert not first["mean"].requires_grad


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [4]), (5, [3, 2]), (9, [3, 3, 3])])
def test_no_chunk_is_a_single_image_beside_others(count, sizes):
    """BatchNorm cannot take one where it gathers statistics."""
    seen, images = [], torch.zeros(count, 1, 4, 4, dtype=torch.uint8)

    def predict(unit_BCHW):
        seen.append(len(unit_BCHW))
        return {"mean": unit_BCHW.mean((1, 2, 3))}

    found = predict_in_chunks(predict, images, side=4, device=torch.device("cpu"), networks=(), chunk=4)
    assert seen == sizes
    assert found["mean"].shape == (count,)


def test_saturated_logits_do_not_tie():
    logits_BK = torch.tensor([[30.0, 0.0, -30.0], [40.0, 0.0, 0.0], [-200.0, 200.0, 0.0]])
    probs_BK = class_probabilities(logits_BK)
    assert probs_BK.dtype == torch.float64
    assert (probs_BK > 0).all()
    plain = logits_BK.double().exp() / logits_BK.double().exp().sum(1, keepdim=True)
    torch.testing.assert_close(probs_BK, plain, rtol=1e-12, atol=0)
    first, second = class_probabilities(torch.tensor([[30.0, 0.0], [32.0, 0.0]]))[:, 0]
    assert first < second, "in float32 both are 1"
