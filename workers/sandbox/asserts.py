"""Judges asserts outside the process that runs the program.

An assert such as `assert f(3) == 9` is split into the expressions that need the program (`f(3)`) and the rest. Only the
expressions are evaluated inside; their values come back encoded and the rest is worked out here, on plain Python
values. A program that returns an object equal to everything, or that finds the harness in its process, gains nothing:
the expected value is not there (openai/human-eval issue 67 shows the attack on verdicts made inside).

What is worked out here: texts that are nothing but such asserts, and HumanEval's `check(candidate)` where it is. In
them: comparisons with a literal side, `and`, `not`, arithmetic, abs, round, isclose, and some builtins applied to
literals. A value costs this process little time and memory: what is larger, or has no encoding, raises `Defer`. Then,
and for all other texts, the program runs with its tests in a process of their own, where they run as they are
(`inside/tester.py`). All program expressions of an assert are evaluated, also those behind an `and` that is false
already; one that raises makes it `raised`.
"""

# The values of a program have no type that is known here. A match over syntax leaves what it does not know to the code
# behind it.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportMatchNotExhaustive=false

from __future__ import annotations

import ast
import builtins
import copy
import functools
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar, cast

from operations import TestOutcome
from sandbox import spelling
from sandbox.inside import repairs

# Longer tests are not parsed on this side.
_MAX_TEST_CHARACTERS = 65_536


class Malformed(ValueError):
    """Bytes from inside do not follow the encoding."""


@dataclass(frozen=True)
class Opaque:
    """A value that has no encoding: only its type's name and its truth are known."""

    type_name: str
    truth: bool


class NoLiteral(Exception):
    """A comparison needs a value that has no encoding."""

    def __init__(self, value: Opaque) -> None:
        super().__init__(f"value of type {value.type_name} has no literal")


class Inside(Exception):
    """The expression cannot be worked out here."""


class Defer(Exception):
    """The values cannot be judged here; the test is to run in a process of its own."""


class EmptyText(Exception):
    """An empty text was looked for in a text."""


_NOT_WORKED_OUT = (Inside, Defer, NoLiteral, EmptyText, RecursionError, TypeError, ValueError, ArithmeticError)


Values = list[Any]
Rest = Callable[[Values], Any]


@dataclass(frozen=True)
class Plan:
    """How to judge one test.

    `step` is ("values", expressions to evaluate inside), ("stdin", text) or ("text", the test, which runs as it is in a
    process of its own). In the first two `wanted` is how many values come back, and each of `parts` says whether one of
    the test's asserts holds, from so many of the first values. `parses` is false for a text that is not Python. `weak`
    marks a test that nearly every program passes, `repaired` one that was read as what it was meant to be.
    """

    step: tuple[str, Any]
    wanted: int = 0
    parts: tuple[tuple[int, Rest], ...] = ()
    parses: bool = True
    weak: bool = False
    repaired: bool = False

    @property
    def holds(self) -> Rest | None:
        """Whether all asserts hold; None where the test runs in a process of its own."""
        if not self.parts:
            return None
        return lambda values: all(holds(values) for _, holds in self.parts)


@dataclass(frozen=True)
class Interaction:
    """A test of a script: what it reads from standard input, what it must write to standard output, and how the two are
    compared (see `same_output`).
    """

    stdin: str
    stdout: str
    compare: str = "floats"


Test = str | Interaction


def texts(test: Test) -> tuple[str, ...]:
    """The texts that a test consists of."""
    return (test,) if isinstance(test, str) else (test.stdin, test.stdout)


def _size(test: Test) -> int:
    return len(test) if isinstance(test, str) else len(test.stdin) + len(test.stdout)


T = TypeVar("T")
P = TypeVar("P")


def kept(size: Callable[[T], int]) -> Callable[[Callable[[T], P]], Callable[[T], P]]:
    """Keep the plans of tests for their next program: those of many small tests, and of few large ones."""

    def decorate(make: Callable[[T], P]) -> Callable[[T], P]:
        small = cast("Callable[[T], P]", functools.lru_cache(maxsize=8_192)(make))
        large = cast("Callable[[T], P]", functools.lru_cache(maxsize=64)(make))
        return lambda test: (small if size(test) <= _MAX_TEST_CHARACTERS else large)(test)

    return decorate


@kept(_size)
def plan(test: Test) -> Plan:
    """Split a test into what runs inside and what is judged outside."""
    if isinstance(test, Interaction):
        given = test
        return Plan(("stdin", test.stdin), 1, ((1, lambda values: same_output(values[0], given)),))
    if len(test) > _MAX_TEST_CHARACTERS:
        return Plan(("text", test))
    weak = repaired = False
    try:
        tree = ast.parse(test.removeprefix("\ufeff"))
        repaired = repairs.repair(tree)
        weak = _is_weak(test, tree)
        sources: list[str] = []
        parts: list[tuple[int, Rest]] = []
        for condition in _conditions(tree):
            if isinstance(condition, ast.Constant) and condition.value is True:
                continue
            loops = [each for each in ast.walk(condition) if isinstance(each, ast.comprehension)]
            if not all(_runs(each, loops) for each in loops):
                raise Inside  # only where it runs can be seen whether it looks at the program
            holds = _condition(condition, sources)
            if (not parts and not sources) or (parts and parts[-1][0] == len(sources)):
                raise Inside  # says nothing about the program
            parts.append((len(sources), holds))
        if not parts:
            raise Inside
        # Compiled here once for all programs that have the test.
        codes = [compile(source, "<test>", "eval", dont_inherit=True) for source in sources]
        weak = weak or _holds_for_all(parts, sources)
        return Plan(("values", codes), len(codes), tuple(parts), weak=weak, repaired=repaired)
    except (Inside, RecursionError, MemoryError):
        return Plan(("text", test), weak=weak, repaired=repaired)
    except (SyntaxError, ValueError):
        return Plan(("text", test), parses=False)


def _runs(loop: ast.comprehension, loops: Sequence[ast.comprehension]) -> bool:
    """Whether a comprehension certainly looks at the program, or has members: those of a literal or of a range."""
    bound = {each.id for other in loops for each in ast.walk(other.target) if isinstance(each, ast.Name)}
    if any(isinstance(each, ast.Name) and each.id not in _BUILTINS | bound for each in ast.walk(loop.iter)):
        return True
    if loop.ifs:
        return False
    match loop.iter:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return any(not isinstance(each, ast.Starred) for each in parts)
        case ast.Constant(value=str() | bytes() as text):
            return bool(text)
        case ast.Dict(keys=keys):
            return any(each is not None for each in keys)
        case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
            bounds = [_literal_int(each) for each in arguments]
            if None in bounds or not 1 <= len(bounds) <= 3 or 0 in bounds[2:]:
                return False
            return len(range(*cast("list[int]", bounds))) > 0
        case ast.Call(func=ast.Name(id="enumerate" | "reversed" | "zip" | "sorted"), args=arguments, keywords=[]):
            return bool(arguments) and all(
                _runs(ast.comprehension(loop.target, each, [], 0), loops) for each in arguments
            )
        case _:
            return False


def _literal_int(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
            return -number
        case _:
            return None


def _conditions(tree: ast.Module) -> list[ast.expr]:
    """What a text asserts that consists of asserts only, or of a `check(candidate)` of asserts only and its call."""
    match tree.body:
        case [
            *before,
            ast.FunctionDef(
                name=check, args=ast.arguments(args=[ast.arg(arg=candidate)], defaults=[]), body=body
            ) as function,
            ast.Expr(value=ast.Call(func=ast.Name(id=called), args=[ast.Name(id=entry_point)], keywords=[])),
        ] if check == called and entry_point not in _BUILTINS and not function.decorator_list:  # fmt: skip
            for statement in before:
                if not isinstance(statement, ast.Assign) or not _is_literal(statement.value):
                    raise Inside
            statements = [
                _renamed(each, candidate, entry_point)
                for place, each in enumerate(body)
                if not (place == 0 and isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ]
        case _:
            statements = tree.body
    conditions: list[ast.expr] = []
    for statement in statements:
        if not isinstance(statement, ast.Assert):
            raise Inside
        conditions.append(statement.test)
    return conditions


def _renamed(statement: ast.stmt, old: str, new: str) -> ast.stmt:
    statement = copy.deepcopy(statement)
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id == old:
            node.id = new
    return statement


def _is_literal(node: ast.expr) -> bool:
    allowed = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.USub, ast.Load)
    return all(isinstance(part, allowed) for part in ast.walk(node))


# --- tests that nearly every program passes --------------------------------------------------------------------------

_WEAK_CALLS = frozenset({"isinstance", "callable", "hasattr", "issubclass"})
_WEAK_METHODS = frozenset({"assertIsNotNone", "assertIsInstance"})


def _is_weak(text: str, tree: ast.Module) -> bool:
    """Whether all assertions of a text hold for nearly every program."""
    asserted = [each.test for each in tree.body if isinstance(each, ast.Assert)]
    if 0 < len(asserted) == len(tree.body) == text.count("assert"):
        # Nothing but asserts, as most texts: there is no need to look for others.
        told = [each for each in asserted if not (isinstance(each, ast.Constant) and each.value is True)]
        return bool(told) and all(map(_is_weak_condition, told))
    found: list[bool] = []
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=condition):
                if not (isinstance(condition, ast.Constant) and condition.value is True):
                    found.append(_is_weak_condition(condition))
            case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name.startswith("assert"):
                equal = name in ("assertEqual", "assertEquals") and len(arguments) == 2
                same = equal and ast.dump(arguments[0]) == ast.dump(arguments[1])
                true = name == "assertTrue" and bool(arguments) and _is_weak_condition(arguments[0])
                found.append(name in _WEAK_METHODS or same or true)
            case ast.Raise() | ast.With():
                found.append(False)
            case _:
                pass
    return bool(found) and all(found)


# What programs could return, by the place of a call among the calls of a test.
_ANYTHING: tuple[Callable[[int], Any], ...] = (
    lambda place: f"text {place}", lambda _: "text", lambda place: -(10**30) - place, lambda _: None, lambda _: [],
    lambda _: True, lambda _: False, lambda place: [[place]],
)  # fmt: skip


def _holds_for_all(parts: Sequence[tuple[int, Rest]], sources: Sequence[str]) -> bool:
    """Whether asserts hold whatever a program returns: in `assert [f(2) == 5]` it does not matter."""
    first: dict[str, int] = {}
    places = [first.setdefault(source, place) for place, source in enumerate(sources)]  # equal calls, equal values

    def holds_for(value: Callable[[int], Any]) -> bool:
        values = list(map(value, places))
        try:
            return all(holds(values) for _, holds in parts)
        except Exception:  # noqa: BLE001 - a value of another kind than the test expects
            return False

    return all(map(holds_for, _ANYTHING))


def _is_weak_condition(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return bool(value)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return any(not isinstance(each, ast.Starred) for each in parts)
        case ast.Dict(keys=keys):
            return any(each is not None for each in keys)
        case ast.GeneratorExp() | ast.Lambda():
            return True
        case ast.JoinedStr(values=parts):
            told = [each.value if isinstance(each, ast.FormattedValue) else each for each in parts]
            return any(isinstance(each, ast.Constant) or spelling.is_truth(each) for each in told)
        case ast.Call(func=ast.Name(id="str" | "repr" | "ascii"), args=[told]):
            return spelling.is_truth(told)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            parts = [body, orelse]
            if isinstance(test, ast.Constant):
                parts = [body if test.value else orelse]
            return all(map(_is_weak_condition, parts))
        case ast.BoolOp(op=ast.Or(), values=parts):
            return any(map(_is_weak_condition, parts))
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(map(_is_weak_condition, parts))
        case ast.Compare(left=left, ops=[ast.IsNot() | ast.NotEq()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            is_same = type(left) is type(right) and ast.dump(left) == ast.dump(right)
            return is_same or _is_type_of(left) or _is_type_of(right)
        case ast.Compare(left=ast.Call(func=ast.Name(id="len")), ops=[ast.GtE()], comparators=[ast.Constant(value=0)]):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in _WEAK_CALLS
        case ast.Name():
            return True
    return False


def _is_type_of(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


# --- what tests are, however they are written ------------------------------------------------------------------------


@functools.lru_cache(maxsize=8_192)
def normal(test: str) -> tuple[str, str]:
    """(the test, the value that it expects), each as a text that does not depend on spelling."""
    try:
        if len(test) > _MAX_TEST_CHARACTERS:
            raise Inside
        tree = ast.parse(test.removeprefix("\ufeff"))
        repairs.repair(tree)
    except (Inside, SyntaxError, ValueError, RecursionError, MemoryError):
        return test, test
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            node.msg = None
    whole = ast.unparse(tree)
    try:
        try:
            statements: list[ast.stmt] = [ast.Assert(each) for each in _conditions(tree)]
        except Inside:
            statements = tree.body
        plain = spelling.conditions(ast.Module(statements, []), _folded)
        described = list(dict.fromkeys(map(_described, plain)))
    except (spelling.Other, *_NOT_WORKED_OUT):
        return whole, whole
    if not described:
        return whole, whole
    return "; ".join(f"{left} == {right}" for left, right in described), "; ".join(right for _, right in described)


def _folded(node: ast.expr) -> ast.expr | None:
    """The literal of an expression that names nothing of a program."""
    sources: list[str] = []
    try:
        value = _value(node, sources)
        return None if sources else ast.parse(literal(value([])), mode="eval").body
    except _NOT_WORKED_OUT:
        return None


def _described(condition: ast.expr) -> tuple[str, str]:
    """What an assert computes and what it expects."""
    match condition:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ast.unparse(operand), "not"
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            for ours, theirs in ((left, right), (right, left)):
                sources: list[str] = []
                value = _value(theirs, sources)
                if not sources:
                    return ast.unparse(ours), _canonical(value([]))
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=left, op=ast.Sub(), right=right)]),
            ops=[ast.Lt() | ast.LtE()],
        ):
            sources = []
            value = _value(right, sources)
            if not sources:
                return ast.unparse(left), _canonical(value([]))
        case ast.Call(args=[left, right]) if _name_of(condition) == "isclose":
            sources = []
            value = _value(right, sources)
            if not sources:
                return ast.unparse(left), _canonical(value([]))
        case _:
            pass
    return ast.unparse(condition), "holds"


def _canonical(value: Any) -> str:
    """One text for all values that are equal."""
    if isinstance(value, (bool, float)) and math.isfinite(value) and value == int(value) and abs(value) < 1 << 53:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_canonical, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(_canonical, value))) + "}"
    if isinstance(value, dict):
        entries = sorted(f"{_canonical(key)}: {_canonical(part)}" for key, part in value.items())
        return "{" + ", ".join(entries) + "}" if entries else "dict()"
    return literal(value)


# --- what a script writes --------------------------------------------------------------------------------------------

COMPARISONS = ("floats", "tokens", "exact", "decimals")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_SPACES = re.compile(r"[ \t]+")
_TOLERANCE = Decimal("1e-6")
_MAX_NUMBER_CHARACTERS = 100


# What a script may write beside the words that are wanted, in bytes: white space above all. For each of these words, it
# may write a number of the most characters, and as much white space again.
_MAX_UNSEEN = 1_000_000


def most_bytes(test: Interaction) -> int:
    """The longest output that is compared. A hostile script writes 16 MB, of which nothing is read then."""
    wanted = len(test.stdout.encode("utf-8", "surrogatepass"))
    return _MAX_UNSEEN + wanted + 2 * _MAX_NUMBER_CHARACTERS * len(test.stdout.split())


def same_output(written: Any, test: Interaction) -> bool:
    """Whether a script has written what its test wants.

    exact: the same text, but for white space at its end. tokens: the same words, whatever white space is between them.
    floats: line by line, without white space around a line and empty lines at the end; a line may differ in the white
    space between its words, and in numbers that are within 1e-6, relative or absolute, of an expected one with a
    decimal point or exponent, or that are equal to an expected integer. decimals: line by line, without white space
    around a line and empty lines at both ends; a line may differ where both consist of numbers that are equal, as
    LiveCodeBench has it. An output of more than `most_bytes` is another one in any case.
    """
    if not isinstance(written, str):
        return False
    if test.compare == "exact":
        return written.rstrip() == test.stdout.rstrip()
    # A text that is longer than what is wanted is not cut into all of its parts: they would take a gigabyte.
    if test.compare == "tokens":
        words = test.stdout.split()
        return written.split(None, len(words)) == words
    if test.compare == "decimals":
        written, wanted, same_line = written.strip(), test.stdout.strip(), _same_decimals
    else:
        written, wanted, same_line = written.rstrip(), test.stdout.rstrip(), _same_line
    theirs = wanted.split("\n")
    ours = written.split("\n", len(theirs))
    return len(ours) == len(theirs) and all(
        same_line(line.strip(), other.strip()) for line, other in zip(ours, theirs, strict=True)
    )


def _same_decimals(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    others = theirs.split()
    words = ours.split(None, len(others))
    try:
        # Without a limit of digits: numbers are equal or they are not, and reading one takes linear time.
        return len(words) == len(others) and all(Decimal(a) == Decimal(b) for a, b in zip(words, others, strict=True))
    except ArithmeticError:
        return False


def _same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    others = _SPACES.split(theirs)
    words = _SPACES.split(ours, len(others))
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    if max(len(ours), len(theirs)) > _MAX_NUMBER_CHARACTERS:
        return False
    if not _NUMBER.fullmatch(ours) or not _NUMBER.fullmatch(theirs):
        return False
    if _INTEGER.fullmatch(ours) and _INTEGER.fullmatch(theirs):
        return False  # integers have one spelling
    try:
        written, wanted = Decimal(ours), Decimal(theirs)
        if max(abs(written.adjusted()), abs(wanted.adjusted())) > 400:
            return written.compare(wanted) == 0
        if _INTEGER.fullmatch(theirs):
            return written == wanted
        return abs(written - wanted) <= _TOLERANCE * max(Decimal(1), abs(wanted))
    except ArithmeticError:
        return False


# --- compiling the rest of an assert ---------------------------------------------------------------------------------

_BUILTINS = frozenset(dir(builtins))
# Applied to one value of the program they only reshape it: they may run inside, because no expected value goes in.
_RESHAPING = frozenset(
    {"len", "list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "str", "int", "float", "bool", "dict"}
)
_ON_LITERALS: dict[str, Callable[..., Any]] = {
    "int": int, "bool": bool,
    "set": set, "frozenset": frozenset, "list": list, "tuple": tuple, "sorted": sorted, "len": len, "dict": dict,
    "float": float, "bytes": bytes, "str": str,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda item, container: _is_in(item, container), ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
# Bounds of what is calculated on this side.
_MAX_NUMBER_BITS = 10_000
_MAX_DECIMAL_DIGITS = 3_000
_MAX_LENGTH = 1_000_000
_MAX_EQUAL_HASHES = 100


def _is_in(item: Any, container: Any) -> bool:
    if item == "" and isinstance(container, str) and container:
        raise EmptyText
    return item in container


def _condition(node: ast.expr, sources: list[str]) -> Rest:
    """Compile an expression whose truth decides."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand, sources)
            return lambda values: not inner(values)
        case ast.BoolOp(op=ast.And(), values=parts):
            conditions = [_condition(part, sources) for part in parts]
            return lambda values: all(condition(values) for condition in conditions)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _comparison([left, *comparators], ops, sources)
        case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name) if name not in _BUILTINS and name != "isclose":
            return _truth(_send(node, sources))
    if _name_of(node) == "isclose":
        return _isclose(node, sources)
    raise Inside


def _truth(value: Rest) -> Rest:
    def truth(values: Values) -> bool:
        result = value(values)
        return result.truth if isinstance(result, Opaque) else bool(result)

    return truth


def _comparison(operands: list[ast.expr], ops: list[ast.cmpop], sources: list[str]) -> Rest:
    parts = [_value(operand, sources) for operand in operands]
    for op, right in zip(ops, operands[1:], strict=True):
        # Only singletons keep their identity.
        singleton = isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
        if isinstance(op, (ast.Is, ast.IsNot)) and not singleton:
            raise Inside

    def compared(values: Values) -> bool:
        left = parts[0](values)
        for op, part in zip(ops, parts[1:], strict=True):
            right = part(values)
            if not isinstance(op, (ast.Is, ast.IsNot)):
                _refuse_opaque(left, right)
            if not _COMPARISONS[type(op)](left, right):
                return False
            left = right
        return True

    return compared


def _value(node: ast.expr, sources: list[str]) -> Rest:
    """Compile an expression whose value is needed; program expressions are added to `sources`."""
    match node:
        case ast.Constant(value=constant) if constant is not ...:
            return lambda values: constant
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
            parts = [_value(element, sources) for element in elements]
            return lambda values: kind(_plain(part(values)) for part in parts)
        case ast.Dict(keys=keys, values=entries) if None not in keys:
            pairs = [
                (_value(key, sources), _value(entry, sources)) for key, entry in zip(keys, entries, strict=True) if key
            ]
            return lambda values: {_plain(key(values)): _plain(entry(values)) for key, entry in pairs}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _value(operand, sources)
            return lambda values: -_number(number(values)) if isinstance(sign, ast.USub) else +_number(number(values))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            first, second = _value(left, sources), _value(right, sources)
            return lambda values: _calculate(op, first(values), second(values))
        case ast.Call(func=ast.Name(id="abs"), args=[argument], keywords=[]):
            number = _value(argument, sources)
            return lambda values: abs(_number(number(values)))
        case ast.Call(func=ast.Name(id="round"), args=[argument, *digits], keywords=[]):
            number, places = _value(argument, sources), [_small_int(digit) for digit in digits]
            return lambda values: round(_number(number(values)), *places)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if _is_builtin_on_literals(name, arguments):
            parts = [_value(argument, sources) for argument in arguments]
            return lambda values: _ON_LITERALS[name](*(part(values) for part in parts))
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return _condition(node, sources)
    if _name_of(node) == "isclose":
        return _isclose(node, sources)
    if _is_program_value(node):
        return _send(node, sources)
    raise Inside


def _send(node: ast.expr, sources: list[str]) -> Rest:
    position = len(sources)
    sources.append(ast.unparse(node))
    return lambda values: values[position]


def _isclose(node: ast.expr, sources: list[str]) -> Rest:
    match node:
        case ast.Call(func=function, args=[first, second], keywords=keywords):
            if not {word.arg for word in keywords} <= {"rel_tol", "abs_tol"}:
                raise Inside
            _send(function, sources)  # the name must exist: the program has to import it
            left, right = _value(first, sources), _value(second, sources)
            bounds = {str(word.arg): _value(word.value, sources) for word in keywords}
            return lambda values: math.isclose(
                _number(left(values)),
                _number(right(values)),
                **{name: _number(bound(values)) for name, bound in bounds.items()},
            )
    raise Inside


def _name_of(node: ast.expr) -> str | None:
    """The function's name in `isclose(...)` and `math.isclose(...)`."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id="math"), attr=name)):
            return name
    return None


def _is_program_value(node: ast.expr) -> bool:
    """Whether an expression only computes a value of the program, without meeting an expected value on the way."""
    match node:
        case ast.Name(id=name):
            return name not in _BUILTINS
        case ast.Attribute(value=inner) | ast.Subscript(value=inner):
            return _is_program_value(inner)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=keywords) if name in _RESHAPING:
            return _is_program_value(argument) and all(word.arg == "reverse" for word in keywords)
        case ast.Call(func=function):
            return _is_program_value(function)
        case ast.ListComp() | ast.SetComp() | ast.DictComp():
            return not any(isinstance(part, ast.Compare) for part in ast.walk(node))
    return False


def _is_builtin_on_literals(name: str, arguments: Iterable[ast.expr]) -> bool:
    allowed = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.USub, ast.Load)
    parts = (part for argument in arguments for part in ast.walk(argument))
    return name in _ON_LITERALS and all(isinstance(part, allowed) for part in parts)


def _small_int(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(digits)) if 0 <= digits <= 30:
            return digits
    raise Inside


# --- working on values that came from inside -------------------------------------------------------------------------


def _refuse_opaque(*values: Any) -> None:
    for value in values:
        if isinstance(value, Opaque):
            raise NoLiteral(value)


def _plain(value: Any) -> Any:
    _refuse_opaque(value)
    return value


def _number(value: Any) -> Any:
    """A number that is cheap to calculate with. `Defer` for a larger one, TypeError for what is no number."""
    _refuse_opaque(value)
    if not isinstance(value, (int, float, complex, Fraction, Decimal)):
        raise TypeError(f"cannot calculate with this {type(value).__name__}")
    if isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS:
        raise Defer
    if isinstance(value, Decimal) and (abs(value.adjusted()) > _MAX_DECIMAL_DIGITS):
        raise Defer
    return value


def _calculate(op: ast.operator, left: Any, right: Any) -> Any:
    """Apply an operator as Python does, but only where the result stays small; `Defer` where it does not."""
    match op, left, right:
        case (
            (ast.Add(), str(), str())
            | (ast.Add(), list(), list())
            | (ast.Add(), tuple(), tuple())
            | (ast.Sub(), set(), set())
        ):
            pass
        case (ast.Mult(), str() | list() | tuple(), int()):
            if len(left) * right > _MAX_LENGTH:
                raise Defer
        case (ast.Mult(), int(), str() | list() | tuple()):
            if left * len(right) > _MAX_LENGTH:
                raise Defer
        case (ast.Pow(), _, _):
            if isinstance(_number(right), (int, Fraction, Decimal)) and not isinstance(_number(left), float):
                size = left.bit_length() if isinstance(left, int) else 64
                if abs(right) * max(1, size) > _MAX_NUMBER_BITS:
                    raise Defer
        case _:
            _number(left)
            _number(right)
    return _ARITHMETIC[type(op)](left, right)


# A little more than `inside/program.py` sends, for all values of a step.
_MAX_DEPTH = 60
_MAX_VALUES = 21_000
# Each of them has two tags in JSON at most, and so have those of a step that were too large. Texts hold no tag: a quote
# is escaped in them. They hold commas, in as many characters as `inside/program.py` sends.
MAX_TAGS = 2 * _MAX_VALUES + 10_000
MAX_COMMAS = MAX_TAGS + 200_000


class Budget:
    """How many values may still be made of what one step sent: what takes long to read was written by nobody honest."""

    def __init__(self, more: int = 0) -> None:
        self.left = _MAX_VALUES + more


def decode(encoded: Any, budget: Budget | None = None, depth: int = 0) -> Any:
    """Turn one encoded value (parsed JSON, see `inside/program.py`) into a plain Python value or an `Opaque`.

    Raises `Malformed` when it breaks the encoding; nothing that comes from inside is ever evaluated or unpickled. A
    fraction or decimal that is expensive to make is an `Opaque`.
    """
    budget = budget or Budget()
    budget.left -= 1
    if budget.left < 0:
        raise Malformed("too many values")
    # Types of parsed JSON are exact, and a look at them takes half the time of a pattern.
    kind = type(encoded)
    if kind is str or kind is bool or encoded is None:
        return encoded
    if kind is not list or len(encoded) != 2:
        raise Malformed("no value")
    tag, content = encoded
    try:
        if type(content) is str:
            return _of_text(tag, content)
        if type(content) is list:
            return _of_parts(tag, content, budget, depth)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Malformed(str(error)) from error
    raise Malformed("unknown tag")


def _of_text(tag: Any, text: str) -> Any:
    """A value that its encoding has as one text."""
    if tag == "i":
        return int(text, 16)
    if tag == "f":
        return float.fromhex(text)
    if tag == "b":
        return bytes.fromhex(text)
    if tag != "m":
        raise Malformed("unknown tag")
    if len(text) > _MAX_DECIMAL_DIGITS:
        return Opaque("Decimal (too large)", True)
    number = Decimal(text)
    large = number.is_finite() and abs(number.adjusted()) > _MAX_DECIMAL_DIGITS
    return Opaque("Decimal (too large)", True) if large else number


def _of_parts(tag: Any, parts: list[Any], budget: Budget, depth: int) -> Any:
    """A value that its encoding has as several others, which are one deeper."""
    if len(parts) > budget.left:
        raise Malformed("too many values")
    if depth == _MAX_DEPTH:
        raise Malformed("too deep")
    depth += 1
    if tag == "l":
        return [decode(part, budget, depth) for part in parts]
    if tag == "t":
        return tuple([decode(part, budget, depth) for part in parts])
    if tag == "d":
        entries = [(decode(key, budget, depth), decode(entry, budget, depth)) for key, entry in parts]
        _refuse_collisions([key for key, _ in entries])
        return dict(entries)
    if tag == "s" or tag == "z":
        members = [decode(part, budget, depth) for part in parts]
        _refuse_collisions(members)
        return set(members) if tag == "s" else frozenset(members)
    if tag == "o" and depth == 1:  # where a part has no encoding, the whole has none
        name, truth = parts
        if isinstance(name, str) and isinstance(truth, bool):
            return Opaque(name[:100], truth)
    if tag == "c":
        budget.left -= 2
        real, imaginary = parts
        return complex(float.fromhex(real), float.fromhex(imaginary))
    if tag == "q":
        budget.left -= 2
        (above, numerator), (below, denominator) = parts
        if above == below == "i":
            if max(len(numerator), len(denominator)) > _MAX_NUMBER_BITS // 4:
                return Opaque("Fraction (too large)", True)
            return Fraction(int(numerator, 16), int(denominator, 16))
    raise Malformed("unknown tag")


def _refuse_collisions(members: list[Any]) -> None:
    """Refuse hash values chosen to collide, which would make building a set take quadratic time."""
    if len(members) > _MAX_EQUAL_HASHES and max(Counter(map(hash, members)).values()) > _MAX_EQUAL_HASHES:
        raise Malformed("too many equal hash values")


def literal(value: Any) -> str:
    """Python expression for a decoded value, the same on every run: set members are in the order of their texts.

    Raises `NoLiteral` for opaque values and for floats that have no literal (nan, inf).
    """
    match value:
        case Opaque():
            raise NoLiteral(value)
        case float() if not math.isfinite(value):
            raise NoLiteral(Opaque(f"float ({value})", bool(value)))
        case Fraction() | Decimal():
            raise NoLiteral(Opaque(type(value).__name__, bool(value)))
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
        case tuple():
            return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
        case set() | frozenset():
            members = "{" + ", ".join(sorted(map(literal, value))) + "}"
            if isinstance(value, frozenset):
                return f"frozenset({members})" if value else "frozenset()"
            return members if value else "set()"
        case dict():
            return "{" + ", ".join(f"{literal(key)}: {literal(entry)}" for key, entry in value.items()) + "}"
        case int():
            return hex(value) if value.bit_length() > 10_000 else repr(value)
    return repr(value)


def outcome(judged: Plan, encoded: Any, failure: TestOutcome | None = None) -> TestOutcome:
    """Outcome of a test judged outside, from the encoded values of its step: pass, assertion_failed or raised; or
    `failure`, why there are no more values, where an assert needs one of these.

    Raises `Defer` where the values cannot be judged here, and `Malformed` when they do not follow the encoding or are
    not as many as the step has.
    """
    if not judged.parts or not isinstance(encoded, list) or len(encoded) > judged.wanted:
        raise Malformed("not the values that were asked for")
    if len(encoded) < judged.wanted and failure is None:
        raise Malformed("not the values that were asked for")
    budget = Budget(len(encoded))
    values = [decode(value, budget) for value in encoded]
    start = 0
    try:
        for upto, holds in judged.parts:
            if upto > len(values):
                assert failure is not None
                return failure
            if not holds(values):
                return {"status": "assertion_failed", "reason": "got " + ", ".join(map(_shown, values[start:upto]))}
            start = upto
        return {"status": "pass"}
    except NoLiteral as error:
        raise Defer from error
    except EmptyText:
        return {"status": "assertion_failed", "reason": "an empty text is in every text"}
    except (TypeError, ValueError, ArithmeticError) as error:
        return {"status": "raised", "reason": f"{type(error).__name__}: {error}"}


def _shown(value: Any) -> str:
    try:
        return literal(value)
    except NoLiteral as error:
        return f"a {error}"
