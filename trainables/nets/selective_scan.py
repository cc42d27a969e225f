"""The selective scan (S6): a linear recurrence whose coefficients depend on its input.

    h_t = exp(Δ_t A) ⊙ h_{t-1} + Δ_t B_t u_t        y_t = ⟨C_t, h_t⟩ + D u_t        h_{-1} = 0

It is exact for sequences of any length and never overflows: all it multiplies are products of exp(Δ A) ≤ 1. The steps
go by chunks, and a chunk by runs of `inner` steps. A run's end depends on its start only through exp(A Σ Δ), so

1. all runs of a chunk advance side by side from zero, and only their ends are kept;
2. from run to run the true starts follow: start ← end + exp(A Σ Δ) · start;
3. all runs advance side by side once more, from their true starts.

That is 2 · inner + chunk / inner steps one after the other instead of chunk. The gradient is the same recurrence with
time reversed: with g the gradient of h through y, G_t = g_t + a_{t+1} G_{t+1} is that of b_t, and G_t h_{t-1} of a_t,
where a = exp(Δ A) and b = Δ B u. Only the state at the start of each chunk is kept for it; the others are made again,
so memory is that of the inputs, of L / chunk states and of a few tensors of chunk states.

Shapes: B batch, G groups that share their B and C (directions), L steps, D channels, N states of a channel, T runs,
Q steps of a run. The letters A, B, C and D before an underscore are those of the formula.

Source: Gu & Dao, arXiv:2312.00752 (zero-order hold for A, Euler's rule for B).
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_MIN_STEPS, _MAX_STEPS = 32, 256
_CACHED_NUMBERS = 2**18  # 1 MB in float32; three such tensors are at work at once


def selective_scan(
    u_BGLD: Tensor,
    delta_BGLD: Tensor,
    A_GDN: Tensor,
    B_BGLN: Tensor,
    C_BGLN: Tensor,
    D_GD: Tensor,
    *,
    chunk: int | None = None,
    inner: int = 8,
) -> Tensor:
    """The scan's output y (B, G, L, D), in float32, or float64 where an input is, whatever the autocast.

    Differentiable once, in all six inputs.

    Args:
        u_BGLD: what is scanned.
        delta_BGLD: step sizes, not negative.
        A_GDN: decay rates, not positive.
        B_BGLN: how the input enters the states.
        C_BGLN: how the states are read.
        D_GD: how much of the input is added to the output.
        chunk: steps whose states are in memory at once. By default 256, and on a CPU as many as its cache holds.
        inner: steps of a run, from 2 up; √(chunk / 2) makes the fewest steps one after the other.

    Raises:
        ValueError: shapes that do not belong together, a chunk or a run without steps.
    """
    _check_shapes(u_BGLD, delta_BGLD, A_GDN, B_BGLN, C_BGLN, D_GD)
    if chunk is None:
        chunk = _default_chunk(u_BGLD, A_GDN.shape[2])
    if chunk < 1 or inner < 2:
        raise ValueError(f"chunk {chunk} must be at least 1 and inner {inner} at least 2")
    with torch.autocast(u_BGLD.device.type, enabled=False):
        given = (u_BGLD, delta_BGLD, A_GDN, B_BGLN, C_BGLN, D_GD)
        dtype = reduce(torch.promote_types, (each.dtype for each in given), torch.float32)
        u_BGLD, delta_BGLD, A_GDN, B_BGLN, C_BGLN, D_GD = (each.to(dtype) for each in given)
        steps = u_BGLD.shape[2]
        run = min(inner, chunk, steps)
        x_LBGD, delta_LBGD, B_LBGN, C_LBGN = (
            _time_first(each, run) for each in (delta_BGLD * u_BGLD, delta_BGLD, B_BGLN, C_BGLN)
        )
        A_GND = A_GDN.transpose(1, 2).contiguous()
        y_LBGD = _Scan.apply(x_LBGD, delta_LBGD, A_GND, B_LBGN, C_LBGN, run, chunk // run * run)
        scanned_BGLD: Tensor = y_LBGD[:steps].permute(1, 2, 0, 3)
        return scanned_BGLD + D_GD[:, None] * u_BGLD


def _default_chunk(u_BGLD: Tensor, num_states: int) -> int:
    if u_BGLD.device.type != "cpu":
        return _MAX_STEPS
    numbers = u_BGLD[:, :, 0].numel() * num_states
    return min(max(_CACHED_NUMBERS // numbers, _MIN_STEPS), _MAX_STEPS)


def _check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> None:
    if u.ndim != 4 or A.ndim != 3 or 0 in u.shape:
        raise ValueError(f"u is (B, G, L, D), none of them 0, and A is (G, D, N), not {(*u.shape,)} and {(*A.shape,)}")
    batch, groups, steps, channels = u.shape
    selected = (batch, groups, steps, A.shape[2])
    expected = (u.shape, (groups, channels, A.shape[2]), selected, selected, (groups, channels))
    for name, given, wanted in zip(("delta", "A", "B", "C", "D"), (delta, A, B, C, D), expected, strict=True):
        if given.shape != wanted:
            raise ValueError(f"{name} has shape {(*given.shape,)}, expected {(*wanted,)}")


def _time_first(sequence_BGLX: Tensor, run: int) -> Tensor:
    """(L, B, G, X), with zeros to a whole number of runs: no step at all, as exp(0 A) = 1 and 0 is added."""
    padding = -sequence_BGLX.shape[2] % run
    return F.pad(sequence_BGLX.permute(2, 0, 1, 3), (0, 0) * 3 + (0, padding)).contiguous()


class _Scan(Function):
    """y_t = ⟨C_t, h_t⟩ with h_t = exp(Δ_t A) h_{t-1} + B_t x_t, for whole runs of steps."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, run: int, chunk: int
    ) -> Tensor:
        state, starts, y = A.new_zeros(x.shape[1], *A.shape), [], torch.empty_like(x)
        for part in _chunks(len(x), chunk):
            starts.append(state)
            _, states = _run_chunk(x[part], delta[part], A, B[part], state, run)
            y[part] = (C[part].unsqueeze(-2) @ states[1:]).squeeze(-2)
            state = states[-1].clone()
        context.save_for_backward(x, delta, A, B, C, *starts)
        context.run, context.chunk = run, chunk
        return y

    @staticmethod
    @once_differentiable
    def backward(context: Any, y_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, delta, A, B, C, *starts = context.saved_tensors
        gradients = [torch.empty_like(each) for each in (x, delta, B, C)]
        A_grad, after = torch.zeros_like(A), torch.zeros_like(starts[0])
        with torch.autocast(x.device.type, enabled=False):
            for part, start in reversed(list(zip(_chunks(len(x), context.chunk), starts, strict=True))):
                inputs = (x[part], delta[part], A, B[part], C[part])
                *found, A_part, after = _chunk_backward(*inputs, y_grad[part], start, after, context.run)
                for gradient, its_part in zip(gradients, found, strict=True):
                    gradient[part] = its_part
                A_grad += A_part
        x_grad, delta_grad, B_grad, C_grad = gradients
        return x_grad, delta_grad, A_grad, B_grad, C_grad, None, None


def _chunks(steps: int, chunk: int) -> list[slice]:
    return [slice(first, first + chunk) for first in range(0, steps, chunk)]


def _run_chunk(
    x_LBGD: Tensor, delta_LBGD: Tensor, A_GND: Tensor, B_LBGN: Tensor, start_BGND: Tensor, run: int
) -> tuple[Tensor, Tensor]:
    """The decays (L, B, G, N, D) of a chunk, and its states (L + 1, B, G, N, D) with the one before it first."""
    a = (delta_LBGD.unsqueeze(-2) * A_GND).exp_()
    b = B_LBGN.unsqueeze(-1) * x_LBGD.unsqueeze(-2)
    states = torch.empty(len(a) + 1, *a.shape[1:], dtype=a.dtype, device=a.device)
    a_TQ, b_TQ, before_TQ, states_TQ = (_runs(each, run) for each in (a, b, states[:-1], states[1:]))
    ends_T = b_TQ[:, 0].clone()
    for step in range(1, run):
        torch.addcmul(b_TQ[:, step], a_TQ[:, step], ends_T, out=ends_T)
    states[0] = start_BGND
    decays_T = _decays_of_runs(delta_LBGD, A_GND, run)
    for index in range(len(ends_T) - 1):
        torch.addcmul(ends_T[index], decays_T[index], before_TQ[index, 0], out=before_TQ[index + 1, 0])
    # With runs of two steps or more no state is read and written at once.
    for step in range(run):
        torch.addcmul(b_TQ[:, step], a_TQ[:, step], before_TQ[:, step], out=states_TQ[:, step])
    return a, states


def _chunk_backward(
    x_LBGD: Tensor,
    delta_LBGD: Tensor,
    A_GND: Tensor,
    B_LBGN: Tensor,
    C_LBGN: Tensor,
    y_grad_LBGD: Tensor,
    start_BGND: Tensor,
    after_BGND: Tensor,
    run: int,
) -> tuple[Tensor, ...]:
    """Gradients of x, Δ, B, C and A through a chunk, and that of the state before it, given that of the one after."""
    a, states = _run_chunk(x_LBGD, delta_LBGD, A_GND, B_LBGN, start_BGND, run)
    G = C_LBGN.unsqueeze(-1) * y_grad_LBGD.unsqueeze(-2)
    before_BGND = _run_back_(G, a, _decays_of_runs(delta_LBGD, A_GND, run), after_BGND, run)
    C_grad_LBGN = (states[1:] @ y_grad_LBGD.unsqueeze(-1)).squeeze(-1)
    B_grad_LBGN = (G @ x_LBGD.unsqueeze(-1)).squeeze(-1)
    x_grad_LBGD = (B_LBGN.unsqueeze(-2) @ G).squeeze(-2)
    exponent_grad = a.mul_(states[:-1]).mul_(G)  # of Δ A
    delta_grad_LBGD = torch.mul(exponent_grad, A_GND, out=G).sum(-2)
    A_grad_GND = exponent_grad.mul_(delta_LBGD.unsqueeze(-2)).sum((0, 1))
    return x_grad_LBGD, delta_grad_LBGD, B_grad_LBGN, C_grad_LBGN, A_grad_GND, before_BGND


def _run_back_(g: Tensor, a: Tensor, decays_T: Tensor, after_BGND: Tensor, run: int) -> Tensor:
    """Turns the gradients g of a chunk's states into G; returns the gradient of the state before the chunk."""
    g_TQ, a_TQ = _runs(g, run), _runs(a, run)
    firsts_T = torch.zeros_like(g_TQ[:, 0])
    for step in reversed(range(run)):
        firsts_T.add_(g_TQ[:, step]).mul_(a_TQ[:, step])
    arriving_T = torch.empty_like(firsts_T)
    arriving_T[-1] = after_BGND
    for index in reversed(range(1, len(firsts_T))):
        torch.addcmul(firsts_T[index], decays_T[index], arriving_T[index], out=arriving_T[index - 1])
    g_TQ[:, -1] += arriving_T
    for step in reversed(range(run - 1)):
        g_TQ[:, step].addcmul_(a_TQ[:, step + 1], g_TQ[:, step + 1])
    return a[0] * g[0]


def _decays_of_runs(delta_LBGD: Tensor, A_GND: Tensor, run: int) -> Tensor:
    """Share of a state that is left after each run (T, B, G, N, D)."""
    return (_runs(delta_LBGD, run).sum(1).unsqueeze(-2) * A_GND).exp_()


def _runs(each_L: Tensor, run: int) -> Tensor:
    return each_L.view(-1, run, *each_L.shape[1:])
