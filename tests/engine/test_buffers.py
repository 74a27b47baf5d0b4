"""Memory of large results is used again, never while anybody holds it, and never too much of it is kept."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import karush as kr
from karush.backends.cpu import buffers

ENTRIES = buffers.LARGE // 8


@pytest.fixture(autouse=True)
def none_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_free", {})
    monkeypatch.setattr(buffers, "_held", 0)


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    whole = buffers.empty(buffers.like((3, ENTRIES)))
    address, view = whole.data_ptr(), whole[1, 5:7]
    del whole
    gc.collect()
    assert buffers.empty(buffers.like((3, ENTRIES))).data_ptr() != address  # the view lives
    view.fill_(1.0)
    del view
    gc.collect()
    assert buffers.empty(buffers.like((ENTRIES, 3))).data_ptr() == address


def test_results_that_are_kept_stay_as_they_are() -> None:
    """Gradients of earlier steps, held by a user, do not change under later ones."""
    n, B = 40, 128
    assert 8 * n * n * B >= buffers.LARGE
    generator = torch.Generator().manual_seed(0)
    kept, copies = [], []
    for _ in range(4):
        Q = (
            torch.eye(n, dtype=torch.float64) + torch.rand(B, n, n, generator=generator, dtype=torch.float64) / n**2
        ).requires_grad_()
        p = torch.randn(B, n, generator=generator, dtype=torch.float64)
        (grad,) = torch.autograd.grad(kr.solve_qp(Q, p, lb=0.0).x.square().sum(), Q)
        kept.append(grad)
        copies.append(grad.clone())
    assert len({grad.data_ptr() for grad in kept}) == 4
    assert all(torch.equal(*pair) for pair in zip(kept, copies, strict=True))


def test_no_more_is_kept_than_said() -> None:
    for size in (ENTRIES, 2 * ENTRIES, buffers.KEPT // 8, 3 * ENTRIES, buffers.KEPT // 8 + 1):
        held = [buffers.empty(buffers.like((size,))) for _ in range(3)]
        del held
        gc.collect()
        kept = sum(8 * size * len(pieces) for size, pieces in buffers._free.items())
        assert kept == buffers._held <= buffers.KEPT
    assert list(buffers._free) == [3 * ENTRIES]  # what is too large is not kept, and pushes nothing out


def test_what_is_taken_again_is_not_counted_among_what_is_kept() -> None:
    """A size of which all pieces are in use has none to give when others become too many."""
    for size in (ENTRIES, 2 * ENTRIES):
        buffers.empty(buffers.like((size,)))  # gone at once: kept, and taken again below
    used = [buffers.empty(buffers.like((size,))) for size in (ENTRIES, 2 * ENTRIES)]
    many = [buffers.empty(buffers.like((buffers.KEPT // 24,))) for _ in range(5)]
    del many
    gc.collect()
    assert buffers._held == sum(8 * size * len(pieces) for size, pieces in buffers._free.items())
    assert buffers.KEPT / 2 < buffers._held <= buffers.KEPT
    del used
    gc.collect()
    assert buffers._held == sum(8 * size * len(pieces) for size, pieces in buffers._free.items()) <= buffers.KEPT


def test_many_threads() -> None:
    def work(number: int) -> bool:
        right = True
        for _ in range(50):
            piece = buffers.empty(buffers.like((ENTRIES,))).fill_(number)
            right = right and bool((piece == number).all())
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
