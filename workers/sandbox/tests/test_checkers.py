"""Tests with several right answers: forms, checkers with faults, mutants, and attacks on checkers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from checker_cases import QUESTIONS, judged, sample
from service import QUICK, Service

from sandbox import checkers
from sandbox.checkers import Checked

IDENTITY = "def f(x):\n    return x\n"
ECHO = "import sys\nsys.stdout.write(sys.stdin.read())\n"
PERMUTATION = """
def check(input, output, answer):
    (n,) = input
    if type(output) is not list:
        return False, "no list"
    assert sorted(output) == list(range(n)), "no permutation"
    return True
"""
# A checker as careless people write it: it believes in equality, length and truth.
CARELESS = """
def check(input, output, answer):
    return bool(output == answer)
"""


def outcomes(service: Service, program: str, *tests: Any) -> list[dict[str, Any]]:
    jobs = [{"id": "p", "program": program, "tests": list(tests)}]
    return service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"][0]["outcomes"]


def statuses(service: Service, program: str, *tests: Any) -> list[str]:
    return [outcome["status"] for outcome in outcomes(service, program, *tests)]


# --- questions with several right answers ----------------------------------------------------------------------------


def test_all_right_programs_pass(service: Service) -> None:
    programs = [(question, program) for question in QUESTIONS for program in question.programs]
    assert len(QUESTIONS) == 40
    assert len(programs) >= 80
    results = judged(service.ask, programs)
    assert [(each.question.name, each.outcomes) for each in results if not (each.passes and each.is_right)] == []


def test_a_slice_of_the_mutants_fails_where_its_answers_are_wrong(service: Service) -> None:
    results = judged(service.ask, sample(40, seed=1))
    assert sum(not each.is_right for each in results) >= 30
    different = [each for each in results if each.faults or each.passes != each.is_right]
    assert [(each.question.name, each.program, each.outcomes) for each in different] == []


# --- large arguments and answers -------------------------------------------------------------------------------------


def of_json(value: Any, expected: Any) -> dict[str, str]:
    """A test whose argument and value stand in texts of JSON, as LiveCodeBench has them."""
    given, wanted = json.dumps(json.dumps(value)), json.dumps(json.dumps(expected))
    return {"call": f"f(__import__('json').loads({given}))", "expect": f"__import__('json').loads({wanted})"}


def test_arguments_and_answers_may_be_as_large_as_problems_of_contests_have_them(service: Service) -> None:
    numbers = list(range(10**6, 10**6 + 100_000))
    words = ['"quoted\\"', "line\nline", "naïve 雪"] * 5_000
    same = [of_json(numbers, numbers), of_json(words, words), of_json(numbers[:3], numbers[:3])]
    assert statuses(service, IDENTITY, *same) == ["pass"] * 3
    reverse = "def f(x):\n    return x[::-1]\n"
    assert statuses(service, reverse, *same) == ["assertion_failed"] * 3
    length = "def f(x):\n    return len(x)\n"
    assert statuses(service, length, of_json("x" * 5_000_000, 5_000_000)) == ["pass"]
    quoted = "'" + "\"\\'" * 50_000 + "'"
    assert statuses(service, length, {"call": f"f({quoted})", "expect": "100_000"}) == ["pass"]


@pytest.mark.parametrize(
    "call",
    [
        "f(" + "1 + " * 20_000 + "1)",
        "f([" + '"a",' * 80_000 + "])",
        'f("' + "a" * 70_000 + ")",
        "f(" + "r" * 70_000 + ")",
    ],
)
def test_calls_that_are_long_without_their_texts_are_faults(call: str) -> None:
    assert checkers.plan(Checked(call=call, expected=("1",), compare="exact")).fault is not None


def test_plans_of_many_large_tests_are_not_kept() -> None:
    small, large = [
        Checked(call=f"f({json.dumps(text)})", expected=("1",), compare="exact") for text in ("a", "a" * 70_000)
    ]
    plans = [checkers.plan(test) for test in (small, large)]
    assert [checkers.plan(test) for test in (small, large)] == plans
    for at in range(64):
        checkers.plan(Checked(call=f'f("{at}{"b" * 70_000}")', expected=("1",), compare="exact"))
    assert checkers.plan(small) is plans[0]
    assert checkers.plan(large) is not plans[1]


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "status"),
    [
        ({"call": "f([1, 2])", "expect": "[1, 2]"}, "pass"),
        ({"call": "f([1, 2])", "expect": "[2, 1]", "compare": "exact"}, "assertion_failed"),
        ({"call": "f((1, 2))", "expect": "[1, 2]"}, "assertion_failed"),
        ({"call": "f({'a': [1.5]})", "expect": "{'a': [1.5]}"}, "pass"),
        ({"call": "f(2 ** 1000)", "expect": "2 ** 1000"}, "pass"),
        ({"call": "f('x' * 300_000)", "expect": "'x' * 300_000"}, "pass"),
        ({"call": "f(list(range(20_000)))", "expect": "list(range(20_000))"}, "pass"),
        ({"call": "f(float('nan'))", "expect": "float('nan')"}, "pass"),
        ({"call": "f(float('nan'))", "expect": "1.0"}, "assertion_failed"),
        ({"call": "f([2, 1, 1])", "expect": "[1, 2, 1]", "compare": "unordered"}, "pass"),
        ({"call": "f([2, 1])", "expect": "[1, 2, 1]", "compare": "unordered"}, "assertion_failed"),
        ({"call": "f({3, 1})", "expect": "[1, 3]", "compare": "unordered"}, "pass"),
        ({"call": "f([[1], [2]])", "expect": "[[2], [1]]", "compare": "unordered"}, "pass"),
        ({"call": "f([[1, 2]])", "expect": "[[2, 1]]", "compare": "unordered"}, "assertion_failed"),
        ({"call": "f('abc')", "expect": "'cab'", "compare": "unordered"}, "pass"),
        ({"call": "f([0.30000000000000004, 'a'])", "expect": "[0.3, 'a']", "compare": "tolerance"}, "pass"),
        ({"call": "f(1.01)", "expect": "1.0", "compare": "tolerance", "tolerance": 0.1}, "pass"),
        ({"call": "f(1.01)", "expect": "1.0", "compare": "tolerance"}, "assertion_failed"),
        ({"call": "f(1.0000001)", "expect": "1", "compare": "tolerance"}, "assertion_failed"),
        ({"call": "f(float('inf'))", "expect": "1e308", "compare": "tolerance"}, "assertion_failed"),
        ({"call": "f(10 ** 400)", "expect": "1.0", "compare": "tolerance"}, "assertion_failed"),
        ({"call": "f('b')", "anyOf": ["'a'", "'b'"]}, "pass"),
        ({"call": "f('c')", "anyOf": ["'a'", "'b'"]}, "assertion_failed"),
        ({"call": "f([2, 1])", "anyOf": ["[3]", "[1, 2]"], "compare": "unordered"}, "pass"),
        ({"call": "f(9)", "property": "result % 3 == 0 and result == args[0]"}, "pass"),
        ({"call": "f(x=8)", "property": "result % 3 == 0 and result == args[0]"}, "assertion_failed"),
        ({"call": "f(None)", "property": "len(result) == 3"}, "assertion_failed"),
        ({"call": "f(4)", "property": "math.sqrt(result) == 2"}, "pass"),
        ({"call": "sorted(f([2, 1]))", "property": "result == [1, 2] and args == ([2, 1],)"}, "pass"),
        ({"call": "f([1, 0])", "checker": PERMUTATION.replace("(n,) = input", "n = 2")}, "pass"),
        ({"call": "f([1, 1])", "checker": PERMUTATION.replace("(n,) = input", "n = 2")}, "assertion_failed"),
        ({"call": "f(3)", "checker": CARELESS, "expect": "1 + 2"}, "pass"),
        ({"call": "f(3)", "checker": "def check(input, output):\n    return input == (output,)\n"}, "pass"),
        ({"call": "f(1 / 0)", "expect": "1"}, "raised"),
    ],
)  # fmt: skip
def test_forms_of_calls(service: Service, test: dict[str, Any], status: str) -> None:
    assert statuses(service, IDENTITY, test) == [status]


def test_forms_of_scripts(service: Service) -> None:
    order = "def check(input, output, answer):\n    return sorted(input.split()) == sorted(output.split()), 'others'\n"
    same = "def check(input, output, answer):\n    return output == answer\n"
    assert statuses(
        service,
        "print(*reversed(input().split()))",
        {"stdin": "1 2\n", "checker": order},
        {"stdin": "1 2\n", "stdout": "2 1\n", "checker": same},
        {"stdin": "1 2\n", "stdout": "1 2\n", "checker": same},
        {"stdin": "1 2\n", "anyOf": ["1 2", "2 1"]},
        {"stdin": "1 2\n", "anyOf": ["1 2", "3 1"], "compare": "tokens"},
        {"stdin": "1 2\n", "stdout": "2 1"},
    ) == ["pass", "pass", "assertion_failed", "pass", "assertion_failed", "pass"]


def test_calls_and_texts_stand_together(service: Service) -> None:
    tests = ["assert f(1) == 1", {"call": "f(1)", "expect": "1"}, "assert f(1) == 2", {"call": "f(1)", "expect": "2"}]
    assert statuses(service, IDENTITY, *tests) == ["pass", "pass", "assertion_failed", "assertion_failed"]


def test_reasons_and_the_version_of_the_checker(service: Service) -> None:
    test = {"call": "f([0, 2])", "checker": PERMUTATION.replace("(n,) = input", "n = 2")}
    version = hashlib.sha256(test["checker"].encode()).hexdigest()[:16]
    assert outcomes(service, IDENTITY, test, {"call": "f(3)", "expect": "4"}) == [
        {"status": "assertion_failed", "reason": "no permutation", "checker": version},
        {"status": "assertion_failed", "reason": "got 3"},
    ]


def test_a_changed_checker_is_another_verdict(service: Service) -> None:
    checker = "def check(input, output, answer):\n    return {}\n"
    for answer, status in (("True", "pass"), ("False", "assertion_failed"), ("True", "pass")):
        assert statuses(service, IDENTITY, {"call": "f(1)", "checker": checker.format(answer)}) == [status]


def test_crashes_and_timeouts_of_the_program_are_its_own(service: Service) -> None:
    program = (
        "import os\ndef f(x):\n    if x == 1:\n        os._exit(0)\n    while x == 2:\n        pass\n    return x\n"
    )
    tests = [{"call": f"f({x})", "expect": str(x)} for x in (0, 1, 3, 2, 4)]
    assert statuses(service, program, *tests) == ["pass", "killed", "pass", "timeout", "pass"]
    assert statuses(service, "def f(:", tests[0]) == ["load_error"]


# --- checkers with faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checker", "reason"),
    [
        ("def check(", "does not load: SyntaxError"),
        ("1 / 0", "does not load: ZeroDivisionError"),
        ("x = 1", "defines no function check"),
        ("def check(i, o, a):\n    return 1\n", "it answers 1"),
        ("def check(i, o, a):\n    pass\n", "it answers None"),
        ("def check(i, o, a):\n    return True, 3\n", "it answers (True, 3)"),
        ("def check(i, o, a):\n    return o.missing\n", "AttributeError"),
        ("def check(i, o, a):\n    raise SystemExit(0)\n", "SystemExit"),
        ("import os\ndef check(i, o, a):\n    os._exit(0)\n", "exited with status 0"),
        ("def check(i, o, a):\n    return check(i, o, a)\n", "RecursionError"),
        ("def check(i, o, a):\n    return len('x' * 10 ** 10) > 0\n", "MemoryError"),
        ("import os\ndef check(i, o, a):\n    os.write(3, b'nonsense')\n    return True\n", ""),
        ("def check(i, o, a):\n    return open('/etc/passwd').read() != ''\n", "No such file"),
    ],
)
def test_a_fault_of_a_checker_is_no_verdict(service: Service, checker: str, reason: str) -> None:
    first, second = outcomes(service, IDENTITY, {"call": "f(1)", "checker": checker}, {"call": "f(1)", "expect": "1"})
    assert (first["status"], second["status"]) == ("checker_failed", "pass")
    assert reason in first["reason"]


def test_a_checker_that_does_not_end_is_stopped_and_confirmed(service: Service) -> None:
    test = {"call": "f(1)", "checker": "def check(i, o, a):\n    while True:\n        pass\n"}
    assert outcomes(service, IDENTITY, test)[0]["reason"] == "the checker: out of CPU time"


def test_a_checker_that_crashes_on_one_answer_judges_the_others(service: Service) -> None:
    checker = "import os\ndef check(i, o, a):\n    if o == 2:\n        os._exit(1)\n    return o == i[0]\n"
    tests = [{"call": f"f({x})", "checker": checker} for x in (1, 2, 3)]
    assert statuses(service, IDENTITY, *tests) == ["pass", "checker_failed", "pass"]


@pytest.mark.parametrize(
    "test",
    [
        {"call": "f(", "expect": "1"},
        {"call": "f(1)", "expect": "1 +"},
        {"call": "f(1)", "property": "result = 1"},
    ],
)
def test_what_is_no_expression_is_unparsable(service: Service, test: dict[str, Any]) -> None:
    jobs = [{"id": "p", "program": IDENTITY, "tests": [test, "assert f(1) == 1"]}]
    verdict = service.ask("judge", jobs=jobs)["verdicts"][0]
    assert [outcome["status"] for outcome in verdict["outcomes"]] == ["checker_failed", "pass"]
    assert verdict["flags"] == ["unparsable"]


@pytest.mark.parametrize(
    "test",
    [
        {"call": "f(1)"},
        {"call": "f(1)", "expect": "1", "anyOf": ["1"]},
        {"call": "f(1)", "expect": "1", "compare": "fuzzy"},
        {"call": "f(1)", "expect": "1", "tolerance": 1.0},
        {"call": "f(1)", "expect": 1},
        {"call": "f(1)", "anyOf": []},
        {"call": "f(1)", "property": "True", "checker": PERMUTATION},
        {"call": "f(1)", "checker": "x" * 65_537},
        {"stdin": "", "checker": PERMUTATION, "more": 1},
    ],
)
def test_other_forms_are_refused(service: Service, test: dict[str, Any]) -> None:
    service.send({"id": 1, "op": "judge", "params": {"jobs": [{"id": "p", "program": IDENTITY, "tests": [test]}]}})
    assert service.reply()["error"]["type"] == "InvalidInput"


def test_a_reference_whose_checker_fails_is_broken(service: Service) -> None:
    job = {"id": "r", "program": IDENTITY, "tests": [{"call": "f(1)", "checker": "x = 1"}]}
    (broken,) = service.ask("judge", jobs=[], references=[job])["brokenReferences"]
    assert (broken["id"], broken["status"]) == ("r", "checker_failed")


# --- how good a checker is -------------------------------------------------------------------------------------------


# It has a fault for every other answer, by the clock.
_MOODY = """
import time
def check(input, output, answer):
    return True if time.perf_counter_ns() // 1000 % 2 else 1 / 0
"""


def test_a_reference_whose_checker_fails_now_and_then_says_nothing_about_the_host(service: Service) -> None:
    tests = [{"call": "f(1)", "checker": _MOODY}]
    references = [{"id": f"q{at}", "program": f"{IDENTITY}# {at}", "tests": tests} for at in range(40)]
    jobs = [{"id": "p", "program": IDENTITY, "tests": ["assert f(1) == 1"]}]
    result = service.ask("judge", jobs=jobs, references=references, limits=QUICK)
    assert result["verdicts"][0]["outcomes"] == [{"status": "pass"}]
    assert {each["status"] for each in result["brokenReferences"]} == {"checker_failed"}


def test_limits_count_the_texts_and_the_calls_of_a_reference(service: Service) -> None:
    spins = "    end = time.process_time() + 0.02\n    while time.process_time() < end: pass\n"
    slow = f"import time\ndef f(x):\n{spins}    return x"
    text, call = "assert f(1) == 1", {"call": "f(2)", "property": "result == 2"}
    jobs = [{"id": str(at), "program": slow, "tests": tests} for at, tests in enumerate([[text], [call], [text, call]])]
    limits = service.ask("limits", jobs=jobs, limits={"cpuSecondsPerTest": 5, "cpuSecondsPerProgram": 20})["limits"]
    alone, checked, both = [each["cpuSecondsPerTest"] for each in limits]
    assert alone >= 0.4
    assert checked >= 0.4
    assert both >= max(alone, checked)


def test_mutants_tell_good_checkers_from_weak_ones(service: Service) -> None:
    program = "def f(n):\n    return list(range(n))\n"
    good = [{"call": f"f({n})", "checker": PERMUTATION} for n in (4, 5)]
    weak = [{"call": "f(4)", "checker": "def check(i, o, a):\n    return type(o) is list\n"}]
    faulty = [{"call": "f(4)", "checker": "def check(i, o, a):\n    return len(o) == 4\n"}]
    close = [{"call": "f(1)", "property": "abs(result[0] - 0.0) > 1e-6 or True"}]
    jobs = [
        {"id": name, "program": program, "tests": tests}
        for name, tests in (("good", good), ("weak", weak), ("faulty", faulty), ("close", close))
    ]
    found = {each["id"]: each for each in service.ask("mutants", jobs=jobs, mutants=30)["checkers"]}
    assert found == {each["id"]: each for each in service.ask("mutants", jobs=jobs, mutants=30)["checkers"]}
    assert (found["good"]["answers"], found["good"]["accepted"], found["good"]["failed"]) == (2, 2, 0)
    assert found["good"]["mutants"] == 60
    assert found["good"]["killed"] >= 40
    assert found["weak"]["killed"] <= 15
    assert len(found["weak"]["survivors"]) == 3
    assert found["faulty"]["failed"] > 0
    assert found["close"]["killed"] <= 15


def test_most_mutated_answers_of_the_questions_are_rejected(service: Service) -> None:
    jobs = [{"id": each.name, "program": each.programs[0], "tests": each.tests} for each in QUESTIONS[::5]]
    for found in service.ask("mutants", jobs=jobs)["checkers"]:
        assert found["accepted"] == found["answers"], found
        assert found["failed"] == 0, found
        assert found["killed"] >= 0.6 * found["mutants"], found


# --- attacks: none may pass ------------------------------------------------------------------------------------------

EQUAL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __len__(self): return 3
    def __contains__(self, item): return True
    def __iter__(self): return iter([0, 1, 2])
    def __getitem__(self, at): return at
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __call__(self, *a, **k): return True
    def __repr__(self): return "[0, 1, 2]"
    def __reduce__(self): return (list, ([0, 1, 2],))
    __getattr__ = lambda self, name: self
"""
WHOLE = {"call": "f(3)", "checker": PERMUTATION}
ALL_FORMS = [
    WHOLE,
    {"call": "f(3)", "checker": CARELESS, "expect": "[0, 1, 2]"},
    {"call": "f(3)", "expect": "[0, 1, 2]"},
    {"call": "f(3)", "expect": "[0, 1, 2]", "compare": "unordered"},
    {"call": "f(3)", "expect": "[0.0, 1.0, 2.0]", "compare": "tolerance"},
    {"call": "f(3)", "anyOf": ["[0, 1, 2]", "[2, 1, 0]"]},
    {"call": "f(3)", "property": "type(result) is list and sorted(result) == list(range(args[0]))"},
    {"call": "f(3)", "property": "result == [0, 1, 2]"},
]
ATTACKS = {
    "an object that equals everything": EQUAL + "def f(n): return Equal()",
    "such objects in a list": EQUAL + "def f(n): return [Equal(), Equal(), Equal()]",
    "a list that compares as it likes": EQUAL + "class L(list):\n    __eq__ = lambda s, o: True\n    __hash__ = None\n"
    "def f(n): return L([9])",
    "a number that compares as it likes": "class I(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n"
    "def f(n): return [I(7)] * 3",
    "a class that lies": "class L:\n    __class__ = property(lambda s: list)\n    __eq__ = lambda s, o: True\n"
    "def f(n): return L()",
    "iteration and repr that lie": "class L(list):\n    def __iter__(s): return iter([0, 1, 2])\n"
    "    def __len__(s): return 3\n    def __repr__(s): return '[0, 1, 2]'\ndef f(n): return L([5, 5])",
    "a metaclass that lies": "class M(type):\n    def __eq__(c, o): return True\n"
    "    def __hash__(c): return hash(list)\n"
    "    def __instancecheck__(c, i): return True\n    def __subclasscheck__(c, i): return True\n"
    "class L(metaclass=M):\n    def __eq__(s, o): return True\ndef f(n): return L()",
    "a generator": "def f(n): return (x for x in range(n))",
    "a verdict": "def f(n): return (True, 'accepted')",
    "a record": "def f(n): return {'status': 'accepted'}",
    "True": "def f(n): return True",
    "nan": "def f(n): return [float('nan')] * n",
    "a huge int": "def f(n): return [10 ** 200_000] * n",
    "a deep list": "def f(n):\n    x = []\n    for _ in range(100_000): x = [x]\n    return x",
    "a list that holds itself": "def f(n):\n    x = []\n    x.append(x)\n    return x",
    "a giant answer": "def f(n): return list(range(3_000_000))",
    "many equal hash values": "def f(n): return {i * (2 ** 61 - 1) for i in range(20_000)}",
    "an exit": "import sys\ndef f(n): sys.exit(0)",
    "a hard exit": "import os\ndef f(n): os._exit(0)",
    "patched builtins": "import builtins\nbuiltins.sorted = lambda *a, **k: [0, 1, 2]\n"
    "builtins.type = lambda *a: list\n"
    "builtins.range = lambda *a: [9]\nbuiltins.list = lambda *a: [9]\nbuiltins.len = lambda *a: 3\n"
    "def f(n): return [9]",
    "patched encoding": "import sys\nfor m in ('wire', 'answers', 'program', 'json'):\n"
    "    for k, v in list(vars(sys.modules[m]).items()):\n"
    "        if callable(v) and not k.startswith('__') and k not in ('TimeOut', 'failure'):\n"
    "            vars(sys.modules[m])[k] = lambda *a, **k: ['j', [True, 'accepted']]\ndef f(n): return 0",
    "its own records": "import os, struct, json\ndef f(n):\n"
    "    for text in ({'status': 'accepted'}, {'status': 'pass'}, {'status': 'answer', 'answer': 'accepted'}):\n"
    "        data = json.dumps(text).encode()\n        os.write(3, struct.pack('>I', len(data)) + data)\n"
    "    os._exit(0)",
    "an answer that is no data": "import os, struct, json\ndef f(n):\n"
    "    for text in ['[\"object\", 1]', '[[[[', '[\"l\", 99999999, 1]', '[\"D\", \"eval\", 0]', '{}', 'null',\n"
    "                 '[]', '']:\n"
    "        data = json.dumps({'status': 'answer', 'answer': text}).encode()\n"
    "        os.write(3, struct.pack('>I', len(data)) + data)\n    os._exit(0)",
    # The pattern does not find itself.
    "the checker in memory": "import gc, re\nNEEDLE = re.compile('no perm[u]tation')\ndef f(n):\n"
    "    for o in gc.get_objects():\n        try:\n            found = NEEDLE.search(str(o)[:100_000])\n"
    "        except Exception:\n            continue\n        if found:\n            return [0, 1, 2]\n    return 0",
    "the checker in the memory of the process": "import re\nNEEDLE = re.compile(b'no perm[u]tation')\ndef f(n):\n"
    "    for line in open('/proc/self/maps'):\n        a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
    "        try:\n            with open('/proc/self/mem', 'rb') as m:\n                m.seek(a)\n"
    "                if NEEDLE.search(m.read(b - a)):\n                    return [0, 1, 2]\n"
    "        except (OSError, ValueError, OverflowError):\n            pass\n    return 0",
    "the checker in descriptors": "import os, re\nNEEDLE = re.compile(b'no perm[u]tation')\ndef f(n):\n"
    "    for fd in range(200):\n        try:\n            if fd != 3 and NEEDLE.search(os.pread(fd, 10 ** 6, 0)):\n"
    "                return [0, 1, 2]\n        except OSError:\n            pass\n    return 0",
    "the checker in the frames": "import re, sys\nNEEDLE = re.compile('no perm[u]tation')\ndef f(n):\n"
    "    frame = sys._getframe()\n    while frame:\n"
    "        for v in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
    "            if isinstance(v, (str, tuple, list, dict)) and NEEDLE.search(str(v)): return [0, 1, 2]\n"
    "        frame = frame.f_back\n    return 0",
    "a changed argument": "def f(n):\n    import sys\n    n = 0\n    sys._getframe(1).f_globals['args'] = (0,)\n"
    "    sys._getframe(1).f_locals['n'] = 0\n    return []",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_checkers_fails(service: Service, name: str) -> None:
    fine = {"id": "fine", "program": "def f(n):\n    return list(range(n))\n", "tests": ALL_FORMS}
    # One at a time too: an attack may end its process in the first test.
    jobs = [{"id": "all", "program": ATTACKS[name], "tests": ALL_FORMS}, fine]
    jobs += [{"id": str(at), "program": ATTACKS[name], "tests": [test]} for at, test in enumerate(ALL_FORMS[:3])]
    verdicts = service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"]
    passed = [(each["id"], outcome) for each in verdicts for outcome in each["outcomes"] if outcome["status"] == "pass"]
    assert len(passed) == len(ALL_FORMS), passed
    assert {id for id, _ in passed} == {"fine"}


def test_attack_by_arguments_that_the_program_changes_fails(service: Service) -> None:
    program = "def f(x):\n    x.clear()\n    return []\n"
    test = {"call": "f([3, 1, 2])", "property": "sorted(result) == sorted(args[0])"}
    assert (
        statuses(service, program, test, {"call": "f([3])", "property": "result == args[0]"})
        == ["assertion_failed"] * 2
    )


@pytest.mark.parametrize(
    "program",
    [
        'print(\'{"status": "accepted"}\')',
        "print('accepted')",
        "print(True)",
        "raise SystemExit(0)",
        "import os\nos.write(3, b'\\0\\0\\0\\x16{\"status\": \"accepted\"}')\nos.write(1, b'True')\nos._exit(0)",
        "print('nan')",
        "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe')",
        "print('1' * 10_000)",
        "print('7' * 5_000_000)",
        "import sys\nsys.stderr.write('True')\nsys.exit(0)",
        "print('\\u0661')",
    ],
)
def test_attack_by_output_on_checkers_fails(service: Service, program: str) -> None:
    checker = (
        "def check(input, output, answer):\n    words = output.split()\n"
        "    return len(words) == 1 and words[0].isascii() and words[0].isdigit() and int(words[0][:9]) == 8\n"
    )
    fine = outcomes(service, "print(int(input()) * 2)", {"stdin": "4\n", "checker": checker})
    assert fine[0]["status"] == "pass"
    assert statuses(service, program, {"stdin": "4\n", "checker": checker})[0] != "pass"
