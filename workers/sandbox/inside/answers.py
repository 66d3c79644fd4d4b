"""Answers of a program as plain data, for a judge that is somewhere else.

Runs in the process of the program, which may change all of it: what comes out is data in any case. An object that
compares as it likes has no data, and what is left of a subclass is the value of its base.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import dis
import functools
import json
import marshal
import re
import sys
import types
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii
from types import CodeType
from typing import Any

import evalplus
import program
import wire

MAX_CHARACTERS = 1_000_000
"""Of one answer in its encoding."""
MAX_SUITE_CHARACTERS = 2_000_000
"""Of all answers of a suite in their encoding."""
_MOST_BEFORE_DIGESTS = 1_000_000
_MAX_TOKENS = 400_000
_EXACT = 1 << 53
"""From here on numbers of JSON are not all integers."""
_encode_json = json.JSONEncoder(separators=(",", ":")).encode
_BASES: tuple[Any, ...] = (str, int, float, bytes, bytearray, list, tuple, set, frozenset, dict)


class NoData(Exception):
    """The value, or a part of it, is no plain data; the message names its type."""


def answer(expressions: Sequence[str | CodeType], namespace: dict[str, Any]) -> dict[str, Any]:
    """The record with the value of the one expression."""
    try:
        values = [eval(program.compiled(expression), namespace) for expression in expressions]
    except program.TimeOut:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return program.failure(error)
    try:
        text = _encode_json(wire.tokens(values[0] if values else None, _base_value, _MAX_TOKENS))
        if len(text) > MAX_CHARACTERS:
            raise wire.TooLarge
    except program.TimeOut:
        raise
    except NoData as error:
        return {"status": "no_data", "reason": str(error)}
    except (wire.TooLarge, MemoryError):
        return {"status": "too_large"}
    except RecursionError:
        return {"status": "no_data", "reason": "a value that is too deep"}
    except BaseException as error:  # noqa: BLE001 - methods of the program's objects
        return program.failure(error)
    return {"status": "answer", "answer": text}


def _base_value(value: Any) -> list[Any]:
    """Tokens of an instance of a subclass that has no comparison of its own: those of its base."""
    kind = type(value)
    for base in _BASES:
        if issubclass(kind, base) and kind.__eq__ is base.__eq__:
            if base is dict:
                plain: Any = dict(dict.items(value))
            elif base in (list, tuple, set, frozenset):
                plain = base(base.__iter__(value))
            elif base is str:
                plain = str.__str__(value)
            elif base is int:
                plain = int.__add__(value, 0)
            elif base is float:
                plain = float.fromhex(float.hex(value))
            else:
                plain = base(memoryview(value))
            return wire.tokens(plain, _base_value, _MAX_TOKENS)
    raise NoData(f"a {program.type_name(value)}")


# --- suites ----------------------------------------------------------------------------------------------------------


_NO_DATA = '"E",false'
"""`NotImplemented` stands for an answer that is no plain data: it is equal to nothing that a reference answers."""


def run_suites(
    harness: program.Harness,
    source: str,
    suites: tuple[str, Sequence[bytes], bool, bool],
    per_input: float,
    per_suite: float,
    send: Callable[[bytes], None],
) -> None:
    """Load the program and call its entry point with the arguments of each input. Sent are a record of the loading, and
    for each suite the answers and a record of how it ended: "answered", with the CPU seconds of the slowest call, or
    how the last call failed, with the index of its input.

    Answers are tokens in JSON without brackets, one a line; no record begins as they do. Each is encoded before the
    next call, which may change it. A large one is sent as a digest.

    `suites` is (entry point, arguments of the calls of each suite as `marshal` has them, whether only matters if there
    is an answer, whether answers are sent at once: then those before the end of the process are known). A second suite
    is run where a process of its own would come to the same answers; otherwise nothing of it is sent. `per_suite` are
    the CPU seconds of the process.
    """

    def report(record: dict[str, Any]) -> str:
        send(_encode_json(record).encode())
        return record["status"]

    send(b"")
    namespace = harness.module.__dict__
    before = {*namespace, "__builtins__"}
    if report(harness.clock.run(per_suite, program.load, source, namespace, True)) != "loaded":
        return
    # A program that has the module of signals may stop the timers.
    rearms = "signal" in source
    entry_point, calls, truths, at_once = suites
    for at, marshalled in enumerate(calls):
        if at and not _is_stateless(namespace, before):
            return
        answers: list[str] = []

        def tell(text: str, answers: list[str] = answers) -> None:
            send(text.encode()) if at_once else answers.append(text)

        answer = functools.partial(_answer_of_input, namespace, entry_point, truths)
        record = _run_suite(harness.clock, answer, marshal.loads(marshalled), per_input, per_suite, rearms, tell)
        if answers:
            send("\n".join(answers).encode())
        if report(record) not in ("answered", "raised", "refused"):
            return


def _run_suite(
    clock: program.Clock,
    answer: Callable[[Any, int], str | dict[str, Any]],
    inputs: Sequence[Any],
    per_input: float,
    per_suite: float,
    rearms: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The record of how a suite ended; its answers are told before."""
    size, slowest = 0, 0.0
    clock.arm(min(per_input, per_suite))
    for at, arguments in enumerate(inputs):
        start = clock.now
        seconds = min(per_input, per_suite - start)
        if seconds <= 0:
            return {"status": "timeout", "input": at, "whole": True}
        if rearms:
            clock.arm(seconds)
        room = min(MAX_CHARACTERS, _MOST_BEFORE_DIGESTS - size)
        found = clock.timed(seconds, answer, arguments, room)
        if not isinstance(found, str):
            return {**found, "input": at, "whole": clock.now >= per_suite}
        slowest = max(slowest, clock.now - start)
        size += len(found)
        if size > MAX_SUITE_CHARACTERS:
            return {"status": "too_large"}
        tell(found)
    return {"status": "answered", "slowest": slowest}


def _answer_of_input(
    namespace: dict[str, Any], entry_point: str, truths: bool, arguments: Any, room: int
) -> str | dict[str, Any]:
    """The tokens of an answer as JSON without brackets: those of its digest where they need more than `room`. A record
    where the call fails.
    """
    try:
        if entry_point not in namespace:
            raise NameError(f"name '{entry_point}' is not defined")
        value = namespace[entry_point](*arguments)
        if truths and type(value) is not bool:
            value = value is not None
        try:
            text = tokens_of(value)
        except wire.TooLarge:
            text = None
        if text is None or len(text) > room:
            text = tokens_of(evalplus.digest(value))
        return text
    except program.TimeOut:
        raise
    except NoData:
        return _NO_DATA
    except MemoryError:
        return {"status": "raised", "reason": "MemoryError"}
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return program.failure(error)


def tokens_of(value: Any) -> str:
    """The tokens of a value as JSON without brackets."""
    kind = type(value)
    # Most answers are of these types, and each call costs as much as the encoding.
    if kind is int and -_EXACT < value < _EXACT:
        return f'"i",{value}'
    if kind is bool:
        return "true" if value else "false"
    if kind is str:
        return f'"s",{encode_basestring_ascii(value)}'
    if kind is float:
        return f'"f","{value.hex()}"'
    return _encode_json(wire.tokens(value, _base_value, _MAX_TOKENS))[1:-1]


# --- whether calls leave something behind -----------------------------------------------------------------------------

_STATELESS_MODULES = frozenset(
    {
        "bisect", "cmath", "collections", "collections.abc", "copy", "fractions", "functools", "heapq", "itertools",
        "math", "numbers", "operator", "re", "statistics", "string", "typing",
        "_bisect", "_collections", "_functools", "_heapq", "_operator", "_statistics",
    }
)  # fmt: skip
"""Modules whose functions answer by their arguments alone, and keep nothing but what they could compute again."""
_LEAVING = frozenset(
    dis.opmap[name]
    for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME")
    if name in dis.opmap
)
_LEAVING_NAMES = frozenset(
    ["__import__", "compile", "delattr", "eval", "exec", "getattr", "globals", "locals", "open", "setattr", "vars"],
)
_CONSTANTS = (bool, int, float, complex, str, bytes, types.NoneType, re.Pattern)


def _is_stateless(namespace: dict[str, Any], before: set[str]) -> bool:
    """Whether calls of the program's functions cannot see what calls before them have done.

    It is a question of cost: where the answer is no, a suite has a process of its own. A program that fools this has
    two suites in one process, in which it finds nothing but their inputs.
    """
    return all(name in before or _is_constant(value) for name, value in namespace.items())


def _is_constant(value: Any) -> bool:
    """Whether no call can leave something in a value of a module."""
    kind = type(value)
    if kind is types.FunctionType and value.__module__ == "program":
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        plain = not value.__dict__ and value.__closure__ is None and all(map(_is_constant, defaults))
        return plain and _leaves_nothing(value.__code__)
    if kind in _CONSTANTS:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_is_constant, value))
    if kind is types.ModuleType:
        return value.__name__ in _STATELESS_MODULES and sys.modules.get(value.__name__) is value
    if kind in (type, types.FunctionType, types.BuiltinFunctionType) or kind.__module__ in ("abc", "typing"):
        return value.__module__ in _STATELESS_MODULES
    return False


def _leaves_nothing(code: CodeType) -> bool:
    """Whether a function changes no variable but its own, and no attribute."""
    if not _LEAVING.isdisjoint(code.co_code[::2]) or not _LEAVING_NAMES.isdisjoint(code.co_names):
        return False
    if any(name.startswith("__") for name in code.co_names):
        return False
    return all(_leaves_nothing(each) for each in code.co_consts if type(each) is CodeType)
