import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from tests.trainables.naive_scan import naive_scan
from trainables.nets import selective_scan as module
from trainables.nets.selective_scan import selective_scan

ROOT = Path(__file__).parents[3]


def new_inputs(batch=2, groups=3, steps=37, channels=5, states=4, dtype=torch.float64):
    torch.manual_seed(0)
    sequence, selected = (batch, groups, steps, channels), (batch, groups, steps, states)
    inputs = [
        torch.randn(sequence), F.softplus(torch.randn(sequence) - 1), -torch.rand(groups, channels, states) * 4,
        torch.randn(selected), torch.randn(selected), torch.randn(groups, channels),
    ]  # fmt: skip
    return [each.to(dtype).requires_grad_() for each in inputs]


def output_and_gradients(scan, inputs):
    y = scan(*inputs)
    torch.manual_seed(1)
    return y, torch.autograd.grad(y, inputs, torch.randn(y.shape).to(y))


@pytest.mark.parametrize("steps", [1, 7, 8, 37, 130])
@pytest.mark.parametrize(("chunk", "inner"), [(None, 8), (128, 8), (12, 4), (13, 4), (1, 2), (6, 16), (5, 2)])
def test_is_the_step_loop(steps, chunk, inner):
    inputs = new_inputs(steps=steps)
    ours = output_and_gradients(lambda *all: selective_scan(*all, chunk=chunk, inner=inner), inputs)
    loop = output_and_gradients(naive_scan, inputs)
    torch.testing.assert_close(ours, loop, rtol=1e-10, atol=1e-10)
    assert ours[0].dtype == torch.float64


def test_in_float32():
    inputs = new_inputs(steps=300, dtype=torch.float32)
    exact = output_and_gradients(naive_scan, [each.detach().double().requires_grad_() for each in inputs])
    y, gradients = output_and_gradients(selective_scan, inputs)
    assert y.dtype == torch.float32
    for ours, wanted in zip((y, *gradients), (exact[0], *exact[1]), strict=True):
        assert (ours - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_gradients_are_those_of_differences():
    inputs = new_inputs(batch=2, groups=2, steps=7, channels=2, states=2)
    assert gradcheck(lambda *all: selective_scan(*all, chunk=4, inner=2), inputs)


def test_a_gradient_arrives_from_later_chunks():
    inputs = new_inputs(batch=1, groups=1, steps=40)
    first = torch.autograd.grad(selective_scan(*inputs, chunk=4, inner=2)[:, :, -1].sum(), inputs[0])[0][:, :, 0]
    assert (first != 0).all()


def test_is_stable_where_states_vanish_at_once():
    """exp(-S) of the cumulative form would overflow."""
    inputs = new_inputs(steps=64, dtype=torch.float32)
    with torch.no_grad():
        inputs[1].mul_(1000)
    y, gradients = output_and_gradients(selective_scan, inputs)
    assert y.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    torch.testing.assert_close(y, naive_scan(*inputs), rtol=1e-5, atol=1e-2)


def test_autocast_leaves_it_in_float32():
    inputs = new_inputs(steps=40, dtype=torch.float32)
    expected = output_and_gradients(selective_scan, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = output_and_gradients(selective_scan, inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    y = selective_scan(inputs[0].bfloat16(), *inputs[1:])
    assert y.dtype == torch.float32


def test_keeps_the_state_of_each_chunk_only():
    """Of a scan of 1024 steps in chunks of 64 what is kept for the gradient is inputs and 16 states."""
    inputs = new_inputs(batch=1, groups=2, steps=1024, channels=8, states=16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        selective_scan(*inputs, chunk=64, inner=8)
    state = 2 * 8 * 16
    sizes = [each.numel() for each in kept]
    assert sizes.count(state) >= 1024 // 64
    assert max(sizes) == 1024 * 2 * 16  # B and C
    assert sum(sizes) < 0.1 * 3 * 1024 * state + 2 * max(sizes) + 8 * 1024 * 2 * 8


def test_memory_of_states_is_that_of_a_chunk(monkeypatch):
    seen, run_chunk = [], module._run_chunk
    monkeypatch.setattr(module, "_run_chunk", lambda *all: seen.append(len((made := run_chunk(*all))[1])) or made)
    selective_scan(*new_inputs(steps=200), chunk=64, inner=8).sum().backward()
    assert seen == [65, 65, 65, 9, 9, 65, 65, 65]


@pytest.mark.parametrize(
    ("channels", "device", "expected"), [(2, "cpu", 256), (32, "cpu", 128), (192, "cpu", 32), (192, "meta", 256)]
)
def test_a_chunk_fits_into_the_cache(channels, device, expected):
    assert module._default_chunk(torch.empty(1, 4, 4096, channels, device=device), 16) == expected


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (0, (2, 3, 37), r"u is \(B, G, L, D\), none of them 0, and A is \(G, D, N\), not \(2, 3, 37\)"),
        (0, (2, 3, 0, 5), "none of them 0"),
        (1, (2, 3, 1, 5), r"delta has shape \(2, 3, 1, 5\), expected \(2, 3, 37, 5\)"),
        (2, (3, 1, 4), r"A has shape \(3, 1, 4\), expected \(3, 5, 4\)"),
        (3, (2, 3, 37, 5), r"B has shape"),
        (4, (2, 1, 37, 4), r"C has shape"),
        (5, (5,), r"D has shape \(5,\), expected \(3, 5\)"),
    ],
)
def test_shapes_are_checked(place, shape, message):
    inputs = new_inputs()
    inputs[place] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        selective_scan(*inputs)


@pytest.mark.parametrize("sizes", [{"chunk": 0}, {"inner": 1}])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match=r"chunk .* must be at least 1 and inner .* at least 2"):
        selective_scan(*new_inputs(), **sizes)


def test_its_bench_prints_a_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["selective_scan.py", "--quick", "--device", "cpu"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    run_path(str(ROOT / "bench/selective_scan.py"))["main"]()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[2:]] == ["forward", "forward and backward"] * 2
    assert all(float(row[6]) > 0 for row in rows[2:])
