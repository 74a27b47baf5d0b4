"""solve_qp's arguments: shapes that broadcast, dtypes that promote, and errors that come before any work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import karush as kr
from engine.problems import random_batch

F = torch.float64


def valid() -> dict[str, Any]:
    names = ("Q", "p", "G", "h", "A", "b")
    return dict(zip(names, (t[0] for t in random_batch(1, 3, 4, 1)), strict=True))


def test_unbatched_in_unbatched_out() -> None:
    solution = kr.solve_qp(**valid())
    assert solution.x.shape == (3,)
    assert solution.z.shape == (4,)
    assert solution.y.shape == (1,)
    assert solution.status.shape == ()
    assert solution.residuals.scaled.shape == (4,)


def test_any_number_of_batch_dimensions() -> None:
    arguments = valid()
    arguments["p"] = torch.randn(2, 3, 3, dtype=F)
    arguments["h"] = torch.full((3, 4), 9.0, dtype=F)
    solution = kr.solve_qp(**arguments)
    assert solution.x.shape == (2, 3, 3)
    assert solution.iterations.shape == (2, 3)
    single = kr.solve_qp(**{**arguments, "p": arguments["p"][1, 2], "h": arguments["h"][2]})
    torch.testing.assert_close(solution.x[1, 2], single.x, rtol=0, atol=1e-12)


def test_empty_batch() -> None:
    p = torch.randn(0, 3, dtype=F, requires_grad=True)
    solution = kr.solve_qp(**{**valid(), "p": p})
    assert solution.x.shape == (0, 3)
    solution.x.sum().backward()
    assert p.grad is not None
    assert p.grad.shape == (0, 3)


def test_batch_of_one_keeps_its_dimension() -> None:
    assert kr.solve_qp(**{name: t.unsqueeze(0) for name, t in valid().items()}).x.shape == (1, 3)


def test_dtypes_promote() -> None:
    mixed = {name: t.float() if name == "p" else t for name, t in valid().items()}
    assert kr.solve_qp(**mixed).x.dtype == torch.float64
    assert kr.solve_qp(**{name: t.float() for name, t in valid().items()}).x.dtype == torch.float32
    half = kr.solve_qp(**{name: t.bfloat16() for name, t in valid().items()})
    assert half.x.dtype == torch.bfloat16


def test_gradient_keeps_the_dtype_of_its_input() -> None:
    p = valid()["p"].float().requires_grad_()
    kr.solve_qp(**{**valid(), "p": p}).x.sum().backward()
    assert p.grad is not None
    assert p.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"h": None}, "argument h: expected a tensor because G is given"),
        ({"A": None}, "argument A: expected a tensor because b is given"),
        ({"Q": None}, "argument Q: expected a tensor, got NoneType"),
        ({"p": torch.ones(3, dtype=torch.int64)}, "argument p: expected a floating dtype, got torch.int64"),
        ({"p": torch.ones(4, dtype=F)}, r"argument p: expected shape batch \+ \(3,\).*got \(4,\)"),
        ({"Q": torch.ones(3, 2, dtype=F)}, "argument Q: expected shape"),
        ({"Q": torch.ones(3, dtype=F)}, "argument Q: expected at least 2 dimensions"),
        ({"G": torch.ones(4, 2, dtype=F)}, "argument G: expected shape"),
        ({"h": torch.ones(5, dtype=F)}, "argument h: expected shape"),
        ({"lb": torch.ones(2, dtype=F)}, "argument lb: expected shape"),
        ({"ub": "1"}, "argument ub: expected a tensor"),
        ({"p": torch.ones(5, 3, dtype=F), "h": torch.ones(6, 4, dtype=F)}, "do not broadcast"),
        ({"p": torch.ones(5, 1, 3, dtype=F), "h": torch.ones(5, 4, dtype=F)}, r"(?s)\(5, 5\).*squeeze"),
        ({"eps": 0.0}, "option eps"),
        ({"eps": float("nan")}, "option eps"),
        ({"eps": -1e-8}, "option eps"),
        ({"eps_abs": 0}, "option eps_abs"),
        ({"max_iter": 0}, "option max_iter"),
        ({"max_iter": 2.5}, "option max_iter"),
        ({"on_failure": "ignore"}, "option on_failure"),
        ({"accept": "all"}, "option accept"),
        ({"regularize": -1.0}, "option regularize"),
        ({"regularize": float("inf")}, "option regularize"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    kr.solve_qp(**valid())  # the form that is accepted
    with pytest.raises(kr.InputError, match=message):
        kr.solve_qp(**{**valid(), **changes})


def test_solution_is_a_pytree() -> None:
    solution = kr.solve_qp(**valid())
    leaves, spec = torch.utils._pytree.tree_flatten(solution)
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    assert isinstance(torch.utils._pytree.tree_unflatten(leaves, spec), kr.QPSolution)
