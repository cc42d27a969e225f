"""What one process can show; test_processes.py has the real ones."""

import pytest
import torch
import torch.nn.functional as F

from trainables.components import parallel
from trainables.components.parallel import average_gradients, data_parallel
from trainables.training.accelerator import new_accelerator


class TwoProcesses:
    """Stands for an accelerator; the exchange is faked below."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self, rank):
        self.process_index = rank


@pytest.fixture
def alone(monkeypatch):
    """Sums over processes are this process's own part."""
    monkeypatch.setattr(parallel, "_sum_over_processes", lambda own: own)


def test_one_process_does_it_all_and_draws_nothing():
    state = torch.get_rng_state()
    inputs = torch.arange(5.0)
    assert data_parallel(lambda x: 2 * x, inputs, accelerator=new_accelerator(precision="no", cpu=True)).equal(
        2 * inputs
    )
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("batch", [2, 5, 8])
@pytest.mark.usefixtures("alone")
def test_shares_are_disjoint_and_cover_the_batch(batch):
    inputs = torch.arange(1.0, batch + 1)[:, None]
    parts = [data_parallel(lambda x: (x, -x), inputs, accelerator=TwoProcesses(rank)) for rank in (0, 1)]
    for position, whole in enumerate((inputs, -inputs)):
        assert (parts[0][position] + parts[1][position]).equal(whole)
        assert (parts[0][position] * parts[1][position]).eq(0).all()


def test_a_batch_too_small_is_not_divided():
    inputs = torch.ones(1, 3)
    assert data_parallel(lambda x: x + 1, inputs, accelerator=TwoProcesses(1)).equal(inputs + 1)


@pytest.mark.usefixtures("alone")
def test_processes_drop_out_differently_and_stay_in_step():
    drops, after = [], []
    for rank in (0, 1):
        torch.manual_seed(3)
        dropped = data_parallel(lambda x: F.dropout(x, 0.5), torch.ones(2, 100), accelerator=TwoProcesses(rank))
        drops.append(dropped[rank])
        after.append(torch.rand(()))
    assert not drops[0].equal(drops[1])
    assert after[0].equal(after[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("alone")
def test_joint_statistics_of_one_part_are_plain_batch_norm(dtype):
    torch.manual_seed(0)
    ours, plain = (torch.nn.BatchNorm2d(3, momentum=0.3).to(torch.float64) for _ in range(2))
    with torch.no_grad():
        for norm in (ours, plain):
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
    features = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    with parallel._JointStatistics():
        found = ours(features.to(dtype))
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(found.double(), plain(features), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.running_var, plain.running_var, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.running_mean, plain.running_mean, rtol=tolerance, atol=tolerance)
    for norm in (ours, plain):
        norm.eval()
    with parallel._JointStatistics():
        torch.testing.assert_close(ours(features), plain(features), rtol=0.05, atol=0.05)


def test_one_process_keeps_its_gradients():
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    average_gradients([weight], new_accelerator(precision="no", cpu=True))
    assert weight.grad.equal(torch.ones(2))
