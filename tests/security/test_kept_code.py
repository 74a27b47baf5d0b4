"""Compiled code on disk is never trusted: whatever happened to the file, or to the folder, it is compiled anew."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import pytest
import torch

import karush as kr
from karush.backends.cpu import engine, machine

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX")
CODE = bytes(range(256)) * 40


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is as it should be, in a folder of our own."""
    monkeypatch.setenv("KARUSH_CACHE", str(tmp_path / "cache"))
    machine._keep("code", CODE)
    path = tmp_path / "cache" / "code"
    assert machine._read("code") == CODE
    return path


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.stress)])
def test_damaged_files(kept: Path, count: int) -> None:
    """Bits flipped, bytes lost, added, moved or exchanged, in the hash as in the code."""
    whole, drawn = kept.read_bytes(), random.Random(0)
    for i in range(count):
        damaged = bytearray(whole)
        at = drawn.randrange(64 if i % 2 else len(whole))
        kind = i % 5
        if kind == 0:
            damaged[at] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged += drawn.randbytes(1 + drawn.randrange(64))
        elif kind == 3:
            damaged = bytearray(drawn.randbytes(at))
        else:
            damaged[at : at + 8], damaged[-8:] = damaged[-8:], damaged[at : at + 8]
        if bytes(damaged) != whole:
            kept.write_bytes(damaged)
            assert machine._read("code") is None, (i, kind, at)
    kept.write_bytes(whole)
    assert machine._read("code") == CODE


def test_a_file_that_is_too_large_is_not_read(kept: Path) -> None:
    """A hole of a terabyte, which takes no room on disk."""
    with kept.open("r+b") as file:
        file.truncate(2**40)
    tracemalloc.start()
    try:
        assert machine._read("code") is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_folders_where_others_may_write(kept: Path, mode: int) -> None:
    kept.parent.chmod(mode)
    assert machine._read("code") is None
    machine._keep("more", CODE)
    assert not (kept.parent / "more").exists()


@POSIX
def test_things_that_are_no_files(kept: Path) -> None:
    """A folder, a pipe that nobody writes to, a link that leads to itself, and one to nowhere."""
    for make in (os.mkdir, os.mkfifo, lambda path: os.symlink(path, path), lambda path: os.symlink("nowhere", path)):
        kept.unlink()
        make(kept)
        assert machine._read("code") is None
        if kept.is_dir():
            kept.rmdir()
            kept.touch()
    assert kept.is_symlink()


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in memory any more."""
    monkeypatch.setattr(machine, "_kernels", {})
    for made in (engine._solve, engine._derive, engine._work):
        made.cache_clear()


def test_a_solve_after_damage(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kept file of a real solve is damaged: the answer is right, and the files are whole again."""
    forget(monkeypatch)
    kept.unlink()
    p = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    kr.solve_qp(torch.eye(2, dtype=torch.float64), p, lb=0.0)
    (path,) = kept.parent.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    forget(monkeypatch)
    assert kr.solve_qp(torch.eye(2, dtype=torch.float64), p, lb=0.0).x.tolist() == [1.0, 0.0]
    assert path.read_bytes() == whole
