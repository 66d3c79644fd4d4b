"""Suites: inputs of EvalPlus, its comparisons by version, and programs that try to choose their verdict."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from service import QUICK, Service

from sandbox import suites, verdicts
from sandbox.inside import evalplus, wire
from sandbox.pool import ENDED, Job, Pool, Report
from serve import Call

_AMPLE = {"cpuSecondsPerTest": 10, "cpuSecondsPerProgram": 20}
DOUBLE = "def f(x):\n    return 2 * x\n"


def suite(
    inputs: Any, task: str = "HumanEval/0", entry: str = "f", rules: str = "0.3.1", **more: Any
) -> dict[str, Any]:
    text = inputs if isinstance(inputs, str) else json.dumps(inputs)
    return {"suite": text, "task": task, "entryPoint": entry, "rules": rules, "atol": 0, **more}


def answered(service: Service, reference: str, test: dict[str, Any]) -> dict[str, Any]:
    """The suite with what a reference answers."""
    jobs = [{"id": "r", "program": reference, "tests": [test], "limits": _AMPLE}]
    (answer,) = service.ask("answers", jobs=jobs, limits=QUICK)["answers"][0]["suites"]
    assert answer["status"] == "answers", answer
    return {**test, "expected": answer["answers"]}


def outcome(service: Service, program: str, test: dict[str, Any], **limits: float) -> dict[str, Any]:
    jobs = [{"id": "p", "program": program, "tests": [test], "limits": limits}]
    return service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"][0]["outcomes"][0]


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        ("def f(x):\n    return x + x", "pass", None),
        ("def f(x):\n    return x + x if x != 3 else 7", "assertion_failed", "input 2: got 7"),
        ("def f(x):\n    return 2 * x // (x == 1)", "raised", "input 1: ZeroDivisionError"),
        ("def f(x):\n    while x > 1: pass\n    return 2", "timeout", "input 1: out of CPU time"),
        # A wrong answer comes before what the program does next.
        ("def f(x):\n    while x > 1: pass\n    return 7", "assertion_failed", "input 0: got 7"),
        ("def f(x):\n    if x > 1: raise ValueError\n    return 7", "assertion_failed", "input 0: got 7"),
        ("def g(x):\n    return 2 * x", "raised", "input 0: NameError: name 'f' is not defined"),
        ("def f(x:\n", "load_error", "SyntaxError"),
        ("def f(x):\n    return 2 * x\nassert f(1) == 3", "load_error", "AssertionError"),
        ("def f(x):\n    return 2 * x\nn = int(input())", "load_error", "EOFError"),
        ("import os\ndef f(x):\n    os._exit(0)", "killed", "exited with status 0"),
        ("def f(x):\n    return object()", "assertion_failed", "input 0: got NotImplemented"),
        ("def f(x):\n    return 'x' * 10_000_000", "assertion_failed", "input 0: got b'blake2b"),
    ],
)
def test_outcomes(service: Service, program: str, status: str, reason: str | None) -> None:
    got = outcome(service, program, answered(service, DOUBLE, suite([[1], [2], [3]])))
    assert got["status"] == status, got
    assert reason is None or reason in got["reason"]


def test_answers_are_those_of_their_call(service: Service) -> None:
    test = answered(service, "def f(x):\n    return [x]", suite([[1], [2]]))
    shared = "found = []\ndef f(x):\n    found[:] = [x]\n    return found"
    assert outcome(service, shared, test)["status"] == "pass"
    grown = "found = []\ndef f(x):\n    found.append(x)\n    return found"
    assert outcome(service, grown, test)["reason"] == "input 1: got [1, 2]"


def test_large_answers_are_compared_by_a_digest(service: Service) -> None:
    reference = "def f(x):\n    return [(i, str(i), None) for i in range(x)]"
    test = answered(service, reference, suite([[3], [60_000], [50_000]]))
    assert len(test["expected"]) < 1_000
    assert outcome(service, reference.replace("str(i)", "f'{i}'"), test, **_AMPLE)["status"] == "pass"
    for wrong in ("(i, str(i), i == 59_999)", "[i, str(i), None]"):
        got = outcome(service, reference.replace("(i, str(i), None)", wrong), test, **_AMPLE)
        assert got["status"] == "assertion_failed", got
    small = answered(service, "def f(x):\n    return [x] * 20", suite([[1]]))
    assert outcome(service, "def f(x):\n    return [x] * 600_000", small, **_AMPLE)["status"] == "assertion_failed"
    assert evalplus.first_difference("0.3.1", "mbpp", "f", 0, [()], [[1, "a"]], [evalplus.digest([1, "a"])]) is None
    assert evalplus.first_difference("0.3.1", "mbpp", "f", 0, [()], [[1, "a"]], [evalplus.digest([1, "b"])]) == 0


def test_numbers_of_python_stay_what_they_are(service: Service) -> None:
    inputs = "[[1.0], [18446744073709551617], [Infinity], [-0.0]]"
    test = answered(service, "def f(x):\n    return repr(x)", suite(inputs))
    literal = "def f(x):\n    return {1.0: '1.0', 2**64 + 1: '18446744073709551617', float('inf'): 'inf', 0: '-0.0'}[x]"
    assert outcome(service, literal, test)["status"] == "pass"


@pytest.mark.parametrize(
    ("task", "inputs", "seen"),
    [
        ("Mbpp/2", [[[1, 2], [3]]], "((1, 2), (3,))"),
        ("Mbpp/63", [[[[1, 2], [3, 4]]]], "([(1, 2), (3, 4)],)"),
        ("Mbpp/75", [[[[1, 2]], 5]], "([(1, 2)], 5)"),
        ("Mbpp/106", [[[1], [2]]], "([1], (2,))"),
        ("Mbpp/307", [[[1], 2, 3]], "((1,), 2, 3)"),
        ("Mbpp/259", [[[[1, 2]], [[3, 4]]]], "(((1, 2),), ((3, 4),))"),
        ("Mbpp/115", [[[[1], []]]], "([{1}, {}],)"),
        ("Mbpp/124", [["1", "2j"]], "(1.0, 2j)"),
        ("Mbpp/252", [["1+2j"]], "((1+2j),)"),
        ("Mbpp/278", [[[[1], 2]]], "(((1,), 2),)"),
        ("Mbpp/722", [[{"a": [1, 2]}, 3]], "({'a': (1, 2)}, 3)"),
        ("Mbpp/580", [[[1, [2, [3]]]]], "((1, (2, (3,))),)"),
        ("Mbpp/1", [[[1], {"a": [2]}]], "([1], {'a': [2]})"),
        ("HumanEval/2", [[[1, 2]]], "([1, 2],)"),
    ],
)
def test_inputs_become_what_the_task_takes(service: Service, task: str, inputs: Any, seen: str) -> None:
    test = answered(service, "def f(*given):\n    return repr(given)", suite(inputs, task))
    assert outcome(service, f"def f(*given):\n    return {seen!r}", test)["status"] == "pass"


def test_a_task_without_inputs_passes_where_the_program_loads(service: Service) -> None:
    test = answered(service, DOUBLE, suite("{}", "Mbpp/793"))
    assert outcome(service, DOUBLE, test)["status"] == "pass"
    assert outcome(service, "raise ValueError", test)["status"] == "load_error"


def test_references_that_do_not_answer_are_told(service: Service) -> None:
    jobs = [
        {"id": name, "program": program, "tests": [suite([[1]])]}
        for name, program in (
            ("object", "def f(x):\n    return object()"),
            ("raises", "def f(x):\n    raise ValueError(x)"),
        )
    ]
    opaque, raised = (each["suites"][0] for each in service.ask("answers", jobs=jobs, limits=QUICK)["answers"])
    assert opaque == {"status": "raised", "reason": "input 0: the answer is no plain data"}
    assert raised == {"status": "raised", "reason": "input 0: ValueError: 1"}


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ([suite("[[1], 2]", expected="[]")], "no list of lists of arguments"),
        ([suite("[[1]", expected="[]")], "cannot be read"),
        ([suite("[[1, 2]]", "Mbpp/106", expected="[]")], "cannot be read"),
        ([suite([[1]])], "without 'expected'"),
        ([suite([[1]], expected="[]"), "assert True"], "both suites and other tests"),
        ([suite([[1]], rules="0.9")], "neither texts nor of a known form"),
    ],
)
def test_requests_that_are_none(service: Service, tests: list[Any], told: str) -> None:
    service.send({"id": 1, "op": "judge", "params": {"jobs": [{"id": "p", "program": DOUBLE, "tests": tests}]}})
    error = service.reply()["error"]
    assert (error["type"], told in error["message"]) == ("InvalidInput", True), error


# --- which answers are compared, and how -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "program", "status"),
    [
        # Of one text, and yet not equal.
        ("float('nan')", "float('nan')", "assertion_failed"),
        ("[1.5, float('nan')]", "[1.5, float('nan')]", "assertion_failed"),
        ("decimal.Decimal('nan')", "decimal.Decimal('NaN')", "assertion_failed"),
        ("{1: x}.values()", "{1: x}.values()", "assertion_failed"),
        # Of another text, and yet equal.
        ("0.0", "-0.0", "pass"),
        ("1", "True", "pass"),
        ("2", "2.0", "pass"),
        ("0.3", "0.1 + 0.2", "pass"),
        ("{0, 8}", "{8, 0}", "pass"),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", "pass"),
        ("collections.Counter('a')", "{'a': 1}", "pass"),
        ("[1] * 8", "[True] * 8", "pass"),
        ("decimal.Decimal('1.0')", "decimal.Decimal('1')", "pass"),
        # Of one text, and equal.
        ("2 ** 200 + x", "x + 2 ** 200", "pass"),
        ("'nan'", "'n' 'an'", "pass"),
        ("float('inf')", "1e999", "pass"),
        ("{'a': [(1, 2.5), {3}], None: b'x'}", "{'a': [(1, 2.5), {3}], None: b'x'}", "pass"),
        # Of another text, and different.
        ("2 ** 200", "2 ** 200 + 1", "assertion_failed"),
        ("[1, [2, (3,)]]", "[1, [2, [3]]]", "assertion_failed"),
        ("'1'", "1", "assertion_failed"),
        ("[1, 2]", "iter([1, 2])", "assertion_failed"),
        ("[1, 2]", "(each for each in [1, 2])", "assertion_failed"),
        ("[1, 2]", "map(int, '12')", "assertion_failed"),
    ],
)
def test_equal_values_are_right_and_equal_texts_are_not_enough(
    service: Service, reference: str, program: str, status: str
) -> None:
    text = "import collections, decimal\ndef f(x):\n    return "
    test = answered(service, text + reference, suite([[1]]))
    assert outcome(service, text + program, test)["status"] == status


def test_sets_of_lists_are_wrong_even_where_they_are_equal(service: Service) -> None:
    reference = "def Diff(x):\n    return [[x]]"
    test = answered(service, reference, suite([[1]], "Mbpp/769", "Diff"))
    assert outcome(service, reference, test)["status"] == "assertion_failed"
    old = {**test, "rules": "0.2.1"}
    assert outcome(service, reference, old)["status"] == "pass"


def test_answers_are_written_as_any_other_value(service: Service) -> None:
    values = (
        "[0, -1, 2**53 - 1, 2**53, -2**53, 2**200, True, False, None, 'a\\n\\u20ac\\ud800\\0', '', 1.5, -0.0, 1e999]"
    )
    test = answered(service, f"def f(x):\n    return {values}[x]", suite([[x] for x in range(14)]))
    tokens = wire.tokens(eval(values), lambda value: [value])
    assert test["expected"] == json.dumps(tokens, separators=(",", ":"))


def test_only_as_many_members_are_read_as_are_wanted() -> None:
    tokens = ["l", 3, "i", 1, "l", 2, "s", "a", None, "what is this"]
    assert wire.first_members(tokens, 2, suites._no_object) == [1, ["a", None]]
    for damaged in (tokens[:4], ["t", 1, None], "l", ["l", "1", None]):
        with pytest.raises(wire.Malformed):
            wire.first_members(damaged, 2, suites._no_object)
    with pytest.raises(wire.Malformed):
        wire.first_members(tokens, 3, suites._no_object)


def test_a_wrong_answer_far_behind_is_found_and_the_first_one_is_told(service: Service) -> None:
    inputs = [[x] for x in range(200)]
    test = answered(service, DOUBLE, suite(inputs))
    for first in (0, 7, 8, 9, 199):
        got = outcome(service, f"def f(x):\n    return 2 * x if x < {first} else -1", test)
        assert got == {"status": "assertion_failed", "reason": f"input {first}: got -1"}
    large = answered(service, "def f(x):\n    return [str(x)] * 3000", suite(inputs[:20]))
    assert outcome(service, "def f(x):\n    return ['%d' % x] * 3000", large)["status"] == "pass"
    got = outcome(service, "def f(x):\n    return [str(x)] * 3000 if x < 19 else 0", large)
    assert got == {"status": "assertion_failed", "reason": "input 19: got 0"}


def test_inputs_that_a_program_changes_are_its_own(service: Service) -> None:
    reference = "def f(x):\n    return len(x)"
    test = answered(service, reference, suite([[[1]], [[1]], [[]]]))
    program = "def f(x):\n    x.append(0)\n    return len(x) - 1"
    jobs = [{"id": str(at), "program": program, "tests": [test, test]} for at in range(2)]
    found = service.ask("judge", jobs=jobs, limits=QUICK)["verdicts"]
    assert [each["status"] for one in found for each in one["outcomes"]] == ["pass"] * 4


# --- several suites of a program -------------------------------------------------------------------------------------


@dataclass
class Spied:
    """A pool that notes the jobs of each run, and how many of them the runs had."""

    pool: Pool
    jobs: list[Job] = field(default_factory=list)

    def outcomes(self, program: str, *tests: dict[str, Any], **limits: float) -> list[dict[str, Any]]:
        jobs = [{"id": "p", "program": program, "tests": list(tests), "limits": limits}]
        self.jobs.clear()
        return verdicts.judge(self.pool, {"jobs": jobs, "limits": QUICK}, Call(1, lambda _: None))["verdicts"][0][
            "outcomes"
        ]

    @property
    def suites_of_runs(self) -> list[int]:
        return [len(job.suites[1]) for job in self.jobs if job.suites]


@pytest.fixture(scope="module")
def spied() -> Iterator[Spied]:
    pool = Pool(1)
    found, run = Spied(pool), pool.run

    def noted(jobs: Sequence[Job], *more: Any) -> Any:
        found.jobs.extend(jobs)
        return run(jobs, *more)

    pool.run = noted  # type: ignore[method-assign]
    yield found
    pool.close()


BASE = suite([[1], [2]], expected='["l",2,"i",2,"i",4]')
PLUS = suite([[3], [4], [5]], expected='["l",3,"i",6,"i",8,"i",10]')


@pytest.mark.parametrize(
    "program",
    [
        DOUBLE,
        "import math, re\nfrom typing import List\nfrom collections import Counter\nONE = 1\nWORD = re.compile('a')\n"
        "def g(n: List, more=(1, None)):\n    found = []\n    found.append(n)\n    return sum(each for each in found)\n"
        "def f(x):\n    def inner(y):\n        return y * math.floor(2.5)\n    return inner(g(x)) * ONE",
    ],
)
def test_suites_of_a_program_that_keeps_nothing_share_a_process(spied: Spied, program: str) -> None:
    assert spied.outcomes(program, BASE, PLUS) == [{"status": "pass"}] * 2
    assert spied.suites_of_runs == [2]


_THIRD = "    return 2 * x if {} < 3 else 0"


@pytest.mark.parametrize(
    "program",
    [
        "n = 0\ndef f(x):\n    global n\n    n += 1\n" + _THIRD.format("n - (x > 4)"),
        "seen = []\ndef f(x):\n    seen.append(x)\n" + _THIRD.format("len(seen) - (x > 4)"),
        "def f(x, seen=[]):\n    seen.append(x)\n" + _THIRD.format("len(seen) - (x > 4)"),
        "def f(x, *, seen={}):\n    seen[x] = x\n" + _THIRD.format("len(seen) - (x > 4)"),
        "def f(x):\n    f.n = getattr(f, 'n', 0) + 1\n" + _THIRD.format("f.n - (x > 4)"),
        "def f(x):\n    f.n += 1\n" + _THIRD.format("f.n - (x > 4)") + "\nf.n = 0",
        "def g():\n    n = 0\n    def f(x):\n        nonlocal n\n        n += 1\n    "
        + _THIRD.format("n - (x > 4)")
        + "\n    return f\nf = g()",
        "class A:\n    n = 0\ndef f(x):\n    A.n += 1\n" + _THIRD.format("A.n - (x > 4)"),
        "class A:\n    seen = []\n    def f(self, x):\n        self.seen.append(x)\n    "
        + _THIRD.format("len(self.seen) - (x > 4)")
        + "\nf = A().f",
        "import math\ndef f(x):\n    math.n = getattr(math, 'n', 0) + 1\n" + _THIRD.format("math.n - (x > 4)"),
        "import random\ndef f(x):\n    random.n = 1 + vars(random).get('n', 0)\n" + _THIRD.format("random.n - (x > 4)"),
        "import itertools\nnumbers = itertools.count()\ndef f(x):\n    n = next(numbers)\n"
        + _THIRD.format("n + 1 - (x > 4)"),
        "def f(x):\n    names = globals()\n    names['n'] = names.get('n', 0) + 1\n"
        + _THIRD.format("names['n'] - (x > 4)"),
        "def f(x):\n    import math\n    setattr(math, 'n', getattr(math, 'n', 0) + 1)\n"
        + _THIRD.format("math.n - (x > 4)"),
        "def f(x):\n    f.__dict__['n'] = f.__dict__.get('n', 0) + 1\n" + _THIRD.format("f.__dict__['n'] - (x > 4)"),
    ],
)
def test_no_suite_sees_what_the_one_before_it_left(spied: Spied, program: str) -> None:
    # Each fails from its third call on, or its fourth, so that it passes each suite on its own only.
    assert spied.outcomes(program, BASE, PLUS) == [{"status": "pass"}] * 2
    assert spied.suites_of_runs == [2, 1]


def test_suites_with_other_entry_points_run_apart(spied: Spied) -> None:
    other = {**PLUS, "entryPoint": "g"}
    assert [each["status"] for each in spied.outcomes(DOUBLE + "g = f\n", BASE, other)] == ["pass", "pass"]
    assert spied.suites_of_runs == [1, 1]


_LATE = "    while x == {}: pass\n    return 2 * x"
_STUCK = "    return 2 * x if x != {} else sum(range(10**10))"


@pytest.mark.parametrize(
    ("body", "expected", "runs"),
    [
        (_LATE.format(2), [("timeout", "input 1: out of CPU time"), ("pass", None)], [2, 1, 1]),
        (_LATE.format(4), [("pass", None), ("timeout", "input 1: out of CPU time")], [2, 1]),
        # A call that no timer interrupts.
        (_STUCK.format(4), [("pass", None), ("timeout", "out of CPU time for all inputs")], [2, 1]),
        ("    return 2 * x // (x != 2)", [("raised", "input 1: ZeroDivisionError"), ("pass", None)], [2]),
        ("    return 2 * x // (x != 4)", [("pass", None), ("raised", "input 1: ZeroDivisionError")], [2]),
        ("    return 2 * x if x != 2 else f(x)", [("raised", "input 1: RecursionError"), ("pass", None)], [2]),
        ("    return 2 * x if x > 1 else 7", [("assertion_failed", "input 0: got 7"), ("pass", None)], [2]),
        ("    return 2 * x if x < 5 else 7", [("pass", None), ("assertion_failed", "input 2: got 7")], [2]),
        # What comes after a wrong answer is no matter.
        ("    while x > 1: pass\n    return 7",
         [("assertion_failed", "input 0: got 7"), ("timeout", "input 0")], [2, 1]),
        ("    if x == 4: raise KeyError\n    return x + x if x < 3 else 7",
         [("pass", None), ("assertion_failed", "input 0: got 7")], [2]),
    ],
)  # fmt: skip
def test_each_suite_has_its_own_outcome(
    spied: Spied, body: str, expected: list[tuple[str, str | None]], runs: list[int]
) -> None:
    found = spied.outcomes(f"def f(x):\n{body}", BASE, PLUS, cpuSecondsPerTest=0.1, cpuSecondsPerProgram=0.3)
    for each, (status, reason) in zip(found, expected, strict=True):
        assert (each["status"], (reason or "") in each.get("reason", "")) == (status, True), found
    assert spied.suites_of_runs == runs


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("if x == 2: os._exit(0)", [("killed", "exited with status 0"), ("pass", None)]),
        ("if x == 3: os._exit(0)", [("pass", None), ("killed", "exited with status 0")]),
        ("if x == 5: os._exit(3)", [("pass", None), ("killed", "exited with status 3")]),
        # It dies after a wrong answer, however soon that is.
        ("if x == 5: os._exit(3)\n    if x == 4: return 7", [("pass", None), ("assertion_failed", "input 1: got 7")]),
        ("if x == 2: os._exit(3)\n    if x == 1: return 7", [("assertion_failed", "input 0: got 7"), ("pass", None)]),
    ],
)
def test_a_program_that_dies_is_judged_by_its_answers_before(
    spied: Spied, body: str, expected: list[tuple[str, str | None]]
) -> None:
    found = spied.outcomes(f"import os\ndef f(x):\n    {body}\n    return 2 * x", BASE, PLUS)
    for each, (status, reason) in zip(found, expected, strict=True):
        assert (each["status"], (reason or "") in each.get("reason", "")) == (status, True), found


def test_a_timeout_counts_with_twice_the_limit_of_an_input(spied: Spied) -> None:
    spin = "    end = time.process_time() + {}\n    while time.process_time() < end: pass\n"
    program = f"import time\ndef f(x):\n{spin}    return 2 * x"
    limits = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 5}
    assert spied.outcomes(program.format("0.3 * (x == 2)"), BASE, **limits) == [{"status": "pass"}]
    assert spied.suites_of_runs == [1, 1]
    late = {"status": "timeout", "reason": "input 1: out of CPU time"}
    assert spied.outcomes(program.format("9 * (x == 2)"), BASE, **limits) == [late]
    assert spied.suites_of_runs == [1, 1]


def test_answers_of_a_suite_that_are_too_large_together(spied: Spied) -> None:
    inputs = [[x] for x in range(16_000)]
    known = ["l", 16_000, *(part for x in range(200) for part in ("j", [x] * 150)), *[None] * 15_800]
    test = suite(inputs, expected=json.dumps(known, separators=(",", ":")))
    (found,) = spied.outcomes("def f(x):\n    return [x] * 150", test, **_AMPLE)
    assert found == {"status": "killed", "reason": "its answers are larger than what the sandbox takes"}
    (found,) = spied.outcomes("def f(x):\n    return [x] * 150 if x != 9 else 0", test, **_AMPLE)
    assert found == {"status": "assertion_failed", "reason": "input 9: got 0"}


@pytest.mark.parametrize(
    "then", ["while True: pass", "os._exit(3)", "return 'x' * 10_000_000", "raise ValueError", "bytearray(1 << 40)"]
)
def test_the_first_wrong_answer_decides_where_what_is_expected_is_large(spied: Spied, then: str) -> None:
    inputs = [[x] for x in range(1_000)]
    answers = ",".join(f'"s","{x:0900d}"' for x in range(1_000))
    test = suite(inputs, expected=f'["l",1000,{answers}]')
    assert len(test["expected"]) > 900_000
    (found,) = spied.outcomes(f"import os\ndef f(x):\n    if x == 0: return 7\n    {then}", test, **_AMPLE)
    assert found == {"status": "assertion_failed", "reason": "input 0: got 7"}
    assert len(spied.suites_of_runs) <= 2
    (found,) = spied.outcomes("import os\ndef f(x):\n    if x < 990: return f'{x:0900d}'\n    os._exit(3)", test)
    assert found["status"] == "killed"
    (found,) = spied.outcomes("def f(x):\n    return f'{x:0900d}'", test)
    assert found == {"status": "pass"}


# --- what no honest process writes ------------------------------------------------------------------------------------


class Forged:
    """A pool in whose processes the same bytes are written, whatever runs."""

    python_version = isolation = ""

    def __init__(self, *frames: bytes, cut: int = 0) -> None:
        data = b"".join(struct.pack(">I", len(each)) + each for each in (b"", b'{"status":"loaded"}', *frames))
        self._report = Report(ENDED, records=data[: len(data) - cut])

    def prepare(self, jobs: Any) -> None: ...

    def run(self, jobs: Sequence[Job], call: Call, digest: Any, alone: bool = False) -> list[Any]:
        return [digest(at, self._report) for at in range(len(jobs))]


ANSWERED = b'{"status":"answered","slowest":0.0}'


@pytest.mark.parametrize(
    ("frames", "statuses"),
    [
        ([b'"i",2\n"i",4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["pass", "pass"]),
        ([b'"i",2', b'"i",4', ANSWERED, b'"i",6', b'"i",8\n"i",10', ANSWERED], ["pass", "pass"]),
        # Fewer answers than inputs, or more.
        ([b'"i",2', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"i",2\n"i",4\n"i",6', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "killed"]),
        ([b'"i",2\n"i",4', b'"i",6', ANSWERED], ["killed", "killed"]),
        ([b"\n" * 4_000_000, ANSWERED], ["killed", "killed"]),
        # One line that is two answers, or half of one.
        ([b'"i",2,"i",4\n', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"i"\n2', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"l",2,"i",2\n"i",4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"i",2],["i"\n4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"object",1\n"i",4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        # Bytes that are no text, records that are none, and records after the end.
        ([b"\xff", ANSWERED], ["killed", "killed"]),
        ([b'"i",2\n"i",4', b'{"status":"pass"}', b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"i",2\n"i",4', b"{", b'"i",6\n"i",8\n"i",10', ANSWERED], ["killed", "pass"]),
        ([b'"i",2\n"i",4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED, ANSWERED], ["killed", "killed"]),
        ([b'"i",2\n"i",4', ANSWERED, b'"i",6\n"i",8\n"i",10', ANSWERED, b'"i",10'], ["killed", "killed"]),
        ([b'"i",2\n"i",4', b'{"status":"raised","input":"1"}'], ["killed", "assertion_failed"]),
    ],
)  # fmt: skip
def test_attack_by_bytes(frames: list[bytes], statuses: list[str]) -> None:
    jobs = [{"id": "p", "program": DOUBLE, "tests": [BASE, PLUS]}]
    found = verdicts.judge(Forged(*frames), {"jobs": jobs, "limits": QUICK}, Call(1, lambda _: None))  # type: ignore[arg-type]
    assert [each["status"] for each in found["verdicts"][0]["outcomes"]] == statuses


# --- programs that try to choose their verdict ------------------------------------------------------------------------

_EQUAL = "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
_WRITES = """
import json, os, struct
def f(x):
    for text in ('"i",2\\n"i",4', json.dumps({"status": "answered", "slowest": 0})):
        os.write(3, struct.pack(">I", len(text)) + text.encode())
    return 0
"""


@pytest.mark.parametrize(
    "program",
    [
        _EQUAL + "def f(x):\n    return E(5)",
        _EQUAL + "def f(x):\n    return [E(5)]",
        "def f(x):\n    return NotImplemented",
        "class T(dict):\n    def __missing__(self, key): return 1\n    def __eq__(self, o): return True\n"
        "def f(x):\n    return T()",
        "import sys, json\nsys.modules['wire'] = None\njson.JSONEncoder.encode = lambda *a: '[]'\n"
        "def f(x):\n    return 0",
        _WRITES,
    ],
)
def test_attacks(service: Service, program: str) -> None:
    test = answered(service, DOUBLE, suite([[1], [2]]))
    assert outcome(service, program, test)["status"] != "pass"


# --- the rules -------------------------------------------------------------------------------------------------------


def right(
    rules: str, entry: str, expected: Any, got: Any, dataset: str = "mbpp", atol: float = 0, given: Any = (1,)
) -> bool:
    return evalplus.first_difference(rules, dataset, entry, atol, [given], [expected], [got]) is None


@pytest.mark.parametrize(
    ("entry", "expected", "got", "old", "new"),
    [
        ("f", 1, 1, True, True),
        ("f", (1, 2), [1, 2], False, False),
        ("f", 1.0, 1.0 + 5e-7, True, True),
        ("f", 1.0, 1.0 + 5e-6, False, False),
        ("f", 1.0, 1, True, True),
        ("f", [1.0, 2.0], [1.0, 2.0000001], True, True),
        ("f", [1.0, 2.0], (1.0, 2.0000001), True, False),
        ("f", [1.0, 1.0], 1.0000001, True, False),
        ("f", [1.0, 2.0], [1.0], False, False),
        ("f", float("nan"), float("nan"), True, False),
        ("f", float("inf"), float("inf"), True, True),
        ("f", float("inf"), 1e308, False, False),
        ("f", [], (), True, False),
        ("f", "a", "b", False, False),
        ("f", 1.0, None, False, False),
        ("f", [1.0, 2.0], [[1.0], [2.0, 3.0]], False, False),
        ("similar_elements", (1, 2), (2, 1), False, True),
        ("similar_elements", (1, 2), {1, 2}, False, True),
        ("similar_elements", (1, 2), 3, False, False),
        ("are_equivalent", True, False, True, True),
        ("sum_div", 7, 0, True, True),
        ("sum_div", 7, 1, False, False),
    ],
)
def test_comparisons(entry: str, expected: Any, got: Any, old: bool, new: bool) -> None:
    assert (right("0.2.1", entry, expected, got), right("0.3.1", entry, expected, got)) == (old, new)


def test_oracles_that_read_the_input() -> None:
    assert right("0.3.1", "surface_Area", 33, 31, given=(3, 4)) is False
    assert right("0.3.1", "surface_Area", 33, 35, given=(3, 4)) is True
    assert right("0.3.1", "digit_distance_nums", 5, 7, given=(9, 12)) is False
    assert right("0.3.1", "digit_distance_nums", 5, 8, given=(9, 12)) is True
    assert right("0.2.1", "digit_distance_nums", 5, 8, given=(9, 12)) is False
    zero = {"dataset": "humaneval", "atol": 1e-6, "given": ([-2.0, 1.0],)}
    assert right("0.3.1", "find_zero", 9.0, 2.0, **zero) is True
    assert right("0.3.1", "find_zero", 2.0, 1.0, **zero) is False
    assert right("0.2.1", "find_zero", 2.0, 2.0, **zero) is True
    assert right("0.2.1", "find_zero", 9.0, 2.0, **zero) is False


def test_the_tolerance_of_a_float_stays_for_later_answers() -> None:
    def first(rules: str, expected: list[Any], got: list[Any]) -> int | None:
        return evalplus.first_difference(rules, "mbpp", "f", 0, [(), ()], expected, got)

    assert first("0.2.1", [1.0, 2], [1.0, 2.0000001]) is None
    assert first("0.3.1", [1.0, 2], [1.0, 2.0000001]) == 1
    assert first("0.2.1", [2, 1.0], [2.0000001, 1.0]) == 0


def test_truths_are_those_of_three_entry_points() -> None:
    assert suites.Suite("[]", "Mbpp/285", "text_match_three", "0.3.1", 0, None).truths
    assert not suites.Suite("[]", "HumanEval/1", "text_match_three", "0.3.1", 0, None).truths


# --- tests that run in the module of the program ----------------------------------------------------------------------

_CASES = """
import unittest
from unittest.mock import patch
import fractions

class TestCases(unittest.TestCase):
    def test_value(self):
        self.assertEqual(task_func(2), fractions.Fraction(1, 2))

    @patch('builtins.open', side_effect=OSError('none'))
    def test_file(self, opened):
        self.assertEqual(read(), 'none')
"""
_READ = """
def read():
    try:
        return open('/x').read()
    except OSError as error:
        return str(error)
"""


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        # The program uses a name that only its test imports.
        ("def task_func(n):\n    return fractions.Fraction(1, n)\n" + _READ, "pass", ""),
        ("def task_func(n):\n    return 1 / n\n" + _READ, "pass", ""),
        (
            "def task_func(n):\n    return n\n" + _READ,
            "assertion_failed",
            "test_value: AssertionError: 2 != Fraction(1, 2)",
        ),
        ("def task_func(n):\n    return 0.5\n", "raised", "test_file: NameError: name 'read' is not defined"),
        ("def task_func(n):\n    while True: pass\n" + _READ, "timeout", ""),
        ("def task_func(n):\n    return 0.5\n" + _READ + "assert task_func(1) == 1", "load_error", "AssertionError"),
    ],
)
def test_tests_in_the_module(service: Service, program: str, status: str, reason: str) -> None:
    got = outcome(service, program, {"module": _CASES})
    assert (got["status"], reason in got.get("reason", ""), got.get("inside")) == (
        status,
        True,
        None if status == "load_error" else True,
    )


def test_a_text_without_tests_is_vacuous(service: Service) -> None:
    assert outcome(service, DOUBLE, {"module": "import unittest"})["status"] == "vacuous"
