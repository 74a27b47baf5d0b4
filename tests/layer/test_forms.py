"""What a call decides once for all calls of its form is decided anew where the form differs; a glance sees what is true."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr

F = torch.float64


def follower() -> kr.Layer:
    x, c, w = kr.Variable(3, name="x"), kr.Parameter(3, name="c"), kr.Parameter(nonneg=True, name="w")
    return kr.compile(kr.Problem(kr.Minimize(w * kr.sum_squares(x - c) + kr.sum_squares(x))), outputs="x")


@pytest.fixture
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_default_dtype")
def test_numbers_take_the_default_dtype_of_the_moment() -> None:
    layer = follower()
    for dtype in (torch.float32, torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        assert layer(c=[1, 2, 3], w=1).dtype == dtype


def test_arrays_and_tensors_and_numbers_of_one_shape_differ() -> None:
    layer = follower()
    c = np.array([1.0, 2.0, 3.0])
    several: list[tuple[object, torch.dtype]] = [
        (c, F), (c.astype(np.float32), torch.float32), (torch.from_numpy(c), F), (c.tolist(), torch.float32),
        (torch.tensor([1, 2, 3]), torch.float32),
    ]  # fmt: skip
    for value, dtype in several * 2:
        found = layer(c=value, w=1.0)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), torch.from_numpy(c) / 2, rtol=1e-6, atol=0)


def test_batches_of_all_forms_one_after_the_other() -> None:
    layer, c = follower(), torch.arange(24, dtype=F)
    for _ in range(2):
        for shape, batch in (((3,), ()), ((2, 3), (2,)), ((4, 2, 3), (4, 2)), ((1, 3), (1,)), ((0, 3), (0,)), ((4, 1, 3), (4, 1))):
            value = c[: int(np.prod(shape))].reshape(shape)
            assert layer(c=value, w=1.0).shape == (*batch, 3)
            torch.testing.assert_close(layer(c=value, w=1.0), value / 2)
        both = layer(c=c.reshape(4, 2, 3), w=torch.ones(2, dtype=F))
        torch.testing.assert_close(both, c.reshape(4, 2, 3) / 2)


def test_an_error_is_told_every_time() -> None:
    layer = follower()
    for _ in range(3):
        with pytest.raises(kr.InputError, match=r"expected shape batch \+ \(3,\), got \(4,\)"):
            layer(c=torch.ones(4), w=1.0)
        with pytest.raises(kr.InputError, match="do not broadcast"):
            layer(c=torch.ones(2, 3), w=torch.ones(4))


def test_read_only_arrays_are_read() -> None:
    c = np.array([1.0, 2.0, 3.0])
    c.setflags(write=False)
    torch.testing.assert_close(follower()(c=c, w=1.0), torch.tensor([0.5, 1.0, 1.5], dtype=F))


def form(P: Tensor) -> kr.Status:
    n = P.shape[-1]
    x, Q = kr.Variable(n, name="x"), kr.Parameter((n, n), PSD=True, name="Q")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, Q) + kr.sum_squares(x))), on_failure="return")
    return kr.Status(int(layer(Q=P).status))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_product_is_definite_up_to_its_rounding(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, F):
        L = size * torch.randn(6, 6, generator=generator, dtype=dtype)
        assert form(L @ L.mT) is kr.Status.SOLVED
        assert form(L[:, :2] @ L[:, :2].mT) is kr.Status.SOLVED


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_what_is_no_more_than_nearly_so_is_looked_at(size: float) -> None:
    """Asymmetry beyond rounding, a negative eigenvalue below a large one, NaN."""
    plain = size * torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=F))
    assert form(plain) is kr.Status.SOLVED
    uneven = plain.clone()
    uneven[0, 2] += 1e-6 * size
    assert form(uneven) is kr.Status.INVALID_INPUT
    bent = plain.clone()
    bent[2, 2] = -1e-6 * size
    assert form(bent) is kr.Status.NONCONVEX
    assert form(plain * torch.nan) is kr.Status.INVALID_INPUT
    upper = plain + torch.triu(torch.full((3, 3), 5 * size, dtype=F), 1)  # its lower triangle alone is definite
    assert form(upper) is kr.Status.INVALID_INPUT


def test_signs_hold_for_every_item() -> None:
    layer = follower()
    w = torch.tensor([1.0, 0.0, -0.0, 1e-300], dtype=F)
    assert layer(c=torch.ones(3, dtype=F), w=w).shape == (4, 3)
    for bad in (-1e-300, float("nan")):
        with pytest.raises(kr.SolveError) as caught:
            layer(c=torch.ones(3, dtype=F), w=torch.tensor([1.0, bad, 1.0], dtype=F))
        assert caught.value.indices == [1]
        assert caught.value.status == [kr.Status.INVALID_INPUT]
