"""What one value or record costs the supervisor, which reads what hostile processes wrote.

Two ways: bytes that no honest process writes are given to the supervisor's own code, in a process for each. Programs
that return such values run in a real service, whose supervisor is looked at before and after.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import checkers
from sandbox.asserts import MAX_COMMAS, MAX_TAGS, Interaction
from sandbox.pool import ENDED, MAX_OUTPUT, Job, Limits, Report
from sandbox.suites import Suite
from sandbox.tests.service import Service
from sandbox.verdicts import Test, Trial, Work, suite_outcomes, trial_of

BAR_SECONDS, BAR_MEBIBYTES = 0.1, 100
_RECORD = 1_499_900  # of a record, the most that is read
_RECORDS = 4 * 1024 * 1024 - 64  # of all records of a program
_SIZE = struct.Struct(">I")


@dataclass(frozen=True)
class Cost:
    """CPU seconds and MiB that the supervisor took for a case, and what came of it."""

    name: str
    seconds: float
    mebibytes: float
    status: str


# --- bytes that nobody honest writes ---------------------------------------------------------------------------------


def _bytes_of(*records: str | bytes) -> bytes:
    """Records as a process writes them, behind those for "ready" and "loaded"."""
    texts = [b"", b'{"status": "loaded"}', *(text.encode() if isinstance(text, str) else text for text in records)]
    return b"".join(_SIZE.pack(len(text)) + text for text in texts)


def _value(encoded: str) -> bytes:
    return _bytes_of('{"status":"values","values":[' + encoded + "]}")


def _many(item: str, opening: str = '["l",[', closing: str = "]]", size: int = _RECORD) -> str:
    """A container with as many of an item as a record holds."""
    count = (size - len(opening) - len(closing) - 40) // (len(item) + 1)
    return opening + ",".join([item] * count) + closing


def _most(item: str) -> str:
    """A list of as many of an item as are read: a record with more tags is not."""
    count = min(MAX_TAGS // item.count('["') - 1, (_RECORD - 60) // (len(item) + 1))
    return '["l",[' + ",".join([item] * count) + "]]"


def _lists_of(item: str, wide: int) -> str:
    """Lists of so many of an item each, as many as are read: no list is too long by itself."""
    return _most('["l",[' + ",".join([item] * wide) + "]]")


def _colliding() -> str:
    """A set of integers that have one hash value."""
    modulus = (1 << 61) - 1
    return '["s",[' + ",".join(f'["i","{n * modulus:x}"]' for n in range(1, 50_000)) + "]]"


def _numbered(tag: str, size: int) -> str:
    """A set or dictionary of different integers."""
    items: list[str] = []
    used = 0
    for number in range(10**9):
        item = f'["i","{number:x}"]' if tag == "s" else f'[["i","{number:x}"],null]'
        if (used := used + len(item) + 1) > size:
            break
        items.append(item)
    return f'["{tag}",[' + ",".join(items) + "]]"


def _nested(depth: int, inner: str = '["i","1"]') -> str:
    return '["l",[' * depth + inner + "]]" * depth


EQUAL = "assert f() == 1"
_HEX = "f" * (_RECORD - 60)

FORGED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "decimal 1E+3000000, rounded": ("assert round(f()) == 1", lambda: _value('["m","1E+3000000"]')),
    "decimal 1E+2999, rounded": ("assert round(f(), 2) == 1", lambda: _value('["m","1E+2999"]')),
    "decimal to the power 100": ("assert f() ** 100 == 1", lambda: _value('["m","' + "9" * 2_900 + '"]')),
    "fraction of 400,000 digits": (
        "assert f() * 2 == 1",
        lambda: _value('["q",[["i","' + "f" * 400_000 + '"],["i","' + "e" * 400_000 + '"]]]'),
    ),
    "fractions of 2,500 digits, as many as fit": (
        EQUAL,
        lambda: _value(_many('["q",[["i","' + "f" * 2_490 + '"],["i","' + "e" * 2_489 + 'f"]]]')),
    ),
    "record of nested lists, 15 MB": (EQUAL, lambda: _value("[" * 7_500_000 + "]" * 7_500_000)),
    "record of nested lists, 1.5 MB": (EQUAL, lambda: _value("[" * 749_000 + "]" * 749_000)),
    "record 500 deep": (EQUAL, lambda: _value(_nested(250))),
    "record 500 deep, as an object": (EQUAL, lambda: _bytes_of('{"a":' * 500 + "1" + "}" * 500)),
    "lists, 60 deep and wide": (EQUAL, lambda: _value(_many(_nested(50)))),
    "integer of 1.5 million digits": (EQUAL, lambda: _value('["i","' + _HEX + '"]')),
    "integer of 1.5 million digits, calculated with": ("assert f() + 1 == 1", lambda: _value('["i","' + _HEX + '"]')),
    "integer of 1.5 million decimal digits in JSON": (EQUAL, lambda: _value("9" * (_RECORD - 60))),
    "float of 1.5 million digits": (EQUAL, lambda: _value('["f","0x1.' + "f" * (_RECORD - 90) + 'p1"]')),
    "text of 1.5 MB": (EQUAL, lambda: _value('"' + "x" * (_RECORD - 60) + '"')),
    "text of escapes": (EQUAL, lambda: _value('"' + "\\ud83d\\ude00" * ((_RECORD - 60) // 12) + '"')),
    "text in a text": ("assert 'ab' in f()", lambda: _value('"' + "a" * (_RECORD - 60) + '"')),
    "bytes": (EQUAL, lambda: _value('["b","' + "00" * ((_RECORD - 60) // 2) + '"]')),
    "list of integers": (EQUAL, lambda: _value(_many('["i","1"]'))),
    "list of floats": (EQUAL, lambda: _value(_many('["f","0x1p0"]'))),
    "list of nothing": (EQUAL, lambda: _value(_many("null"))),
    "list of empty lists": (EQUAL, lambda: _value(_many('["l",[]]'))),
    "list of empty dictionaries": (EQUAL, lambda: _value(_many('["d",[]]'))),
    "list of empty JSON lists": (EQUAL, lambda: _value(_many("[]", "[", "]"))),
    "list of empty JSON objects": (EQUAL, lambda: _value(_many("{}", "[", "]"))),
    "list of objects without encoding": (EQUAL, lambda: _value(_many('["o",["t",true]]'))),
    "list of decimals": (EQUAL, lambda: _value(_many('["m","1E9"]'))),
    "list of complex numbers": (EQUAL, lambda: _value(_many('["c",["0x1p0","0x1p0"]]'))),
    **{
        f"{what}, as many as are read": (EQUAL, functools.partial(lambda item: _value(_lists_of(item, 100)), item))
        for what, item in {
            "integers": '["i","1"]',
            "floats": '["f","0x1.5555555555555p-2"]',
            "complex numbers": '["c",["0x1.5555555555555p-2","0x1.5555555555555p-2"]]',
            "decimals": '["m","1E9"]',
            "fractions": '["q",[["i","1"],["i","3"]]]',
            "objects without encoding": '["o",["t",true]]',
            "empty lists": '["l",[]]',
            "empty dictionaries": '["d",[]]',
            "dictionaries": '["d",[["a",["i","1"]]]]',
            "lists in lists": _nested(50),
            "texts": '["t",["x","y"]]',
        }.items()
    },
    "empty JSON lists, as many as are read": (
        EQUAL,
        lambda: _value("[" + ",".join(["[" + ",".join(["[]"] * 20_000) + "]"] * (MAX_COMMAS // 20_001)) + "]"),
    ),
    "set of one hash value": (EQUAL, lambda: _value(_colliding())),
    "set of integers": (EQUAL, lambda: _value(_numbered("s", _RECORD - 80))),
    "dictionary of integers": (EQUAL, lambda: _value(_numbered("d", _RECORD - 80))),
    "as many values as fit": (EQUAL, lambda: _bytes_of('{"status":"values","values":' + _many("1", "[", "]") + "}")),
    "as many small records as fit": (EQUAL, lambda: _bytes_of(*['{"status":"x"}'] * (_RECORDS // 18))),
    "as many empty records as fit": (EQUAL, lambda: _bytes_of(*[""] * (_RECORDS // 4))),
    "members of a record": (
        EQUAL,
        lambda: _bytes_of(
            '{"status":"raised",' + ",".join(f'"{number:x}":0' for number in range(150_000)) + "}",
        ),
    ),
    "reason of 1.4 MB": (EQUAL, lambda: _bytes_of('{"status":"raised","reason":"' + "é" * 10 + "x" * 1_400_000 + '"}')),
    "reason of addresses": (
        EQUAL,
        lambda: _bytes_of('{"status":"raised","reason":"' + " at 0x1" * 200_000 + '"}'),
    ),
    "records of empty lists, as many as fit": (
        EQUAL,
        lambda: _bytes_of(*['{"status":"values","values":[' + _many("[]", "[", "]", 1_390_000) + "]}"] * 3),
    ),
    "bytes that are no text": (EQUAL, lambda: _bytes_of(b"\xff" * _RECORD)),
}
"""A test and the records that a hostile process writes for it, by what they are."""

OUTPUTS: dict[str, tuple[Test, Callable[[], bytes]]] = {
    "output of lines, 16 MB": (Interaction("", "1\n2\n"), lambda: b"1\n" * (MAX_OUTPUT // 2)),
    "output of words, 16 MB": (Interaction("", "1 2", "tokens"), lambda: b"1 " * (MAX_OUTPUT // 2)),
    "output of words in a line, 16 MB": (Interaction("", "1 2"), lambda: b"1 " * (MAX_OUTPUT // 2)),
    "output of spaces, 16 MB": (Interaction("", "1 2", "tokens"), lambda: b"1" + b" " * (MAX_OUTPUT - 2) + b"3"),
    "output of a digit, 16 MB": (Interaction("", "1.5"), lambda: b"1" * MAX_OUTPUT),
    "output of one character beyond the others, 16 MB": (
        Interaction("", "1"),
        lambda: "😀".encode() + b"x" * (MAX_OUTPUT - 4),
    ),
    "output of spaces in a line, 16 MB": (Interaction("", "1 2"), lambda: b"1" + b" " * (MAX_OUTPUT - 2) + b"3"),
    "output of spaces beyond ASCII, 16 MB": (
        Interaction("", "1 2"),
        lambda: "😀\n".encode() + b" " * (MAX_OUTPUT - 6) + b"3",
    ),
    "output of empty lines beyond ASCII, 16 MB": (
        Interaction("", "1\n2"),
        lambda: "😀".encode() + b"\n" * (MAX_OUTPUT - 5) + b"3",
    ),
    "output that is no text, 16 MB": (Interaction("", "1"), lambda: b"\xff" * MAX_OUTPUT),
    "output for a checker, 16 MB": (
        checkers.Checked(stdin="", checker="def check(*_): return True"),
        lambda: b"x" * MAX_OUTPUT,
    ),
}
"""A test of a script and what a hostile one prints, by what it is."""

ANSWERS: dict[str, Callable[[], bytes]] = {
    "answer of 1.4 MB": lambda: _bytes_of('{"status":"answer","answer":"' + "[" * 1_400_000 + '"}'),
    "answers and more, as many as fit": lambda: _bytes_of(
        *['{"status":"answer","answer":"","more":' + _many("[]", "[", "]", 1_390_000) + "}"] * 3
    ),
    "answer that is no text": lambda: _bytes_of('{"status":"answer","answer":' + _many("[]", "[", "]") + "}"),
}
"""Answers for a checker, by what they are."""

_INPUTS = 3_000
_ANSWERED = '{"status":"answered","slowest":0}'


def _answers_of(*answers: str) -> bytes:
    """The first answers of a program to a suite, and nothing for all the other inputs."""
    return _bytes_of("\n".join([*answers, *["null"] * (_INPUTS - len(answers))]), _ANSWERED)


RIGHT = "answers to a suite, all right in another form"
"""The one case whose answers are right: they pass, and are read in all their forms before that."""

SUITES: dict[str, Callable[[], bytes]] = {
    "answers to a suite, 4 million": lambda: _bytes_of("\n" * (_RECORDS - 64), _ANSWERED),
    "answers to a suite, one of 1.4 MB": lambda: _answers_of('"s","' + "x" * 1_400_000 + '"'),
    "answers to a suite, nested lists": lambda: _answers_of("[" * 30_000),
    "answers to a suite, lists in lists": lambda: _answers_of(*['"l",1,' * 1_000 + "null"] * 4),
    "answers to a suite, a set of one hash value": lambda: _answers_of(
        '"S",1200,' + ",".join(f'"i","{n * ((1 << 61) - 1):x}"' for n in range(1, 1_201))
    ),
    "answers to a suite, an integer of 30,000 digits": lambda: _answers_of('"i","' + "f" * 30_000 + '"'),
    "answers to a suite, a fraction of 30,000 digits": lambda: _answers_of(
        '"q","' + "f" * 15_000 + '","' + "e" * 14_999 + 'f"'
    ),
    "answers to a suite, all wrong": lambda: _answers_of(*['"f","0x1p0"'] * _INPUTS),
    RIGHT: lambda: _answers_of(*["false"] * _INPUTS),
}
"""Answers to the inputs of a suite, by what they are."""


def forged_costs() -> Iterator[Cost]:
    """The cost of each case above, measured in a process of its own; the bytes themselves are there before."""
    for name, (test, data) in FORGED.items():
        yield _measured(name, Work("", (test,) * 3, Limits()), Job(""), Report(ENDED, records=data()))
    for name, (test, output) in OUTPUTS.items():
        yield _measured(
            name, Work("", (test,), Limits()), Job("", stdin=""), Report(ENDED, 0, 0, _bytes_of(), 0, output())
        )
    for name, data in ANSWERS.items():
        checked = checkers.Checked(call="f()", checker="def check(*_): return True")
        yield _measured(name, Work("", (checked,), Limits()), Job("", answers=True), Report(ENDED, records=data()))
    expected = json.dumps(["l", _INPUTS, *["i", 0] * _INPUTS])
    suite = Suite(json.dumps([[]] * _INPUTS), "HumanEval/1", "f", "0.3.1", 1e-6, expected)
    for name, data in SUITES.items():
        job = Job("", suites=("f", [], False, False))
        yield _measured(name, Work("", (suite,), Limits()), job, Report(ENDED, records=data()))


def _measured(name: str, work: Work, job: Job, report: Report) -> Cost:
    # What is made once for all values is made before. Noise only ever adds.
    _trial_of(work, job, Report(ENDED, records=_bytes_of()))
    runs = [_measured_once(name, work, job, report) for _ in range(3)]
    return min(runs, key=lambda cost: cost.seconds)


def _trial_of(work: Work, job: Job, report: Report) -> Trial:
    if job.suites is None:
        return trial_of(work, 0, job, report)
    (outcome,) = suite_outcomes(report, work.suites, brief=False)
    return Trial([], answers={0: outcome}) if isinstance(outcome, tuple) else Trial([outcome] if outcome else [])


def _measured_once(name: str, work: Work, job: Job, report: Report) -> Cost:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the making of the bytes has left
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak("self")
        start = time.process_time()
        trial = _trial_of(work, job, report)
        seconds = time.process_time() - start
        status = trial.statuses[0] if trial.statuses else "none"
        later = "tester" if trial.deferred else "checker" if trial.answers else status
        told = [seconds, _peak("self") - before, later]
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    seconds, mebibytes, status = json.loads(told) if told else (float("inf"), float("inf"), "died")
    return Cost(name, seconds, mebibytes, status)


def _peak(pid: int | str) -> float:
    """The most MiB that a process had in memory since this was set back."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# --- programs in a real service --------------------------------------------------------------------------------------

RETURNED: dict[str, tuple[str, str]] = {
    "returns a decimal 1E+3000000, which is rounded": (
        "from decimal import Decimal\ndef f(): return Decimal('1E+3000000')",
        "assert round(f()) == 1",
    ),
    "returns a fraction of 400,000 digits": (
        "from fractions import Fraction\ndef f(): return Fraction(16 ** 400_000 + 1, 16 ** 399_999)",
        "assert f() * 2 == 1",
    ),
    "returns lists of 15 MB": ("def f(): return [[1]] * 2_000_000", EQUAL),
    "returns lists that are 500 deep": (
        "def f():\n    a = []\n    for _ in range(500): a = [a]\n    return a",
        EQUAL,
    ),
    "returns lists that double 40 times": (
        "def f():\n    a = [1]\n    for _ in range(40): a = [a, a]\n    return a",
        EQUAL,
    ),
    "returns a list that holds itself": ("def f():\n    a = []\n    a.append(a)\n    return a", EQUAL),
    "returns 10 ** 400,000": ("def f(): return 10 ** 400_000", EQUAL),
    "returns a text of 40 MB": ("def f(): return 'x' * 40_000_000", EQUAL),
    "returns integers of one hash value": (
        "def f(): return {n * (2 ** 61 - 1) for n in range(1, 3_000)}",
        "assert f() == {1}",
    ),
    "returns 15,000 floats": ("def f(): return [1.5] * 15_000", EQUAL),
    "prints 15 MB of words": ("print('1 ' * 7_500_000)", ""),
    "writes records 500 deep": (
        "import os, struct\ndef f():\n    text = b'{\"a\":' * 500 + b'1' + b'}' * 500\n"
        "    for d in range(3, 40):\n        try: os.write(d, struct.pack('>I', len(text)) + text)\n"
        "        except OSError: pass\n    return 4",
        EQUAL,
    ),
}
"""A program and its test, by what it does; a test without a text is that of a script."""


def returned_costs(service: Service) -> Iterator[Cost]:
    """The cost of each program above, for the supervisor of a service that has nothing else to do."""
    pid = service.process.pid
    _judge(service, "def f(): return 1", EQUAL)
    for name, (program, test) in RETURNED.items():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before, start = _peak(pid), _seconds(pid)
        status = _judge(service, program, test)
        yield Cost(name, _seconds(pid) - start, _peak(pid) - before, status)


def _judge(service: Service, program: str, test: str) -> str:
    tests: Sequence[Any] = [test] if test else [{"stdin": "", "stdout": "1 2"}]
    verdicts = service.ask("judge", jobs=[{"id": "p", "program": program, "tests": tests}])["verdicts"]
    return verdicts[0]["outcomes"][0]["status"]


def _seconds(pid: int) -> float:
    """CPU seconds of a process without its children, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
