"""Tests with several right answers: what they are as data, and how their answers are checked.

A program runs first, and its answer, the value of a call or what a script printed, leaves its process as plain data.
A second process, that never held the program, judges the answer: by a comparison, by a property, or by a checker
program (`inside/checker.py`). A checker is untrusted as a program is. A fault of a checker says nothing about the
program, so it has a verdict word for itself, `checker_failed`, which gives no pass rate.

This side reads no answer. It only carries the text from one process to the other.
"""

# What an answer holds has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import CodeType
from typing import Any

from sandbox import asserts
from sandbox.inside import wire
from sandbox.pool import Limits

COMPARISONS = ("exact", "tolerance", "unordered")
"""How the answer of a call is compared with an expected value."""
MAX_CHECKER_CHARACTERS = 65_536
MAX_OUTPUT_CHARACTERS = 4_000_000
"""Of the output of a script that a checker gets."""
LIMITS = Limits(cpu_seconds_per_test=1, cpu_seconds_per_program=10)
"""Of a checker, for one answer and for all answers of a program."""
_TOLERANCE = 1e-6
_MAX_EXPRESSION_CHARACTERS = 65_536
_MAX_EXPECTED_CHARACTERS = 1_000_000
_TEXT = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_MAX_EXPECTED = 100
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Checked:
    """A test of a `call`, or of a script that reads `stdin`. What decides is a `property`, a `checker`, or else one of
    the `expected` values or outputs, compared as `compare` says. With a checker, `expected` has its reference answer,
    if there is one.
    """

    call: str | None = None
    stdin: str | None = None
    expected: tuple[str, ...] = ()
    compare: str = ""
    tolerance: float = _TOLERANCE
    property: str | None = None
    checker: str | None = None

    @builtins.property
    def content(self) -> list[Any]:
        """What decides the verdict, for keys."""
        return [self.call, self.stdin, self.expected, self.compare, self.tolerance, self.property, self.checker]

    @builtins.property
    def digest(self) -> str | None:
        """The version of the checker: the first 16 digits of the SHA-256 of its text."""
        return None if self.checker is None else digest(self.checker)


def digest(checker: str) -> str:
    """The version of a checker program, which is in the rows of its verdicts."""
    return hashlib.sha256(checker.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def parse(test: dict[str, Any]) -> Checked | None:
    """The test of a row; None where it has another form.

    - {call, expect, compare?, tolerance?}, and {call, anyOf, ...} with several expected values;
    - {call, property};
    - {call, checker, expect?};
    - {stdin, checker, stdout?};
    - {stdin, anyOf, compare?} with several expected outputs.
    """
    match test:
        case {"call": str(call), "property": str(condition)} if len(test) == 2:
            return Checked(call=call, property=condition)
        case {"call": str(call), "checker": str(checker)} if test.keys() <= {"call", "checker", "expect"}:
            expected = _texts([test["expect"]] if "expect" in test else [])
            return None if expected is None else Checked(call=call, checker=checker, expected=expected)
        case {"stdin": str(stdin), "checker": str(checker)} if test.keys() <= {"stdin", "checker", "stdout"}:
            expected = _texts([test["stdout"]] if "stdout" in test else [])
            return None if expected is None else Checked(stdin=stdin, checker=checker, expected=expected)
        case {"call": str(call)} if ("expect" in test) != ("anyOf" in test) and test.keys() <= {
            "call", "expect", "anyOf", "compare", "tolerance"
        }:  # fmt: skip
            expected = _texts([test["expect"]] if "expect" in test else test["anyOf"])
            compare, tolerance = test.get("compare", "exact"), test.get("tolerance", _TOLERANCE)
            is_number = type(tolerance) in (int, float) and math.isfinite(tolerance) and tolerance >= 0
            if not expected or compare not in COMPARISONS or not is_number:
                return None
            if "tolerance" in test and compare != "tolerance":
                return None
            return Checked(call=call, expected=expected, compare=compare, tolerance=tolerance)
        case {"stdin": str(stdin), "anyOf": list(given)} if test.keys() <= {"stdin", "anyOf", "compare"}:
            expected, compare = _texts(given), test.get("compare", "floats")
            if not expected or compare not in asserts.COMPARISONS:
                return None
            return Checked(stdin=stdin, expected=expected, compare=compare)
        case _:
            return None


def _texts(given: Any) -> tuple[str, ...] | None:
    if not isinstance(given, list) or len(given) > _MAX_EXPECTED or not all(isinstance(each, str) for each in given):
        return None
    return tuple(given)


# --- what runs where -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The expression that the program's process evaluates, and the check without its answer; or why there is none."""

    call: CodeType | None = None
    check: tuple[Any, ...] = ()
    fault: str | None = None


def _size(test: Checked) -> int:
    return len(test.call or test.stdin or "") + sum(map(len, test.expected))


@asserts.kept(_size)
def plan(test: Checked) -> Plan:
    """Split a test into what the program does and what is judged apart from it."""
    if test.call is None:
        reference = test.expected[0] if test.expected else None
        return Plan(check=("checker", reference, test.stdin))
    parts: list[Any] = []
    for name, source in (("call", test.call), ("property", test.property), *(("expect", e) for e in test.expected)):
        if source is None:
            continue
        try:
            if _long_parts(source) > (_MAX_EXPECTED_CHARACTERS if name == "expect" else _MAX_EXPRESSION_CHARACTERS):
                raise ValueError("too long")
            parts.append((name, _compiled(source)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Plan(fault=f"'{name}' is no Python expression: {_described(error)}")
    codes = [code for name, code in parts if name == "expect"]
    arguments = _arguments(test.call)
    if test.property is not None:
        check: tuple[Any, ...] = ("property", parts[1][1], arguments)
    elif test.checker is not None:
        check = ("checker", codes[0] if codes else None, arguments)
    else:
        check = ("compare", (test.compare, test.tolerance, codes), None)
    return Plan(parts[0][1], check)


def _long_parts(source: str) -> int:
    """The characters of an expression without those of its texts, which cost next to nothing however long they are."""
    if len(source) <= _MAX_EXPRESSION_CHARACTERS:
        return len(source)
    return len(_TEXT.sub("", source))


def _compiled(source: str) -> CodeType:
    return compile(source.strip(), "<test>", "eval", dont_inherit=True)


def _described(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__


def _arguments(call: str) -> CodeType:
    """An expression for the arguments of a call, as a tuple: those of the outermost call of what is no builtin. Named
    ones come after the others, in the order in which they are written.
    """
    tree = ast.parse(call.strip(), mode="eval")
    found: list[ast.expr] = []
    for node in ast.walk(tree):  # from the outside to the inside
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _BUILTINS):
            found = [*node.args, *(word.value for word in node.keywords if word.arg is not None)]
            break
    arguments = ast.Expression(ast.Tuple(found, ast.Load()))
    return compile(ast.fix_missing_locations(ast.copy_location(arguments, tree)), "<test>", "eval", dont_inherit=True)


# --- how good a checker is -------------------------------------------------------------------------------------------

_MAX_MUTATED_CHARACTERS = 20_000
_STRANGERS: tuple[Any, ...] = (None, 0, -1, True, "", "x", [], [0], {}, (), 1.5, float("nan"), [None])


def mutants(answer: tuple[str, str], others: list[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
    """At most `count` different answers that differ from `answer`, the same for the same seed; `others` are the answers
    to other tests. A mutant may still be right, where there are several right answers.
    """
    chance = random.Random(f"{seed} {answer[1]}")
    known, found = {answer}, list[tuple[str, str]]()
    if len(answer[1]) > _MAX_MUTATED_CHARACTERS:
        return []
    candidates = _text_mutants(answer[1], chance) if answer[0] == "text" else _data_mutants(answer[1], chance)
    for candidate in _interleaved(iter(others), candidates):
        if len(found) == count:
            break
        if candidate not in known:
            known.add(candidate)
            found.append(candidate)
    return found


def _interleaved(first: Iterator[tuple[str, str]], second: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """All of `second`, with one of `first` after every fifth."""
    for place, each in enumerate(second):
        yield each
        if place % 5 == 0 and (other := next(first, None)) is not None:
            yield other


def shown(answer: tuple[str, str]) -> str:
    """A short text of an answer."""
    if answer[0] == "text":
        return repr(answer[1][:200])
    try:
        return repr(wire.value_of(json.loads(answer[1]), _no_object))[:200]
    except (wire.Malformed, ValueError, RecursionError):
        return "an answer that cannot be shown"


def _no_object(tag: str, _: Iterator[Any]) -> Any:
    raise wire.Malformed(tag)


def _data_mutants(text: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    try:
        value = wire.value_of(json.loads(text), _no_object)
    except (wire.Malformed, ValueError, RecursionError):
        return
    for turn in range(2_000):
        changed = chance.choice(_STRANGERS) if turn % 8 == 7 else _changed(value, chance)
        if turn % 3 == 2:
            changed = _changed(changed, chance)
        try:
            yield "data", json.dumps(wire.tokens(changed, _no_reference), separators=(",", ":"))
        except (TypeError, wire.TooLarge):
            continue


def _no_reference(value: Any) -> list[Any]:
    raise TypeError(type(value).__name__)


def _changed(value: Any, chance: random.Random) -> Any:
    """A value like `value` with one thing of it changed."""
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice([-1, 1, 1, -1, 2, -2, 10, -value - value])
        case float():
            return chance.choice([value + 1, value - 1, value * 1.01 + 1e-3, -value, math.nan, math.inf, value / 2])
        case Fraction() | Decimal():
            return value + chance.choice([-1, 1])
        case complex():
            return value + chance.choice([1, -1, 1j])
        case str():
            return _changed_text(value, chance)
        case list() | tuple():
            return type(value)(_changed_list(list(value), chance))
        case set() | frozenset():
            members = sorted(value, key=repr)
            return type(value)(each for each in _changed_list(members, chance) if _is_hashable(each))
        case dict():
            keys = list(value)
            if not keys or chance.random() < 0.2:
                return {**value, chance.choice(["x", 0, -1, *keys]): 0}
            key = chance.choice(keys)
            if chance.random() < 0.3:
                return {each: part for each, part in value.items() if each != key}
            return {**value, key: _changed(value[key], chance)}
        case None:
            return chance.choice(_STRANGERS[1:])
        case _:
            return chance.choice(_STRANGERS)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _changed_list(items: list[Any], chance: random.Random) -> list[Any]:
    if not items:
        return [chance.choice([0, 1, "a", None, []])]
    at = chance.randrange(len(items))
    match chance.randrange(7):
        case 0:
            return items[:at] + items[at + 1 :]
        case 1:
            return [*items[:at], items[at], *items[at:]]
        case 2:
            other = chance.randrange(len(items))
            swapped = list(items)
            swapped[at], swapped[other] = swapped[other], swapped[at]
            return swapped
        case 3:
            return [*items, _changed(items[at], chance)]
        case 4:
            return items[::-1]
        case _:
            return [*items[:at], _changed(items[at], chance), *items[at + 1 :]]


def _changed_text(text: str, chance: random.Random) -> str:
    if not text:
        return chance.choice(["a", " ", "0", "()"])
    at = chance.randrange(len(text))
    letter = chance.choice(text + "a0")
    match chance.randrange(4):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + letter + text[at:]
        case 2:
            return text[:at] + letter + text[at + 1 :]
        case _:
            return text[::-1] if chance.random() < 0.5 else text + text[at]


def _text_mutants(text: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Outputs of scripts with a word, a number or a line changed."""
    for turn in range(2_000):
        lines = [line.split(" ") for line in text.rstrip("\n").split("\n")]
        match turn % 8:
            case 7:
                yield "text", chance.choice(["", "0\n", "-1\n", "YES\n", "x", "nan\n", "1 1\n"])
                continue
            case 0:
                lines = (
                    [each for each in _changed_list(lines, chance) if isinstance(each, list)]
                    if len(lines) > 1
                    else [*lines, ["0"]]
                )
            case _:
                row = chance.randrange(len(lines))
                place = chance.randrange(len(lines[row]))
                word = lines[row][place]
                try:
                    lines[row][place] = str(_changed(int(word), chance))
                except ValueError:
                    lines[row][place] = _changed_text(word, chance)
                if turn % 4 == 3:
                    lines[row] = [str(each) for each in _changed_list(lines[row], chance)]
        yield "text", "\n".join(" ".join(map(str, line)) for line in lines) + "\n"
