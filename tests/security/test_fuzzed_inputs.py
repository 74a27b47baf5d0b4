"""Whatever is passed in: a typed error, or a status that the residuals bear out. Never another exception, never a false success."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import karush as kr
from engine.problems import Problem, worst_residual

F = torch.float64
FEW = settings(max_examples=120)
MANY = settings(max_examples=10_000)

SIZES = st.integers(0, 4)
DTYPES = st.sampled_from([F] * 8 + [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex128])
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, 5e-324, 1e-17, math.nan, math.inf, -math.inf, 1e9, 1e-9]
LAYOUTS = ["plain"] * 6 + ["strided", "transposed", "expanded", "leaf", "sparse", "meta", "parameter", "numpy", "list", "none"]
OPTIONS: dict[str, list[Any]] = {
    "eps": [None, 1e-3, 1e-12, 0.0, -1.0, math.nan, math.inf, 1, "1e-8", True, 1e300, 5e-324],
    "eps_abs": [None, 1e-9, math.nan, -1, []],
    "max_iter": [1, 2, 50, 0, -1, 2.5, True, math.nan, "many", None],
    "on_failure": ["return", "nan", "raise", "ignore", None, 3],
    "accept": ["solved", "inaccurate", "all", None],
    "regularize": [0.0, 1e-6, -1.0, math.inf, math.nan, "x"],
    "smoothing": [0.0, 1e-2, -1.0, math.nan],
    "backend": ["auto", "cpu", "torch", "cuda", "", None],
    "warm_start": [None, 3, "previous"],
}


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...], odd: bool) -> Any:
    """A tensor of this shape; an odd one may have another shape, any dtype, any values, and be laid out in any way."""
    dims = list(shape)
    how = draw(st.integers(0, 9)) if odd else 9
    if how == 0 and dims:
        dims[draw(st.integers(0, len(dims) - 1))] = draw(SIZES)
    elif how == 1:
        dims = dims[1:]
    elif how == 2:
        dims = [draw(SIZES), *dims]
    elif how == 3:
        dims = [*dims, 1]
    drawn = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    value = torch.randn(dims, dtype=F, generator=drawn)
    if len(dims) >= 2 and dims[-1] == dims[-2] and draw(st.booleans()):
        value = value @ value.mT
    if value.numel() and odd and draw(st.booleans()):
        value.view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(st.sampled_from(SPECIAL))
    dtype, layout = (draw(DTYPES), draw(st.sampled_from(LAYOUTS))) if odd else (F, "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = value.to(dtype)
    return laid_out(value, layout)


def laid_out(value: Tensor, layout: str) -> Any:
    real = value.dtype.is_floating_point
    if layout == "strided" and value.dim():
        return value.repeat_interleave(2, -1)[..., ::2]
    if layout == "transposed" and value.dim() >= 2:
        return value.mT.contiguous().mT
    if layout == "expanded" and value.dim() and value.shape[0]:
        return value[:1].expand(value.shape)
    if layout == "leaf" and real:
        return value.clone().requires_grad_()
    if layout == "parameter" and real:
        return torch.nn.Parameter(value)
    if layout == "sparse" and real:
        return value.to_sparse()
    if layout == "meta":
        return value.to("meta")
    if layout == "numpy":
        return value.float().numpy() if value.dtype is torch.bfloat16 else value.numpy()
    return {"list": value.tolist(), "none": None}.get(layout, value)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of solve_qp."""
    n, m, k = draw(st.integers(1, 4)), draw(SIZES), draw(st.integers(0, 2))
    batch: tuple[int, ...] = draw(st.sampled_from([(), (), (1,), (3,), (0,), (2, 1), (2, 3)]))
    shapes = {"Q": (n, n), "p": (n,), "G": (m, n), "h": (m,), "A": (k, n), "b": (k,), "lb": (n,), "ub": (n,)}
    arguments: dict[str, Any] = {}
    pairs = {name for pair in (("Q", "p"), ("G", "h"), ("A", "b")) if pair[0] == "Q" or draw(st.booleans()) for name in pair}
    there = pairs | draw(st.sets(st.sampled_from(["lb", "ub"])))
    odd = draw(st.sets(st.sampled_from(sorted(shapes)), max_size=3))
    for name, shape in shapes.items():
        if name in there ^ (odd & {"G", "h", "A", "b"} if draw(st.integers(0, 9)) == 0 else set()):
            own = batch if draw(st.booleans()) else ()
            arguments[name] = draw(tensors((*own, *shape), name in odd))
    if draw(st.integers(0, 5)) == 0:
        arguments[draw(st.sampled_from(["lb", "ub"]))] = draw(st.sampled_from([*SPECIAL, True, "0", 3]))
    for name in draw(st.sets(st.sampled_from(list(OPTIONS)), max_size=2)) if draw(st.integers(0, 2)) == 0 else ():
        arguments[name] = draw(st.sampled_from(OPTIONS[name]))
    arguments.setdefault("on_failure", "return")
    return arguments


def try_matrices(arguments: dict[str, Any]) -> str:
    """What came of it, in a word; asserts that it is one of the things that may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own, of sparse tensors
        try:
            solution = kr.solve_qp(**arguments)
        except kr.KarushError as error:
            return type(error).__name__ if len(str(error)) > 20 else "an error without words"
    shape = solution.status.shape
    assert {int(code) for code in solution.status.flatten()} <= set(map(int, kr.Status))
    assert solution.x.shape[:-1] == shape
    assert solution.x.dtype.is_floating_point
    exact = all(not isinstance(value, Tensor) or value.dtype == F for value in arguments.values())
    if exact and arguments.get("accept") is None and not {"regularize", "smoothing", "eps", "eps_abs"} & arguments.keys():
        for index in np.ndindex(*shape):
            if int(solution.status[index]) == kr.Status.SOLVED:
                assert residual(arguments, solution, shape, index) <= 1.1e-8, arguments
    if solution.x.requires_grad:
        leaves = [value for value in arguments.values() if isinstance(value, Tensor) and value.requires_grad]
        for gradient in torch.autograd.grad(solution.x[solution.ok].sum(), leaves, allow_unused=True):
            assert gradient is None or not gradient.isnan().any()
    return "solution"


def residual(arguments: dict[str, Any], solution: kr.QPSolution, shape: tuple[int, ...], index: tuple[int, ...]) -> float:
    """Of one item, by NumPy, from the arguments themselves."""
    n, ends = solution.x.shape[-1], {"Q": 2, "G": 2, "A": 2}
    held = {}
    for name in ("Q", "p", "G", "h", "A", "b", "lb", "ub"):
        value = arguments.get(name)
        if value is None:
            held[name] = None if name in ("lb", "ub") else np.zeros({"G": (0, n), "A": (0, n)}.get(name, (0,)))
            continue
        tensor = torch.as_tensor(value, dtype=F).detach()
        tensor = tensor if tensor.dim() else tensor.expand(n)
        held[name] = tensor.expand(*shape, *tensor.shape[tensor.dim() - ends.get(name, 1) :])[index].numpy()
    Q = held["Q"]
    assert Q is not None
    held["Q"] = (Q + Q.T) / 2
    problem = Problem(**held)  # type: ignore[arg-type]  # only bounds may be missing
    parts = (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)
    with np.errstate(all="ignore"):
        return worst_residual(problem, *(part[index].detach().numpy() for part in parts))


@FEW
@given(calls())
def test_matrices(arguments: dict[str, Any]) -> None:
    assert "without words" not in try_matrices(arguments)


@pytest.mark.stress
@MANY
@given(calls())
def test_many_matrices(arguments: dict[str, Any]) -> None:
    assert "without words" not in try_matrices(arguments)


def test_the_fuzz_reaches_both_ends() -> None:
    """Of what is drawn a good part is solved and a good part refused: else the tests above say little."""
    seen: dict[str, int] = {}

    @settings(max_examples=200, database=None)
    @given(calls())
    def count(arguments: dict[str, Any]) -> None:
        found = try_matrices(arguments)
        seen[found] = seen.get(found, 0) + 1

    count()
    assert seen["solution"] >= 40, seen
    assert seen["InputError"] >= 40, seen


def fuzzed_layer() -> kr.Layer:
    x = kr.Variable(3, name="x")
    q, M, t = kr.Parameter(3, name="q"), kr.Parameter((3, 3), name="M", PSD=True), kr.Parameter(name="t", nonneg=True)
    cost = kr.quad_form(x, M) + q @ x + t * kr.norm1(x)
    return kr.compile(kr.Problem(kr.Minimize(cost), {"box": kr.abs(x) <= 1, "sum": kr.sum(x) <= kr.exp(t)}), on_failure="return")


LAYER = fuzzed_layer()


@st.composite
def inputs(draw: st.DrawFn) -> dict[Any, Any]:
    batch: tuple[int, ...] = draw(st.sampled_from([(), (1,), (3,), (0,), (2, 3)]))
    given: dict[Any, Any] = {}
    odd = draw(st.sets(st.sampled_from(["q", "M", "t"]), max_size=2))
    for name, shape in (("q", (3,)), ("M", (3, 3)), ("t", ())):
        if draw(st.integers(0, 19)):
            own = batch if draw(st.booleans()) else ()
            given[name] = draw(tensors((*own, *shape), name in odd))
    if draw(st.integers(0, 19)) == 0:
        given[draw(st.sampled_from(["x", "__class__", "", "Q", 3, None]))] = 1.0
    return given


def try_layer(given: dict[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            solution = LAYER(given)
        except kr.KarushError:
            return
    x = solution["x"].detach().double()
    if not x.numel():
        return
    x = x[solution.ok].reshape(-1, 3)
    assert x.isfinite().all()
    assert (x.abs() <= 1 + 1e-2).all()


@FEW
@given(inputs())
def test_layers(given: dict[Any, Any]) -> None:
    try_layer(given)


@pytest.mark.stress
@MANY
@given(inputs())
def test_many_layers(given: dict[Any, Any]) -> None:
    try_layer(given)


@pytest.mark.parametrize("n", [-1, 2.5, math.nan, "3", True, (2, -1), [[1]]])
def test_sizes_of_leaves(n: Any) -> None:
    for kind in (kr.Variable, kr.Parameter):
        with pytest.raises(kr.KarushError):
            kind(n, name="x")
