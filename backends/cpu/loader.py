"""Object code put into memory without a linker: ELF files for x86-64 in which every address is written out whole.

That is what LLVM makes for code that is to be run where it was made: sections, and places that hold the address of a symbol plus a
number. Then there is little to do, and doing it takes a tenth of the time of LLVM's own linker, which knows all that files may
hold. Whatever else is met in a file, another kind of section or of address, leaves it to that linker.

    one mapping:  [section | section | ...]    copied, then for each relocation  at = symbol + addend,  then made executable
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from functools import lru_cache
from typing import Any

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
ADDRESS = struct.Struct("<Q")
RELOCATION = struct.Struct("<QIIq")  # where, kind, symbol, addend
MAGIC = b"\x7fELF\x02\x01\x01"  # of 64 bits, little-endian
BITS, SYMBOLS, ADDRESSES, EMPTY = 1, 2, 4, 8  # types of sections
MINE = {0, 3, 7, BITS, SYMBOLS, ADDRESSES, EMPTY}  # with those that need no work: none, names, notes
IN_MEMORY = 2  # the flag of sections that a running program sees
WHOLE_ADDRESS = 1  # R_X86_64_64
READ_AND_RUN = 1 | 4  # for mprotect


def place(code: bytes, name: str) -> tuple[int, Any] | None:
    """The address of a function of object code and what keeps it there; None if this is work for a linker."""
    libc = _libc()
    if libc is None or code[: len(MAGIC)] != MAGIC:
        return None
    _, _, machine, _, _, _, first, _, _, _, _, size, number, _ = HEADER.unpack_from(code)
    if machine != 62 or size != SECTION.size:
        return None
    sections = [SECTION.unpack_from(code, first + i * size) for i in range(number)]
    starts, end = {}, 0
    for i, (_, kind, flags, _, _, length, _, _, alignment, _) in enumerate(sections):
        if kind not in MINE:
            return None
        if flags & IN_MEMORY:
            end += -end % max(1, alignment)
            starts[i] = end
            end += length
    room = mmap.mmap(-1, max(1, end), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for i, start in starts.items():
        _, kind, _, _, offset, length, *_ = sections[i]
        if kind == BITS:
            room[start : start + length] = code[offset : offset + length]
    put = ADDRESS.pack_into
    addresses, names = _symbols(code, sections, {i: base + start for i, start in starts.items()})
    for _, kind, _, _, offset, length, _, into, _, _ in sections:
        if kind != ADDRESSES or into not in starts:
            continue
        start = starts[into]
        for where, what, symbol, addend in RELOCATION.iter_unpack(code[offset : offset + length]):
            address = addresses[symbol]
            if what != WHOLE_ADDRESS or address is None:
                return None
            put(room, start + where, address + addend)
    found = addresses[names[name]] if name in names else None
    if found is None or libc.mprotect(base, len(room), READ_AND_RUN) != 0:
        return None
    return found, room


def _symbols(code: bytes, sections: list[tuple[Any, ...]], placed: dict[int, int]) -> tuple[list[int | None], dict[str, int]]:
    """The address of every symbol, None for those that are unknown; and which of them has a name."""
    addresses: list[int | None] = []
    numbers: dict[str, int] = {}
    for _, kind, _, _, offset, length, strings, *_ in sections:
        if kind != SYMBOLS:
            continue
        table = sections[strings][4]
        for at, _, _, section, value, _ in SYMBOL.iter_unpack(code[offset : offset + length]):
            name = code[table + at : code.index(b"\0", table + at)].decode()
            numbers[name] = len(addresses)
            if section in placed:
                addresses.append(placed[section] + value)
            else:
                addresses.append(_outside(name) if name and section == 0 else None)
    return addresses, numbers


@lru_cache(maxsize=64)
def _outside(name: str) -> int | None:
    """Where a function of the process is: memcpy and its like."""
    try:
        return ctypes.cast(getattr(_libc(), name), ctypes.c_void_p).value
    except AttributeError:
        return None


@lru_cache(maxsize=1)
def _libc() -> Any:
    """Where a mapping is made executable by one call; None on machines that ask for more."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    libc = ctypes.CDLL(None)
    libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return libc
