"""``karush.compat.qpth`` beside qpth itself: the same contract, the same numbers where qpth's are right."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.compat.qpth import NotPositiveDefiniteError, QPFunction, QPSolvers

T = torch.float64
NAMES = ("Q", "p", "G", "h", "A", "b")


def theirs() -> Any:
    """qpth.qp, or a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings hold escapes that Python warns of
        return pytest.importorskip("qpth.qp")


def problem(n: int, m: int, k: int, *batch: int, seed: int = 0) -> list[Tensor]:
    """Strictly feasible, strictly convex problems; an empty tensor for equalities that are absent."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, dtype=T, generator=generator)

    L, G, A, x = randn(n, n), randn(m, n), randn(k, n), randn(n)
    h = (G @ x.unsqueeze(-1)).squeeze(-1) + torch.rand(*batch, m, dtype=T, generator=generator)
    Q = L @ L.mT + 0.1 * torch.eye(n, dtype=T)
    absent = [torch.Tensor(), torch.Tensor()]
    equalities = [A, (A @ x.unsqueeze(-1)).squeeze(-1)] if k else absent
    return [Q, randn(n), G, h, *equalities]


def gradients(function: Any, given: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in given]
    z = function(*leaves)
    weight = torch.linspace(-1, 1, z.numel(), dtype=T).reshape(z.shape)
    wanted = [leaf for leaf in leaves if leaf.numel()]
    return z.detach(), list(torch.autograd.grad((z * weight).sum(), wanted))


SIZES = [(5, 8, 0), (10, 3, 2), (10, 12, 4), (6, 1, 3), (20, 30, 5), (3, 20, 0)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 4])
def test_solutions_and_gradients_of_batches(size: tuple[int, int, int], batch: int) -> None:
    given = problem(*size, batch, seed=sum(size))
    z, ours = gradients(QPFunction(), given)
    y, other = gradients(theirs().QPFunction(verbose=-1), given)
    assert z.shape == (batch, size[0])
    torch.testing.assert_close(z, y, atol=1e-6, rtol=1e-6)
    for name, a, b in zip(NAMES, ours, other, strict=False):
        scale = max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a / scale, b / scale, atol=1e-6, rtol=1e-6, msg=f"d{name}: {a} against {b}")


@pytest.mark.parametrize("shared", NAMES)
def test_gradients_of_shared_arguments_are_sums_where_qpth_has_means(shared: str) -> None:
    given = problem(6, 3, 2, 5, seed=9)  # fewer rows than variables: feasible whatever is exchanged
    at = NAMES.index(shared)
    given[at] = given[at][0]
    z, ours = gradients(QPFunction(), given)
    y, other = gradients(theirs().QPFunction(verbose=-1), given)
    torch.testing.assert_close(z, y, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours[at], 5 * other[at], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", [0, 2])
def test_without_any_batch(k: int) -> None:
    given = problem(5, 6, k)
    z, ours = gradients(QPFunction(), given)
    y, other = gradients(theirs().QPFunction(verbose=-1), given)
    assert z.shape == y.shape == (1, 5)
    torch.testing.assert_close(z, y, atol=1e-6, rtol=1e-6)
    for a, b in zip(ours, other, strict=True):  # one item: sum and mean are the same
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_gradients_are_derivatives() -> None:
    """qpth's own tests compare with differences to 1e-2; and never dQ, batches or sharing."""
    Q, p, G, h, A, b = (tensor.requires_grad_() for tensor in problem(6, 5, 2, 2, seed=3))
    solve = QPFunction()
    assert torch.autograd.gradcheck(lambda *v: solve((v[0] + v[0].mT) / 2, *v[1:]), (Q, p, G, h, A, b), eps=1e-6, atol=1e-6)
    shared = [tensor.requires_grad_() for tensor in problem(6, 5, 2, seed=4)]
    many = torch.randn(3, 6, dtype=T, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda p, G, h: solve(shared[0], p, G, h, shared[4], shared[5]), (many, shared[2], shared[3]), atol=1e-6
    )


def test_the_signature_is_that_of_qpth() -> None:
    expected = list(inspect.signature(theirs().QPFunction).parameters.values())
    ours = list(inspect.signature(QPFunction).parameters.values())[: len(expected)]
    assert [p.name for p in ours] == [p.name for p in expected]
    assert [p.default for p in ours if p.name != "solver"] == [p.default for p in expected if p.name != "solver"]
    assert {s.name: s.value for s in QPSolvers} == {s.name: s.value for s in theirs().QPSolvers}


def test_every_argument_is_accepted() -> None:
    given = problem(4, 5, 1)
    plain = QPFunction()(*given)
    for function in (
        QPFunction(1e-9, 1, 5, 30, QPSolvers.CVXPY, False),
        QPFunction(verbose=-1, maxIter=3, notImprovedLim=1),
        QPFunction(eps=1e-4),
    ):
        torch.testing.assert_close(function(*given), plain, atol=1e-3, rtol=1e-3)


def test_equalities_alone_and_nothing_at_all() -> None:
    """qpth refuses both."""
    Q, p, _, _, A, b = problem(5, 3, 2, 4)
    none = torch.Tensor()
    z = QPFunction()(Q, p, none, none, A, b)
    one = kr.solve_qp(Q, p, A=A, b=b).x
    torch.testing.assert_close(z, one)
    z = QPFunction()(Q, p, none, none, none, none)
    torch.testing.assert_close(z, -torch.linalg.solve(Q, p.unsqueeze(-1)).squeeze(-1), atol=1e-9, rtol=1e-9)


def test_the_dtype_is_kept() -> None:
    given = [tensor.float() for tensor in problem(5, 6, 2, 3)]
    assert QPFunction()(*given).dtype == torch.float32


def test_definiteness_is_checked_where_asked() -> None:
    given = problem(4, 5, 0, 3)
    given[0] = given[0].clone()
    given[0][1] = torch.diag(torch.tensor([1.0, 1.0, 0.0, -1.0], dtype=T))
    with pytest.raises(RuntimeError, match="batch index 1") as caught:
        QPFunction()(*given)
    assert isinstance(caught.value, NotPositiveDefiniteError | ValueError)
    given[0][1] = 0.0  # a linear program
    given[2], given[3] = torch.cat([torch.eye(4, dtype=T), -torch.eye(4, dtype=T)]), torch.ones(8, dtype=T)
    with pytest.raises(NotPositiveDefiniteError):
        QPFunction()(*given)
    z = QPFunction(check_Q_spd=False)(*given)
    torch.testing.assert_close(z[1], -given[1][1].sign(), atol=1e-8, rtol=0)


def test_failure_is_told() -> None:
    Q, p, G, h, A, b = problem(3, 2, 0, 2)
    G, h = torch.tensor([[1.0, 0, 0], [-1, 0, 0]], dtype=T), torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=T)
    with pytest.raises(kr.SolveError) as caught:
        QPFunction()(Q, p, G, h, A, b)
    assert caught.value.indices == [1]
    z = QPFunction(on_failure="nan")(Q, p, G, h, A, b)
    assert z[1].isnan().all()
    assert not z[0].isnan().any()


def test_shapes_are_checked() -> None:
    Q, p, G, h, A, b = problem(4, 5, 2, 3)
    solve = QPFunction()
    for wrong in (
        (Q[:2], p, G, h, A, b),
        (Q.unsqueeze(0), p, G, h, A, b),
        (Q, p[..., :3], G, h, A, b),
        (Q, p, G, h[..., :2], A, b),
        (Q, p, torch.Tensor(), h, A, b),
        (Q, p, G, h, None, b),
    ):
        with pytest.raises(ValueError, match="argument"):
            solve(*wrong)
