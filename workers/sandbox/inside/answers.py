"""Answers of a program as plain data, for a judge that is somewhere else.

Runs in the process of the program, which may change all of it: what comes out is data in any case. An object that
compares as it likes has no data, and what is left of a subclass is the value of its base.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import Sequence
from types import CodeType
from typing import Any

import program
import wire

MAX_CHARACTERS = 1_000_000
"""Of one answer in its encoding."""
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
