"""Memory of the zygote, laid out so that its children touch and copy little of it.

What a program costs is mostly memory: the fork copies an entry for each page, the child copies each page that it writes
to, reference counts among them, and its end gives all of it back. Three things make up most of that memory: the arenas
of small objects, the heap of the C library, and the text of the interpreter, which a child would map again where it
runs it. `reserve` comes before other modules are imported, `fill` and `collapse` when the zygote is ready.

Where the kernel has no huge pages for it (before Linux 6.1, or none is left), the pages stay small ones.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
from collections.abc import Callable, Iterator

_HUGE, _PAGE = 2 << 20, 4096
# Of the allocator of small objects. The zygote fills so many arenas itself, so that little of them is left over.
_ARENA, _POOL, _LARGEST, _ARENAS = 1 << 20, 1 << 14, 512, 6
_POOL_HEADER, _BYTES_HEADER = 48, 33
_MOST_OF_A_SIZE = 1 << 18
# Taken from the end of the heap, and not mapped apart.
_LARGEST_BLOCK = 100_000
_READ, _WRITE, _EXECUTE = 1, 2, 4
_PRIVATE_ANONYMOUS = 0x22
_COLLAPSE = 25
_MAY_MOVE, _FIXED = 1, 2
_LOADED, _WRITABLE = 1, 2
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
for _name in ("malloc", "mmap", "mremap", "sbrk"):
    getattr(_libc, _name).restype = ctypes.c_void_p

_kept: list[object] = []
_heap_start = 0
padding: int = 0
"""Bytes of address space that are there for nothing but to reach the next huge page."""


def reserve() -> None:
    """Give small objects arenas that lie next to each other, and let the heap go on where a huge page begins."""
    global _heap_start
    objects = [bytes(_LARGEST - _BYTES_HEADER) for _ in range(_ARENAS * _ARENA // _LARGEST)]
    # An arena that holds something stays.
    _kept.extend(objects[:: _ARENA // 4 // _LARGEST])
    _heap_start = _pad_heap()


def fill() -> None:
    """Take what is free between other things: a child then gets its memory from fresh pages, one thing after the other,
    in place of a block here and a block there, each in a page that it has to copy.
    """
    _fill_heap()
    for size in range(16, _LARGEST + 1, 16):
        taken: list[object] = []
        fresh = (_POOL - _POOL_HEADER) // size - 4
        pool = in_pool = 0
        for _ in range(_MOST_OF_A_SIZE // size):
            new = object() if size == 16 else complex(1, 1) if size == 32 else bytes(size - _BYTES_HEADER)
            taken.append(new)
            in_pool = in_pool + 1 if id(new) // _POOL == pool else 1
            pool = id(new) // _POOL
            if in_pool >= fresh:
                _kept.extend(taken[:-in_pool])
                break


def _fill_heap() -> None:
    """Take free blocks of the heap, the largest first, up to where the next one comes from its end."""
    end: int = _libc.malloc(ctypes.c_size_t(_LARGEST_BLOCK)) or 0
    for size in range(_LARGEST_BLOCK // 8, _LARGEST, -16):
        for _ in range(_MOST_OF_A_SIZE // size):
            block: int | None = _libc.malloc(ctypes.c_size_t(size))
            if block is None or block > end:
                _libc.free(ctypes.c_void_p(block))
                break


def collapse() -> None:
    """Put arenas, heap and text into huge pages where that works; before the objects that there are are frozen."""
    heap = range(_heap_start, _pad_heap(), _HUGE)
    arenas = {id(each) // _HUGE * _HUGE for each in (*_kept, *gc.get_objects())}
    # A block that is not wholly one mapping is refused, and stays as it is.
    if any([_collapse(block, _HUGE) for block in sorted(arenas.union(heap))]) and _works(_move_text):
        _move_text()


def _up(address: int) -> int:
    return -(-address // _HUGE) * _HUGE


def _pad_heap() -> int:
    """Move the end of the heap to a huge page: where it is then. The allocator sees that somebody else did, and goes on
    behind it.
    """
    global padding
    end: int = _libc.sbrk(ctypes.c_long(0))
    if _libc.sbrk(ctypes.c_long(_up(end) - end)) != _FAILED:
        padding += _up(end) - end
    return _libc.sbrk(ctypes.c_long(0))


def _collapse(start: int, size: int) -> bool:
    return _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _COLLAPSE) == 0


def _works(body: Callable[[], None]) -> bool:
    """Whether a process still runs after it; asked in one that ends."""
    if (pid := os.fork()) == 0:
        try:
            body()
            exec(compile("sorted(str(each) for each in range(9))", "<trial>", "exec"))  # noqa: S102
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the exit status is the answer
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


class _Symbol(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("at", ctypes.c_void_p),
    ]
    base: int | None


def _text() -> Iterator[tuple[int, int]]:
    """(start, end) of what is mapped of the interpreter's file and never written: text and constants, by the program
    headers at its beginning.
    """
    symbol = _Symbol()
    of_interpreter = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p)
    if not _libc.dladdr(of_interpreter, ctypes.byref(symbol)) or not symbol.base:
        return
    header = ctypes.string_at(symbol.base, 64)
    (offset,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    loaded: list[tuple[int, int, int]] = []
    for at in range(count):
        entry = ctypes.string_at(symbol.base + offset + at * size, size)
        kind, flags, _, address, _, _, length = struct.unpack_from("<IIQQQQQ", entry)
        if kind == _LOADED:
            loaded.append((address // _PAGE * _PAGE, -(-(address + length) // _PAGE) * _PAGE, flags))
    bias = symbol.base - loaded[0][0]
    start = end = loaded[0][0]
    for first, last, flags in loaded:
        if first != end or flags & _WRITABLE:
            yield bias + start, bias + end
            start = first
        if flags & _WRITABLE:
            return
        end = last


def _move_text() -> None:
    """Put copies of the interpreter's text and constants, in huge pages, in the place of what is mapped of its file.
    OSError where there are none.
    """
    for first, last in list(_text()):
        start, end = _up(first), last // _HUGE * _HUGE
        if start >= end:
            continue
        size, room = ctypes.c_size_t(end - start), ctypes.c_size_t(end - start + _HUGE)
        whole = _libc.mmap(None, room, _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, ctypes.c_long(0))
        if whole == _FAILED:
            raise OSError(ctypes.get_errno(), "no memory for the text")
        copy = ctypes.c_void_p(_up(whole))
        ctypes.memmove(copy, start, end - start)
        moved = (
            _collapse(_up(whole), end - start)
            and _libc.mprotect(copy, size, _READ | _EXECUTE) == 0
            and _libc.mremap(copy, size, size, _MAY_MOVE | _FIXED, ctypes.c_void_p(start)) == start
        )
        _libc.munmap(ctypes.c_void_p(whole), room)
        if not moved:
            raise OSError(ctypes.get_errno(), "no huge pages for the text")
