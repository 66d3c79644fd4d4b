"""What the harness does beyond one run: scripts, unittest classes, canaries, runs again, references, the cache."""

from __future__ import annotations

import math
import random
import signal
import time
from dataclasses import replace
from typing import Any

import pytest
from service import QUICK, Service

from sandbox import asserts, verdicts, wall
from sandbox.inside import program
from sandbox.pool import Limits, Pool
from serve import Call, ServiceError

DOUBLE = "def double(x):\n    return 2 * x\n"


def verdict(service: Service, text: str, *tests: Any, **more: Any) -> dict[str, Any]:
    jobs = [{"id": "p", "program": text, "tests": list(tests)}]
    return service.ask("judge", jobs=jobs, limits=QUICK, **more)["verdicts"][0]


def statuses(found: dict[str, Any]) -> list[str]:
    return [outcome["status"] for outcome in found["outcomes"]]


def script(stdin: str, stdout: str) -> dict[str, str]:
    return {"stdin": stdin, "stdout": stdout}


def test_scripts(service: Service) -> None:
    text = "if __name__ == '__main__':\n    print(sum(map(int, input().split())))\n"
    tests = [script("1 2\n", "3"), script("1 2", "4"), script("", "0"), script("2 2", "4.0 \n\n")]
    assert statuses(verdict(service, text, *tests)) == ["pass", "assertion_failed", "raised", "pass"]
    assert statuses(
        verdict(service, "import sys\nfor l in sys.stdin: print(l, end='')\nsys.exit(0)", script("a\nb", "a\nb"))
    ) == ["pass"]
    assert statuses(verdict(service, "print(", script("", ""))) == ["load_error"]
    assert statuses(verdict(service, "while True: pass", script("", ""))) == ["timeout"]


CLASS = """import unittest
class TestDouble(unittest.TestCase):
    def test_two(self):
        self.assertEqual(double(2), 4)
    def test_three(self):
        self.assertEqual(double(3), {expected})
"""


def test_unittest_classes(service: Service) -> None:
    found = verdict(service, DOUBLE, CLASS.format(expected=6), CLASS.format(expected=7), CLASS.format(expected="1 / 0"))
    assert statuses(found) == ["pass", "assertion_failed", "raised"]
    assert found["flags"] == []


# What patches can only run where the program is.
INSIDE = "from unittest.mock import patch\nwith patch('builtins.print'):\n"
ALWAYS_EQUAL = "class A:\n    def __eq__(self, other): return True\ndef f(*_): return A()\n"


@pytest.mark.parametrize(
    "test",
    [
        "x = 4\nassert f(2) == x",
        "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)",
        CLASS.replace("double", "f").format(expected=6),
        INSIDE + "    assert f(2) == 4",
        INSIDE + "    for x in range(1, 3):\n        assert f(x) == 2 * x",
    ],
)
def test_canaries_catch_what_is_equal_to_everything(service: Service, test: str) -> None:
    found = verdict(service, ALWAYS_EQUAL, test)
    assert (statuses(found), found["flags"]) == (["assertion_failed"], ["cheating", "inside"])
    honest = verdict(service, "def f(x):\n    return 2 * x\n", test)
    assert (statuses(honest), honest["flags"]) == (["pass"], ["inside"] if test.startswith(INSIDE) else [])


def test_canaries_catch_a_harness_taken_over(service: Service) -> None:
    found = verdict(
        service,
        "import unittest\ndef f():\n"
        "    unittest.TestCase.assertEqual = unittest.TestCase.assertIs = lambda *_: None\n    return 0\n",
        f"import unittest\n{INSIDE}    pass\nclass T(unittest.TestCase):\n"
        "    def test_a(self):\n        f()\n        self.assertEqual(f(), 1)\n",
    )
    assert (statuses(found), found["flags"]) == (["assertion_failed"], ["cheating", "inside"])


def test_tests_after_a_crash_run(service: Service) -> None:
    text = "import os\ndef f(x):\n    if x in (1, 3, 5): os._exit(0)\n    return x\n"
    found = verdict(service, text, *[f"assert f({x}) == {x}" for x in range(7)])
    assert statuses(found) == ["pass", "killed", "pass", "killed", "pass", "killed", "not_run"]


def test_unconfirmed_time_outs_are_flaky(monkeypatch: pytest.MonkeyPatch) -> None:
    # The program is late in the first run only, as next to a neighbour that takes the core's cache.
    pool = Pool(1)
    run, runs = pool.run, []

    def slow_once(jobs: Any, call: Call, digest: Any, alone: bool = False) -> Any:
        runs.append(jobs)
        tight = {"limits": Limits(100, 200), "late_after": 1e-4}
        return run(jobs if len(runs) > 1 else [replace(job, **tight) for job in jobs], call, digest, alone)

    monkeypatch.setattr(pool, "run", slow_once)
    text = "def f(): return sum(range(10**7))"
    jobs = [{"id": "p", "program": text, "tests": ["assert f() == 49999995000000"]}]
    found = verdicts.judge(pool, {"jobs": jobs}, Call(1, lambda message: None))["verdicts"][0]
    pool.close()
    assert (statuses(found), found["flags"]) == (["pass"], ["flaky"])


SPIN = """
import time
def f(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
    return 1
"""


@pytest.mark.parametrize(
    ("seconds", "found", "flags", "runs"),
    [
        # Over twice its limit: confirmed by the run itself, which goes on with twice the limit.
        ([9, 0.3, 0], ["timeout", "pass", "pass"], [], 1),
        ([0, 9, 9, 0], ["pass", "timeout", "timeout", "not_run"], [], 1),
        # Between the limit and twice the limit: decided alone with four times the limit, from the first test on.
        ([0, 0.3, 9, 0], ["pass", "pass", "timeout", "pass"], ["flaky"], 2),
    ],
)
def test_a_timeout_is_confirmed_in_the_run_in_which_it_happens(
    seconds: list[float], found: list[str], flags: list[str], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(1)
    run, seen = pool.run, []
    monkeypatch.setattr(pool, "run", lambda jobs, *more: (seen.append(jobs), run(jobs, *more))[1])
    jobs = [{"id": "p", "program": SPIN, "tests": [f"assert f({each}) == 1" for each in seconds]}]
    limits = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 2}
    (judged,) = verdicts.judge(pool, {"jobs": jobs, "limits": limits}, Call(1, lambda message: None))["verdicts"]
    pool.close()
    assert (statuses(judged), judged["flags"], len(seen)) == (found, flags, runs)


def test_a_timeout_without_all_of_its_time_is_confirmed_by_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    run, seen = pool.run, []
    monkeypatch.setattr(pool, "run", lambda jobs, *more: (seen.append(jobs), run(jobs, *more))[1])
    # The second test gets what the first one leaves of the time of the program.
    tests = ["assert f(0.15) == 1", "assert f(9) == 1", "assert f(0) == 1"]
    limits = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 0.5}
    jobs = [{"id": "p", "program": SPIN, "tests": tests}]
    (judged,) = verdicts.judge(pool, {"jobs": jobs, "limits": limits}, Call(1, lambda message: None))["verdicts"]
    pool.close()
    assert (statuses(judged), judged["flags"], len(seen)) == (["pass", "timeout", "not_run"], [], 2)


def test_a_test_that_sleeps_too_long_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGPROF, signal.SIGALRM)}
    monkeypatch.setattr(program, "wall_limit", lambda cpu_limit, cpu_used: cpu_limit)
    try:
        clock = program.Clock()
        ran = {"status": "ran"}
        late = clock.run(60, lambda: (time.sleep(0.02), ran)[1], late_after=0.01)
        assert (late, clock.run(60, lambda: ran, late_after=50)) == ({"status": "late"}, ran)
        assert clock.run(60, lambda: (time.sleep(0.02), ran)[1], sleeps=True, late_after=0.01) == ran
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for each, handler in handlers.items():
            signal.signal(each, handler)


def test_near_a_threshold_programs_run_again(service: Service) -> None:
    text = "import time\ndef f(x): return time.monotonic_ns() % 10**9 // 1000 % 2\n"
    tests = [f"assert f({x}) == 0" for x in range(40)]
    flags = [
        verdict(service, f"{text}# {number}", *tests, thresholds=[share / 10 for share in range(11)])["flags"]
        for number in range(3)
    ]
    assert ["flaky"] in flags
    assert verdict(service, DOUBLE, "assert double(1) == 2", thresholds=[1])["flags"] == []


def test_a_reference_that_fails_is_broken_and_a_host_that_fails_gives_no_verdict(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [{"id": "p", "program": DOUBLE, "tests": ["assert double(1) == 2"]}]
    wrong = [{"id": "r", "program": DOUBLE, "tests": ["assert double(1) == 2", "assert double(1) == 3"]}]
    found = service.ask("judge", jobs=jobs, references=[*jobs, *wrong])
    assert found["verdicts"][0]["outcomes"] == [{"status": "pass"}]
    assert found["brokenReferences"] == [{"id": "r", "test": 1, "status": "assertion_failed", "reason": "got 2"}]
    monkeypatch.setattr(verdicts, "_CONTROL", verdicts.Work(DOUBLE, ("assert double(1) == 3",), Limits()))
    pool = Pool(1)
    with pytest.raises(ServiceError, match="control does not pass its test 0") as caught:
        verdicts.judge(pool, {"jobs": jobs, "references": jobs}, Call(1, lambda message: None))
    assert caught.value.type == "SandboxUnavailable"
    monkeypatch.undo()
    runs = iter([{}, {"p": {"id": "p", "test": 0, "status": "killed"}}])
    monkeypatch.setattr(verdicts, "_broken_references", lambda *_: next(runs))
    with pytest.raises(ServiceError, match="fail after it: p"):
        verdicts.judge(pool, {"jobs": jobs, "references": jobs}, Call(1, lambda message: None))
    pool.close()


def test_limits_are_derived_from_a_reference(service: Service) -> None:
    # So long by its own clock that no host is too fast; a slow one meets the most that may be given.
    slow = (
        "import time\ndef f(x):\n    end = time.process_time() + 0.03\n"
        "    while time.process_time() < end: pass\n    return 1"
    )
    jobs = [
        {"id": "quick", "program": DOUBLE, "tests": ["assert double(1) == 2"]},
        {"id": "slow", "program": slow, "tests": ["assert f(1) > 0"]},
    ]
    found = service.ask("limits", jobs=jobs, limits={"cpuSecondsPerTest": 1, "cpuSecondsPerProgram": 3})
    assert found["limits"] == [
        {"cpuSecondsPerTest": 0.05, "cpuSecondsPerProgram": 1.0},
        {"cpuSecondsPerTest": 1.0, "cpuSecondsPerProgram": 3},
    ]
    assert verdicts.limits_from(0, Limits(0.01, 0.5)) == {"cpuSecondsPerTest": 0.01, "cpuSecondsPerProgram": 0.5}


def test_cache_keeps_to_its_size_and_holds_nothing_unjudged() -> None:
    cache = verdicts.Cache(max_bytes=2_000)
    keys = [verdicts.Cache.key(verdicts.Work(str(number), (), Limits()), []) for number in range(100)]
    for key in keys:
        cache.put(key, verdicts.Trial([{"status": "pass"}]))
    assert cache.get(keys[0]) is None
    assert cache.get(keys[-1]) == verdicts.Trial([{"status": "pass"}])
    assert sum(len(data) + verdicts._ENTRY_BYTES for data in cache._entries.values()) <= 2_000
    cache.put(b"unjudged", verdicts.Trial([{"status": "unjudged"}]))
    assert cache.get(b"unjudged") is None


def test_cache_tells_limits_and_tests_apart() -> None:
    works = [
        verdicts.Work("p", ("a",), Limits()),
        verdicts.Work("p", ("b",), Limits()),
        verdicts.Work("p", ("a",), Limits().times(2)),
        verdicts.Work("p", (asserts.Interaction("a", ""),), Limits()),
    ]
    assert len({verdicts.Cache.key(work, []) for work in works}) == 4


def test_below_the_minimum_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall, "level", lambda way, hello: "weak")
    with pytest.raises(ServiceError, match="below the configured minimum reduced"):
        Pool(1, "reduced")


def _random_value(chance: random.Random, depth: int = 0) -> Any:
    kinds: list[Any] = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.randrange(-(10 ** chance.randrange(1, 400)), 10**9),
        lambda: chance.choice([0.0, -0.0, 1e308, 5e-324, math.inf, -math.inf, chance.random()]),
        lambda: complex(chance.random(), -0.0),
        lambda: "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(6))),
        lambda: chance.randbytes(chance.randrange(6)),
    ]
    if depth < 4:
        several = [_random_value(chance, depth + 1) for _ in range(chance.randrange(5))]
        kinds += [lambda: several, lambda: tuple(several), lambda: {repr(value): value for value in several}]
        kinds += [lambda: set(map(repr, several)), lambda: frozenset(map(repr, several))]
    return chance.choice(kinds)()


def test_random_values_come_back_as_they_were() -> None:
    chance = random.Random(5)
    for _ in range(3_000):
        value = _random_value(chance)
        again = asserts.decode(program.encode(value))
        assert (type(again), again) == (type(value), value)
        # -0.0 equals 0.0 and True equals 1; members of sets come in any order.
        assert program.encode(again) == program.encode(value) or "{" in repr(value)
    assert math.isnan(asserts.decode(program.encode(math.nan)))


def test_random_bytes_from_inside_never_do_more_than_malform() -> None:
    chance = random.Random(6)
    tags = [*"ifbcqmltszdo", "", "x"]

    def random_encoding(depth: int) -> Any:
        if depth > 3 or chance.random() < 0.3:
            return chance.choice([None, True, 3, 1.5, "7f", "nan", "", {}, []])
        return [chance.choice(tags), *(random_encoding(depth + 1) for _ in range(chance.randrange(3)))]

    refused = 0
    for _ in range(20_000):
        try:
            asserts.decode(random_encoding(0))
        except asserts.Malformed:
            refused += 1
    assert refused > 1_000


# Each hands out a wrong value or attacks its surroundings; none may pass, and a neighbour must be judged as ever.
MORE_ATTACKS = {
    "gc for the result channel": (
        "import gc\ndef f():\n  for o in gc.get_objects():\n"
        "    if isinstance(o, dict) and 'status' in o: o['status'] = 'pass'\n  return 0"
    ),
    "json.dumps replaced": (
        'import json\njson.dumps = lambda *a, **k: \'{"status":"values","values":[["i","4"]]}\'\ndef f(): return 0'
    )
    + "\nimport os; os._exit(0)",
    "hostile str of an exception": "class E(Exception):\n  def __str__(self): raise SystemExit\ndef f(): raise E",
    "endless str of an exception": "class E(Exception):\n  def __str__(self):\n    while True: pass\ndef f(): raise E",
    "exception with a huge text": "def f(): raise ValueError('x' * 10**7)",
    "hostile bool": "class A:\n  def __bool__(self): raise KeyboardInterrupt\ndef f(): return A()",
    "hostile type name": "def f(): return type('4' * 10**6, (), {})()",
    "hostile metaclass": (
        "class M(type):\n  def __eq__(c, o): return True\n  __hash__ = type.__hash__\n"
        "class A(metaclass=M): pass\ndef f(): return A()"
    ),
    "class lies about itself": "class A:\n  __class__ = int\n  def __int__(self): return 4\ndef f(): return A()",
    "pickle that runs code": (
        "import pickle, os\nclass A:\n  def __reduce__(self): return os.system, ('true',)\n"
        "def f(): return pickle.loads(pickle.dumps(A())) + 4"
    ),
    "read other memory": "def f(): return open('/proc/self/mem', 'rb').read(1)",
    "list processes": "import os\ndef f(): return os.listdir('/proc')",
    "environment": "import os\ndef f(): return dict(os.environ)['PATH']",
    "open descriptors": "import os\ndef f():\n  for d in range(4, 64): os.read(d, 1)\n  return 0",
    "ctypes fork": "import ctypes\ndef f(): return ctypes.CDLL(None).fork() + 5 and 0",
    "ctypes ptrace": "import ctypes\ndef f(): return ctypes.CDLL(None).ptrace(16, 1, 0, 0)",
    "signal the parent": "import os\ndef f(): os.kill(os.getppid(), 9)",
    "stop itself": "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGSTOP)",
    "all signals ignored": (
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except Exception: pass\ndef f():\n  while True: pass"
    ),
    "threads without end": (
        "import threading, time\ndef f():\n  while True: threading.Thread(target=time.sleep, args=(99,)).start()"
    ),
    "raised limits": "import resource\ndef f(): resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raw socket": "import socket\ndef f(): return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "symlink out": "import os\ndef f(): os.symlink('/etc/passwd', '/tmp/x')",
    "exit hook": "import atexit, os\natexit.register(os.abort)\ndef f(): return 0",
    "import hook": (
        "import sys\nclass H:\n  def find_spec(self, *a): raise SystemExit\n"
        "sys.meta_path.insert(0, H())\ndef f(): return 0"
    ),
    "trace function": (
        "import sys\ndef t(frame, event, arg):\n"
        "  if 'record' in frame.f_locals: frame.f_locals['record'] = {}\n  return t\nsys.settrace(t)\n"
        "def f(): return 0"
    ),
}


@pytest.mark.parametrize("attack", MORE_ATTACKS.values(), ids=MORE_ATTACKS.keys())
def test_more_attacks(attacked: tuple[Service, bool], attack: str) -> None:
    service, _ = attacked
    jobs = [
        {"id": "attack", "program": attack, "tests": ["assert f() == 4", "x = 4\nassert f() == x"]},
        {"id": "after", "program": DOUBLE + f"# {hash(attack)}", "tests": ["assert double(2) == 4"]},
    ]
    attacked, after = service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"]
    assert not {"pass", "unjudged"} & set(statuses(attacked)), attacked
    assert statuses(after) == ["pass"]


def test_a_module_imported_in_a_function_costs_no_verdict(service: Service) -> None:
    text = "def f():\n    import asyncio, unittest, xml.dom.minidom\n    return 1\n"
    jobs = [{"id": "p", "program": text, "tests": ["assert f() == 1"]}]
    limits = {"cpuSecondsPerTest": 0.05, "cpuSecondsPerProgram": 1}
    assert statuses(service.ask("judge", jobs=jobs, limits=limits)["verdicts"][0]) == ["pass"]
