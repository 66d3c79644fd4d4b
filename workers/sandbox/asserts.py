"""Judges asserts outside the process that runs the program.

An assert such as `assert f(3) == 9` is split into the expressions that need the program (`f(3)`) and the rest. Only the
expressions are evaluated inside; their values come back encoded and the rest is worked out here, on plain Python
values. A program that returns an object equal to everything, or that finds the harness in its process, gains nothing:
the expected value is not there (openai/human-eval issue 67 shows the attack on verdicts made inside).

What is worked out here: comparisons with a literal side, `and`, `not`, arithmetic, abs, round, isclose, and some
builtins applied to literals. Anything else makes `plan` return a test that runs whole inside, which is weaker evidence.
All program expressions of an assert are evaluated, also those behind an `and` that is false already; one that raises
makes it `raised`.
"""

# The values of a program have no type that is known here. A match over syntax leaves what it does not know to the code
# behind it.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportMatchNotExhaustive=false

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import itertools
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from operations import TestOutcome

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
    """The expression cannot be worked out outside."""


Values = list[Any]
Rest = Callable[[Values], Any]


@dataclass(frozen=True)
class Plan:
    """How to judge one test.

    `step` is what runs inside, as `inside/program.py` has it; `wanted` is how many values it sends back, and `holds`
    says from them whether the assert holds, or is None where the test runs whole inside. `parses` is false for a text
    that is not Python.
    """

    step: tuple[str, Any]
    wanted: int = 0
    holds: Rest | None = None
    parses: bool = True


@dataclass(frozen=True)
class Interaction:
    """A test of a script: what it reads from standard input and what it must write to standard output."""

    stdin: str
    stdout: str


Test = str | Interaction


def texts(test: Test) -> tuple[str, ...]:
    """The texts that a test consists of."""
    return (test,) if isinstance(test, str) else (test.stdin, test.stdout)


@functools.lru_cache(maxsize=8_192)
def plan(test: Test) -> Plan:
    """Split a test into what runs inside and what is judged outside."""
    if isinstance(test, Interaction):
        expected = test.stdout
        return Plan(("stdin", test.stdin), 1, lambda values: _same_output(values[0], expected))
    try:
        if len(test) > _MAX_TEST_CHARACTERS:
            raise Inside
        tree = ast.parse(test)
        if _UNITTEST.search(test):
            return Plan(("unittest", test))
        if len(tree.body) != 1:
            raise Inside
        (statement,) = tree.body
        if not isinstance(statement, ast.Assert):
            raise Inside
        sources: list[str] = []
        holds = _condition(statement.test, sources)
        if not sources:
            raise Inside
        # Compiled here once for all programs that have the test.
        codes = [compile(source, "<test>", "eval", dont_inherit=True) for source in sources]
        return Plan(("values", codes), len(codes), holds)
    except (Inside, RecursionError, MemoryError):
        return Plan(("run", test))
    except (SyntaxError, ValueError):
        return Plan(("run", test), parses=False)


_UNITTEST = re.compile(r"^class \w+\((unittest\.)?TestCase\):", re.MULTILINE)


def _same_output(written: Any, expected: str) -> bool:
    """Whether two outputs are equal line by line: white space around a line and empty lines at the end do not count,
    and where the texts differ, equal numbers do (1.0 and 1), as judges of programming contests have it.
    """
    if not isinstance(written, str):
        return False
    ours, theirs = ([line.strip() for line in text.rstrip().split("\n")] for text in (written, expected))
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    words, others = ours.split(), theirs.split()
    if len(words) != len(others):
        return False
    try:
        return all(Decimal(word) == Decimal(other) for word, other in zip(words, others, strict=True))
    except ArithmeticError:
        return False


# --- canaries: asserts that are known to be false --------------------------------------------------------------------

_MAX_CANARIES = 2
_PLAINLY_FALSE = "assert False is True"


@functools.lru_cache(maxsize=1_024)
def canaries(tests: tuple[Test, ...]) -> tuple[str, ...]:
    """False asserts to run after tests that are judged inside: no honest program passes the test and its mutation.

    `left == right` becomes `left == [right, "<mark>"]`: no value equals both. Only asserts that are certain to run are
    mutated. Where no test can be, a plainly false assert still catches a program that has taken the harness over.
    """
    inside = [test for test in tests if isinstance(test, str) and plan(test).holds is None]
    if not inside:
        return ()
    mutated = filter(None, map(_mutated, inside))
    return tuple(itertools.islice(mutated, _MAX_CANARIES)) or (_PLAINLY_FALSE,)


def _mutated(test: str) -> str | None:
    try:
        tree = ast.parse(test)
        calls = {
            statement.value.func.id
            for statement in tree.body
            if isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Call)
            and isinstance(statement.value.func, ast.Name)
        }
        certain = list(tree.body)
        for statement in tree.body:
            match statement:
                case ast.FunctionDef(name=name, body=body) if name in calls:
                    certain += body
                case ast.ClassDef(body=methods) if _UNITTEST.search(test):
                    certain += itertools.chain.from_iterable(
                        method.body
                        for method in methods
                        if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
                    )
        mark = hashlib.sha256(test.encode("utf-8", "replace")).hexdigest()[:8]
        if not any([_mutate(statement, mark) for statement in certain]):
            return None
        return ast.unparse(ast.fix_missing_locations(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _mutate(statement: ast.stmt, mark: str) -> bool:
    """Make one statement false where it compares by `==`; whether it did."""

    def false(right: ast.expr) -> ast.expr:
        return ast.List([right, ast.Constant(mark)], ast.Load())

    match statement:
        case ast.Assert(test=ast.Compare(ops=[ast.Eq()], comparators=[right]) as comparison):
            comparison.comparators = [false(right)]
            return True
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id="self"), attr="assertEqual"), args=[_, right, *_]
            ) as call
        ):
            call.args[1] = false(right)
            return True
    return False


# --- compiling the rest of an assert ---------------------------------------------------------------------------------

_BUILTINS = frozenset(dir(builtins))
# Applied to one value of the program they only reshape it: they may run inside, because no expected value goes in.
_RESHAPING = frozenset(
    {"len", "list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "str", "int", "float", "bool", "dict"}
)
_ON_LITERALS: dict[str, Callable[..., Any]] = {
    "set": set, "frozenset": frozenset, "list": list, "tuple": tuple, "sorted": sorted, "len": len, "dict": dict,
    "float": float, "bytes": bytes, "str": str,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container, ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
# Bounds of what is calculated on this side.
_MAX_NUMBER_BITS = 10_000
_MAX_EXPONENT = 100
_MAX_LENGTH = 1_000_000
_MAX_EQUAL_HASHES = 100


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
    parts, needs_program = [], []
    for operand in operands:
        before = len(sources)
        parts.append(_value(operand, sources))
        needs_program.append(len(sources) > before)
    for op, right, pair in zip(ops, operands[1:], itertools.pairwise(needs_program), strict=True):
        # Two values of the program may be of types that only compare inside; only singletons keep their identity.
        singleton = isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
        if all(pair) or (isinstance(op, (ast.Is, ast.IsNot)) and not singleton):
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
    """A number small enough to calculate with; TypeError otherwise, as the program's value may be anything."""
    _refuse_opaque(value)
    large = isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS
    if large or not isinstance(value, (int, float, complex, Fraction, Decimal)):
        raise TypeError(f"cannot calculate with this {type(value).__name__}")
    return value


def _calculate(op: ast.operator, left: Any, right: Any) -> Any:
    """Apply an operator as Python does, but only where the result stays small."""
    match op, left, right:
        case (
            (ast.Add(), str(), str())
            | (ast.Add(), list(), list())
            | (ast.Add(), tuple(), tuple())
            | (ast.Sub(), set(), set())
        ):
            pass
        case (ast.Mult(), str() | list() | tuple(), int()) if len(left) * right <= _MAX_LENGTH:
            pass
        case (ast.Mult(), int(), str() | list() | tuple()) if left * len(right) <= _MAX_LENGTH:
            pass
        case (ast.Pow(), _, _) if abs(_number(right)) > _MAX_EXPONENT:
            raise TypeError("exponent too large")
        case _:
            _number(left)
            _number(right)
    return _ARITHMETIC[type(op)](left, right)


def decode(encoded: Any) -> Any:
    """Turn one encoded value (parsed JSON, see `inside/program.py`) into a plain Python value or an `Opaque`.

    Raises `Malformed` when it breaks the encoding; nothing that comes from inside is ever evaluated or unpickled.
    """
    try:
        match encoded:
            case None | bool() | str():
                return encoded
            case ["i", str(digits)]:
                return int(digits, 16)
            case ["f", str(digits)]:
                return float.fromhex(digits)
            case ["b", str(digits)]:
                return bytes.fromhex(digits)
            case ["c", [str(real), str(imaginary)]]:
                return complex(float.fromhex(real), float.fromhex(imaginary))
            case ["q", [["i", str(numerator)], ["i", str(denominator)]]]:
                return Fraction(int(numerator, 16), int(denominator, 16))
            case ["m", str(digits)]:
                return Decimal(digits)
            case ["l", list(parts)]:
                return [decode(part) for part in parts]
            case ["t", list(parts)]:
                return tuple(decode(part) for part in parts)
            case ["s" | "z" as tag, list(parts)]:
                members = [decode(part) for part in parts]
                _refuse_collisions(members)
                return set(members) if tag == "s" else frozenset(members)
            case ["d", list(pairs)]:
                entries = [(decode(key), decode(entry)) for key, entry in pairs]
                _refuse_collisions([key for key, _ in entries])
                return dict(entries)
            case ["o", [str(type_name), bool(truth)]]:
                return Opaque(type_name[:100], truth)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Malformed(str(error)) from error
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


def outcome(judged: Plan, encoded: Any) -> TestOutcome:
    """Outcome of a test judged outside, from the encoded values of its step: pass, assertion_failed or raised.

    Raises `Malformed` when the values do not follow the encoding or are not as many as the step has.
    """
    if judged.holds is None or not isinstance(encoded, list) or len(encoded) != judged.wanted:
        raise Malformed("not the values that were asked for")
    values = [decode(value) for value in encoded]
    try:
        if judged.holds(values):
            return {"status": "pass"}
        return {"status": "assertion_failed", "reason": "got " + ", ".join(map(_shown, values))}
    except NoLiteral as error:
        return {"status": "assertion_failed", "reason": str(error)}
    except (TypeError, ValueError, ArithmeticError) as error:
        return {"status": "raised", "reason": f"{type(error).__name__}: {error}"}


def _shown(value: Any) -> str:
    try:
        return literal(value)
    except NoLiteral as error:
        return f"a {error}"
