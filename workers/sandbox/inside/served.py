"""The process of a program whose tests are in another one: does what the tests ask for, one request after the other.

A request names an operation and its operands; the answer is a value, a reference to an object of this process, an
exception, or the end of the test's time. While a request runs, the program may call functions of the test: the other
process then answers in the same way. Nothing here is a wall: the program can do with this module what it likes, and
gains no more than to answer its tests with other values.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import builtins
import collections
import importlib
import operator
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import inside
import program
import wire

FORWARDED = [
    "__len__",
    "__bool__",
    "__iter__",
    "__next__",
    "__reversed__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__call__",
    "__enter__",
    "__exit__",
    "__add__",
    "__radd__",
    "__iadd__",
    "__sub__",
    "__rsub__",
    "__isub__",
    "__mul__",
    "__rmul__",
    "__imul__",
    "__truediv__",
    "__rtruediv__",
    "__floordiv__",
    "__rfloordiv__",
    "__mod__",
    "__rmod__",
    "__divmod__",
    "__rdivmod__",
    "__pow__",
    "__rpow__",
    "__matmul__",
    "__rmatmul__",
    "__and__",
    "__rand__",
    "__iand__",
    "__or__",
    "__ror__",
    "__ior__",
    "__xor__",
    "__rxor__",
    "__ixor__",
    "__lshift__",
    "__rlshift__",
    "__rshift__",
    "__rrshift__",
    "__neg__",
    "__pos__",
    "__abs__",
    "__invert__",
    "__int__",
    "__float__",
    "__complex__",
    "__index__",
    "__round__",
    "__trunc__",
    "__floor__",
    "__ceil__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__format__",
    "__bytes__",
    "__aiter__",
    "__anext__",
    "__aenter__",
    "__aexit__",
    "__await__",
]
"""Methods of a class that the tests reach through a reference, where the class has them."""

_BASES = (int, float, str, bytes, tuple, frozenset, list, dict, set)
_MUTABLE = (list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.Counter)
_LIVE_TOKENS = 400
_MOST_LIVE = 12
_TOKENS = 2_000_000


def _next(iterator: Any) -> Any:
    return next(iterator)


def _await(awaitable: Any) -> Any:
    import asyncio

    async def finish() -> Any:
        return await awaitable

    return asyncio.new_event_loop().run_until_complete(finish())


def _copied(base: Any, value: Any) -> Any:
    """What an instance of a subclass of `base` holds, by the methods of `base` alone."""
    return base(base.__iter__(value)) if base is tuple else base.__new__(base, value)


def _base_content(value: Any) -> Any:
    """An instance of a subclass of a builtin type as that type has it."""
    for base in _BASES:
        if issubclass(type(value), base):
            return (
                dict(dict.items(value))
                if base is dict
                else base(base.__iter__(value))
                if base in (list, set)
                else value
            )
    raise TypeError("no builtin type")


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "delete": delattr,
    "call": lambda target, *arguments: target(*arguments[0], **arguments[1]),
    "eq": lambda left, right: bool(left == right),
    "ne": lambda left, right: bool(left != right),
    "hash": hash,
    "str": str,
    "repr": repr,
    "dir": dir,
    "next": _next,
    "await": _await,
    "content": _base_content,
    "isinstance": isinstance,
    "issubclass": issubclass,
}
_DUNDERS: dict[str, Callable[..., Any]] = {
    "__len__": len, "__bool__": bool, "__iter__": iter, "__next__": next, "__reversed__": reversed, "__abs__": abs,
    "__int__": int, "__float__": float, "__complex__": complex, "__round__": round, "__format__": format,
    "__bytes__": bytes, "__divmod__": divmod, "__contains__": operator.contains, "__getitem__": operator.getitem,
    "__setitem__": operator.setitem, "__delitem__": operator.delitem,
}  # fmt: skip
for _name in [
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
]:
    _function = getattr(operator, f"__{_name}__")
    _DUNDERS[f"__{_name}__"] = _function
    _DUNDERS[f"__r{_name}__"] = lambda right, left, function=_function: function(left, right)
    _DUNDERS[f"__i{_name}__"] = getattr(operator, f"__i{_name}__")
for _name in ("lt", "le", "gt", "ge", "neg", "pos", "invert", "index"):
    _DUNDERS[f"__{_name}__"] = getattr(operator, f"__{_name}__")


class Served:
    """The side of the program."""

    def __init__(self, descriptor: int, harness: program.Harness) -> None:
        self._channel = wire.Channel(descriptor)
        self._harness = harness
        self._objects: list[Any] = []
        self._ids: dict[int, int] = {}
        self._class_ids: dict[type, int] = {}
        self._new_classes: list[list[Any]] = []
        self._names_before: set[str] = set()
        self._remote: dict[int, Any] = {}
        self._live: list[tuple[int, Any, list[Any]]] = []
        self._pristine: inside.Pristine | None = None
        self._used = 0.0

    def run(self, per_test: float, per_program: float) -> None:
        """Answer requests until the tests have ended. EOFError when their process is gone."""
        clock, module = self._harness.clock, self._harness.module
        while True:
            match self._channel.receive():
                case ["load", text, needs, bool() as as_it_is]:
                    self._pristine = inside.Pristine(needs)
                    self._names_before = set(vars(module))
                    self._channel.send(["record", clock.run(per_program, program.load, text, vars(module), as_it_is)])
                case ["names", wanted]:
                    self._channel.send(["names", self._public(set(wanted)), self._new()])
                case ["begin"]:
                    self._used = 0.0
                    self._channel.send(["left", per_program - time.process_time()])
                case ["inside", text]:
                    seconds = max(1e-3, min(per_test - self._used, per_program - time.process_time()))
                    assert self._pristine
                    record = clock.run(seconds, self._pristine.run, text, vars(module), program.MAX_REASON)
                    self._channel.send(["record", record])
                case ["module", text]:
                    seconds = max(1e-3, min(per_test - self._used, per_program - time.process_time()))
                    assert self._pristine
                    record = clock.run(seconds, self._pristine.run_in_module, text, module, program.MAX_REASON)
                    self._channel.send(["record", record])
                case ["op", name, tokens, updates]:
                    seconds = max(1e-3, min(per_test - self._used, per_program - time.process_time()))
                    start = time.process_time()
                    reply = clock.run(seconds, self._answer, name, tokens, updates)
                    self._used += time.process_time() - start
                    self._channel.send(["timeout"] if reply.get("status") == "timeout" else reply["message"])
                case _:
                    raise wire.Malformed("unknown request")

    def _answer(self, name: str, tokens: Any, updates: Any) -> dict[str, Any]:
        """The message with the result of an operation, or with its exception."""
        try:
            value, changed = self._operate(name, tokens, updates)
            message = ["value", self._tokens(value), changed]
        except program.TimeOut:
            raise
        except BaseException as error:  # noqa: BLE001 - all that a program raises goes to its test
            message = ["raised", self._refer(error)]
        return {"message": [*message, self._updates(), self._new()]}

    def _new(self) -> list[list[Any]]:
        new, self._new_classes = self._new_classes, []
        return new

    def _operate(self, name: str, tokens: Any, updates: Any) -> tuple[Any, list[Any]]:
        self._update(updates)
        target, *arguments = self._value(tokens)
        watched: list[tuple[int, Any, list[Any]]] = []
        if name == "call":
            for place, argument in enumerate([*arguments[0], *arguments[1].values()]):
                if type(argument) in _MUTABLE or type(argument) is tuple:
                    watched.append((place, argument, self._raw(argument)))
        function = _OPERATIONS.get(name) or _DUNDERS.get(name)
        result = function(target, *arguments) if function else getattr(target, name)(*arguments)
        changed = [[place, after] for place, argument, before in watched if (after := self._raw(argument)) != before]
        for place, argument, _ in watched:
            if argument is result:
                return None, [*changed, [place, None]]
        return result, changed

    def _public(self, wanted: set[str]) -> dict[str, Any]:
        """What the tests may name: functions and classes, and of the rest what they do name."""
        described: dict[str, Any] = {}
        for name, value in vars(self._harness.module).items():
            if name in self._names_before or name == "__builtins__" or isinstance(value, types.ModuleType):
                continue
            if name in wanted or isinstance(value, types.FunctionType):
                described[name] = self._tokens(value)
        return described

    # --- shared containers: what a test holds of the program, and changes or sees changed -----------------------------

    def _raw(self, value: Any) -> list[Any]:
        try:
            return wire.tokens(value, self._refer, _TOKENS)
        except wire.TooLarge:
            return self._refer(value)

    def _tokens(self, value: Any) -> list[Any]:
        found = self._raw(value)
        is_reference = found[0] == "object"
        if type(value) not in _MUTABLE or is_reference or len(found) > _LIVE_TOKENS:
            return found
        self._watch(value, found)
        return ["live", self._id(value), found]

    def _watch(self, value: Any, tokens: list[Any]) -> None:
        if not any(value is other for _, other, _ in self._live):
            self._live = [*self._live[-_MOST_LIVE + 1 :], (self._id(value), value, tokens)]

    def _updates(self) -> list[Any]:
        updates: list[Any] = []
        for place, (number, value, before) in enumerate(self._live):
            try:
                after = wire.tokens(value, self._refer, _TOKENS)
            except wire.TooLarge:
                continue
            updates.append([number, after if after != before else None])
            self._live[place] = (number, value, after)
        return updates

    def _update(self, updates: Any) -> None:
        for number, tokens in updates:
            inside.assign(self._objects[number], wire.value_of(tokens, self._resolve))
            self._live = [(number, value, tokens if number == live else before) for live, value, before in self._live]

    # --- references ---------------------------------------------------------------------------------------------------

    def _value(self, tokens: Any) -> Any:
        return wire.value_of(tokens, self._resolve)

    def _resolve(self, tag: str, source: Iterator[Any]) -> Any:
        match tag:
            case "mine":  # an object of this side that comes back
                return self._objects[next(source)]
            case "yours":
                return self._remote_of(next(source), next(source), next(source))
            case "stdlib":
                module, name = next(source), next(source)
                value: Any = importlib.import_module(module)
                for part in name.split("."):
                    value = getattr(value, part)
                return value
            case _:
                raise wire.Malformed("unknown tag")

    def _id(self, value: Any) -> int:
        if (known := self._ids.get(id(value))) is None:
            known = self._ids[id(value)] = len(self._objects)
            self._objects.append(value)
        return known

    def _refer(self, value: Any) -> list[Any]:
        if type(value) is _Remote:
            return ["mine", object.__getattribute__(value, "_number")]
        if type(value) is types.FunctionType and hasattr(value, "_number"):
            return ["mine", value._number]  # type: ignore[attr-defined]
        number = self._id(value)
        if isinstance(value, type):
            return ["class", number, self._class_id(value)]
        kind = "object"
        if isinstance(value, types.FunctionType) and set(vars(value)) <= {"__wrapped__"}:
            return ["function", number, value.__name__, str(value.__qualname__), str(value.__doc__ or "")]
        if isinstance(value, types.GeneratorType):
            kind = "generator"
        elif isinstance(value, types.CoroutineType):
            kind = "coroutine"
        elif isinstance(value, BaseException):
            return ["exception", number, self._class_id(type(value)), *self._arguments_of(value)]
        content: list[Any] | None = None
        # By its type: an object may say that it has another class.
        if issubclass(type(value), (int, float, str, bytes, tuple)):
            for base in _BASES:
                if issubclass(type(value), base):
                    content = [
                        base.__name__,
                        wire.tokens(
                            _copied(base, value),
                            self._refer,
                            _TOKENS,
                        ),
                    ]
                    break
        return ["object", number, self._class_id(type(value)), kind, content]

    def _class_id(self, kind: type) -> int:
        if (known := self._class_ids.get(kind)) is not None:
            return known
        mro = type.mro(kind) if kind is not type else [type, object]
        number = self._class_ids[kind] = len(self._class_ids)
        own = {
            name
            for name in FORWARDED
            if any(name in vars(each) for each in mro) and getattr(kind, name, None) is not None
        }
        meta_methods = {
            name
            for name in ("__iter__", "__len__", "__getitem__", "__contains__", "__bool__")
            if type(kind) is not type and hasattr(type(kind), name)
        }
        equality = next((each for each in mro if "__eq__" in vars(each)), object)
        hashing = getattr(kind, "__hash__", None)
        bases = [self._class_id(base) for base in mro[1:] if base.__module__ == "program"]
        known_bases = [
            base.__name__ for base in mro if base.__module__ == "builtins" and vars(builtins).get(base.__name__) is base
        ]
        stdlib = "" if kind.__module__ in ("program", "builtins") else f"{kind.__module__}.{kind.__qualname__}"
        how = "default" if equality is object else "base" if equality in _BASES else "own"
        self._new_classes.append(
            [
                number, self._id(kind), str(kind.__name__), sorted(own), sorted(meta_methods), bases, known_bases, how,
                "none" if hashing is None else "default" if hashing is object.__hash__ else "own", stdlib,
                sys.modules.get(kind.__module__) is not None,
            ]
        )  # fmt: skip
        return number

    def _arguments_of(self, error: BaseException) -> list[Any]:
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - the program's own __str__
            text = ""
        try:
            arguments = wire.tokens(error.args, self._refer, _TOKENS)
        except wire.TooLarge:
            arguments = wire.tokens((text,), self._refer)
        return [arguments, text[: program.MAX_REASON], str(program.failure(error)["reason"]), _errno(error)]

    # --- objects of the test ------------------------------------------------------------------------------------------

    def _remote_of(self, number: int, kind: str, name: str) -> Any:
        if number not in self._remote:
            if kind == "function":

                def stub(*arguments: Any, **named: Any) -> Any:
                    return self.ask("call", stub, arguments, named)

                stub.__name__ = stub.__qualname__ = name
                stub._number = number  # type: ignore[attr-defined]
                self._remote[number] = stub
            else:
                self._remote[number] = _Remote(self, number)
        return self._remote[number]

    def ask(self, name: str, *operands: Any) -> Any:
        """Have the test's process do something with an object of the test."""
        self._channel.send(["ask", name, self._raw(operands), self._new()])
        while True:
            reply = self._channel.receive()
            match reply:
                case ["value", tokens]:
                    return self._value(tokens)
                case ["raised", tokens, name, text]:
                    raised = self._value(tokens)
                    if isinstance(raised, BaseException):
                        raise raised
                    kind = getattr(builtins, name, None)
                    if isinstance(kind, type) and issubclass(kind, Exception):
                        raise kind(text)
                    raise Exception(text)
                case ["op", name, tokens, updates]:
                    self._channel.send(self._answer(name, tokens, updates)["message"])
                case _:
                    raise wire.Malformed("unknown reply")


class _Remote:
    """An object of the test, as the program sees it."""

    def __init__(self, served: Served, number: int) -> None:
        object.__setattr__(self, "_served", served)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return object.__getattribute__(self, "_served").ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_served").ask("set", self, name, value)


def _remote_method(name: str) -> Any:
    def method(self: Any, *arguments: Any) -> Any:
        return object.__getattribute__(self, "_served").ask(name, self, *arguments)

    return method


for _name in [
    "__len__",
    "__bool__",
    "__iter__",
    "__next__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__enter__",
    "__exit__",
    "__add__",
    "__radd__",
    "__sub__",
    "__rsub__",
    "__mul__",
    "__rmul__",
    "__neg__",
    "__abs__",
    "__int__",
    "__float__",
    "__index__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__eq__",
    "__hash__",
    "__str__",
    "__repr__",
]:
    setattr(_Remote, _name, _remote_method(_name))


def _remote_call(self: Any, *arguments: Any, **named: Any) -> Any:
    return object.__getattribute__(self, "_served").ask("call", self, arguments, named)


_Remote.__call__ = _remote_call  # type: ignore[attr-defined]


def _errno(error: BaseException) -> int:
    number = getattr(error, "errno", 0) if isinstance(error, OSError) else 0
    return number if type(number) is int else 0
