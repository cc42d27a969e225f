"""Two real processes with gloo train the generator that one process trains."""

import pytest
import torch

from tests.trainables.gan_processes import result
from tests.trainables.pair import GENERATOR


@pytest.mark.slow
def test_processes_end_where_one_process_ends(of_pair):
    first, second = of_pair(GENERATOR)
    for name, tensor in result().items():
        assert first[name].equal(second[name]), name
        torch.testing.assert_close(
            first[name], tensor, rtol=1e-7, atol=1e-7, msg=lambda why, name=name: f"{name}: {why}"
        )
