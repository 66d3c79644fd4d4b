"""What the two processes of a tested program say to each other: values, and references to objects.

A message is a JSON list behind its length in 4 bytes. Values in it are flat lists of tokens, a container before its
members: nothing in them is nested, so that reading what a hostile process sent takes no recursion. A value that has no
encoding is a reference, whose tokens the side that owns the object chooses.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import importlib
import itertools
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

_SIZE = struct.Struct(">I")
_MAX_MESSAGE = 64 * 1024 * 1024
_MAX_TOKENS = 4_000_000
# Below this depth nobody looks whether a value holds itself; above this length a list is looked at as a whole.
_DEEP, _FEW = 20, 8
_encode_json = json.JSONEncoder(separators=(",", ":")).encode
_decode_json = json.JSONDecoder().decode


class Malformed(Exception):
    """The other side sent what is no message."""


class TooLarge(Exception):
    """The value has more members than are sent, or holds itself."""


class Channel:
    """Messages over a socket. EOFError when the other side is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, message: list[Any]) -> None:
        data = _encode_json(message).encode()
        view = memoryview(_SIZE.pack(len(data)) + data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except BrokenPipeError:
            raise EOFError from None

    def receive(self) -> list[Any]:
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        if size > _MAX_MESSAGE:
            raise Malformed("too long")
        try:
            message = _decode_json(self._read(size).decode())
        except (ValueError, RecursionError) as error:
            raise Malformed(str(error)) from None
        if type(message) is not list or not message or type(message[0]) is not str:
            raise Malformed("not a message")
        return message

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = os.read(self._descriptor, min(size, 1 << 20))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


# --- values to tokens ------------------------------------------------------------------------------------------------

_TYPES = {name: value for name, value in vars(builtins).items() if isinstance(value, type)}
"""Types that both sides have under one name."""
_NAMES = {value: name for name, value in _TYPES.items() if name != "type"}
_FACTORIES: dict[Any, str] = {int: "int", list: "list", set: "set", dict: "dict", str: "str", float: "float"}
_KEYS, _VALUES, _ITEMS = type({}.keys()), type({}.values()), type({}.items())
_NOT_PLAIN = object()
_PATHS = ("PosixPath", "PurePosixPath", "PureWindowsPath")


def _integer(value: int) -> int | str:
    return value if -(1 << 53) < value < 1 << 53 else int.__format__(value, "x")


def _plain(value: Any) -> list[Any] | None:
    """Tokens of a value without members; None for others. Exact types only: a subclass may compare as it likes."""
    kind = type(value)
    if value is None or value is True or value is False:
        return [value]
    if kind is str:
        return ["s", value]
    if kind is int:
        return ["i", _integer(value)]
    if kind is float:
        return ["f", value.hex()]
    if kind is bytes:
        return ["b", value.hex()]
    if kind is bytearray:
        return ["B", value.hex()]
    if kind is complex:
        return ["c", value.real.hex(), value.imag.hex()]
    if kind is range:
        return ["r", _integer(value.start), _integer(value.stop), _integer(value.step)]
    if kind is fractions.Fraction:
        return ["q", _integer(value.numerator), _integer(value.denominator)]
    if kind is decimal.Decimal:
        return ["m", str(value)]
    if kind is datetime.date:
        return ["y", value.isoformat()]
    if kind is datetime.datetime and _has_known_zone(value):
        return ["Y", value.isoformat(), value.fold]
    if kind is datetime.time and _has_known_zone(value):
        return ["e", value.isoformat(), value.fold]
    if kind is datetime.timedelta:
        return ["g", value.days, value.seconds, value.microseconds]
    if value is Ellipsis or value is NotImplemented:
        return ["E", value is Ellipsis]
    if isinstance(value, type) and value in _NAMES:
        return ["n", _NAMES[value]]
    # Of modules that a program may have imported. What is sent is a text, whoever wrote the class.
    name = kind.__name__
    if name in _PATHS and kind.__module__.split(".")[0] == "pathlib":
        return _as_text("p", name, value)
    if name == "UUID" and kind.__module__ == "uuid":
        return _as_text("u", name, value)
    return None


def _as_text(tag: str, name: str, value: Any) -> list[Any] | None:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - a class that a program has put there
        return None
    return [tag, name, text] if type(text) is str else None


def _has_known_zone(value: datetime.datetime | datetime.time) -> bool:
    """Whether the text of a time tells its zone: an offset alone, which has no name of its own."""
    zone = value.tzinfo
    return zone is None or (type(zone) is datetime.timezone and len(cast("Any", zone).__getinitargs__()) == 1)


def _members(value: Any) -> tuple[list[Any], int, Iterable[Any]] | None:
    """Tag, number and members of a container; None for others."""
    kind = type(value)
    if kind is list:
        return ["l"], len(value), value
    if kind is tuple:
        return ["t"], len(value), value
    if kind is dict:
        return ["d"], 2 * len(value), _pairs(value)
    if kind is set:
        return ["S"], len(value), value
    if kind is frozenset:
        return ["z"], len(value), value
    if kind is collections.deque:
        return ["k", value.maxlen], len(value), value
    if kind is collections.OrderedDict:
        return ["O"], 2 * len(value), _pairs(value)
    if kind is collections.Counter:
        return ["C"], 2 * len(value), _pairs(value)
    if kind is collections.defaultdict and (factory := _FACTORIES.get(value.default_factory)):
        return ["D", factory], 2 * len(value), _pairs(value)
    if kind is _KEYS:
        return ["K"], len(value), value
    if kind is _VALUES:
        return ["V"], len(value), value
    if kind is _ITEMS:
        return ["M"], len(value), value
    return None


def _pairs(value: Any) -> Iterator[Any]:
    for key, part in dict.items(value):
        yield key
        yield part


def tokens(value: Any, refer: Callable[[Any], list[Any]], most: int = _MAX_TOKENS) -> list[Any]:
    """The tokens of a value; `refer` gives those of an object that has no encoding. `TooLarge` where there are more
    than `most`, as for a value that holds itself.
    """
    out: list[Any] = []
    stack: list[Iterator[Any]] = [iter((value,))]
    opened: list[int] = [0]
    while stack:
        item = next(stack[-1], _NOT_PLAIN)
        if item is _NOT_PLAIN:
            stack.pop()
            opened.pop()
            continue
        if (plain := _plain(item)) is not None:
            out += plain
        elif (kind := type(item)) in (list, tuple) and _is_uniform(item):
            out += ["j" if kind is list else "J", list(cast("list[Any]", item))]
        elif (found := _members(item)) is not None:
            if len(stack) > _DEEP and id(item) in opened:
                raise TooLarge
            tag, size, members = found
            out += tag
            out.append(size)
            stack.append(iter(members))
            opened.append(id(item))
        else:
            out += refer(item)
        if len(out) > most:
            raise TooLarge
    return out


def _is_uniform(value: Any) -> bool:
    """Whether JSON has all members of a list or tuple as they are, so that they need no tokens each."""
    if len(value) < _FEW:
        return False
    types = set(map(type, value))
    if types == {str}:
        return True
    if types == {int}:
        return min(value) > -(1 << 53) and max(value) < 1 << 53
    return types == {float}


# --- tokens to values ------------------------------------------------------------------------------------------------


def _to_integer(token: Any) -> int:
    if type(token) is int:
        return token
    if type(token) is str:
        return int(token, 16)
    raise Malformed("not an integer")


def _dict(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


_BUILDERS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "l": lambda _, items: items,
    "t": lambda _, items: tuple(items),
    "d": lambda _, items: _dict(items),
    "S": lambda _, items: set(items),
    "z": lambda _, items: frozenset(items),
    "k": lambda most, items: collections.deque(items, most),
    "O": lambda _, items: collections.OrderedDict(zip(items[::2], items[1::2], strict=True)),
    "C": lambda _, items: collections.Counter(_dict(items)),
    "D": lambda factory, items: collections.defaultdict(factory, _dict(items)),
    "K": lambda _, items: dict.fromkeys(items).keys(),
    "V": lambda _, items: dict(enumerate(items)).values(),
    "M": lambda _, items: dict(items).items(),
}


def value_of(given: Any, resolve: Callable[[str, Iterator[Any]], Any]) -> Any:
    """The value of tokens; `resolve` gives the object of a tag that is unknown here and takes its tokens. `Malformed`
    for what is no value.
    """
    if type(given) is not list:
        raise Malformed("not tokens")
    source = iter(given)
    value = _next_value(source, len(given), resolve)
    if next(source, _NOT_PLAIN) is not _NOT_PLAIN:
        raise Malformed("more than a value")
    return value


def first_members(given: Any, count: int, resolve: Callable[[str, Iterator[Any]], Any]) -> list[Any]:
    """The first members, `count` at most, of the list that tokens are; what comes after them is not looked at."""
    if type(given) is not list or len(given) < 2 or given[0] != "l" or type(given[1]) is not int:
        raise Malformed("not a list")
    source = itertools.islice(given, 2, None)
    return [_next_value(source, len(given), resolve) for _ in range(min(count, given[1]))]


def _next_value(source: Iterator[Any], most: int, resolve: Callable[[str, Iterator[Any]], Any]) -> Any:
    """The next value of tokens, whose containers have `most` members at most."""
    stack: list[tuple[Callable[[Any, list[Any]], Any], Any, int, list[Any]]] = []
    try:
        while True:
            token = next(source)
            if token is None or token is True or token is False:
                value = token
            elif type(token) is not str:
                raise Malformed("not a tag")
            elif (build := _BUILDERS.get(token)) is not None:
                more: Any = None
                if token == "k":
                    more = next(source)
                    if more is not None and type(more) is not int:
                        raise Malformed("not a length")
                elif token == "D":
                    more = _TYPES[next(source)]
                size = next(source)
                if type(size) is not int or not 0 <= size <= most:
                    raise Malformed("not a size")
                stack.append((build, more, size, []))
                value = _NOT_PLAIN
            else:
                value = _plain_of(token, source, resolve)
            if value is not _NOT_PLAIN:
                if not stack:
                    return value
                stack[-1][3].append(value)
            while len(stack[-1][3]) == stack[-1][2]:
                build, more, _, items = stack.pop()
                value = build(more, items)
                if not stack:
                    return value
                stack[-1][3].append(value)
    except (StopIteration, TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise Malformed(str(error)) from None


def _plain_of(tag: str, source: Iterator[Any], resolve: Callable[[str, Iterator[Any]], Any]) -> Any:
    match tag:
        case "j" | "J":
            items = next(source)
            if type(items) is not list or not set(map(type, items)) <= {str, int, float}:
                raise Malformed("not a list of plain values")
            return items if tag == "j" else tuple(items)
        case "s":
            text = next(source)
            if type(text) is not str:
                raise Malformed("not a text")
            return text
        case "i":
            return _to_integer(next(source))
        case "f":
            return float.fromhex(next(source))
        case "b":
            return bytes.fromhex(next(source))
        case "B":
            return bytearray.fromhex(next(source))
        case "c":
            return complex(float.fromhex(next(source)), float.fromhex(next(source)))
        case "r":
            return range(_to_integer(next(source)), _to_integer(next(source)), _to_integer(next(source)))
        case "q":
            return fractions.Fraction(_to_integer(next(source)), _to_integer(next(source)))
        case "m":
            return decimal.Decimal(next(source))
        case "y":
            return datetime.date.fromisoformat(next(source))
        case "Y":
            return datetime.datetime.fromisoformat(next(source)).replace(fold=next(source))
        case "e":
            return datetime.time.fromisoformat(next(source)).replace(fold=next(source))
        case "g":
            return datetime.timedelta(next(source), next(source), next(source))
        case "p" | "u":
            name, text = next(source), next(source)
            if type(text) is not str or name not in (_PATHS if tag == "p" else ("UUID",)):
                raise Malformed("not a path or UUID")
            return getattr(importlib.import_module("pathlib" if tag == "p" else "uuid"), name)(text)
        case "E":
            return Ellipsis if next(source) else NotImplemented
        case "n":
            return _TYPES[next(source)]
        case _:
            return resolve(tag, source)
