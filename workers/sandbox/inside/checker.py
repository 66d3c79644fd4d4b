"""Judges answers that are plain data, in a process that never held the program: by a comparison, a property, or a
checker program, which is untrusted too.

The answer comes as the text that the process of the program wrote, and is read here. What the test says of the call,
its arguments and the values that it expects, is evaluated here too, so that the program can change neither.

A record for each check: `accepted`, `rejected` with a reason, `fault` where the checker does not say, or `malformed`
where the answer is no data.
"""

# Answers and what checkers make of them have no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import collections
import decimal
import fractions
import itertools
import json
import math
import re
import time
import types
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import evalplus
import program
import wire

_NAMES: dict[str, Any] = {
    "collections": collections,
    "Counter": Counter,
    "decimal": decimal,
    "Decimal": decimal.Decimal,
    "fractions": fractions,
    "Fraction": fractions.Fraction,
    "itertools": itertools,
    "math": math,
    "re": re,
}
"""What expressions of a test may name, beside the builtins."""
_MAX_SHOWN = 200
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_COLLECTIONS = (list, tuple, set, frozenset, deque, *_VIEWS)


def run(
    clock: program.Clock,
    source: str,
    checks: Sequence[tuple[Any, ...]],
    max_time_outs: int,
    per_test: float,
    per_program: float,
    send: Callable[[bytes], None],
) -> None:
    """Judge the answers of `checks` in order: a record for the loading of the checker, and one for each check.

    A check is (kind, detail, arguments, answer): kind "compare" with (how, tolerance, expected values), "property" with
    an expression, "checker" with the reference answer, "suite" with (rules, data set, entry point, tolerance, inputs,
    what the reference answered). Expressions are compiled; texts of scripts are as they are. The
    answer is ("data", tokens in JSON) or ("text", output).
    """

    def report(record: dict[str, Any]) -> str:
        send(json.dumps(record).encode())
        return record["status"]

    send(b"")
    module = types.ModuleType("checker")
    if report(clock.run(per_program, _load, source, vars(module))) != "loaded":
        return
    time_outs = 0
    for kind, detail, arguments, answer in checks:
        left = per_program - time.process_time()
        if time_outs == max_time_outs or left <= 0:
            report({"status": "end", "reason": program.end_reason(time_outs, left)})
            return
        read: dict[str, Any] = {}
        record = clock.run(min(per_test, left), _read, answer, read)
        if record["status"] != "read":
            report({"status": "malformed", "reason": "takes too long to read"})
            continue
        left = max(1e-3, per_program - time.process_time())
        judge = {"compare": _compare, "property": _property, "checker": _check, "suite": _suite}[kind]
        record = clock.run(min(per_test, left), _guarded, judge, detail, arguments, read["answer"], vars(module))
        time_outs += report(record) == "timeout"


def _load(source: str, namespace: dict[str, Any]) -> dict[str, Any]:
    if not source:
        return {"status": "loaded"}
    try:
        exec(compile(source.removeprefix("\ufeff"), "<checker>", "exec", dont_inherit=True), namespace)  # noqa: S102
        if not callable(namespace.get("check")):
            return {"status": "fault", "reason": "it defines no function check"}
    except program.TimeOut:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the checker raises is its own fault
        return {"status": "fault", "reason": program.failure(error)["reason"]}
    return {"status": "loaded"}


def _read(answer: tuple[str, str], into: dict[str, Any]) -> dict[str, Any]:
    kind, text = answer
    if kind == "text":
        into["answer"] = text
        return {"status": "read"}
    try:
        into["answer"] = wire.value_of(json.loads(text), _no_object)
    except program.TimeOut:
        raise
    except BaseException:  # noqa: BLE001 - hostile bytes
        return {"status": "malformed"}
    return {"status": "read"}


def _no_object(tag: str, _: Iterator[Any]) -> Any:
    raise wire.Malformed(f"unknown tag {tag}")


def _guarded(judge: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return judge(*arguments)
    except program.TimeOut:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the checker raises is its own fault
        return {"status": "fault", "reason": program.failure(error)["reason"]}


def _evaluated(given: Any, **names: Any) -> Any:
    """The value of a compiled expression; a text as it is."""
    return eval(given, {**_NAMES, **names}) if isinstance(given, types.CodeType) else given


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_MAX_SHOWN]
    except (ValueError, RecursionError, MemoryError):
        return f"a {type(value).__name__} that is too large to show"


def _verdict(accepted: bool, reason: str) -> dict[str, Any]:
    return {"status": "accepted"} if accepted else {"status": "rejected", "reason": reason[: program.MAX_REASON]}


# --- a checker program -----------------------------------------------------------------------------------------------


def _check(reference: Any, arguments: Any, answer: Any, namespace: dict[str, Any]) -> dict[str, Any]:
    check, shown = namespace["check"], _shown(answer)
    given = [_evaluated(arguments), answer]
    code = getattr(check, "__code__", None)
    if code is None or code.co_argcount != 2 or code.co_flags & 4:
        given.append(_evaluated(reference))
    try:
        said = check(*given)
    except AssertionError as error:
        return _verdict(False, str(error) or f"got {shown}")
    if type(said) is bool:
        return _verdict(said, f"got {shown}")
    if type(said) in (tuple, list) and len(said) == 2 and type(said[0]) is bool and type(said[1]) is str:
        return _verdict(said[0], said[1] or f"got {shown}")
    reason = f"it answers {_shown(said)}, not True, False or (accepted, reason)"
    return {"status": "fault", "reason": reason}


# --- a suite ---------------------------------------------------------------------------------------------------------


def _suite(detail: Any, _: Any, answers: Any, __: dict[str, Any]) -> dict[str, Any]:
    rules, dataset, entry_point, atol, inputs, reference = detail
    expected = wire.value_of(json.loads(reference), _no_object)
    why = evalplus.why_wrong(rules, dataset, entry_point, atol, inputs, expected, answers)
    return _verdict(why is None, why or "")


# --- a property ------------------------------------------------------------------------------------------------------


def _property(expression: Any, arguments: Any, answer: Any, _: dict[str, Any]) -> dict[str, Any]:
    args, shown = _evaluated(arguments), _shown(answer)
    try:
        return _verdict(bool(_evaluated(expression, result=answer, args=args)), f"got {shown}")
    except (NameError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - as an assert that raises: the answer does not have the property
        return _verdict(False, f"got {shown}, for which the property raises {type(error).__name__}")


# --- comparisons -----------------------------------------------------------------------------------------------------


def _compare(detail: Any, _: Any, answer: Any, __: dict[str, Any]) -> dict[str, Any]:
    how, tolerance, expected = detail
    wanted = [_evaluated(each) for each in expected]
    same = {"exact": _same, "tolerance": _near, "unordered": _unordered}[how]
    for each in wanted:
        try:
            if same(answer, each, tolerance):
                return _verdict(True, "")
        except RecursionError:  # deeper than what the test wants
            continue
    return _verdict(False, f"got {_shown(answer)}")


def _same(ours: Any, theirs: Any, _: float = 0.0) -> bool:
    """As `==`, but nan is equal to nan."""
    return _walk(ours, theirs, lambda left, right: left == right or (left != left and right != right))


def _near(ours: Any, theirs: Any, tolerance: float) -> bool:
    """As `_same`, but numbers may differ by `tolerance`, relative or absolute, from one that is expected as a float,
    complex or Decimal.
    """

    def close(left: Any, right: Any) -> bool:
        if left == right or (left != left and right != right):
            return True
        if not isinstance(right, (float, complex, decimal.Decimal)) or isinstance(left, (bool, str)):
            return False
        try:
            wide: Any = complex if isinstance(right, complex) or isinstance(left, complex) else float
            left, right = wide(left), wide(right)
            return bool(abs(left - right) <= tolerance * max(1.0, abs(right))) and not math.isinf(abs(right))
        except (TypeError, ValueError, OverflowError):
            return False

    return _walk(ours, theirs, close)


def _walk(ours: Any, theirs: Any, same: Callable[[Any, Any], bool]) -> bool:
    """Whether two values have the same form and all their members are the same."""
    stack: list[tuple[Any, Any]] = [(ours, theirs)]
    while stack:
        left, right = stack.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            stack += ((left[key], right[key]) for key in right)
        elif any(isinstance(left, kind) and isinstance(right, kind) for kind in (list, tuple, deque)):
            if len(left) != len(right):
                return False
            stack += zip(left, right, strict=True)
        elif not same(left, right):
            return False
    return True


def _unordered(ours: Any, theirs: Any, _: float) -> bool:
    """Whether two collections have the same members equally often, whatever collections they are."""
    if isinstance(ours, str) and isinstance(theirs, str):
        return Counter(ours) == Counter(theirs)
    if isinstance(ours, dict) or isinstance(theirs, dict):
        return _same(ours, theirs)
    if not isinstance(ours, _COLLECTIONS) or not isinstance(theirs, _COLLECTIONS) or len(ours) != len(theirs):
        return False
    return Counter(map(_frozen, ours)) == Counter(map(_frozen, theirs))


def _frozen(value: Any) -> Any:
    """A hashable value, equal for equal values."""
    if isinstance(value, (list, tuple, deque)):
        tag = "t" if isinstance(value, tuple) else "l" if isinstance(value, list) else "q"
        return (tag, tuple(map(_frozen, value)))
    if isinstance(value, (set, frozenset)):
        return ("s", frozenset(map(_frozen, value)))
    if isinstance(value, dict):
        return ("d", frozenset((_frozen(key), _frozen(part)) for key, part in value.items()))
    if isinstance(value, bytearray):
        return bytes(value)
    return "nan" if isinstance(value, float) and value != value else ("v", value)
