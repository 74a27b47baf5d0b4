"""Sparse tensors in ``solve_qp``: the answers of dense ones, gradients on their entries, and errors that say what is not done."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends.sparse.data import SparseData
from sparse.models import MODELS, denoising

# torch's own, of what it calls beta and of checks that it leaves out
pytestmark = [pytest.mark.filterwarnings("ignore:Sparse"), pytest.mark.filterwarnings("ignore:.*sparse tensor")]

N, M, K = 40, 25, 6


def problem(seed: int = 0) -> list[Tensor]:
    """Q, p, G, h, A, b with three right-hand sides; Q is not symmetric."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def few(rows: int, cols: int, share: float) -> Tensor:
        return normal(rows, cols) * (torch.rand(rows, cols, generator=generator) < share)

    R = few(N, N, 0.05)
    Q = R @ R.mT + torch.eye(N, dtype=torch.float64)
    Q[0, 1] += 0.3
    G, A, x = few(M, N, 0.1), few(K, N, 0.2), normal(N)
    return [Q, normal(3, N), G, G @ x + normal(M).abs(), A, A @ x]


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_tensors_give_what_dense_ones_give(layout: torch.layout) -> None:
    dense = [part.clone().requires_grad_() for part in problem()]
    given = [
        (part.to_sparse(layout=layout) if i in (0, 2, 4) else part.clone()).requires_grad_() for i, part in enumerate(problem())
    ]
    ours, theirs = kr.solve_qp(*given, lb=-5.0, ub=5.0), kr.solve_qp(*dense, lb=-5.0, ub=5.0)
    for name in ("x", "y", "z", "s", "z_lb", "z_ub"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-8)
    weights = torch.linspace(-1, 1, N, dtype=torch.float64)
    (ours.x @ weights).sum().backward()
    (theirs.x @ weights).sum().backward()
    for a, b in zip(given, dense, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        found, expected = (a.grad.to_dense(), b.grad * (b != 0)) if a.layout is not torch.strided else (a.grad, b.grad)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


def test_values_of_a_pattern_can_be_trained() -> None:
    Q, p, G, h, A, b = problem()
    where = G.nonzero().mT
    values = G[where[0], where[1]].clone().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return kr.solve_qp(Q.to_sparse(), p, torch.sparse_coo_tensor(where, values, (M, N)), h, A.to_sparse(), b).x.square().sum()

    (gradient,) = torch.autograd.grad(loss(values), values)
    step = 1e-5 * torch.ones_like(values)
    difference = (loss(values.detach() + step) - loss(values.detach() - step)) / 2e-5
    torch.testing.assert_close(gradient.sum(), difference, rtol=1e-5, atol=1e-6)


def test_conditioning_reads_sparse_tensors() -> None:
    Q, p, G, h, A, b = problem()
    given = (Q.to_sparse(), p, G.to_sparse(), h, A.to_sparse(), b)
    solution = kr.solve_qp(*given)
    ours, theirs = kr.conditioning(solution, *given), kr.conditioning(kr.solve_qp(Q, p, G, h, A, b), Q, p, G, h, A, b)
    assert torch.equal(ours.flags, theirs.flags)
    torch.testing.assert_close(ours.margin, theirs.margin, rtol=1e-5, atol=1e-8)


def test_what_the_engine_does_not_do_is_said() -> None:
    Q, p, G, h, _, _ = problem()
    with pytest.raises(kr.InputError, match="expected a matrix"):
        kr.solve_qp(torch.stack([Q, Q]).to_sparse(), p[:2])
    with pytest.raises(kr.InputError, match="smoothing"):
        kr.solve_qp(Q.to_sparse(), p, G.to_sparse(), h, smoothing=1e-3)
    with pytest.raises(kr.InputError, match=r"torch\.func"):
        torch.func.vmap(lambda p: kr.solve_qp(Q.to_sparse(), p).x)(p)
    with pytest.raises(kr.InputError, match="outside of the matrix"):
        kr.solve_qp(
            Q.to_sparse(), p, torch.sparse_coo_tensor(torch.tensor([[0], [N]]), torch.ones(1), (M, N), check_invariants=False), h
        )
    model, values = denoising(30)
    with pytest.raises(kr.InputError, match="smoothing"):
        kr.compile(model, backend="sparse", smoothing=1e-3)(values)


def test_the_choice_is_explained_and_transforms_go_elsewhere() -> None:
    """A mid-size sparse model goes to the sparse engine by itself; what that one does not do is done by a dense one."""
    model, values = MODELS["denoising"]()
    layer = kr.compile(model)
    assert layer.explain().engine[0].startswith("sparse")
    assert kr.compile(model, backend="cpu").explain().engine[0].startswith("cpu")
    signals = torch.stack([values["signal"], values["signal"].flip(0)])
    mapped = torch.func.vmap(lambda signal: layer(signal=signal, weight=values["weight"])["x"])(signals)
    torch.testing.assert_close(mapped, layer(signal=signals, weight=values["weight"])["x"], rtol=1e-7, atol=1e-7)
    small, _ = denoising(10)
    assert kr.compile(small).explain().engine[0].startswith("cpu")


def test_one_analysis_serves_every_item_and_call() -> None:
    model, values = MODELS["control"]()
    layer = kr.compile(model, backend="sparse")
    starts = values["start"] * torch.linspace(0.5, 1, 6, dtype=torch.float64)[:, None]
    first = layer(F=values["F"], start=starts)
    again = layer(F=values["F"] * 1.01, start=starts[:2])
    assert isinstance(first.data, SparseData)
    assert isinstance(again.data, SparseData)
    assert first.data.structure is again.data.structure
    assert first.data.structure.analysis is again.data.structure.analysis
    warm = layer.solve({"F": values["F"] * 1.001, "start": starts}, warm_start=first)
    cold = layer(F=values["F"] * 1.001, start=starts)
    torch.testing.assert_close(warm["X"], cold["X"], rtol=1e-8, atol=1e-8)
    assert int(warm.iterations.max()) <= int(cold.iterations.max())
