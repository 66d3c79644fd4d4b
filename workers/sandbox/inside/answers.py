"""Answers of a program as plain data, for a judge that is somewhere else.

Runs in the process of the program, which may change all of it: what comes out is data in any case. An object that
compares as it likes has no data, and what is left of a subclass is the value of its base.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
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


def run_suite(
    harness: program.Harness,
    source: str,
    suite: tuple[str, Sequence[Any], bool],
    per_input: float,
    per_suite: float,
    send: Callable[[bytes], None],
) -> None:
    """Load the program, call its entry point with the arguments of each input, and send one record of all answers: or
    of the first call that fails, with the index of its input.

    The record of a call that fails has the answers before it, of which one may be wrong already.

    `suite` is (entry point, arguments of each call, whether only matters if there is an answer). Answers are encoded
    before the next call, which may change them. Large ones are sent as a digest. One that is no plain data is sent as
    `NotImplemented`, which is equal to nothing that a reference answers, and `opaque` is the index of the first of
    these. `slowest` are the CPU seconds of the slowest call.
    """

    def report(record: dict[str, Any]) -> str:
        send(_encode_json(record).encode())
        return record["status"]

    send(b"")
    namespace = harness.module.__dict__
    if report(harness.clock.run(per_suite, program.load, source, namespace, True)) != "loaded":
        return
    entry_point, inputs, truths = suite
    found = _encode_json(["l", len(inputs)])[1:-1]
    pieces, size = [found], len(found)
    opaque: list[int] = []
    slowest = 0.0
    for at, arguments in enumerate(inputs):
        start = time.process_time()
        seconds = min(per_input, per_suite - start)
        if seconds <= 0:
            report({"status": "timeout", "input": at, "whole": True})
            return
        room = min(MAX_CHARACTERS, _MOST_BEFORE_DIGESTS - size)
        record = harness.clock.run(seconds, _answer_of_input, namespace, entry_point, arguments, truths, room)
        now = time.process_time()
        slowest = max(slowest, now - start)
        if record["status"] != "answer":
            before = _encode_json(["l", at])[1:-1]
            text = f"[{','.join([before, *pieces[1:]])}]"
            # The text comes first, so that the supervisor knows a large record by its beginning.
            report({"status": "", "answers": text, **record, "input": at, "whole": now >= per_suite})
            return
        if record["opaque"]:
            opaque.append(at)
        pieces.append(record["tokens"])
        size += len(record["tokens"])
    text = f"[{','.join(pieces)}]"
    if len(text) > MAX_SUITE_CHARACTERS:
        report({"status": "too_large"})
        return
    report({"status": "answers", "answers": text, "slowest": slowest, "opaque": opaque[0] if opaque else -1})


def _answer_of_input(
    namespace: dict[str, Any], entry_point: str, arguments: Any, truths: bool, room: int
) -> dict[str, Any]:
    """The tokens of an answer as JSON without brackets: those of its digest where they need more than `room`."""
    opaque = False
    try:
        if entry_point not in namespace:
            raise NameError(f"name '{entry_point}' is not defined")
        value = namespace[entry_point](*arguments)
        if truths and type(value) is not bool:
            value = value is not None
        try:
            text = _encode_json(wire.tokens(value, _base_value, _MAX_TOKENS))[1:-1]
        except wire.TooLarge:
            text = None
        if text is None or len(text) > room:
            text = _encode_json(wire.tokens(evalplus.digest(value), _base_value))[1:-1]
    except program.TimeOut:
        raise
    except NoData:
        text, opaque = _encode_json(["E", False])[1:-1], True
    except MemoryError:
        return {"status": "raised", "reason": "MemoryError"}
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return program.failure(error)
    return {"status": "answer", "tokens": text, "opaque": opaque}
