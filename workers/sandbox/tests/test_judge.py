"""Verdicts of programs: each status, the rules for a program's text, and programs that attack the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from service import QUICK, Service, descendants, wait_until, zygotes

DOUBLE = "def double(x):\n    return 2 * x\n"
FINE = [DOUBLE, "assert double(2) == 4"]


def test_pass_and_assertion_failed(service: Service) -> None:
    assert service.judge(DOUBLE, "assert double(2) == 4", "assert double(2) == 5") == [
        {"status": "pass"},
        {"status": "assertion_failed", "reason": "got 4"},
    ]


def test_raised(service: Service) -> None:
    assert service.judge(DOUBLE, "assert double() == 4", "assert double({}) == 4")[1] == {
        "status": "raised",
        "reason": "TypeError: unsupported operand type(s) for *: 'int' and 'dict'",
    }


def test_tests_in_the_process_of_the_program_are_marked(service: Service) -> None:
    tests = ["x = double(2)\nassert x == 4", "x = double(2)\nassert x == 5", "x = double("]
    outcomes = service.judge(DOUBLE, *tests)
    assert [outcome["status"] for outcome in outcomes] == ["pass", "assertion_failed", "raised"]
    assert not any("inside" in outcome for outcome in outcomes)
    outcomes = service.judge(DOUBLE, *(f"import inspect\n{test}" for test in tests[:2]))
    assert [outcome["status"] for outcome in outcomes] == ["pass", "assertion_failed"]
    assert all(outcome["inside"] for outcome in outcomes)


def test_two_time_outs_end_a_program(service: Service) -> None:
    program = "def f(x):\n    while x: pass\n    return 1\n"
    tests = ["assert f(1) == 1", "assert f(0) == 1", "assert f(1) == 1", "assert f(0) == 1"]
    assert service.statuses(program, *tests) == ["timeout", "pass", "timeout", "not_run"]


def test_program_cpu_time_is_limited(service: Service) -> None:
    program = """
import time
def f():
    end = time.process_time() + 0.15
    while time.process_time() < end: pass
    return 1
"""
    statuses = service.statuses(program, *["assert f() == 1"] * 12, cpuSecondsPerProgram=0.5)
    assert statuses[:3] == ["pass"] * 3
    assert statuses[-1] == "not_run"


@pytest.mark.parametrize(
    "program", ["def f(:", "import no_such_module", "1 / 0", "raise SystemExit(0)", "def f(): pass\nwhile True: pass"]
)
def test_load_error(service: Service, program: str) -> None:
    assert service.statuses(program, "assert f() is None", "assert True") == ["load_error"] * 2


def test_sleeping_is_a_timeout(service: Service) -> None:
    program = "import time\ndef f():\n    time.sleep(1000)\n"
    assert service.statuses(program, "assert f() is None", "assert callable(f)") == ["timeout", "pass"]


def test_own_checks_of_a_program_are_removed(service: Service) -> None:
    program = DOUBLE + "assert double(1) == 3\nprint(double(1))\nif __name__ == '__main__':\n    raise ValueError\n"
    result = service.ask("judge", jobs=[{"id": "p", "program": program, "tests": FINE[1:]}])
    assert result["verdicts"] == [{"id": "p", "outcomes": [{"status": "pass"}], "flags": ["stripped"]}]


def test_verdicts_repeat(service: Service) -> None:
    program = """
import random
values = [random.random() for _ in range(3)]
def f():
    return [hash('a'), *values, *{'x', 'y', 'z'}, object()]
"""
    calls = ["f()[:-1]", "f()[-1]", "str(f()[-1])", "[][f()[-1]]"]
    jobs = [{"id": str(number), "program": program + "\n" * number, "calls": calls} for number in range(4)]
    values = [value["results"] for value in service.ask("evaluate", jobs=jobs)["values"]]
    assert [result["status"] for result in values[0]] == ["value", "raised", "raised", "raised"]
    assert all(value == values[0] for value in values)


def test_dataclasses_threads_and_asyncio_work(service: Service) -> None:
    program = """
from __future__ import annotations
import asyncio, threading
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

@dataclass
class Point:
    x: int

class Colour(IntEnum):
    RED = 1

async def later(x):
    await asyncio.sleep(0.001)
    return x

def f(x): return asyncio.run(later(Point(x))).x
def g(x): return list(ThreadPoolExecutor(2).map(lambda y: y + 1, x))
def h(x): return Counter(x)
"""
    tests = [
        "assert f(3) == 3",
        "assert g([1]) == [2]",
        "assert h('aab') == {'a': 2, 'b': 1}",
        "assert Colour.RED == 1",
    ]
    assert service.statuses(program, *tests) == ["pass"] * 4


def test_evaluate(service: Service) -> None:
    calls = ["double(3)", "double('a')", "double(None)", "object()", "double(", "{2, 1}"]
    (value,) = service.ask("evaluate", jobs=[{"id": "p", "program": DOUBLE, "calls": calls}])["values"]
    assert value["results"][0] == {"status": "value", "literal": "6"}
    assert value["results"][1] == {"status": "value", "literal": "'aa'"}
    assert [result["status"] for result in value["results"][2:]] == ["raised", "raised", "raised", "value"]
    assert value["results"][3]["reason"] == "value of type object has no literal"


def test_equal_jobs_get_equal_verdicts_in_order(service: Service) -> None:
    jobs = [
        {"id": str(number), "program": [DOUBLE, "def double(x): return x"][number % 2], "tests": FINE[1:]}
        for number in range(20)
    ]
    verdicts = service.ask("judge", jobs=jobs)["verdicts"]
    assert [verdict["id"] for verdict in verdicts] == [str(number) for number in range(20)]
    assert [verdict["outcomes"][0]["status"] for verdict in verdicts] == ["pass", "assertion_failed"] * 10


def attack(name: str, statuses: str, *lines: str, seconds: float = QUICK["cpuSecondsPerTest"]) -> Any:
    """A program, the statuses that are right for its tests `assert f() == 4` and `assert f() == 5`, their CPU time."""
    return pytest.param("\n".join(lines), statuses.split(), seconds, id=name)


ATTACKS = [
    attack(
        "loop inside except BaseException",
        "timeout timeout",
        "def f():",
        "  while True:",
        "    try:",
        "      while True: pass",
        "    except BaseException: pass",
    ),
    attack("loop in C", "timeout timeout", "def f(): return 10 ** 10 ** 9"),
    attack("regular expression", "timeout timeout", "import re", "def f(): return re.match('(a+)+$', 'a' * 60 + 'b')"),
    attack(
        "time-out swallowed",
        "timeout timeout",
        "def f():",
        "  try:",
        "    while True: pass",
        "  except BaseException: return 4",
    ),
    attack(
        "timer disarmed",
        "timeout timeout",
        "import signal",
        "def f():",
        "  signal.setitimer(signal.ITIMER_PROF, 0)",
        "  while True: pass",
    ),
    attack(
        "signals ignored",
        "timeout not_run",
        "import signal",
        "for s in (14, 24, 27): signal.signal(s, signal.SIG_IGN)",
        "def f():",
        "  while True: pass",
    ),
    attack("memory at once", "raised raised", "def f(): return bytearray(4 << 30)"),
    # Touching so many pages takes longer than the usual limit on a busy host.
    attack(
        "memory creeping",
        "raised raised",
        "def f():",
        "  x = []",
        "  while True: x.append(bytearray(1 << 20))",
        seconds=5,
    ),
    attack("fork", "refused refused", "import os", "def f(): return os.fork() and 4"),
    attack(
        "fork bomb",
        "pass assertion_failed",
        "import os",
        "def f():",
        "  while True:",
        "    try: os.fork()",
        "    except OSError: return 4",
    ),
    attack(
        "subprocess",
        "refused refused",
        "import subprocess",
        "def f(): return len(subprocess.run(['ls'], capture_output=True).stdout)",
    ),
    attack("exec", "refused refused", "import os", "def f(): os.execv('/usr/bin/true', ['true'])"),
    attack(
        "system through ctypes",
        "assertion_failed assertion_failed",
        "import ctypes",
        "def f(): return ctypes.CDLL(None).system(b'true')",
    ),
    attack(
        "thread bomb",
        "raised raised",
        "import threading, time",
        "def f():",
        "  while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    ),
    attack("kill all", "refused refused", "import os", "def f(): os.kill(-1, 9)"),
    attack("kill the parent", "refused refused", "import os", "def f(): os.kill(os.getppid(), 9)"),
    attack(
        "stop the parent through ctypes",
        "assertion_failed assertion_failed",
        "import ctypes, os",
        "def f(): return ctypes.CDLL(None).tgkill(os.getppid(), os.getppid(), 19)",
    ),
    attack(
        "limits of the parent",
        "refused refused",
        "import os, resource",
        "def f(): resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    ),
    attack(
        "trace the parent",
        "assertion_failed assertion_failed",
        "import ctypes, os",
        "def f(): return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)",
    ),
    attack("socket", "refused refused", "import socket", "def f(): socket.create_connection(('127.0.0.1', 80), 1)"),
    attack("unix socket", "refused refused", "import socket", "def f(): socket.socket(socket.AF_UNIX)"),
    attack("write a file", "refused refused", "def f(): open('/tmp/x', 'w').write('x')"),
    attack("write into the interpreter", "refused refused", "import os", "def f(): open(os.__file__, 'a').write('x')"),
    attack("read /etc/passwd", "raised raised", "def f(): return open('/etc/passwd').read()"),
    attack("read /proc", "raised raised", "def f(): return open('/proc/self/environ').read()"),
    attack(
        "environment",
        "pass assertion_failed",
        "import os",
        "def f(): return 4 if set(os.environ) <= {'PYTHONHASHSEED', 'LANG', 'LC_CTYPE', 'PWD'} else 0",
    ),
    attack(
        "100 MB of output",
        "pass assertion_failed",
        "def f():",
        "  for _ in range(100): print('x' * (1 << 20))",
        "  return 4",
    ),
    attack("deep recursion", "raised raised", "def f(): return f()"),
    attack(
        "deep recursion in C",
        "killed killed",
        "import sys",
        "sys.setrecursionlimit(10**9)",
        "def f():",
        "  x, y = [], []",
        "  for _ in range(10**5): x, y = [x], [y]",
        "  return x == y",
    ),
    attack("segmentation fault", "killed killed", "import ctypes", "def f(): ctypes.string_at(0)"),
    attack("abort", "killed killed", "import os", "def f(): os.abort()"),
    attack("kill itself", "killed killed", "import os", "def f(): os.kill(os.getpid(), 9)"),
    attack("sys.exit", "raised raised", "import sys", "def f(): sys.exit(0)"),
    attack("os._exit", "killed killed", "import os", "def f(): os._exit(0)"),
    attack(
        "AlwaysEqual",
        "assertion_failed assertion_failed",
        "class A:",
        "  def __eq__(self, other): return True",
        "  __ne__ = __lt__ = __eq__",
        "def f(): return A()",
    ),
    attack(
        "AlwaysEqual int",
        "assertion_failed assertion_failed",
        "class A(int):",
        "  def __eq__(self, other): return True",
        "  __hash__ = None",
        "def f(): return A(3)",
    ),
    attack("huge value", "assertion_failed assertion_failed", "def f(): return [0] * 10**6"),
    attack("endless value", "assertion_failed assertion_failed", "def f():", "  x = []", "  x.append(x)", "  return x"),
    attack("input", "raised raised", "def f(): return input()"),
    attack("result channel closed", "killed killed", "import os", "def f():", "  os.closerange(3, 99)", "  return 4"),
    attack(
        "records of its own",
        "killed killed",
        "import os",
        "def f():",
        "  for _ in range(9): os.write(3, (17).to_bytes(4, 'big') + b'{\"status\":\"ran\"} ')",
        "  return 4",
    ),
    attack(
        "garbage in the channel",
        "killed not_run",
        "import os",
        "def f():",
        "  os.write(3, b'\\xff' * 1000)",
        "  return 4",
    ),
    attack(
        "frame walk",
        "pass assertion_failed",
        "import sys",
        "def f():",
        "  frame = sys._getframe()",
        "  while frame:",
        "    for value in list(frame.f_locals.values()):",
        "      if isinstance(value, list) and value and isinstance(value[0], list):",
        "        value[:] = [['4']] * len(value)",
        "    frame = frame.f_back",
        "  return 4",
    ),
]


@pytest.mark.parametrize(("program", "statuses", "seconds"), ATTACKS)
def test_attack(attacked: tuple[Service, bool], program: str, statuses: list[str], seconds: float) -> None:
    service, usual = attacked
    own = {"cpuSecondsPerTest": seconds, "cpuSecondsPerProgram": 5 * seconds}
    jobs = [
        {"id": "before", "program": DOUBLE + "# before\n", "tests": FINE[1:]},
        {"id": "attack", "program": program, "tests": ["assert f() == 4", "assert f() == 5"], "limits": own},
        {"id": "after", "program": DOUBLE + "# after\n", "tests": FINE[1:] * 3},
    ]
    verdicts = service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"]
    found = [outcome["status"] for outcome in verdicts[1]["outcomes"]]
    if usual:
        assert found == statuses, verdicts[1]
    rights = [status == "pass" for status in statuses]
    # Which layer stops an attack depends on the wall; that none passes does not.
    assert not any(
        status == "unjudged" or (status == "pass") > right for status, right in zip(found, rights, strict=True)
    )
    assert all(outcome == {"status": "pass"} for index in (0, 2) for outcome in verdicts[index]["outcomes"])
    # Around a zygote there are two processes of its wall, if it has one.
    around = {"weak": 1}.get(service.versions["level"], 3)
    assert "unshare" in service.versions["isolation"] or wait_until(
        lambda: len(descendants(service.process.pid)) == around * len(zygotes(service))
    )
