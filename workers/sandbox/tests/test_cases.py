"""Cases of each kind in which verdicts have been wrong: forms of tests, values, scripts, cheats."""

from __future__ import annotations

from typing import Any

import pytest
from forms_of_tests import FORMS, RIGHT, STRONG, VACUOUS, WEAK, WRONG
from service import Service


def outcomes(service: Service, program: str, *tests: Any, **limits: float) -> list[dict[str, Any]]:
    jobs = [{"id": "p", "program": program, "tests": list(tests)}]
    return service.ask("judge", jobs=jobs, limits=limits)["verdicts"][0]["outcomes"]


def statuses(service: Service, program: str, *tests: Any, **limits: float) -> list[str]:
    return [outcome["status"] for outcome in outcomes(service, program, *tests, **limits)]


@pytest.mark.parametrize("test", FORMS.values(), ids=FORMS.keys())
def test_tests_are_recognised_by_what_they_do(service: Service, test: str) -> None:
    assert statuses(service, RIGHT, test) == ["pass"], outcomes(service, RIGHT, test)
    assert "pass" not in statuses(service, WRONG, test)


def test_what_asserts_nothing_is_no_pass(service: Service) -> None:
    assert len(VACUOUS) >= 60
    together = outcomes(service, RIGHT, *VACUOUS, cpuSecondsPerProgram=30)
    # Next to other tests, a test may be judged in another way than alone.
    jobs = [{"id": str(at), "program": RIGHT, "tests": [test]} for at, test in enumerate(VACUOUS)]
    alone = [each["outcomes"][0] for each in service.ask("judge", jobs=jobs)["verdicts"]]
    for found in (together, alone):
        assert [
            (test, outcome) for test, outcome in zip(VACUOUS, found, strict=True) if outcome["status"] != "vacuous"
        ] == []


def test_what_nearly_every_program_passes_is_weak_or_vacuous(service: Service) -> None:
    found = outcomes(service, RIGHT, *WEAK, cpuSecondsPerProgram=30)
    kept = [(test, each) for test, each in zip(WEAK, found, strict=True) if each["status"] == "pass"]
    assert [test for test, each in kept if not each.get("weak")] == []
    assert {each["status"] for each in found} <= {"pass", "vacuous"}
    found = outcomes(service, RIGHT, *STRONG, cpuSecondsPerProgram=30)
    assert [(test, each) for test, each in zip(STRONG, found, strict=True) if each != {"status": "pass"}] == []


def test_a_check_of_several_functions_is_vacuous(service: Service) -> None:
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    (found,) = outcomes(service, RIGHT + "def g(x):\n    return x\n", test)
    assert found == {"status": "vacuous", "reason": "check is not called, and the program has 2 public functions"}


def test_a_library_that_is_missing_is_refused(service: Service) -> None:
    (found,) = outcomes(service, RIGHT, "import no_such_library\nassert f(2) == 4")
    assert found == {"status": "refused", "reason": "the library no_such_library is not there"}
    (found,) = outcomes(service, RIGHT, "def test_a(capfdbinary):\n    assert f(2) == 4")
    assert found == {"status": "refused", "reason": "the fixture capfdbinary is not there"}


def test_an_import_is_set_up_for_later_tests(service: Service) -> None:
    tests = ["import math", "assert math.isclose(f(2), 4)", "import cmath"]
    assert statuses(service, RIGHT, *tests) == ["pass", "pass", "vacuous"]


def test_marks_of_tests(service: Service) -> None:
    found = service.ask(
        "judge", jobs=[{"id": "p", "program": RIGHT, "tests": ["f(2) == 4", "assert f(2) is not None"]}]
    )
    assert found["verdicts"][0] == {
        "id": "p",
        "outcomes": [{"status": "pass", "repaired": True}, {"status": "pass", "weak": True}],
        "flags": ["repaired", "weak"],
    }


VALUES = {
    "powers": ("def f(a, b): return a ** b", "assert f(2, 1000) == 2 ** 1000\nassert f(10, 200) - 1 == 10 ** 200 - 1"),
    "factorial": ("import math\nf = math.factorial\ndef g(n): return f(n)", "assert g(1700) - 1 > 10"),
    "digits": ("def f(n): return 10 ** n", "assert -f(4000) < 0 and abs(f(4000)) > 1"),
    "long list": ("def f(n): return [0] * n", "assert f(100000) == [0] * 100000"),
    "long text": ("def f(n): return 'a' * n", "assert f(300000) == 'a' * 300000"),
    "wide text": ("def f(n): return '\u00e9' * n", "assert f(300000) == '\u00e9' * 300000"),
    "many floats": ("def f(n): return [x / 3 for x in range(n)]", "assert f(50000) == [x / 3 for x in range(50000)]"),
    "range": ("def f(n): return range(0, n, 2)", "assert 4 in f(10) and 5 not in f(10) and f(4) == range(0, 4, 2)"),
    "views": ("def f(): return {'a': 1}.keys()", "assert f() == {'a'} and list(f()) == ['a']"),
    "items": ("def f(): return {'a': 1}.items()", "assert sorted(f()) == [('a', 1)]"),
    "bytearray": ("def f(): return bytearray(b'ab')", "assert f() == b'ab'"),
    "UserDict": ("from collections import UserDict\ndef f(): return UserDict(a=1)", "assert f() == {'a': 1}"),
    "deque": (
        "from collections import deque\ndef f(): return deque([1, 2])",
        "assert list(f()) == [1, 2] and f()[0] == 1",
    ),
    "Counter": ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    "order": (
        "from collections import OrderedDict as O\ndef f(): return O(b=1, a=2)",
        "assert f() != O(a=2, b=1) and f() == O(b=1, a=2)",
    ),
    "map": ("def f(x): return map(str, x)", "assert list(f([1, 2])) == ['1', '2']"),
    "generator": ("def f(n):\n    for i in range(n): yield i", "assert sum(f(4)) == 6\ng = f(2)\nassert next(g) == 0"),
    "changed later": (
        "items = []\ndef f(x):\n    items.append(x)\n    return items",
        "assert f(1) == [1] and f(2) == [1, 2]",
    ),
    "changed argument": ("def f(x): x.append(1)", "x = []\nf(x)\nassert x == [1]"),
    "changed in place": (
        "def f(m):\n    for r in m: r.reverse()",
        "m = [[1, 2], [3, 4]]\nrow = m[0]\nf(m)\nassert m == [[2, 1], [4, 3]] and row == [2, 1]",
    ),
    "same object": ("def f(x): return x", "x = [1]\nassert f(x) is x"),
    "own class": (
        "class S:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
        "    def __len__(self): return len(self.items)",
        "s = S()\ns.push(1)\ns.items.append(2)\nassert len(s) == 2 and s.items == [1, 2] and isinstance(s, S)",
    ),
    "own equality": (
        "class V:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x "
        "== (o if isinstance(o, tuple) else o.x)\n"
        "    __hash__ = None",
        "assert V((1, 2)) == (1, 2) and V((1, 2)) != (2, 1) and V(3) == V(3)",
    ),
    "equality of a remainder": (
        (
            "class M(int):\n    def __eq__(self, o): return int(self) % 7 == int(o) % 7\n    __hash__ "
            "= int.__hash__\ndef f(x): return M(x)"
        ),
        "assert f(9) == 2",
    ),
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int",
        "assert P(1) == P(1) and P(1) != P(2) and P(3).x == 3",
    ),
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')",
        "p = P(1, 2)\nassert p == (1, 2) and p.x == 1 and p[1] == 2",
    ),
    "enum": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2",
        "assert E.A is E.A and E(2) is E.B and [e.name for e in E] == ['A', 'B']",
    ),
    "IntEnum": (
        "from enum import IntEnum\nclass E(IntEnum):\n    A = 1",
        "x = E.A\nassert x == 1 and x.name == 'A' and x + 1 == 2",
    ),
    "exceptions": (
        (
            "class E(ValueError):\n    def __init__(self, c):\n        super().__init__('bad')\n       "
            " self.code = c\ndef f(): raise E(7)"
        ),
        "try:\n    f()\n    assert False\nexcept E as e:\n    assert e.code == 7 and str(e) == 'bad'",
    ),
    "exception of the library": (
        "import json\ndef f(x): return json.loads(x)",
        "import json\ntry:\n    f('{')\nexcept json.JSONDecodeError:\n    ok = True\nassert ok and f('1') == 1",
    ),
    "raises": (
        "def f(x): raise ValueError('bad')",
        "import pytest\nwith pytest.raises(ValueError, match='bad') as e:\n    f(1)\nassert str(e.value) == 'bad'",
    ),
    "function as argument": ("def f(g, x): return [g(i) for i in x]", "assert f(lambda i: i + 1, [1, 2]) == [2, 3]"),
    "key function": (
        "def f(x, key): return sorted(x, key=key)",
        "assert f(['bb', 'a'], len) == ['a', 'bb']\nassert f([1, 2], lambda i: -i) == [2, 1]",
    ),
    "function as result": ("def f(n): return lambda x: x + n", "add = f(3)\nassert add(4) == 7"),
    "object of the test": (
        "def f(n): return n.v + n.w()",
        "class N:\n    v = 1\n    def w(self): return 2\nassert f(N()) == 3",
    ),
    "equality of an object of the test": (
        "def f(items, x): return x in items and items.index(x)",
        "class N:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v\n"
        "    def __str__(self): return str(self.v)\nassert f([N(1), N(2)], N(2)) == 1",
    ),
    "decorator": (
        "def f(g):\n    def w(*a): return g(*a) + 1\n    return w",
        "@f\ndef h(x):\n    return x\nassert h(1) == 2",
    ),
    "context": (
        "class C:\n    def __enter__(self): return 3\n    def __exit__(self, *a): return True",
        "with C() as c:\n    assert c == 3\nassert C()",
    ),
    "coroutine": ("async def f(x): return x", "import asyncio\nassert asyncio.run(f(3)) == 3"),
    "dates": (
        "from datetime import date, timedelta\ndef f(): return date(2024, 2, 28) + timedelta(2)",
        "assert f() == date(2024, 3, 1) and f().day == 1",
    ),
    "not a number": ("def f(): return float('nan')", "x = f()\nassert x != x and str(x) == 'nan'"),
    "object": ("def f(): return object()", "assert f() != 3 and f() is not None"),
    "list of objects": (
        "class P:\n    def __init__(self, x): self.x = x\ndef f(): return [P(1), P(2)]",
        "assert [p.x for p in f()] == [1, 2]",
    ),
    "static and class methods": (
        (
            "class A:\n    n = 3\n    @classmethod\n    def g(cls): return cls.n\n    @staticmethod\n  "
            "  def h(x): return x"
        ),
        "assert A.g() == 3 and A.h(4) == 4 and A.n == 3",
    ),
    "inheritance": (
        "class A:\n    def g(self): return 1\nclass B(A): pass",
        "b = B()\nassert isinstance(b, A) and b.g() == 1 and issubclass(B, A)",
    ),
    "subclass in the test": (
        "class A:\n    def g(self): return self.h()",
        "class B(A):\n    def h(self): return 5\nassert B().g() == 5",
    ),
    "global state": ("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "assert f() == 1\nassert f() == 2"),
    "cached": (
        "import functools\n@functools.lru_cache\ndef f(x): return x",
        "assert f(2) == 2\nf.cache_clear()\nassert f(3) == 3",
    ),
    "name of a builtin": ("def sum(a, b): return a + b", "assert sum(10, 15) == 25"),
    "source": ("import inspect\ndef f(): return 1\ndef g(): return inspect.getsource(f)", "assert 'return 1' in g()"),
    "reads input at its end": ("def f(x): return x\nn = int(input())\n", "assert f(1) == 1"),
    "print with an effect": (
        "s = []\ndef g():\n    s.append(1)\n    return 1\nprint(g())\ndef f(): return s",
        "assert f() == [1]",
    ),
    "many pipes": ("import os\ndef f(): return len([os.pipe() for _ in range(20)])", "assert f() == 20"),
    "zone": (
        "from datetime import *\ndef f(): return datetime(2020, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))",
        "from datetime import *\nassert f() == datetime(2020, 1, 2, 1, tzinfo=timezone.utc)",
    ),
    "UUID": ("import uuid\ndef f(): return uuid.UUID(int=3)", "from uuid import UUID\nassert f() == UUID(int=3)"),
    "paths": (
        "from pathlib import *\ndef f(): return [Path('/a') / 'b', PureWindowsPath('c:/x')]",
        "from pathlib import *\nassert f() == [Path('/a/b'), PureWindowsPath('c:/x')]",
    ),
    "pattern": ("import re\ndef f(): return re.compile('a')", "import re\nassert f() == re.compile('a')"),
    "array": (
        "from array import array\ndef f(): return array('i', [1])",
        "from array import array\nassert f() == array('i', [1])",
    ),
    "address": (
        "import ipaddress\ndef f(): return [ipaddress.ip_address('::1')]",
        "import ipaddress\nassert f() == [ipaddress.ip_address('::1')]",
    ),
    "name space": (
        "from types import SimpleNamespace as N\ndef f(): return N(a=1)",
        "from types import SimpleNamespace as N\nassert f() == N(a=1)",
    ),
    "slice": ("def f(): return slice(1, 2)", "assert f() == slice(1, 2)"),
    "standard output": (
        "def f(): print('hi')",
        "import io, contextlib\ntext = io.StringIO()\nwith contextlib.redirect_stdout(text):\n    f()\n"
        "assert text.getvalue() == 'hi\\n'",
    ),
}


@pytest.mark.parametrize(("program", "test"), VALUES.values(), ids=VALUES.keys())
def test_right_programs_pass(service: Service, program: str, test: str) -> None:
    """Whether the test is judged from values or runs as it is."""
    found = outcomes(
        service, program, test, f"x = 1\n{test}" if "f() == 1\nassert f() == 2" not in test else "assert f() == 3"
    )
    if program.startswith(("s = []", "items = []")):
        found = found[:1]
    assert [outcome["status"] for outcome in found] == ["pass"] * len(found), found


SCRIPTS = {
    "exit": "print(int(input()) * 2)\nexit()",
    "quit": "print(int(input()) * 2)\nquit(0)",
    "sys.exit": "import sys\nprint(int(input()) * 2)\nsys.exit()",
    "open(0)": "print(int(open(0).read()) * 2)",
    "os.read": "import os\nprint(int(os.read(0, 99)) * 2)",
    "/dev/stdin": "print(int(open('/dev/stdin').read()) * 2)",
    "/dev/fd/0": "with open('/dev/fd/0', 'rb') as f: print(int(f.read()) * 2)",
    "/proc/self/fd/0": "import pathlib\nprint(int(pathlib.Path('/proc/self/fd/0').read_text()) * 2)",
    "/dev/stdout": "n = int(input())\nwith open('/dev/stdout', 'w') as f: f.write(str(n * 2))",
    "detached": (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), line_buffering=True)\n"
        "print(int(input()) * 2)"
    ),
    "mapped": "import mmap\nprint(int(mmap.mmap(0, 0, access=mmap.ACCESS_READ).read()) * 2)",
    "size of the file": "import os\nprint(int(os.read(0, os.fstat(0).st_size)) * 2)",
    "os.write": "import os\nos.write(1, b'%d' % (int(input()) * 2))",
    "buffer": "import sys\nsys.stdout.buffer.write(b'%d' % (int(sys.stdin.buffer.read()) * 2))",
    "wrapped": (
        "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\nprint(int(input()) * 2)"
    ),
    "thread": (
        "import threading, time\ndef main():\n    n = int(input())\n    time.sleep(0.02)\n    "
        "print(n * 2)\nthreading.Thread(target=main).start()"
    ),
    "_exit": "import os, sys\nprint(int(input()) * 2)\nsys.stdout.flush()\nos._exit(0)",
    "atexit": "import atexit\natexit.register(lambda: print(int(input()) * 2))",
    "fileno": "import os, sys\nos.write(sys.stdout.fileno(), b'%d' % (int(os.read(sys.stdin.fileno(), 9)) * 2))",
    "closed": "import sys\nprint(int(input()) * 2)\nsys.stdout.close()",
    "block": "if __name__ == '__main__':\n    print(int(input()) * 2)",
    "BOM": "\ufeffprint(int(input()) * 2)",
    "CRLF": "n = int(input())\r\nif n:\r\n    print(n * 2)\r\n",
    "stderr": "import sys\nprint('x', file=sys.stderr)\nprint(int(input()) * 2)",
    "seek": "import sys\nsys.stdin.seek(0)\nprint(int(sys.stdin.readline()) * 2)",
    "state": "import sys\nassert not hasattr(sys, 'seen')\nsys.seen = 1\nprint(int(input()) * 2)",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_scripts_run_as_python_runs_them(service: Service, script: str) -> None:
    tests = [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "3\n", "stdout": "6\n"}, {"stdin": "3\n", "stdout": "7\n"}]
    assert statuses(service, script, *tests) == ["pass", "pass", "assertion_failed"]


def test_what_ends_a_script(service: Service) -> None:
    wanted = {"stdin": "", "stdout": "1\n"}
    (found,) = outcomes(service, "import tempfile\ntempfile.TemporaryFile()\nprint(1)", wanted)
    assert found["status"] == "refused", found
    assert outcomes(service, "print(1)\nraise ValueError('no')", wanted) == [
        {"status": "raised", "reason": "ValueError: no"}
    ]
    assert outcomes(service, "import sys\nprint(1)\nsys.exit(3)", wanted)[0]["status"] == "raised"
    assert outcomes(service, "import os\nprint(1, flush=True)\nos._exit(3)", wanted)[0] == {
        "status": "killed",
        "reason": "exited with status 3",
    }
    assert (
        outcomes(service, "while True: print('x' * 100000)", wanted)[0]["reason"]
        == "wrote more than 16 MiB to standard output"
    )
    assert outcomes(service, "import time\ntime.sleep(99)", wanted, cpuSecondsPerTest=0.2)[0]["status"] == "timeout"


def test_outputs_of_megabytes_and_of_odd_characters(service: Service) -> None:
    wanted = "x" * 8_000_000
    assert statuses(service, "print('x' * 8_000_000)", {"stdin": "", "stdout": wanted}) == ["pass"]
    odd = "\u2028\ufffd\ud83d\ude00\u0085"
    assert statuses(service, "print(input())", {"stdin": odd, "stdout": odd}) == ["pass"]
    assert statuses(service, "import sys\nsys.stdout.buffer.write(b'\\xff')", {"stdin": "", "stdout": "\ufffd"}) == [
        "assertion_failed"
    ]


def test_comparisons_are_named_in_the_test(service: Service) -> None:
    def judged(compare: str) -> list[str]:
        wanted = ["0.3\n2", "0.3 2", "0.30000000001\n2"]
        tests = [{"stdin": "", "stdout": stdout, "compare": compare} for stdout in wanted]
        return statuses(service, "print(0.30000000001, 2)", *tests)

    assert judged("floats") == ["assertion_failed", "pass", "assertion_failed"]
    assert judged("tokens") == ["assertion_failed", "assertion_failed", "pass"]
    assert judged("exact") == ["assertion_failed"] * 3


EQUAL = """class A:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __sub__(self, o): return 0.0
    __rsub__ = __add__ = __radd__ = __sub__
    def __hash__(self): return 0
    def __iter__(self): return iter(())
    def __getattr__(self, n): return A()
    def __call__(self, *a, **k): return A()
    def __bool__(self): return True
    def __abs__(self): return 0.0
def f(*a, **k): return A()
"""
CHEATS = {
    "equal to everything": EQUAL,
    "own all and range": (
        "def all(*a): return True\ndef range(*a): return []\ndef sorted(*a): return [2]\ndef f(x): return 0\n"
    ),
    "patched unittest": (
        "import unittest\nfor n in dir(unittest.TestCase):\n    if n.startswith('assert'): "
        "setattr(unittest.TestCase, n, lambda *a, **k: None)\ndef f(x): return 0\n"
    ),
    "skips": "import unittest\ndef f(x): raise unittest.SkipTest('later')\n",
    "no AssertionError": "import builtins\nbuiltins.AssertionError = KeyError\ndef f(x): return 0\n",
    "exits": "def f(x): raise SystemExit(0)\n",
    "ends": "import os\ndef f(x): os._exit(0)\n",
    "stops iteration": "def f(x): raise StopIteration\n",
    "reads the frames": (
        "import sys\ndef f(x):\n    fr = sys._getframe(1)\n    while fr:\n        for v in "
        "[*fr.f_locals.values(), *fr.f_code.co_consts, *fr.f_globals.values()]:\n            if "
        "isinstance(v, int) and v > 3: return v\n        fr = fr.f_back\n"
    ),
    "equal to half": EQUAL.replace("return True\n    def __ne__", "return hash(str(o)) % 2 == 0\n    def __ne__"),
    "forged records": (
        "import os, json\ndef w(d):\n    b = json.dumps(d).encode()\n    os.write(3, "
        "len(b).to_bytes(4, 'big') + b)\ndef f(x):\n    for _ in range(3): w({'status': 'ran'}), "
        "w(['value', ['i', 2 * x], [], [], []])\n    os._exit(0)\n"
    ).replace("2 * x", "0"),
    "replaced harness": (
        "import sys\nfor m in list(sys.modules.values()):\n    for n in ('encode', '_plain', "
        "'_is_plain', 'tokens'):\n        if hasattr(m, n) and m.__name__ in ('program', 'wire', "
        "'served', 'forms'): setattr(m, n, lambda *a: [True])\ndef f(x): return 0\n"
    ),
    "builtin exceptions": "def f(x): raise AssertionError\n",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_pass_no_form_of_test(service: Service, cheat: str) -> None:
    tests = [test for name, test in FORMS.items() if name != "or"]
    found = outcomes(service, cheat, *tests, cpuSecondsPerTest=0.5, cpuSecondsPerProgram=30)
    assert [test for test, outcome in zip(tests, found, strict=True) if outcome["status"] == "pass"] == []


SWALLOWED = [
    '["values", ' + "[" * 400 + "]" * 400 + "]",
    "[" * 100_000,
    '{"status":"values","values":' + "[" * 900 + "]" * 900 + "}",
    '{"status":"values","values":[["q",[["i","' + "7" * 400_000 + '"],["i","' + "3" * 399_999 + '"]]]]}',
    '{"status":"values","values":[["m","1E+999999"]]}',
    '{"status":"values","values":[["i","' + "f" * 900_000 + '"]]}',
    '{"status":"values","values":[["l",[' + "[]," * 300_000 + "[]]]]}",
    '{"status":"values","values":["' + "x" * 900_000 + '"]}',
    '{"status":"values","values":[' + "1" * 100_000 + "]}",
    '{"status":"values","failure":7,"values":[]}',
    '{"status":"done","cheating":[]}',
]


def test_no_record_costs_the_service_much(service: Service) -> None:
    program = (
        "import os\ndef w(b):\n    b = len(b).to_bytes(4, 'big') + b\n    while b: b = "
        "b[os.write(3, b):]\ndef f(*a):\n    w({record!r})\n    os._exit(0)\n"
    )
    jobs = [
        {
            "id": str(at),
            "program": program.replace("{record!r}", repr(record.encode())),
            "tests": ["assert round(f(2)) == 4"],
        }
        for at, record in enumerate(SWALLOWED)
    ]
    jobs.append({"id": "neighbour", "program": RIGHT, "tests": ["assert f(2) == 4"]})
    found = service.ask("judge", jobs=jobs, limits={"cpuSecondsPerTest": 0.5, "cpuSecondsPerProgram": 1})["verdicts"]
    assert [verdict["outcomes"][0]["status"] for verdict in found[-1:]] == ["pass"]
    assert not {"pass", "unjudged"} & {verdict["outcomes"][0]["status"] for verdict in found[:-1]}


# --- comparisons in the process of the program -----------------------------------------------------------------------

WITHIN = "from unittest.mock import patch\nwith patch('builtins.print'):\n    "
"""What makes a test run in the process of the program."""

LIAR = (
    "class A{}:\n    __module__ = {!r}\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n"
    "    def __hash__(s): return hash(1)\ndef f(): return {}\n"
)
LIARS = {
    "alone": LIAR.format("", "program", "A()"),
    "of a library, as it says": LIAR.format("", "re", "A()"),
    "built in, as it says": LIAR.format("(int)", "builtins", "A()"),
    "in a list": LIAR.format("", "program", "[A(), A()]"),
    "in a dictionary": LIAR.format("", "program", "{'a': (A(),)}"),
    "a list": LIAR.format("(list)", "program", "A()"),
}
LIED_TO = [
    *(
        "f() == 5",
        "f() == 'x'",
        "f() == [1, 2]",
        "f() == {'a': (1,)}",
        "f() in [1, 2]",
        "f() in (3, 4)",
        "f() in {1, 2}",
    ),
    *("not (f() != 5)", "[f()] == [5]", "{'k': f()} == {'k': 3}"),
    *("f() == __import__('re').compile('a')", "f() == [__import__('re').compile('a')] * 2"),
]


@pytest.mark.parametrize("name", LIARS)
def test_what_equals_everything_passes_nothing_in_its_own_process(service: Service, name: str) -> None:
    tests = [f"{WITHIN}assert {each}" for each in LIED_TO]
    found = outcomes(service, LIARS[name], *tests, cpuSecondsPerProgram=30)
    assert {each["status"] for each in found} <= {"assertion_failed", "raised"}, found
    assert all(each.get("inside") for each in found)


HONEST = {
    "lists": ("def f(): return [1, [2]]", "f() == [1, [2]] and f() != [1] and f() in [[1, [2]]]"),
    "nothing": ("def f(): return None", "f() == None and f() in (None, 1)"),
    "no number": ("def f(): return float('nan')", "f() != f()"),
    "a class with members": (
        "class P:\n    def __init__(s, x): s.x = x\n    def __eq__(s, o): return s.x == o.x\ndef f(): return P(1)",
        "f() == P(1) and f() != P(2) and [f()] == [P(1)] and f() in [P(2), P(1)]",
    ),
    "a subclass of list": ("class L(list): pass\ndef f(): return L([1])", "f() == [1] and f() != [2]"),
    "enumeration": (
        "from enum import IntEnum\nclass E(IntEnum):\n    A = 3\ndef f(): return E.A",
        "f() == 3 and f() in [3] and f() in {3} and f() != 4",
    ),
    "equals numbers": (
        "class M:\n    def __init__(s, v): s.v = v\n    def __eq__(s, o): return s.v == getattr(o, 'v', o)\n"
        "def f(): return M(2)",
        "f() == 2 and f() == __import__('decimal').Decimal(2) and [f()] == [2]",
    ),
    "a class of a library": (
        "import ipaddress\ndef f(): return ipaddress.ip_address('::1')",
        "f() == __import__('ipaddress').ip_address('::1') and f() in [f()]",
    ),
    "a text": ("def f(): return 'a'", "f() in 'abc' and f() in {'a'} and 'z' not in f()"),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_is_equal_is_so_in_its_own_process(service: Service, name: str) -> None:
    program, condition = HONEST[name]
    assert outcomes(service, program, f"{WITHIN}assert {condition}") == [{"status": "pass", "inside": True}]


# --- objects whose difference to everything is zero ------------------------------------------------------------------

ZERO = (
    "class A:\n    def __sub__(s, o): return {}\n    __rsub__ = __sub__\n    def __float__(s): return 0.0\n"
    "    def __abs__(s): return {}\ndef f(x): return A()\n"
)
NUMBER = (
    "class V:\n    def __init__(s, x): s.x = x\n    def __sub__(s, o): return V(s.x - getattr(o, 'x', o))\n"
    "    def __rsub__(s, o): return V(o - s.x)\n    def __float__(s): return float(s.x)\n"
    "    def __abs__(s): return abs(s.x)\ndef f(x): return V(2 * x)\n"
)
CLOSE = [
    "assert abs(f(2) - 4) < 1e-6",
    "assert abs(4 - f(2)) < 1e-6",
    "import math\nresult = f(2)\nexpected = 4\nassert math.fabs(result - expected) <= 1e-9",
    "difference = f(2) - 4\nassert -1e-6 < float(difference) < 1e-6",
    "assert round(float(f(2) - 4), 6) == 0",
    "import math\nassert math.isclose(float(f(2) - 4), 0, abs_tol=1e-9)",
    f"{WITHIN}assert abs(f(2) - 4) < 1e-6",
]


def test_what_is_close_to_every_number_passes_nothing(service: Service) -> None:
    for difference, absolute in (("A()", "A()"), ("0.0", "0.0"), ("A()", "0.0")):
        assert "pass" not in statuses(service, ZERO.format(difference, absolute), *CLOSE)
    assert statuses(service, NUMBER, *CLOSE) == ["pass"] * len(CLOSE)
