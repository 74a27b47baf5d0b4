"""From a program to a function in memory: written, compiled for this very processor, and kept on disk.

Compiling takes half a second for each number of variables; a kept object file is loaded in milliseconds. Files live in a folder
of the user's own (mode 0700; ``KARUSH_CACHE`` names another, or is ``off``), are named after everything they depend on, carry a
hash of their content, and are written aside and then renamed, so that processes may share them. A folder that cannot be written
is only read; a file that is not what it says is compiled anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
from llvmlite import binding

from . import constants, derivative, matrices, solve, within
from .llvm import Lanes
from .problem import DIAGONAL, SPARSE


class Layout(NamedTuple):
    """How problems lie in registers: W of them side by side, in tiles of ``tile`` entries; or one, ``along`` entries of a row."""

    W: int
    tile: int = 1
    along: int = 1


Kernel = Callable[[int, int, int, int, int], None]
PROGRAMS: dict[str, Callable[[Lanes, int], None]] = {
    "solve": solve.write,
    "derivative": derivative.write,
    "solve_diagonal": lambda t, n: solve.write(t, n, "solve_diagonal", plan=DIAGONAL),
    "derivative_diagonal": lambda t, n: derivative.write(t, n, "derivative_diagonal", plan=DIAGONAL),
    "solve_sparse": lambda t, n: solve.write(t, n, "solve_sparse", plan=SPARSE),
    "derivative_sparse": lambda t, n: derivative.write(t, n, "derivative_sparse", plan=SPARSE),
}
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
LARGEST_FILE = 2**26  # bytes; a hundred times the longest program: what is larger is none of ours, and not worth the memory
_lock = threading.Lock()
_kernels: dict[tuple[str, int, Layout], Kernel] = {}
_libraries = count()


@lru_cache(maxsize=1)
def lanes() -> Layout:
    """As many problems as a register of this machine has lanes, and the tile of accumulators that its registers hold."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Layout(8, 4)
    if features.get("avx"):
        return Layout(4, 3)
    return Layout(2, 4 if platform.machine().lower() in ("arm64", "aarch64") else 3)


@lru_cache(maxsize=1)
def alone() -> Layout:
    """One problem at a time, on the same registers."""
    return Layout(1, along=lanes().W)


def kernel(program: str, n: int, layout: Layout) -> Kernel:
    """The compiled function of a program for n variables: (words, numbers, scratch, first block, last block)."""
    found = _kernels.get((program, n, layout))
    if found is None:
        with _lock:
            found = _kernels.get((program, n, layout)) or _kernels.setdefault((program, n, layout), _made(program, n, layout))
    return found


def _made(program: str, n: int, layout: Layout) -> Kernel:
    return prepared(program, lambda t: PROGRAMS[program](t, n), layout, str(n))


def prepared(symbol: str, write: Callable[[Lanes], None], layout: Layout, about: str) -> Kernel:
    """A function from the folder, or compiled and kept there. ``about``: what decides its code beside the programs here."""
    name = hashlib.sha256(_source() + f"{symbol} {about} {layout}".encode()).hexdigest()[:40]
    code = _read(name)
    if code is None:
        code = compiled(write, layout)
        _keep(name, code)
    return loaded(code, symbol)


def compiled(write: Callable[[Lanes], None], layout: Layout) -> bytes:
    """The object code of what ``write`` writes."""
    t = Lanes(layout.W, layout.tile, matrices if layout.W > 1 else within, layout.along)
    write(t)
    machine = _machine()
    module = binding.parse_assembly(str(t.module))
    module.triple = machine.triple
    module.verify()
    # Loops are tiled by hand: what unrolling, vectorising and a second look would add is compile time.
    options = binding.create_pipeline_tuning_options(speed_level=1)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def loaded(code: bytes, name: str) -> Kernel:
    """A function of object code. It keeps its code alive, so that whoever holds it can call it.

    Each file is a library of its own, since they share their names.
    """
    library = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
    held = library.link(_linker(), f"karush{next(_libraries)}")
    kernel = _SIGNATURE(held[name])
    kernel.held = held  # type: ignore[attr-defined]  # functions of ctypes take attributes
    return kernel


@lru_cache(maxsize=1)
def _linker() -> Any:
    """What puts code into memory: one for the whole process, because making it costs ten times as much as using it."""
    older = platform.machine().lower() in ("x86_64", "amd64")  # where the older of LLVM's two linkers lacks nothing, and is faster
    return binding.create_lljit_compiler(_machine(), use_jit_link=not older)


def _machine() -> Any:
    """The processor we are on; a new one each time, because a compiler takes it over."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, jit=True)


# Kept object files


@lru_cache(maxsize=1)
def _source() -> bytes:
    """A hash of all that decides what is compiled: the programs, LLVM, and the processor."""
    state = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        state.update(path.read_bytes())
    facts = {name: value for name, value in vars(constants).items() if isinstance(value, int | float)}
    facts["rounding"] = constants.rounding(1)
    host = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_default_triple()
    state.update(repr((facts, llvmlite.__version__, binding.llvm_version_info, host, sys.byteorder)).encode())
    return state.digest()


def folder() -> str | None:
    """Where compiled code is kept; None if nowhere."""
    stated = os.environ.get("KARUSH_CACHE", "")
    if stated.lower() in ("off", "0", "none"):
        return None
    if stated:
        return stated
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return os.path.join(base, "karush", "cache") if base else None
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "karush")
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "karush")


def kept() -> list[int] | None:
    """Sizes in bytes of the object files kept on disk; None if nothing is kept."""
    place = folder()
    if place is None:
        return None
    return [path.stat().st_size for path in Path(place).iterdir()] if os.path.isdir(place) else []


def _read(name: str) -> bytes | None:
    place = folder()
    try:
        if place is None or not _private(place):
            return None
        path = os.path.join(place, name)
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            return None
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
    except OSError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def _keep(name: str, code: bytes) -> None:
    place = folder()
    if place is None:
        return
    try:
        Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(place):
            return
        handle, aside = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(aside, os.path.join(place, name))
        except OSError:
            os.unlink(aside)
    except OSError:
        return  # a folder that cannot be written, a full disk: the code is in memory all the same


def _private(place: str) -> bool:
    """Whether nobody else may write there: code that is run must be one's own."""
    if sys.platform == "win32":
        return True
    found = os.stat(place)
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & 0o022
