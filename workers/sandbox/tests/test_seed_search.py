"""The search for calls of seeds, as the sandbox runs it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.tests.service import Service

SCRIPT = (Path(__file__).parents[2] / "sent" / "search.py").read_text()


def search(service: Service, code: str, tests: int = 12, attempts: int = 300, **given: Any) -> dict[str, Any]:
    job = {"code": code, "seed": 1, "tests": tests, "attempts": attempts, **given}
    jobs = [{"id": "s", "program": SCRIPT, "stdin": json.dumps(job)}]
    (told,) = service.ask("run", jobs=jobs, limits={"cpuSecondsPerTest": 6})["runs"]
    assert told["status"] == "ended", told
    return json.loads(told["stdout"].splitlines()[-1])


def calls(found: dict[str, Any]) -> list[str]:
    return [test["call"] for test in found["tests"]]


CLAMP = """
def clamp(x, low=0, high=10):
    if x < low:
        return low
    if x > high:
        return high
    return x
"""


def test_arguments_are_found_without_annotations_and_reach_all_lines(service: Service) -> None:
    found = search(service, CLAMP)
    assert "reason" not in found
    assert (found["entryPoint"], found["reached"], found["lines"]) == ("clamp", 5, 5)
    names: dict[str, Any] = {}
    exec(CLAMP, names)  # noqa: S102 - the text above
    for test in found["tests"]:
        assert eval(test["call"], names) == ast.literal_eval(test["literal"])


def test_the_same_seed_has_the_same_tests_and_another_number_others(service: Service) -> None:
    assert search(service, CLAMP) == search(service, CLAMP)
    assert calls(search(service, CLAMP)) != calls(search(service, CLAMP, **{"seed": 2}))


DOCUMENTED = '''
import re

def words(text):
    """The words.

    >>> line = 'a b'
    >>> list(words(line))
    ['a', 'b']
    >>> list(words('x y'))
    ['wrong']
    """
    for word in re.split(' ', text):
        yield word
'''


def test_examples_of_a_docstring_are_tests_and_a_wrong_one_is_none(service: Service) -> None:
    found = search(service, DOCUMENTED)
    promised = [test for test in found["tests"] if test["origin"] == "docstring"]
    assert promised == [{"call": "list(words('a b'))", "literal": "['a', 'b']", "origin": "docstring"}]
    assert found["wrongClaims"] == 1
    # The values of a generator are those of a list of it.
    assert all(call.startswith("list(words(") for call in calls(found))


def test_calls_of_the_tree_come_before_trials(service: Service) -> None:
    found = search(
        service, "def f(code):\n    return {'abc-7': 1, 'xyz-9': 2}[code]\n", calls=["f('abc-7')", "f('xyz-9')"]
    )
    assert [test["origin"] for test in found["tests"][:2]] == ["tree", "tree"]


def test_methods_are_called_on_new_objects_of_their_class(service: Service) -> None:
    code = "class Stack:\n    def __init__(self, items=()):\n        self.items = list(items)\n"
    code += "    def push(self, x):\n        self.items.append(x)\n        return self.items\n"
    code += "    def size(self):\n        return len(self.items)\n"
    found = search(service, code)
    assert found["isClass"]
    assert "reason" not in found
    assert any(".push(" in call for call in calls(found))
    assert any(".size()" in call for call in calls(found))


def test_several_and_named_arguments_are_given(service: Service) -> None:
    found = search(service, "def f(first, *rest, sep, **more):\n    return [first, len(rest), sep, sorted(more)]\n")
    assert "reason" not in found
    assert all("sep=" in call for call in calls(found))


ENDLESS = "def f(n):\n    while True:\n        yield n\n        n += 1\n"


def test_of_an_endless_generator_the_first_values_are_asked(service: Service) -> None:
    found = search(service, ENDLESS)
    assert all("zip(range(10)" in call for call in calls(found))
    assert found["tests"]
    assert "reason" not in found


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(:", "notParsed"),
        ("import no_such_module\ndef f(n):\n    return n\n", "doesNotLoad"),
        ("x = 1\n", "nothingToCall"),
        ("def f(n):\n    raise KeyError(n)\n", "noArguments"),
        ("class A: pass\ndef f(n):\n    return A()\n", "noLiteral"),
        ("def f(n):\n    return [n, 2j]\n", "noLiteral"),
        ("def f(n):\n    if n:\n        return None\n", "returnsNothing"),
        ("def f(n):\n    return 'always'\n", "oneAnswer"),
        ("import random\ndef f(n):\n    return [n, random.random()]\n", "nondeterministic"),
        ("import time\ndef f(n):\n    return [n, time.time() > 0]\n", "nondeterministic"),
        ("from datetime import date\ndef f(n):\n    return [n, date.today().year > 2000]\n", "nondeterministic"),
        ("seen = []\ndef f(n):\n    seen.append(n)\n    return len(seen)\n", "nondeterministic"),
        ("def f(path):\n    return open(path).read()\n", "sideEffects"),
        ("import os\ndef f(path):\n    return [path, os.listdir('.')]\n", "sideEffects"),
        ("import socket\ndef f(host):\n    return [host, socket.create_connection((host, 9))]\n", "sideEffects"),
        ("import subprocess\ndef f(x):\n    return [x, subprocess.call(['true'])]\n", "sideEffects"),
        ("def f(x):\n    return [x, input()]\n", "sideEffects"),
        ("def f(n):\n    while True:\n        pass\n", "tooSlow"),
    ],
)  # fmt: skip
def test_a_seed_without_a_question_has_a_reason(service: Service, code: str, reason: str) -> None:
    assert search(service, code)["reason"] == reason


def test_a_seed_that_writes_to_the_output_itself_says_nothing_for_the_search(service: Service) -> None:
    found = search(service, "import os\nprint('{}')\nos.write(1, b'{}\\n')\ndef f(n):\n    return [n]\n")
    assert found["entryPoint"] == "f"
