"""What users may do to a solve and to a solution, without its saying otherwise: write, hook, switch modes and devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr

F = torch.float64


@pytest.fixture
def engine() -> None:
    """These tests are of the engine that is asked first: they run once."""


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    Q, p = torch.eye(3, dtype=F), torch.tensor([-1.0, 2.0, 0.5], dtype=F)
    return Q, p, torch.ones(1, 3, dtype=F), torch.ones(1, dtype=F)


def test_one_number_in_a_tensor_bounds_every_variable_at_every_call() -> None:
    Q, p = torch.eye(3, dtype=F), torch.full((3,), 3.0, dtype=F)
    lb = torch.tensor([-1.0, -2.0, -2.5], dtype=F, requires_grad=True)
    for _ in range(3):
        x = kr.solve_qp(Q, p, lb=lb[0]).x
        assert x.tolist() == [-1.0] * 3
        (gradient,) = torch.autograd.grad(x.sum(), lb)
        assert gradient.tolist() == [3.0, 0.0, 0.0]


def test_what_is_written_to_a_solution_reaches_no_other() -> None:
    first = kr.solve_qp(*problem())
    before = kr.solve_qp(*problem())
    for part in (first.active.lb, first.active.ub, first.active.rows):
        part[0] = True
    for part in (first.ray.x, first.ray.y, first.ray.z, first.z_lb, first.status, first.ok):
        part.fill_(1)
    after = kr.solve_qp(*problem())
    for name in ("x", "y", "z", "z_lb", "z_ub", "s", "status", "ok"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert not after.active.lb.any()
    assert not after.ray.x.any()


def test_saved_tensors_may_be_kept_in_fewer_digits() -> None:
    def pack(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.is_floating_point() else tensor

    def unpack(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    Q, p, A, b = problem()
    G, h = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=F), torch.tensor([0.1, 5.0], dtype=F)
    p.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        x = kr.solve_qp(2 * Q, p, G, h, A, b).x
    (gradient,) = torch.autograd.grad(x[0], p)
    torch.testing.assert_close(gradient, torch.tensor([-0.25, 0.25, 0.0], dtype=F), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["ok", "status", "z_lb", "residuals", "active", "ray"])
def test_whoever_reads_a_field_first_leaves_it_as_others_need_it(name: str) -> None:
    p = torch.zeros(4, 3, dtype=F, requires_grad=True)
    solution = kr.solve_qp(torch.eye(3, dtype=F), p)
    with torch.inference_mode():
        getattr(solution, name)
    with torch.no_grad():
        getattr(solution, name)
    assert not solution.ok.is_inference()
    (solution.x[solution.ok].sum() + solution.z_lb.sum()).backward()
    assert p.grad is not None


def test_the_default_device_is_for_tensors_that_have_none() -> None:
    Q, p, A, b = problem()
    spoiled = torch.stack([p, torch.full_like(p, torch.nan)])
    many = torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=F)
    with torch.device("meta"):
        solution = kr.solve_qp(Q, p, A, b)
        some = kr.solve_qp(Q, spoiled, A, b, on_failure="return")
        large = kr.solve_qp(torch.eye(60, dtype=F, device="cpu"), many)
        shared = kr.solve_qp(torch.eye(60, dtype=F, device="cpu"), many, A=many[:3], b=many[:3, 0])
        sparse = kr.solve_qp(torch.eye(60, dtype=F, device="cpu").to_sparse(), many)
        for found in (solution, some, large, shared, sparse):
            parts = found.x, found.ok, found.status, found.z_lb, found.residuals.scaled, found.active.rows, found.ray.x
            assert {part.device.type for part in parts} == {"cpu"}
    assert some.ok.tolist() == [True, False]


def test_an_empty_batch_has_the_same_bits_too() -> None:
    assert kr.solve_qp(torch.eye(3, dtype=F), torch.zeros(0, 3, dtype=F), batch_invariant=True).x.shape == (0, 3)


@pytest.mark.parametrize("shared", [False, True])
def test_a_diagonal_in_a_batch_has_the_bits_of_one_alone(shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F)

    Q = torch.diag_embed(drawn(4, 60).abs() + 0.1)
    blocks: list[Any] = [Q[0] if shared else Q, drawn(4, 60), drawn(4, 3, 60), torch.ones(4, 3, dtype=F)]
    whole = kr.solve_qp(*blocks, batch_invariant=True)
    for i in range(4):
        alone = kr.solve_qp(Q[0] if shared else Q[i], *(part[i] for part in blocks[1:]), batch_invariant=True)
        assert torch.equal(whole.x[i], alone.x)


@pytest.mark.parametrize("bound", ["0", True, [0.0]])
def test_what_is_no_bound_is_told_what_is_one(bound: Any) -> None:
    Q, p, *_ = problem()
    with pytest.raises(kr.InputError, match="argument lb: expected a tensor or a number") as caught:
        kr.solve_qp(Q, p, lb=bound)
    assert "write lb=0.0" in str(caught.value)
