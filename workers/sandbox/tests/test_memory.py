"""No program finds a byte of another job, of a reference, or of a test that is judged outside.

A scanner reads all memory that its process has, and its descriptors, and returns the marks that it finds there: 32
bytes, a tag and random digits. The tag is put together at run time, so that the scanner does not find itself; one mark
in its own text must be found, which shows that it can see.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from sandbox import verdicts, wall
from sandbox.inside import wire
from sandbox.pool import Pool
from serve import Call

TAG = "q7Zm" + "K9xV"

SCANNER = """
import ctypes, gc, os, re
TAG = b"7".join([b"q", b"ZmK9xV"])
PAGE, CHUNK, HOLE = 4096, 1 << 16, 64
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
OWN = "{control}"

def scan():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    seen, found = set(), set()

    def read(address, size):
        written = libc.write(writer, ctypes.c_void_p(address), ctypes.c_size_t(size))
        data = b""
        while len(data) < written:
            data += os.read(reader, size)
        return data if written > 0 else None

    def walk(start, step):
        address, holes, tail, missed = start, 0, b"", 0
        while holes < HOLE and 0 < address < 1 << 47 and address not in seen:
            seen.add(address)
            data = read(address, CHUNK)
            if data is None or len(data) < CHUNK:
                data = b"".join(read(address + at, PAGE) or b"" for at in range(0, CHUNK, PAGE))
            holes = 0 if data else holes + 1
            # A mark may lie across the border of two chunks.
            joined = tail + data if step > 0 else data + tail
            found.update(re.findall(TAG + b"[0-9a-f]{24}", joined))
            tail = data[-64:] if step > 0 else data[:64]
            address += step

    anchors = {libc.sbrk(0) - 1, ctypes.addressof(ctypes.c_int()), id(None), id(libc), id(gc), id(TAG)}
    anchors |= {ctypes.cast(getattr(libc, name), ctypes.c_void_p).value for name in ("write", "malloc")}
    anchors |= {id(each) for each in gc.get_objects()[::7]}
    local = ctypes.create_string_buffer(8)
    libc.pthread_self.restype = ctypes.c_void_p
    anchors.add(libc.pthread_self())
    environ = ctypes.c_void_p.in_dll(libc, "environ").value
    anchors.add(environ)  # at the top of the stack
    for anchor in sorted({anchor // CHUNK * CHUNK for anchor in anchors}):
        if anchor not in seen:
            walk(anchor, CHUNK)
            walk(anchor - CHUNK, -CHUNK)
    for descriptor in range(128):
        if descriptor in (reader, writer):
            continue
        try:
            os.set_blocking(descriptor, False)
            found.update(re.findall(TAG + b"[0-9a-f]{24}", os.read(descriptor, 1 << 20)))
        except OSError:
            pass
        finally:
            try:
                os.set_blocking(descriptor, True)
            except OSError:
                pass
    for file in ("/proc/self/maps", "/proc/self/environ", "/proc/self/cmdline", "/proc/1/cmdline"):
        try:
            found.update(re.findall(TAG + b"[0-9a-f]{24}", open(file, "rb").read()))
        except OSError:
            pass
    return sorted(mark.decode() for mark in found), len(seen) * CHUNK
"""


class Marks:
    """Random marks, all different."""

    def __init__(self) -> None:
        self.made = 0

    def one(self) -> str:
        self.made += 1
        return TAG + secrets.token_hex(12)

    def lines(self, count: int) -> str:
        return "".join(f"m{at} = '{self.one()}'\n" for at in range(count))


def _pool(way: str, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(wall, "ways", lambda: [way])
    if way == "bare" and os.getuid() == 0:
        # Without its own mounts the zygote's user needs an interpreter that everybody may read.
        monkeypatch.setattr(wall, "_PYTHON", ["/usr/bin/python3", *wall._PYTHON[1:]])
        monkeypatch.setattr(wall, "_INTERPRETER", Path("/usr/bin/python3"))
    return Pool(1)


def _planted(marks: Marks, each: int) -> list[dict[str, Any]]:
    """Jobs that hold marks wherever a job can: in programs, values, outputs, tests, messages, input and output."""
    value = marks.one()
    return [
        {"id": "values", "program": f"{marks.lines(each)}def g(x): return '{marks.one()}' + m0\n", "tests": [
            f"assert g(1) == '{value}', '{marks.one()}'", f"assert g('{marks.one()}') == ['{marks.one()}'] * 9",
        ]},
        {"id": "tested", "program": f"{marks.lines(each)}def g(x): return ['{marks.one()}'] * 50\n", "tests": [
            f"x = '{marks.one()}'\nassert g(x) == x", f"def test_a():\n    assert g(1) == '{marks.one()}'\n",
        ]},
        {"id": "raises", "program": f"{marks.lines(each)}def g(x): raise ValueError('{marks.one()}')\n", "tests": [
            "assert g(1)", (f"try:\n    g(1)\n    assert False\nexcept ValueError as e:\n    assert '{marks.one()}' in "
f"str(e)"),
        ]},
        {"id": "script", "program": f"{marks.lines(each)}print(input(), '{marks.one()}')\n", "tests": [
            {"stdin": f"{marks.one()}\n", "stdout": f"{marks.one()}\n"}, {"stdin": marks.one(), "stdout": marks.one()},
        ]},
        {"id": "inside", "program": f"{marks.lines(each)}def g(x): return x\n", "tests": [
            f"from unittest.mock import patch\nassert g('{marks.one()}') == '{marks.one()}'",
        ]},
        {"id": "suites", "program": f"{marks.lines(each)}def g(x): return x + '{marks.one()}'\n", "tests": [
            _suite("g", [[marks.one()] for _ in range(9)], [marks.one() for _ in range(9)]) for _ in range(2)
        ]},
    ]  # fmt: skip


def _suite(entry: str, inputs: list[list[Any]], expected: list[Any]) -> dict[str, Any]:
    tokens = json.dumps(wire.tokens(expected, lambda value: [value]), separators=(",", ":"))
    return {"suite": json.dumps(inputs), "task": "Mbpp/1", "entryPoint": entry, "rules": "0.3.1", "atol": 0,
            "expected": tokens}  # fmt: skip


@pytest.mark.parametrize("way", wall.ways())
def test_no_program_finds_text_of_another(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, marks = _pool(way, monkeypatch), Marks()
    control, test_mark, own_input = marks.one(), marks.one(), marks.one()
    scanner = SCANNER.replace("{control}", control)
    function = scanner + "def f(x):\n    found, size = scan()\n    return [found, size > 8 << 20]\n"
    script = scanner + "input()\nfor mark in scan()[0]: print(mark)\n"
    right = repr([[control], True])
    limits = {"cpuSecondsPerTest": 20, "cpuSecondsPerProgram": 60}
    try:
        jobs = [
            *_planted(marks, 300),
            {"id": "plain scanner", "program": function, "tests": [
                f"assert f(1) == {right}, '{marks.one()}'", f"assert f(2) != '{marks.one()}'",
                f"assert f(3) == {right}",
            ]},
            *_planted(marks, 300),
            {"id": "tested scanner", "program": function, "tests": [
                f"a = '{test_mark}'\nassert f(1) == {right}, a", f"x = '{marks.one()}'\nassert f(2) != x",
                f"assert f(3) == {right} or '{marks.one()}' == 0",
            ]},
            *_planted(marks, 300),
            {"id": "script scanner", "program": script, "tests": [
                {"stdin": marks.one(), "stdout": marks.one()},
                {"stdin": own_input, "stdout": "\n".join(sorted([control, own_input]))},
            ]},
            *_planted(marks, 300),
            {"id": "suite scanner", "program": function, "tests": [
                _suite("f", [[1]], [[[control], True]]),
                _suite("f", [[2], [3]], [[[control], True], [[marks.one()], True]]),
            ]},
            *_planted(marks, 300),
        ]  # fmt: skip
        references = [
            {"id": f"reference {at}", "program": f"{marks.lines(200)}def f(x): return x\n", "tests": [
                f"assert f('{(value := marks.one())}') == '{value}'", f"y = '{value}'\nassert f(y) == y",
            ]}
            for at in range(3)
        ]  # fmt: skip
        found = verdicts.judge(
            pool, {"jobs": jobs, "references": references, "limits": limits}, Call(1, lambda message: None)
        )
    finally:
        pool.close()
    by_id = {verdict["id"]: verdict["outcomes"] for verdict in found["verdicts"] if "scanner" in verdict["id"]}
    assert found["brokenReferences"] == []
    assert [outcome["status"] for outcome in by_id["plain scanner"]] == ["pass"] * 3, by_id
    assert [outcome["status"] for outcome in by_id["tested scanner"]] == ["pass"] * 3, by_id
    assert [outcome["status"] for outcome in by_id["script scanner"]] == ["assertion_failed", "pass"], by_id
    base, plus = by_id["suite scanner"]
    assert (base, plus["status"]) == ({"status": "pass"}, "assertion_failed"), by_id
    assert plus["reason"] == f"input 1: got {right}", by_id
    assert marks.made > 5_000


THIEF = """
import ctypes as C, os, re
L = C.CDLL(None); L.sbrk.restype = C.c_void_p
r, w = os.pipe(); at = L.sbrk(0) & ~4095; pages = []
while len(pages) < 9000:
    at -= 4096
    if L.write(w, C.c_void_p(at), C.c_size_t(4096)) < 1: break
    pages.append(os.read(r, 4096))
memory, answer = b"".join(pages[::-1]), None
for match in re.finditer(rb"def triple_it[(][^\\0\\x80-\\xff]+", memory):
    try:
        names = {}
        exec(match[0].decode(), names)
        if "ctypes" not in match[0].decode(): answer = names["triple" + "_it"]
    except Exception: pass
def triple_it(*given): return answer(*given)
"""


@pytest.mark.parametrize("way", wall.ways())
def test_a_thief_finds_no_reference(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _pool(way, monkeypatch)
    tests = ["assert triple_it(2) == 6", "x = 9\nassert triple_it(3) == x"]
    reference = {"id": "r", "program": "def triple_it(x):\n    return 3 * x\n", "tests": tests}
    try:
        jobs = [reference, {"id": "thief", "program": THIEF, "tests": tests}, {**reference, "id": "s"}]
        params: Any = {"jobs": jobs, "references": [reference]}
        found = verdicts.judge(pool, params, Call(1, lambda message: None))["verdicts"]
    finally:
        pool.close()
    assert [outcome["status"] for outcome in found[0]["outcomes"] + found[2]["outcomes"]] == ["pass"] * 4
    assert not any(outcome["status"] == "pass" for outcome in found[1]["outcomes"]), found[1]
