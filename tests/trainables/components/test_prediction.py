import torch
from torch import nn

from trainables.components.prediction import predict_in_chunks


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
