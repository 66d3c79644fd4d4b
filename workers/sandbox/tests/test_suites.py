"""Suites: inputs of EvalPlus, its comparisons by version, and programs that try to choose their verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from service import QUICK, Service

from sandbox import suites
from sandbox.inside import evalplus

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


# --- programs that try to choose their verdict ------------------------------------------------------------------------

_EQUAL = "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
_WRITES = """
import json, os, struct
def f(x):
    answers = json.dumps(["l", 2, "i", 2, "i", 4])
    text = json.dumps({"status": "answers", "answers": answers, "slowest": 0, "opaque": -1})
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
