"""What tests use of pytest, for a place that has no pytest: `raises`, `approx`, `mark`, `fixture`, `fail`, `skip`."""

# What a test computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import decimal
import fractions
import itertools
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NUMBERS = (int, float, complex, decimal.Decimal, fractions.Fraction)


class Failed(Exception):
    """`pytest.fail` was called, or `pytest.raises` saw no exception."""


class Skipped(Exception):
    """`pytest.skip` was called."""


def fail(reason: str = "", pytrace: bool = True, msg: str | None = None) -> None:
    raise Failed(msg or reason)


def skip(reason: str = "", allow_module_level: bool = False, msg: str | None = None) -> None:
    raise Skipped(msg or reason)


def importorskip(name: str, *_: Any, **__: Any) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise Skipped(f"{name} is not there") from None


def main(*_: Any, **__: Any) -> int:
    """Tests are found and run without it."""
    return 0


class _Raised:
    """What `with pytest.raises(...) as` gives."""

    value: Any = None
    type: Any = None
    tb: Any = None

    def match(self, pattern: str) -> bool:
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{pattern!r} does not match {str(self.value)!r}")
        return True


class _Raises:
    def __init__(self, expected: Any, match: str | None) -> None:
        self._expected = expected
        self._match = match
        self._raised = _Raised()

    def __enter__(self) -> _Raised:
        return self._raised

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        if kind is None:
            raise Failed(f"did not raise {self._expected}")
        if not issubclass(kind, self._expected):
            return False
        self._raised.type, self._raised.value, self._raised.tb = kind, value, trace
        if self._match is not None:
            self._raised.match(self._match)
        return True


def raises(expected: Any = Exception, *arguments: Any, match: str | None = None, **named: Any) -> Any:
    context = _Raises(expected, match)
    if not arguments:
        return context
    with context as raised:
        arguments[0](*arguments[1:], **named)
    return raised


class approx:
    """A number, or a container of numbers, that equals what is close to it."""

    __array_ufunc__ = None

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False) -> None:
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"

    __hash__ = None  # type: ignore[assignment]

    def __ne__(self, actual: object) -> bool:
        return not self == actual

    def __eq__(self, actual: Any) -> bool:
        return self._equal(actual, self.expected)

    def _equal(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, Mapping):
            if not isinstance(actual, Mapping) or set(actual) != set(expected):
                return False
            return all(self._equal(actual[key], expected[key]) for key in expected)
        if isinstance(expected, Sequence) and not isinstance(expected, (str, bytes)):
            if not isinstance(actual, Sequence) or isinstance(actual, (str, bytes)) or len(actual) != len(expected):
                return False
            return all(map(self._equal, actual, expected))
        if not isinstance(expected, _NUMBERS) or isinstance(expected, bool):
            return type(actual) is type(expected) and actual == expected
        return isinstance(actual, _NUMBERS) and self._close(actual, expected)

    def _close(self, actual: Any, expected: Any) -> bool:
        if actual == expected:
            return True
        if isinstance(expected, complex) or isinstance(actual, complex):
            return abs(actual - expected) <= self._tolerance(abs(expected))
        if math.isnan(expected):
            return self.nan_ok and math.isnan(actual)
        if math.isinf(expected) or math.isinf(actual) or math.isnan(actual):
            return False
        kind: Any = type(expected) if isinstance(expected, (decimal.Decimal, fractions.Fraction)) else float
        return abs(kind(actual) - kind(expected)) <= kind(self._tolerance(float(abs(expected))))

    def _tolerance(self, size: float) -> float:
        if self.rel is None and self.abs is not None:
            return self.abs
        return max((1e-6 if self.rel is None else self.rel) * size, 1e-12 if self.abs is None else self.abs)


class _Mark:
    """`pytest.mark.<name>`: all but `parametrize` and `skip` change nothing here."""

    def __getattr__(self, name: str) -> Any:
        def decorate(*arguments: Any, **_: Any) -> Any:
            if len(arguments) == 1 and isinstance(arguments[0], (types.FunctionType, type)):
                return arguments[0]
            return lambda value: value

        return decorate

    @staticmethod
    def parametrize(names: Any, values: Any, **_: Any) -> Callable[[Any], Any]:
        keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)

        def decorate(function: Any) -> Any:
            cases = [case.values if isinstance(case, _Case) else case for case in values]
            rows = [
                dict(zip(keys, case if len(keys) > 1 or isinstance(values[at], _Case) else [case], strict=True))
                for at, case in enumerate(cases)
            ]
            function._cases = [*getattr(function, "_cases", []), rows]
            return function

        return decorate

    @staticmethod
    def skip(*arguments: Any, **_: Any) -> Any:
        def decorate(value: Any) -> Any:
            value._skipped = True
            return value

        return decorate(arguments[0]) if arguments and not isinstance(arguments[0], str) else decorate

    @staticmethod
    def skipif(condition: Any = True, **_: Any) -> Any:
        return _Mark.skip() if condition is True else lambda value: value


mark = _Mark()


class _Case:
    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values


def param(*values: Any, **_: Any) -> _Case:
    return _Case(values)


def fixture(*arguments: Any, **options: Any) -> Any:
    def decorate(function: Any) -> Any:
        function._fixture = options.get("params") or [None]
        return function

    return decorate(arguments[0]) if arguments and callable(arguments[0]) else decorate


class _Request:
    def __init__(self, param: Any) -> None:
        self.param = param


def run_function(function: Any, fixtures: dict[str, Any], refused: type[Exception], owner: Any = None) -> None:
    """Run a test with all its cases; `refused` where it needs a fixture that is not there."""
    if getattr(function, "_skipped", False):
        return
    for rows in itertools.product(*getattr(function, "_cases", [])):
        given: dict[str, Any] = {}
        for row in rows:
            given |= row
        _call(function, given, fixtures, refused, owner)


def _call(function: Any, given: dict[str, Any], fixtures: dict[str, Any], refused: type[Exception], owner: Any) -> Any:
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if owner is not None:
        names = names[1:]
    defaults = len(function.__defaults__ or ())
    optional = set(names[len(names) - defaults :]) if defaults else set()
    finish: list[Any] = []
    values = dict(given)

    def value_of(name: str) -> Any:
        if name not in fixtures:
            raise refused(f"the fixture {name} is not there")
        maker = fixtures[name]
        inner = maker.__code__
        wanted = inner.co_varnames[: inner.co_argcount]
        made = maker(
            *[_Request(maker._fixture[0]) if each == "request" else value_of(each) for each in wanted if each != "self"]
        )
        if isinstance(made, types.GeneratorType):
            finish.append(made)
            return next(made)
        return made

    for name in names:
        if name not in values and name not in optional:
            values[name] = value_of(name)
    try:
        result = function(
            *([owner] if owner is not None else []), **{name: values[name] for name in names if name in values}
        )
        if isinstance(result, types.CoroutineType):
            import asyncio

            asyncio.run(result)
    finally:
        for each in reversed(finish):
            next(each, None)


def run_class(kind: type, fixtures: dict[str, Any], refused: type[Exception]) -> None:
    """Run the tests of a class, each on an object of its own."""
    methods = {
        name: value
        for each in reversed(kind.__mro__)
        for name, value in vars(each).items()
        if name.startswith("test") and isinstance(value, (types.FunctionType, staticmethod))
    }
    if getattr(kind, "_skipped", False):
        return
    own = {name: value for name, value in vars(kind).items() if hasattr(value, "_fixture")}
    if hasattr(kind, "setup_class"):
        kind.setup_class()  # type: ignore[attr-defined]
    for name, method in methods.items():
        owner = kind()
        bound = fixtures | {each: _bound(value, owner) for each, value in own.items()}
        for before in ("setup_method", "setup"):
            if hasattr(owner, before):
                _set_up(getattr(owner, before))
        if isinstance(method, staticmethod):
            run_function(getattr(owner, name), bound, refused)
        else:
            run_function(method, bound, refused, owner)
        for after in ("teardown_method", "teardown"):
            if hasattr(owner, after):
                _set_up(getattr(owner, after))
    if hasattr(kind, "teardown_class"):
        kind.teardown_class()  # type: ignore[attr-defined]


def _set_up(method: Any) -> None:
    method(*[None] * (method.__code__.co_argcount - 1 - len(method.__defaults__ or ())))


def _bound(maker: Any, owner: Any) -> Any:
    def make(*arguments: Any) -> Any:
        return maker(owner, *arguments)

    make._fixture = maker._fixture  # type: ignore[attr-defined]
    return make
