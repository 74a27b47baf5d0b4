"""Object code put into memory without a linker: the same functions as LLVM's linker makes, or none at all."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import pytest
import torch

import karush as kr
from karush.backends.cpu import engine, loader, machine
from karush.backends.cpu.llvm import Lanes

pytestmark = pytest.mark.skipif(loader._libc() is None, reason="placed by LLVM's linker on this machine")
F = torch.float64


@pytest.fixture(scope="module")
def code() -> bytes:
    return machine.compiled(partial(_of_three, machine.PROGRAMS["solve"]), machine.alone())


def test_every_program_of_every_layout_is_placed() -> None:
    for program, write in machine.PROGRAMS.items():
        for layout in (machine.lanes(), machine.alone()):
            assert loader.place(machine.compiled(partial(_of_three, write), layout), program) is not None


def _of_three(write: Callable[[Lanes, int], None], t: Lanes) -> None:
    write(t, 3)


def test_both_ways_into_memory_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def solved() -> list[torch.Tensor]:
        monkeypatch.setattr(machine, "_kernels", {})
        engine._work.cache_clear()
        Q, p = torch.eye(3, dtype=F).expand(9, 3, 3), torch.linspace(-2, 2, 27, dtype=F).reshape(9, 3).requires_grad_()
        x = kr.solve_qp(Q, p, lb=-1.0, ub=1.0).x
        return [x.detach(), *torch.autograd.grad(x.square().sum(), [p])]

    placed = solved()
    monkeypatch.setattr(loader, "place", lambda *_: None)
    linked = solved()
    engine._work.cache_clear()
    assert all(torch.equal(one, other) for one, other in zip(placed, linked, strict=True))


def test_a_kernel_keeps_its_code(code: bytes) -> None:
    kernel = machine.loaded(code, "solve")
    assert getattr(kernel, "held", None) is not None


def test_what_is_not_understood_is_left_to_the_linker(code: bytes) -> None:
    first, number = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<H", code, 60)[0]
    places = [first + i * loader.SECTION.size for i in range(number)]
    sections = [loader.SECTION.unpack_from(code, place) for place in places]
    assert loader.place(code, "solve") is not None
    assert loader.place(code, "derive") is None  # no function of that name
    for at, value in ((4, 1), (18, 183)):  # of 32 bits; for another processor
        assert loader.place(code[:at] + bytes([value]) + code[at + 1 :], "solve") is None
    at = next(section[4] for section in sections if section[1] == loader.ADDRESSES) + 8
    relative = code[:at] + struct.pack("<I", 2) + code[at + 4 :]  # an address counted from where it stands
    assert loader.place(relative, "solve") is None
    odd = code[: places[1] + 4] + struct.pack("<I", 9) + code[places[1] + 8 :]  # a section of another kind
    assert loader.place(odd, "solve") is None
