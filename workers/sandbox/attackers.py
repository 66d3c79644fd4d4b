"""A program for the sandbox: proposes inputs of one question, and says what the reference answers and whom each kills.

Its text is sent into the sandbox as a script; nothing of it runs elsewhere. Standard input is one JSON object, the last
line of standard output another one (see `main`). The reference is as trusted as its question, and mutants of it are as
trusted as the reference, so all of them share this process. Programs of others never come here: they are judged on the
proposed tests afterwards, as all programs are.

The same input gives the same output on every host: chance is seeded, and a run is stopped by its steps, which are
counted at every function, loop and branch. The clock stops only what counts no steps, such as one long calculation in
C.
"""

# Values of programs have no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import math
import random
import re
import signal
import string
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

# --- running ---------------------------------------------------------------------------------------------------------

_STEPS = 20_000
"""Steps of one call of the reference, at most."""
_MORE_STEPS = 5_000
"""A mutant may take five times the steps of the reference, and this many more."""
_PATIENCE = 20
"""Its steps stop it, and its time only where it counts none: a multiple of what the reference has."""
_SMALL_INT = 2**53
"""Beyond it a right program that calculates in floats differs by rounding alone."""
_LONGEST = 2_000
"""Characters of an input or an answer, at most."""
_TOLERANCE = 1e-6


class _Stopped(BaseException):
    """Out of steps or time; no Exception, so that `except Exception` lets it pass."""


FAILURES = (Exception, _Stopped)
"""What a call of a program may end with."""


class Meter:
    """Counts the steps of a call, and where they are taken."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._most = seconds
        self._limit = math.inf
        self._start = 0.0
        self.steps = 0
        self.sites: dict[int, int] = {}
        # The sandbox has its own timers; this one is free.
        signal.signal(signal.SIGVTALRM, self._ring)

    def _ring(self, _signal: int, _frame: types.FrameType | None) -> None:
        if time.process_time() - self._start >= self._most and self._limit < math.inf:
            raise _Stopped("time")

    def tick(self, site: int) -> bool:
        self.steps += 1
        self.sites[site] = self.sites.get(site, 0) + 1
        if self.steps > self._limit:
            raise _Stopped("steps")
        return True

    def run(self, limit: float, body: Callable[[], Any], times: float = 1) -> Any:
        """What `body` returns. `_Stopped` where it takes more steps than `limit`, or more than so many times the
        seconds.
        """
        seconds = self._most = times * self._seconds
        self.steps, self.sites, self._limit = 0, {}, limit
        self._start = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds / 4)
        try:
            return body()
        finally:
            self._limit = math.inf
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class _Counted(ast.NodeTransformer):
    """Counts a step at every function, loop, branch and round of a comprehension."""

    def __init__(self) -> None:
        self._site = 0

    def _tick(self) -> ast.Call:
        self._site += 1
        return ast.Call(ast.Name("__tick__", ast.Load()), [ast.Constant(self._site)], [])

    def _counted(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [ast.Expr(self._tick()), *body]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = self._counted(node.body)
        return node

    def _loop(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        node.body = self._counted(node.body)
        return node

    visit_For = visit_While = visit_ExceptHandler = _loop

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        node.body = self._counted(node.body)
        node.orelse = self._counted(node.orelse)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.body = ast.BoolOp(ast.And(), [self._tick(), node.body])
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs = [self._tick(), *node.ifs]
        return node


def loaded(tree: ast.Module, meter: Meter) -> dict[str, Any]:
    """The names of a module whose steps are counted. Raises what loading it raises."""
    counted = ast.fix_missing_locations(_Counted().visit(copy.deepcopy(tree)))
    names: dict[str, Any] = {"__name__": "program", "__tick__": meter.tick}
    code = compile(counted, "program", "exec")
    meter.run(10 * _STEPS, lambda: exec(code, names), _PATIENCE)  # noqa: S102 - the sandbox is where programs run
    return names


def copied(value: Any) -> Any:
    """A copy of plain data."""
    kind = type(value)
    if kind is list:
        return [copied(item) for item in value]
    if kind is tuple:
        return tuple([copied(item) for item in value])
    if kind is dict:
        return {key: copied(item) for key, item in value.items()}
    return set(value) if kind is set else value


def literal(value: Any) -> str | None:
    """The value as a Python literal; None for one that has none, or that says little because it is large."""
    try:
        text = repr(value)
        if len(text) > _LONGEST or not _is_plain(value):
            return None
        return text if ast.literal_eval(text) == value else None
    except Exception:  # noqa: BLE001 - no literal
        return None


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if depth > 20:
        return False
    if kind is int:
        return True
    if kind is float:
        return math.isfinite(value)
    if kind in (list, tuple, set):
        return all(_is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(_is_plain(key, depth + 1) and _is_plain(item, depth + 1) for key, item in value.items())
    return value is None or kind in (bool, str, bytes, complex)


def has_float(value: Any) -> bool:
    kind = type(value)
    if kind in (list, tuple, set):
        return any(has_float(item) for item in value)
    return any(has_float(item) for item in value.values()) if kind is dict else kind is float


def _as_float(value: Any) -> float:
    """A constant of a test that is a number."""
    return float(value)


def is_huge(value: Any) -> bool:
    """Whether a number in it is so large that floats cannot tell it from its neighbours."""
    kind = type(value)
    if kind in (list, tuple, set):
        return any(is_huge(item) for item in value)
    if kind is dict:
        return any(is_huge(item) for pair in value.items() for item in pair)
    return kind in (int, float) and abs(value) > _SMALL_INT


def same(wanted: Any, got: Any) -> bool:
    """Whether an answer is the expected one: equal, but for the last digits of floats."""
    try:
        if wanted == got:
            return True
        return _near(wanted, got)
    except Exception:  # noqa: BLE001 - what cannot be compared differs
        return False


def _near(wanted: Any, got: Any) -> bool:
    if type(wanted) in (int, float) and type(got) in (int, float):
        inexact = type(wanted) is float or type(got) is float
        return inexact and math.isclose(wanted, got, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if type(wanted) is not type(got):
        return False
    if type(wanted) in (list, tuple):
        return len(wanted) == len(got) and all(same(ours, theirs) for ours, theirs in zip(wanted, got, strict=True))
    if type(wanted) is dict:
        return wanted.keys() == got.keys() and all(same(item, got[key]) for key, item in wanted.items())
    return False


# --- the tests of a question -----------------------------------------------------------------------------------------

_CALL = "__call__"


class Form:
    """How the tests of a question ask: the expression around the call, and how far an answer may be off."""

    def __init__(self, around: ast.expr | None = None, tolerance: float | None = None) -> None:
        self.around = around
        self.tolerance = tolerance
        self.key = (ast.dump(around) if around else "", tolerance)
        self._code = compile(ast.fix_missing_locations(ast.Expression(around)), "test", "eval") if around else None

    def value(self, names: dict[str, Any], answer: Any) -> Any:
        return eval(self._code, {**names, _CALL: answer}) if self._code else answer

    def text(self, call: str) -> str:
        return ast.unparse(self.around).replace(_CALL, call) if self.around else call


class Input:
    """Arguments of one call, by position and by name."""

    def __init__(self, values: Sequence[Any], names: Sequence[str]) -> None:
        self.values = list(values)
        self.names = tuple(names)
        """Names of the last arguments."""
        self.strange: float | None = None
        given = [repr(value) for value in self.values]
        first = len(given) - len(self.names)
        self.text = ", ".join(
            [*given[:first], *(f"{name}={text}" for name, text in zip(self.names, given[first:], strict=True))]
        )

    def call(self, function: Callable[..., Any]) -> Any:
        values = [copied(value) for value in self.values]
        first = len(values) - len(self.names)
        return function(*values[:first], **dict(zip(self.names, values[first:], strict=True)))

    def replaced(self, values: Sequence[Any]) -> Input:
        return Input(values, self.names)


def _is_call(node: ast.AST, entry_point: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in (entry_point, "candidate")


class _Hole(ast.NodeTransformer):
    """Puts a name in the place of the call."""

    def __init__(self, entry_point: str) -> None:
        self._entry_point = entry_point

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_call(node, self._entry_point):
            return ast.Name(_CALL, ast.Load())
        return self.generic_visit(node)


def _read(condition: ast.expr, entry_point: str) -> tuple[Form, ast.Call] | None:
    calls = [node for node in ast.walk(condition) if _is_call(node, entry_point)]
    if len(calls) != 1:
        return None
    call: Any = calls[0]

    def holds(node: ast.expr) -> bool:
        return any(each is call for each in ast.walk(node))

    def around(node: ast.expr) -> ast.expr | None:
        return None if node is call else _Hole(entry_point).visit(copy.deepcopy(node))

    truth = ast.Call(ast.Name("bool", ast.Load()), [ast.Name(_CALL, ast.Load())], [])
    match condition:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            return Form(around(left if holds(left) else right)), call
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(op=ast.Sub(), left=first, right=second)])
        ):
            bound = condition.comparators[0]
            if (
                isinstance(bound, ast.Constant)
                and type(bound.value) in (int, float)
                and (first is call or second is call)
            ):
                return Form(None, _as_float(bound.value)), call
        case ast.Call(func=ast.Attribute(attr="isclose") | ast.Name(id="isclose"), keywords=keywords):
            if any(argument is call for argument in condition.args):
                given = [word.value.value for word in keywords if isinstance(word.value, ast.Constant)]
                tolerances = [_as_float(each) for each in given if type(each) in (int, float)]
                return Form(None, max(tolerances, default=1e-9)), call
        case ast.UnaryOp(op=ast.Not(), operand=operand) if operand is call:
            return Form(truth), call
        case _ if condition is call:
            return Form(truth), call
        case _:
            pass
    return None


def read_tests(tests: Sequence[str], entry_point: str, names: dict[str, Any]) -> tuple[Form, list[Input]] | None:
    """The form that most of the tests have, and the inputs of all that can be read. None where none can."""
    found: list[tuple[Form, Input]] = []
    for text in tests:
        with contextlib.suppress(Exception):
            for statement in ast.walk(ast.parse(text)):
                read = _read(statement.test, entry_point) if isinstance(statement, ast.Assert) else None
                if read is None:
                    continue
                form, call = read
                given = [*call.args, *(word.value for word in call.keywords)]
                values = [eval(compile(ast.Expression(each), "test", "eval"), dict(names)) for each in given]
                if all(_is_plain(value) for value in values):
                    found.append((form, Input(values, [word.arg or "" for word in call.keywords])))
    if not found:
        return None
    keys = [form.key for form, _ in found]
    common = max(keys, key=keys.count)
    form = next(form for form, _ in found if form.key == common)
    shape = (len(found[0][1].values), found[0][1].names)
    inputs = [given for _, given in found if (len(given.values), given.names) == shape]
    return form, list({given.text: given for given in inputs}.values())


_MAX_BRACKETS = 200
"""Closing brackets after the name of the function at which a call in a text may end."""


def calls_in(text: str, entry_point: str, like: Input) -> list[Input]:
    """The inputs of the calls that a text holds, such as the reply of a model: in code, in prose, in JSON. Calls whose
    arguments are no literals, or others than those of the known inputs, are left out.
    """
    found: dict[str, Input] = {}
    # In JSON the quotes of a call are escaped.
    for each in (text, text.replace('\\"', '"')) if '\\"' in text else (text,):
        for name in re.finditer(rf"(?<![\w.]){re.escape(entry_point)}\s*\(", each):
            call = _call_at(each, name.start())
            if call is None:
                continue
            with contextlib.suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                values = [ast.literal_eval(part) for part in (*call.args, *(word.value for word in call.keywords))]
                given = Input(values, [word.arg or "" for word in call.keywords])
                if len(given.values) == len(like.values) and given.names == like.names and all(map(_is_plain, values)):
                    found.setdefault(given.text, given)
    return list(found.values())


def _call_at(text: str, start: int) -> ast.Call | None:
    """The call that begins there: the shortest text up to a closing bracket that is one."""
    end = start
    for _ in range(_MAX_BRACKETS):
        end = text.find(")", end) + 1
        if end == 0 or end - start > _LONGEST:
            return None
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            parsed = ast.parse(text[start:end], mode="eval").body
            return parsed if isinstance(parsed, ast.Call) else None
    return None


# --- the domain of a question's inputs -------------------------------------------------------------------------------


_TOO_LARGE = 100.0
"""So strange is what is much larger than anything known: it tells how fast a program is, and not how right."""


class Domain:
    """What the values at one place of the known inputs have in common."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)
        self.kinds = {type(value) for value in values}
        numbers = [value for value in values if type(value) in (int, float)]
        self.low, self.high = (min(numbers), max(numbers)) if numbers else (0, 0)
        self.texts = [value for value in values if type(value) is str]
        self.alphabet = sorted({character for text in self.texts for character in text})
        self.classes = {_class_of(character) for character in self.alphabet}
        self.first_classes = {_class_of(text[0]) for text in self.texts if text}
        holders = [value for value in values if type(value) in (list, tuple, set, dict)]
        sized = [*self.texts, *holders]
        self.shortest = min(map(len, sized), default=0)
        self.longest = max(map(len, sized), default=0)
        self.sequences = [value for value in holders if type(value) in (list, tuple)]
        self.members = [item for value in holders for item in value]
        self.is_record = (
            len(self.sequences) > 1
            and self.shortest == self.longest > 0
            and len({type(item) for value in self.sequences for item in value}) > 1
            and all(len({type(value[at]) for value in self.sequences}) == 1 for at in range(self.longest))
        )
        """Whether each place of a sequence has a type of its own, as in a pair of a name and a number."""
        self.places = (
            [Domain([value[at] for value in self.sequences]) for at in range(self.longest)] if self.is_record else []
        )
        self.item = Domain(self.members) if self.members and not self.is_record else None
        dicts = [value for value in holders if type(value) is dict]
        self.value = Domain([item for value in dicts for item in value.values()]) if any(dicts) else None
        longer = [value for value in self.sequences if len(value) > 2]
        self.ascending = len(longer) > 1 and all(map(_ascends, longer))
        self.distinct = bool(longer) and all(_is_distinct(value) for value in self.sequences)
        nested = [value for value in self.sequences if len(value) > 1 and all(_has_size(item) for item in value)]
        self.rectangular = bool(nested) and all(len({len(item) for item in value}) == 1 for value in nested)
        self.square = len(nested) > 1 and self.rectangular and all(len(value) == len(value[0]) for value in nested)
        self.uniform = bool(holders) and all(len({type(item) for item in value}) < 2 for value in holders)
        """Whether no value holds members of several types."""

    def strangeness(self, value: Any) -> float:
        """How unlike the known values this one is: 0 where nothing tells it apart."""
        kind = type(value)
        if kind not in self.kinds:
            if kind is int and float in self.kinds:
                return self._number(value)
            if kind is float and int in self.kinds:
                return 2 + self._number(value)
            return 8
        if kind in (int, float):
            return self._number(value)
        if kind is str:
            return self._text(value)
        if kind in (list, tuple, set, dict):
            return self._holder(value)
        return 0

    def _number(self, value: float) -> float:
        size = max(abs(self.low), abs(self.high))
        if abs(value) > 3 * size + 20:
            return _TOO_LARGE
        strange = 0.0
        if value < 0 <= self.low:
            strange += 3
        elif value == 0 < self.low:
            strange += 2
        if abs(value) > 2 * size + 10:
            strange += 1
        return strange

    def _text(self, value: str) -> float:
        strange = self._size(len(value))
        new = {_class_of(character) for character in value} - self.classes
        letters = bool(self.classes & {"lower", "upper"})
        for each in new:
            strange += 1 if each in ("lower", "upper") and letters else 8 if each == "other" else 2
        if len(self.alphabet) <= 4 and len(self.texts) > 1 and set(value) - set(self.alphabet):
            strange += 2
        if (
            value
            and len(self.texts) > 1
            and len(self.first_classes) == 1
            and _class_of(value[0]) not in self.first_classes
        ):
            strange += 0.5
        return strange

    def _size(self, size: int) -> float:
        strange = 0.0
        if self.shortest == self.longest and size != self.longest and len(self.values) > 1 and self.longest < 2:
            strange += 4
        if size == 0 < self.shortest:
            strange += 2
        elif size < min(2, self.shortest):
            strange += 1
        return _TOO_LARGE if size > 2 * self.longest + 4 else strange

    def _holder(self, value: Any) -> float:
        strange = self._size(len(value))
        members = list(value)
        if self.is_record:
            if len(members) != self.longest:
                return strange + 6
            return strange + max(domain.strangeness(item) for domain, item in zip(self.places, members, strict=True))
        if len(self.sequences) > 1 and self.shortest == self.longest != len(members) and type(value) is tuple:
            strange += 1
        if self.item:
            strange += max((self.item.strangeness(item) for item in members), default=0)
        elif members:
            strange += 2
        if self.value and type(value) is dict:
            strange += max((self.value.strangeness(item) for item in value.values()), default=0)
        if self.uniform and len({type(item) for item in members}) > 1:
            strange += 4
        if type(value) in (list, tuple):
            if self.ascending and not _ascends(members):
                strange += 3
            if self.distinct and not _is_distinct(members):
                strange += 1
            if self.rectangular and len({len(item) if _has_size(item) else -1 for item in members}) > 1:
                strange += 5
            elif self.square and members and any(_has_size(item) and len(item) != len(members) for item in members):
                strange += 3
        return strange


def _class_of(character: str) -> str:
    if character in string.ascii_lowercase:
        return "lower"
    if character in string.ascii_uppercase:
        return "upper"
    if character in string.digits:
        return "digit"
    if character == " ":
        return "space"
    return f"mark {character}" if character in string.punctuation else "other"


def _has_size(value: Any) -> bool:
    return type(value) in (list, tuple, str)


def _ascends(value: Sequence[Any]) -> bool:
    try:
        return all(first <= second for first, second in pairwise(value))
    except TypeError:
        return False


def _is_distinct(value: Sequence[Any]) -> bool:
    return len({repr(item) for item in value}) == len(value)


_CLEAR, _LIKELY, _CHANCE = 3.0, 2.0, 1.0
"""How strange it is that a relation does not hold: two numbers are in order by chance, a length is none."""

Relation = tuple[float, str, Callable[[Sequence[Any]], bool], Callable[[list[Any]], None]]


def relations(inputs: Sequence[Input]) -> list[Relation]:
    """What holds between the arguments of all known inputs, and how it is made to hold."""
    if len(inputs) < 2:
        return []
    known = [given.values for given in inputs]
    width = len(known[0])
    found: list[Relation] = []

    def add(
        weight: float, name: str, holds: Callable[[Sequence[Any]], bool], mend: Callable[[list[Any]], None]
    ) -> None:
        try:
            if all(holds(values) for values in known):
                found.append((weight, name, holds, mend))
        except Exception:  # noqa: BLE001 - says nothing of these values
            return

    for one in range(width):
        for two in range(width):
            if one != two:
                for relation in _pairwise(one, two):
                    add(*relation)
    return found


def _pairwise(one: int, two: int) -> Iterator[Relation]:
    def length_mend(values: list[Any]) -> None:
        values[one] = len(values[two])

    yield _CLEAR, f"{one} is the length of {two}", lambda v: _int(v[one]) == len(v[two]), length_mend

    def shorten(values: list[Any]) -> None:
        values[one] = min(max(values[one], 1), len(values[two]))

    yield _CLEAR, f"{one} is at most the length of {two}", lambda v: 0 <= _int(v[one]) <= len(v[two]), shorten
    yield _CLEAR, f"{one} is from 1 to the length of {two}", lambda v: 1 <= _int(v[one]) <= len(v[two]), shorten

    def cut(values: list[Any]) -> None:
        size = min(len(values[one]), len(values[two]))
        values[one], values[two] = values[one][:size], values[two][:size]

    if one < two:
        yield (
            _CLEAR,
            f"{one} and {two} are equally long",
            lambda v: _sized(v[one]) == _sized(v[two]) and not (len(v[one]) == len(v[two]) == 1),
            cut,
        )

    def swap(values: list[Any]) -> None:
        values[one], values[two] = sorted((values[one], values[two]))

    yield _CHANCE, f"{one} is at most {two}", lambda v: _number(v[one]) <= _number(v[two]), swap

    def pick(values: list[Any]) -> None:
        members = list(values[two])
        if members:
            values[one] = members[len(members) // 2]

    yield _LIKELY, f"{one} is in {two}", lambda v: _simple(v[one]) in v[two], pick


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return value


def _sized(value: Any) -> int:
    if type(value) not in (list, tuple, str):
        raise TypeError
    return len(value)


def _simple(value: Any) -> Any:
    if type(value) in (list, tuple, dict, set):
        raise TypeError
    return value


# --- proposing inputs ------------------------------------------------------------------------------------------------


_USUAL = 4
"""Inputs that are no stranger are changed further."""
_SMALL = 200
_TRIES = 4
"""Changes for each input that is wanted, at most: many repeat others or are refused."""


class Proposer:
    """Inputs by type, boundary and domain: the known ones changed, crossed and grown."""

    def __init__(self, inputs: Sequence[Input], chance: random.Random, *, bold: bool = False) -> None:
        self._bold = bold
        self._known = list(inputs)
        self._chance = chance
        self.domains = [Domain([given.values[at] for given in inputs]) for at in range(len(inputs[0].values))]
        self.relations = relations(inputs)

    def strangeness(self, given: Input) -> float:
        """How far an input is from what the known ones have in common."""
        if given.strange is None:
            given.strange = self._strangeness(given)
        return given.strange

    def _strangeness(self, given: Input) -> float:
        strange = sum(domain.strangeness(value) for domain, value in zip(self.domains, given.values, strict=True))
        for weight, _, holds, _ in self.relations:
            try:
                strange += 0 if holds(given.values) else weight
            except Exception:  # noqa: BLE001 - of other types
                strange += weight
        return strange

    def broken(self, given: Input) -> list[str]:
        """The relations that do not hold for an input, in words."""
        names: list[str] = []
        for _, name, holds, _ in self.relations:
            try:
                if holds(given.values):
                    continue
            except Exception:  # noqa: BLE001 - of other types
                pass
            names.append(f"not: {name}")
        return names

    def propose(
        self, count: int, why_refused: Callable[[Input], str | None], given: Sequence[Input] = ()
    ) -> tuple[list[Input], dict[str, int]]:
        """Different inputs that are not refused, `count` at most, those that are least strange first; and how many were
        refused, by reason. Those `given` are considered before all others.
        """
        found: dict[str, Input] = {}
        seen = {given.text for given in self._known}
        refused: dict[str, int] = {}
        pool = list(self._known)

        def consider(given: Input) -> None:
            if given.text in seen or len(given.text) > _LONGEST:
                return
            seen.add(given.text)
            reason = why_refused(given)
            if reason is not None:
                refused[reason] = refused.get(reason, 0) + 1
                return
            found[given.text] = given
            if self.strangeness(given) <= _USUAL:
                pool.append(given)

        for each in given[: count // 2]:
            consider(each)
        for each in self._small():
            if len(found) < count // 2:
                consider(each)
        for _ in range(_TRIES * count):
            if len(found) >= count:
                break
            changed = self._changed(pool)
            if changed is not None:
                consider(changed)
        order = sorted(found.values(), key=lambda given: (self.strangeness(given), len(given.text), given.text))
        return order, refused

    def _small(self) -> Iterator[Input]:
        """Every small number in the place of each number, and those next to the largest one, alone."""
        for at, domain in enumerate(self.domains):
            if domain.kinds <= {int}:
                low, high = int(domain.low), int(domain.high)
                bottom = max(min(2 * low, -2), -_SMALL) if low < 0 else 0
                top = min(max(2 * high, 20), _SMALL)
                near = range(max(top + 1, high - 20), high + 20)
                for value in (*range(bottom, top + 1), *near):
                    for given in self._known[:2]:
                        values = [copied(each) for each in given.values]
                        values[at] = value
                        yield self._mended(given, values)

    def _mended(self, given: Input, values: list[Any]) -> Input:
        mended = 0.6 if self._bold else 1
        for weight, _, holds, mend in self.relations:
            with contextlib.suppress(Exception):
                if self._chance.random() < mended * weight / (weight + 0.5) and not holds(values):
                    mend(values)
        return given.replaced(values)

    def _changed(self, pool: Sequence[Input]) -> Input | None:
        chance = self._chance
        given = chance.choice(self._known if chance.random() < 0.3 else pool)
        values = [copied(value) for value in given.values]
        if not values:
            return None
        for _ in range(1 + (chance.random() < 0.4) + (chance.random() < 0.2)):
            at = chance.randrange(len(values))
            if chance.random() < 0.1:
                values[at] = copied(chance.choice(pool).values[at])
            elif chance.random() < 0.2 and len(values) > 1:
                other = chance.choice(values)
                if type(other) is type(values[at]):
                    values[at] = copied(other)
                elif type(other) in (list, tuple) and other and type(other[0]) in self.domains[at].kinds:
                    values[at] = copied(chance.choice(other))
            else:
                values[at] = self._value(values[at], self.domains[at], 0)
        return self._mended(given, values)

    def _value(self, value: Any, domain: Domain, depth: int) -> Any:
        kind = type(value)
        if kind is bool:
            return not value
        if kind is int:
            return self._int(value, domain)
        if kind is float:
            return self._float(value, domain)
        if kind is str:
            return self._text(value, domain)
        if kind in (list, tuple):
            return self._sequence(value, domain, depth)
        if kind is set:
            return set(self._sequence(sorted(value, key=repr), domain, depth))
        if kind is dict:
            return self._dict(value, domain, depth)
        if kind is complex:
            part = self._chance.choice((0, 1, -1, 2, 0.5))
            return self._chance.choice((value + part, value.conjugate(), value * 2, complex(part, value.imag)))
        return copied(self._chance.choice(domain.values)) if domain.values else value

    def _int(self, value: int, domain: Domain) -> int:
        chance = self._chance
        low, high = int(domain.low), int(domain.high)
        match chance.randrange(10):
            case 0:
                return value + 1
            case 1:
                return value - 1
            case 2:
                return value + chance.choice((-10, -3, -2, 2, 3, 10))
            case 3:
                return chance.choice((0, 1, 2, -1))
            case 4:
                return chance.choice((-value, value * 2, value // 2, value * 10, value * 3))
            case 5:
                power = 10 ** chance.randrange(1, len(str(abs(high))) + 2)
                return power + chance.choice((-1, 0, 1))
            case 6:
                return 2 ** chance.randrange(max(abs(high).bit_length(), 2) + 1) + chance.choice((-1, 0, 1))
            case 7:
                digits = list(str(abs(value)))
                digits[chance.randrange(len(digits))] = chance.choice("0123456789")
                return int("".join(digits))
            case 8:
                other = chance.choice(domain.values) if domain.values else value
                return other if type(other) is int else value
            case _:
                return chance.randint(min(low, 0), max(2 * high, 10))

    def _float(self, value: float, domain: Domain) -> float:
        chance = self._chance
        return chance.choice(
            (
                value + 1,
                value - 1,
                value / 2,
                value * 2,
                -value,
                0.0,
                float(round(value)),
                round(value + 0.1, 6),
                round(value - 0.01, 6),
                round(chance.uniform(min(domain.low, 0), 2 * domain.high + 1), 2),
            )
        )

    def _character(self, domain: Domain) -> str:
        chance = self._chance
        roll = chance.random()
        if roll < 0.75 and domain.alphabet:
            return chance.choice(domain.alphabet)
        if roll < 0.95:
            named = {"lower": string.ascii_lowercase, "upper": string.ascii_uppercase, "digit": string.digits}
            classes = sorted(each for each in domain.classes if each in named) or ["lower"]
            return chance.choice(named[chance.choice(classes)])
        return chance.choice(string.ascii_letters + string.digits + " .,-_!")

    def _text(self, value: str, domain: Domain) -> str:
        chance = self._chance
        at = chance.randrange(len(value) + 1)
        match chance.randrange(16):
            case 0 | 1:
                return value[:at] + self._character(domain) + value[at:]
            case 2 | 3:
                return value[:at] + value[at + 1 :]
            case 4:
                return value[:at] + value[at : at + 1].swapcase() + value[at + 1 :]
            case 5:
                return chance.choice((value.upper(), value.lower(), value.swapcase(), value.capitalize()))
            case 6:
                return value[:at] + value[at : at + 1] * chance.randrange(2, 4) + value[at + 1 :]
            case 7:
                return value[at:] if chance.random() < 0.5 else value[:at]
            case 8:
                return value[::-1]
            case 9:
                return value + chance.choice(domain.texts or [value])
            case 10:
                return chance.choice(domain.texts or [value])
            case 11:
                return "".join(self._character(domain) for _ in range(chance.randint(1, max(domain.longest, 2))))
            case 12:
                words = value.split(" ")
                chance.shuffle(words)
                return " ".join(words)
            case 13:
                words = value.split(" ")
                words[chance.randrange(len(words))] = chance.choice(words)
                return " ".join(words)
            case 14:
                characters = list(value)
                if characters:
                    characters[chance.randrange(len(characters))] = self._character(domain)
                return "".join(characters)
            case _:
                return chance.choice(("", value[:1], value[:2], value[-1:], value * 2))

    def _sequence(self, value: Any, domain: Domain, depth: int) -> Any:
        chance = self._chance
        items = [copied(item) for item in value]
        inner = domain.item
        if domain.is_record and len(items) == len(domain.places) and chance.random() < (0.85 if self._bold else 0.95):
            at = chance.randrange(len(items))
            items[at] = self._value(items[at], domain.places[at], depth + 1)
            return type(value)(items) if type(value) is not set else items

        def member() -> Any:
            if chance.random() < 0.02:
                return chance.choice((0, 1, "a", None, 1.5, True))
            source = items or domain.members or [0]
            known = copied(chance.choice(domain.members or source) if chance.random() < 0.4 else chance.choice(source))
            return known if inner is None or chance.random() < 0.3 else self._value(known, inner, depth + 1)

        at = chance.randrange(len(items) + 1)
        match chance.randrange(14):
            case 0 | 1:
                items.insert(at, member())
            case 2 | 3:
                del items[at : at + 1]
            case 4 | 5 | 6:
                if items:
                    at = chance.randrange(len(items))
                    items[at] = self._value(items[at], inner or domain, depth + 1)
            case 7:
                if items:
                    items.insert(at, copied(chance.choice(items)))
            case 8:
                chance.shuffle(items)
            case 9:
                items.reverse()
            case 10:
                with contextlib.suppress(TypeError):
                    items.sort()
            case 11:
                items = items[at:] if chance.random() < 0.5 else items[:at]
            case 12:
                items = [member() for _ in range(chance.randint(1, max(domain.longest, 2)))]
            case _:
                items = chance.choice(([], items[:1], items[:2], items * 2, items[:1] * max(len(items), 2)))
        if domain.ascending and chance.random() < 0.9:
            with contextlib.suppress(TypeError):
                items.sort()
        if domain.rectangular and chance.random() < 0.9:
            width = min((len(item) for item in items if _has_size(item)), default=0)
            items = [item[:width] if _has_size(item) else item for item in items]
        return tuple(items) if type(value) is tuple else items

    def _dict(self, value: dict[Any, Any], domain: Domain, depth: int) -> dict[Any, Any]:
        chance = self._chance
        items = [(key, copied(item)) for key, item in value.items()]
        at = chance.randrange(len(items) + 1)
        roll = chance.randrange(6)
        if roll == 0 or not items:
            del items[at : at + 1]
        elif roll == 1 and domain.item:
            key, item = chance.choice(items)
            items.insert(at, (self._value(key, domain.item, depth + 1), item))
        elif roll == 2:
            items.insert(at, (copied(chance.choice(domain.members)), copied(chance.choice(items)[1])))
        elif roll == 3:
            chance.shuffle(items)
        elif roll == 4 and chance.random() < 0.3:
            items = []
        else:
            at = chance.randrange(len(items))
            key, item = items[at]
            items[at] = (key, self._value(item, domain.value or domain, depth + 1))
        with contextlib.suppress(TypeError):
            return dict(items)
        return value


def kinds(values: Sequence[Any]) -> list[str]:
    """What an input is like, in a few words: inputs of other words ask something else."""
    found: set[str] = {f"size {len(repr(values)).bit_length()}"}

    def look(value: Any, at: str) -> None:
        kind = type(value)
        if kind in (int, float):
            found.add(f"{at} {'below 0' if value < 0 else '0' if value == 0 else 'even' if value % 2 == 0 else 'odd'}")
            if kind is float and value != int(value):
                found.add(f"{at} fraction")
        elif kind is bool or value is None:
            found.add(f"{at} {value}")
        elif kind is str:
            found.add(f"{at} {min(len(value), 2)} characters")
            found.add(f"{at} of {' '.join(sorted({_class_of(each).split()[0] for each in value}))}")
            if value and len(set(value)) < len(value):
                found.add(f"{at} repeats")
            if value != value.strip():
                found.add(f"{at} margins")
            if len(value) > 1 and value == value[::-1]:
                found.add(f"{at} palindrome")
        elif kind in (list, tuple, set, dict):
            found.add(f"{at} {min(len(value), 3)} members")
            members = list(value.values()) if kind is dict else list(value)
            if kind in (list, tuple):
                found.add(f"{at} {'repeats' if not _is_distinct(members) else 'differs'}")
                if len(members) > 1 and _ascends(members):
                    found.add(f"{at} ascends")
                if len(members) > 1 and _ascends(members[::-1]):
                    found.add(f"{at} descends")
            for member in members[:20]:
                look(member, f"{at}.")

    for at, value in enumerate(values):
        look(value, str(at))
    texts = [repr(value) for value in values]
    if len(set(texts)) < len(texts):
        found.add("equal arguments")
    numbers = [value for value in values if type(value) in (int, float)]
    if 2 <= len(numbers) <= 4:
        ranks = sorted(set(numbers))
        found.add(f"order {' '.join(str(ranks.index(number)) for number in numbers)}")
    return sorted(found)


# --- mutants ---------------------------------------------------------------------------------------------------------

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_CALCULATED: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.FloorDiv, ast.Mult),
    ast.FloorDiv: (ast.Div, ast.Mult),
    ast.Mod: (ast.FloorDiv, ast.Add),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr, ast.BitXor),
    ast.BitOr: (ast.BitAnd, ast.BitXor),
    ast.BitXor: (ast.BitOr, ast.BitAnd),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_CALLED = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "upper": "lower",
    "lower": "upper",
    "isupper": "islower",
    "islower": "isupper",
    "isdigit": "isalnum",
    "isalpha": "isalnum",
    "search": "match",
    "match": "search",
    "find": "rfind",
    "floor": "ceil",
    "ceil": "floor",
}


class _Bare(ast.NodeTransformer):
    """Drops documentation and asserts: no input that the reference answers tells them from others."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.copy_location(ast.Pass(), node) if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def mutants(tree: ast.Module, most: int) -> list[tuple[str, ast.Module]]:
    """Programs that differ from the given one in one place, with what was changed."""
    found: list[tuple[str, ast.Module]] = []
    tree = _Bare().visit(copy.deepcopy(tree))
    seen = {ast.dump(tree)}
    originals = list(ast.walk(tree))
    for at, original in enumerate(originals):
        for number in range(_changes(original)):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[at]
            _change(node, number)
            try:
                ast.fix_missing_locations(changed)
                key = ast.dump(changed)
                if key in seen:
                    continue
                compile(changed, "program", "exec")
            except (SyntaxError, ValueError, TypeError):
                continue
            seen.add(key)
            line = getattr(original, "lineno", 0)
            before, after = _short(original), _short(node)
            found.append((f"{len(found) + 1}: line {line}, {before} -> {after}", changed))
    if len(found) <= most:
        return found
    # Spread over the whole program, not its beginning.
    return [found[index * len(found) // most] for index in range(most)]


def _short(node: ast.AST) -> str:
    try:
        return " ".join(ast.unparse(node).split())[:60]
    except Exception:  # noqa: BLE001 - an operator or a part that has no text
        return type(node).__name__


_NEGATED = (ast.If, ast.While, ast.IfExp)


def _changes(node: ast.AST) -> int:
    """In how many ways a node can be changed."""
    match node:
        case ast.Compare(ops=[op]):
            return len(_COMPARED.get(type(op), ()))
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            return len(_CALCULATED.get(type(op), ()))
        case ast.BoolOp():
            return 1 + len(node.values)
        case ast.If() | ast.While() | ast.IfExp():
            return 1
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return 1
        case ast.Constant(value=bool()):
            return 1
        case ast.Constant(value=int() | float()):
            return 2
        case ast.Constant(value=str()):
            return 1 if node.value else 0
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return (name in _CALLED) + bool(node.keywords)
        case ast.Return(value=ast.expr()):
            return 1
        case ast.Slice():
            return len(_bounds(node))
        case ast.Break() | ast.Continue():
            return 1
        case ast.comprehension():
            return len(node.ifs)
        case ast.FunctionDef() | ast.For():
            return len(node.body) if len(node.body) > 1 else 0
        case _:
            return 0


def _bounds(node: ast.Slice) -> list[str]:
    """The parts of a slice that say something: a beginning at 0 does not."""
    named = [("lower", node.lower), ("upper", node.upper), ("step", node.step)]
    return [name for name, part in named if part is not None and not (name == "lower" and _is_zero(part))]


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def _change(node: Any, number: int) -> None:
    changed: Any = node  # the parts of a pattern have types that forbid what makes a mutant
    match node:
        case ast.Compare(ops=[op]):
            node.ops = [_COMPARED[type(op)][number]()]
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            node.op = _CALCULATED[type(op)][number]()
        case ast.BoolOp():
            if number == 0:
                node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            else:
                del node.values[number - 1]
                if len(node.values) == 1:
                    node.values.append(node.values[0])
        case ast.If() | ast.While() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
            if isinstance(node.op, ast.Not):
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float()):
            changed.value += (1, -1)[number]
        case ast.Constant(value=str()):
            node.value = ""
        case ast.Call():
            func = changed.func
            name = func.id if isinstance(func, ast.Name) else func.attr
            if number == 0 and name in _CALLED:
                if isinstance(func, ast.Name):
                    func.id = _CALLED[name]
                else:
                    func.attr = _CALLED[name]
            else:
                node.keywords = node.keywords[1:]
        case ast.Return():
            node.value = ast.Constant(None)
        case ast.Slice():
            setattr(node, _bounds(node)[number], None)
        case ast.Break() | ast.Continue():
            changed.__class__ = ast.Pass  # a break or continue that is left out
        case ast.comprehension():
            del node.ifs[number]
        case ast.FunctionDef() | ast.For():
            node.body[number] = ast.Pass()
        case _:
            pass


# --- the whole -------------------------------------------------------------------------------------------------------


class Attack:
    """One question: its reference, its mutants, and what became of the proposed inputs."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._meter = Meter(given["callSeconds"])
        self._entry_point: str = given["entryPoint"]
        self._left: int = given["executions"]
        self._tree = ast.parse(given["reference"])
        self._names = loaded(self._tree, self._meter)
        self.refused: dict[str, int] = {}

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _answer(self, names: dict[str, Any], given: Input, form: Form, limit: float, times: float = 1) -> Any:
        self._left -= 1
        return form.value(names, self._meter.run(limit, lambda: given.call(names[self._entry_point]), times))

    def _contract(self) -> Callable[[Input], bool] | None:
        """Whether the row's contract allows an input; its asserts name the parameters of the reference. None where it
        has none, or where it cannot be run and none has to obey it.
        """
        text: str | None = self._given.get("contract")
        if text is None:
            return None
        try:
            return self._checks(text)
        except Exception:
            if self._given["obeysContract"]:
                raise
            return None

    def _checks(self, text: str) -> Callable[[Input], bool]:
        parameters = next(
            ast.unparse(node.args)
            for node in self._tree.body
            if isinstance(node, ast.FunctionDef) and node.name == self._entry_point
        )
        checks = f"def __contract__({parameters}):\n{_indented(text)}\n    return True"
        tree = copy.deepcopy(self._tree)
        tree.body += ast.parse(checks).body
        names = loaded(tree, self._meter)

        def allows(given: Input) -> bool:
            try:
                self._left -= 1
                return bool(self._meter.run(_STEPS, lambda: given.call(names["__contract__"])))
            except FAILURES:
                return False

        return allows

    def run(self) -> dict[str, Any]:
        given = self._given
        read = read_tests(given["tests"], self._entry_point, self._names)
        if read is None:
            return {"reason": "noReadableTest"}
        form, inputs = read
        if not inputs[0].values:
            return {"reason": "noArguments"}
        base = self._known(inputs, form)
        if not base:
            return {"reason": "referenceFails"}
        inputs = [given for given, _, _ in base]
        huge = any(is_huge(value) for _, value, _ in base) or any(is_huge(given.values) for given in inputs)
        bold = given["strangest"] > _USUAL
        proposer = Proposer(inputs, random.Random(given["seed"]), bold=bold)
        allows = self._contract()
        obeys = allows is not None and given["obeysContract"]
        known = [{"answer": literal(value) or "", "kinds": kinds(given.values)} for given, value, _ in base]
        found: list[dict[str, Any]] = []
        runs: list[tuple[Input, Any, int]] = []

        def why_refused(proposed: Input) -> str | None:
            if proposer.strangeness(proposed) > given["strangest"]:
                return "strange"
            return "contract" if obeys and allows and not allows(proposed) else None

        of_teacher = calls_in(given.get("replies", ""), self._entry_point, inputs[0])
        proposals, self.refused = proposer.propose(given["pool"], why_refused, of_teacher)
        told = {each.text for each in of_teacher}
        for proposed in proposals:
            if self._left <= 0:
                self._refuse("budget")
                continue
            answered = self._asked(proposed, form, huge)
            if answered is None:
                continue
            value, expect, steps = answered
            runs.append((proposed, value, steps))
            found.append(
                {
                    "call": f"{self._entry_point}({proposed.text})",
                    "answer": expect,
                    "inexact": has_float(value),
                    "strange": proposer.strangeness(proposed),
                    "kinds": [f"path {self._path}", *kinds(proposed.values), *proposer.broken(proposed)],
                    "kills": [],
                    **({"proposed": True} if proposed.text in told else {}),
                }
            )
        attackers = self._attackers(base, form)
        self._kill(attackers, runs, found, form)
        # Last, because it spends what is left of the budget.
        for candidate, (proposed, _, _) in zip(found, runs, strict=True):
            candidate["allowed"] = (obeys or allows(proposed)) if allows else None
        return {
            "known": known,
            "form": form.text(_CALL),
            "tolerance": form.tolerance,
            "relations": [name for _, name, _, _ in proposer.relations],
            "mutants": {
                "made": self._made,
                "survivors": [
                    {"id": name, "killed": any(at in each["kills"] for each in found)}
                    for at, (name, _) in enumerate(attackers)
                ],
            },
            "candidates": found,
            "refused": self.refused,
            **({"proposed": len(of_teacher)} if "replies" in given else {}),
            "executions": given["executions"] - self._left,
        }

    def _known(self, inputs: Sequence[Input], form: Form) -> list[tuple[Input, Any, int]]:
        """The known inputs with what the reference answers, whatever steps it takes."""
        answered: list[tuple[Input, Any, int]] = []
        for given in inputs:
            try:
                value = self._answer(self._names, given, form, 100 * _STEPS, _PATIENCE)
            except FAILURES:
                continue
            answered.append((given, value, self._meter.steps))
        return answered

    def _asked(self, proposed: Input, form: Form, may_be_huge: bool) -> tuple[Any, str, int] | None:
        """What the reference answers, its text and steps; None, with the reason counted, where that is no test."""
        try:
            value = self._answer(self._names, proposed, form, _STEPS)
            steps = self._meter.steps
            self._path = hash(tuple(sorted((site, min(times, 3)) for site, times in self._meter.sites.items())))
        except _Stopped:
            return self._refuse("slow")
        except RecursionError:
            return self._refuse("slow")
        except Exception:  # noqa: BLE001 - the reference refuses it
            return self._refuse("raises")
        expect = literal(value)
        if expect is None:
            return self._refuse("noLiteral")
        if not may_be_huge and (is_huge(value) or is_huge(proposed.values)):
            return self._refuse("huge")
        try:
            again = self._answer(self._names, proposed, form, _STEPS)
        except FAILURES:
            return self._refuse("unsteady")
        return (value, expect, steps) if literal(again) == expect else self._refuse("unsteady")

    _path = 0
    _made = 0

    def _attackers(self, base: Sequence[tuple[Input, Any, int]], form: Form) -> list[tuple[str, dict[str, Any]]]:
        """The mutants that answer all known inputs as the reference does."""
        made = mutants(self._tree, self._given["mutants"])
        self._made = len(made)
        survivors: list[tuple[str, dict[str, Any]]] = []
        for name, tree in made:
            try:
                names = loaded(tree, self._meter)
            except FAILURES:
                continue
            if all(not self._is_killed(names, given, value, steps, form) for given, value, steps in base):
                survivors.append((name, names))
        return survivors

    def _is_killed(self, names: dict[str, Any], given: Input, value: Any, steps: int, form: Form) -> bool:
        try:
            got = self._answer(names, given, form, 5 * steps + _MORE_STEPS, _PATIENCE)
        except FAILURES:
            return True
        if form.tolerance is not None and type(got) in (int, float) and type(value) in (int, float):
            return not math.isclose(got, value, rel_tol=form.tolerance, abs_tol=form.tolerance)
        return not same(value, got)

    def _kill(
        self,
        attackers: Sequence[tuple[str, dict[str, Any]]],
        runs: Sequence[tuple[Input, Any, int]],
        found: Sequence[dict[str, Any]],
        form: Form,
    ) -> None:
        most: int = self._given["killsPerMutant"]
        for at, (_, names) in enumerate(attackers):
            kills = 0
            for candidate, (given, value, steps) in zip(found, runs, strict=True):
                if kills >= most or self._left <= 0:
                    break
                if self._is_killed(names, given, value, steps, form):
                    candidate["kills"].append(at)
                    kills += 1


def _indented(text: str) -> str:
    """The lines of a contract as the body of a function, whatever their common indentation."""
    lines = [line.expandtabs(8) for line in text.split("\n") if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    return "\n".join("    " + line[indent:] for line in lines)


def main() -> None:
    """Read a question, attack it, and write what came out.

    In: {reference, entryPoint, tests, contract?, obeysContract, seed, pool, mutants, executions, callSeconds,
    strangest, killsPerMutant}. Out: {reason}, or {known, form, tolerance, relations, mutants, candidates, refused,
    executions}.
    """
    given = json.loads(sys.stdin.read())
    out = sys.stdout
    # What programs print is nobody's.
    sys.stdout = sys.stderr = io.StringIO()
    try:
        told = Attack(given).run()
    except FAILURES as error:
        told = {"reason": f"{type(error).__name__}: {error}"[:200]}
    out.write("\n" + json.dumps(told) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
