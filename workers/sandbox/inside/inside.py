"""Tests that can only run in the process of the program, because they look into it or change it: the weaker evidence.

Their machinery comes from copies that were taken before the program was loaded, and comparisons with objects of the
program are made so that an object which equals everything equals nothing. A program can still get at all of this.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import builtins
import collections
import os
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import forms
import program

_ITERATED = (list, tuple, set, frozenset)
_DEEP = 20
_WINDOW = 24


def assign(target: Any, value: Any) -> None:
    """Give a container the content of another one of its type, and its members likewise where they are containers."""
    if type(target) is not type(value):
        return
    if isinstance(target, (list, collections.deque)):
        if len(target) == len(value):
            for place, (old, new) in enumerate(zip(list(target), list(value), strict=True)):
                if type(old) is type(new) and isinstance(old, (list, dict, set)):
                    assign(old, new)
                elif old is not new:
                    target[place] = new
        else:
            target.clear()
            target.extend(value)
    elif isinstance(target, dict):
        for key in [key for key in target if key not in value]:
            del target[key]
        same_order = list(target) == list(value)
        for key, new in value.items():
            old = target.get(key)
            if type(old) is type(new) and isinstance(old, (list, dict, set)):
                assign(old, new)
            else:
                target[key] = new
        if not same_order and list(target) != list(value):
            entries = {key: target[key] for key in value}
            target.clear()
            target.update(entries)
    elif isinstance(target, set):
        target.clear()
        target.update(value)
    elif isinstance(target, bytearray):
        target[:] = value


def others(value: Any, chance: random.Random) -> list[Any]:
    """Values of the kind of `value` that are not equal to it: what an object that equals it must not equal."""
    if value is None:
        return [0, "", False, [], "none"]
    if isinstance(value, bool):
        return [not value, "x", chance.randrange(2, 1 << 20)]
    if isinstance(value, int):
        first = value - chance.randrange(_WINDOW + 1)
        return [each for each in range(first, first + _WINDOW + 1) if each != value]
    if isinstance(value, float):
        step = (abs(value) or 1.0) / chance.randrange(3, 50)
        first = chance.randrange(_WINDOW + 1)
        return [value + (at - first) * step for at in range(_WINDOW + 1) if at != first]
    if isinstance(value, (str, bytes)):
        return _other_texts(value, chance)
    if isinstance(value, (list, tuple)):
        found: list[Any] = [type(value)([*value, chance.randrange(1 << 30)])]
        for _ in range(_WINDOW // 2):
            if value:
                at = chance.randrange(len(value))
                changed = list(value)
                changed[at] = chance.choice(others(value[at], chance))
                found.append(type(value)(changed))
        return found
    if isinstance(value, (set, frozenset)):
        return [value | {chance.randrange(1 << 40)}, *(value - {each} for each in list(value)[:5])]
    if isinstance(value, dict):
        found = [{**value, chance.randrange(1 << 40): 1}]
        for key in list(value)[:10]:
            found.append({**value, key: chance.choice(others(value[key], chance))})
        return found
    return [chance.randrange(1 << 40), f"{chance.random()}"]


def _other_texts(value: Any, chance: random.Random) -> list[Any]:
    letters = value or ("a" if isinstance(value, str) else b"a")
    found: list[Any] = []
    known: list[Any] = [value]
    for _ in range(_WINDOW):
        base = chance.choice(known)
        at = chance.randrange(len(base) + 1)
        letter = chance.randrange(len(letters))
        other = base[:at] + letters[letter : letter + 1] + base[at + chance.randrange(2) :]
        if other == value:
            other = base + letters[:1] * chance.randrange(1, 4)
        if other != value:
            known.append(other)
            found.append(other)
    return found


def discriminates(ask: Callable[[Any], bool], value: Any, chance: random.Random) -> tuple[bool, bool]:
    """(whether `ask(value)` holds, whether it does not hold for most other values). The values come in random order, so
    that an object which answers does not know which one decides.
    """
    different = others(value, chance)
    questions = [value, *different]
    order = list(range(len(questions)))
    chance.shuffle(order)
    answers: dict[int, bool] = {}
    for at in order:
        try:
            answers[at] = ask(questions[at])
        except Exception:
            if at == 0:
                raise
            answers[at] = False
    yes = sum(answers[at] for at in range(1, len(questions)))
    return answers[0], yes <= len(different) // 4


def _all_classes() -> set[type]:
    """All classes that there are."""
    found: set[type] = {object}
    waiting: list[type] = [object]
    while waiting:
        for each in type.__subclasses__(waiting.pop()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


class Pristine:
    """Copies of what tests are made of, taken before the program runs."""

    def __init__(self, needs: list[str]) -> None:
        self._builtins = dict(vars(builtins))
        for name in needs:
            __import__(name)
        self._attributes: list[tuple[Any, dict[str, Any]]] = []
        if "unittest" in sys.modules:
            import unittest

            for kind in (unittest.TestCase, unittest.TestSuite, unittest.BaseTestSuite, unittest.TestResult):
                self._attributes.append((kind, dict(vars(kind))))
            for module in ("unittest.case", "unittest.suite", "unittest.result", "unittest.loader"):
                self._attributes.append((sys.modules[module], dict(vars(sys.modules[module]))))
        self._run = forms.Runner
        self._chance = random.Random(os.urandom(16))
        self._classes = _all_classes()
        self._stdlib = sys.stdlib_module_names

    def run(self, text: str, names: dict[str, Any], most_reason: int) -> dict[str, Any]:
        """Run one text as a test; see `forms.Runner`."""
        self._restore()
        public = {name: value for name, value in names.items() if not (name.startswith("__") and name.endswith("__"))}
        functions = [
            name
            for name, value in public.items()
            if isinstance(value, types.FunctionType) and value.__module__ == "program" and not name.startswith("_")
        ]
        own = frozenset(
            name
            for name, value in public.items()
            if not isinstance(value, types.ModuleType) and getattr(value, "__module__", "program") in ("program", None)
        )
        runner = self._run(public, own, self._builtins, functions, self._compare)
        self._cheating = False
        record = runner.run(text, most_reason)
        return {**record, "cheating": True} if self._cheating else record

    def run_in_module(self, text: str, module: types.ModuleType, most_reason: int) -> dict[str, Any]:
        """Run a text with `unittest` classes in the module of the program, as BigCodeBench does: names that the text
        imports are the program's too, and a patch of the module meets the program.
        """
        import unittest

        self._restore()
        names = vars(module)
        names["__file__"] = "__test__.py"
        try:
            exec(compile(text.removeprefix("\ufeff"), "<test>", "exec", dont_inherit=True), names)  # noqa: S102
        except program.TimeOut:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever stands in the way of the test fails it
            return program.failure(error)
        result = unittest.TestResult()
        loader = unittest.TestLoader()
        for kind in list(names.values()):
            if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind.__module__ == module.__name__:
                loader.loadTestsFromTestCase(kind).run(result)
        if result.testsRun == 0:
            return {"status": "vacuous", "reason": "no test of a unittest class ran"}
        for status, problems in (("raised", result.errors), ("assertion_failed", result.failures)):
            for test, trace in problems:
                last = trace.strip().rpartition("\n")[2]
                reason = f"{getattr(test, '_testMethodName', 'setUpClass')}: {last}"
                return {"status": status, "reason": reason[:most_reason]}
        return {"status": "ran"}

    def _restore(self) -> None:
        """Give the machinery of tests back what the program may have changed of it."""
        for owner, attributes in self._attributes:
            for name, value in attributes.items():
                if not name.startswith("__") and vars(owner).get(name) is not value:
                    setattr(owner, name, value)

    def _compare(self, operator: str, left: Any, right: Any) -> Any:
        """What `left == right` says, or another comparison, where an object of the program does not say it alone."""
        if operator in ("In", "NotIn"):
            holds = left in right
            if holds and type(right) in _ITERATED and not self._is_known(left, 0):
                holds = any(left is each or self._is_equal(left, each) is True for each in right)
            return holds is (operator == "In")
        if self._is_known(left, 0) and self._is_known(right, 0):
            return left == right if operator == "Eq" else left != right
        equal = self._is_equal(left, right)
        if type(equal) is not bool:  # such as an array, which compares its members
            return equal if operator == "Eq" else left != right
        return equal is (operator == "Eq")

    def _is_known(self, value: Any, depth: int) -> bool:
        """Whether neither a value nor a member of it is of a class that came with the program. What such a class says
        of itself, such as its module, proves nothing.
        """
        if type(value) not in self._classes or depth > _DEEP:
            return False
        if type(value) is dict:
            return all(self._is_known(each, depth + 1) for pair in value.items() for each in pair)
        return type(value) not in _ITERATED or all(self._is_known(each, depth + 1) for each in value)

    def _is_of_library(self, kind: type) -> bool:
        return kind in self._classes or str(kind.__module__).split(".")[0] in self._stdlib

    def _is_equal(self, left: Any, right: Any) -> Any:
        equal = left == right
        if equal is not True:
            return equal
        if type(left) is type(right) and type(left) in (list, tuple):
            return all(
                one is other or self._is_equal(one, other) is True for one, other in zip(left, right, strict=True)
            )
        if type(left) is type(right) and type(left) is dict:
            return all(each is right[key] or self._is_equal(each, right[key]) is True for key, each in left.items())
        for ours, theirs in ((left, right), (right, left)):
            if type(ours) not in self._classes and self._is_of_library(type(theirs)):
                holds, sound = discriminates(lambda other, ours=ours: bool(ours == other), theirs, self._chance)
                self._cheating |= holds and not sound
                return holds and sound
        return equal
