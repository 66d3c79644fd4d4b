"""Runs one untrusted program and its tests, in its own process, which ends afterwards.

Rules for the program's text, the same for every model:
- It is loaded once as an imported module named "program", so an `if __name__ == "__main__":` block does not run.
- `assert` statements and `print(...)` calls at module level are removed before loading: many models append examples of
  their own to a right solution, and a wrong example says nothing about the solution (the tests do).
- Nothing is imported for it: a program that misses an import fails. There is the standard library and nothing else.

Everything this process writes is taken for hostile by the supervisor. Values therefore travel in a small JSON encoding
and are compared outside; `encode` is the only place that looks into them here.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import ast
import decimal
import fractions
import io
import json
import math
import random
import signal
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

# Bounds of one encoded value, in characters; a number or a container counts as _NODE_SIZE.
_MAX_SIZE = 200_000
_NODE_SIZE = 10
_MAX_DEPTH = 50
_SEQUENCES: tuple[tuple[str, Any], ...] = (("l", list), ("t", tuple), ("s", set), ("z", frozenset))
"""Tags of what holds members."""
_MAX_REASON = 1_000  # characters; the supervisor cleans and cuts further
# Python's own 1,000 for the program, and the frames of this harness below it.
_RECURSION_LIMIT = 1_020
_REFUSED_ERRNOS = frozenset({1, 13, 27, 30})  # EPERM, EACCES, EFBIG, EROFS
# How often at least a timer rings again once it has rung: it may ring too early, and programs swallow the exception.
_REPEAT_SECONDS = 0.05
_CPU_TIMER, _WALL_TIMER = signal.ITIMER_PROF, signal.ITIMER_REAL


def wall_limit(cpu_limit: float, cpu_used: float) -> float:
    """Wall seconds allowed with a CPU limit: enough for one that sleeps, and ten more for every CPU second used.

    A program that computes next to busy neighbours thus gets time as long as it gets a tenth of a core; verdicts shall
    not depend on the neighbours.
    """
    return 4 * cpu_limit + 1 + 10 * cpu_used


class _TimeOut(BaseException):
    """Raised in the program when a test has used its time; not an Exception, so `except Exception` lets it pass."""


class _Clock:
    """CPU time limit and, against sleeping, wall time limit of one step.

    The kernel's ITIMER_PROF counts ticks and may ring far too early next to busy neighbours; it only wakes the handler,
    which reads the exact clock. ITIMER_REAL does the same for a program that sleeps or has disarmed the other one. Both
    are set again for each step, in case the program has changed them, and outside a step they mean nothing.
    """

    def __init__(self) -> None:
        self._limit = math.inf
        self._cpu_start = self._wall_start = 0.0
        signal.signal(signal.SIGPROF, self._ring)
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, _signal: int, _frame: types.FrameType | None) -> None:
        cpu_used = time.process_time() - self._cpu_start
        if cpu_used >= self._limit or time.monotonic() - self._wall_start >= wall_limit(self._limit, cpu_used):
            raise _TimeOut

    def run(self, seconds: float, body: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Return what `body` returns, or a timeout when it takes more than `seconds` of CPU, or the `wall_limit`."""
        try:
            try:
                self._cpu_start, self._wall_start = time.process_time(), time.monotonic()
                self._limit = seconds
                repeat = min(_REPEAT_SECONDS, seconds / 10)
                signal.setitimer(_CPU_TIMER, seconds, repeat)
                signal.setitimer(_WALL_TIMER, seconds, repeat)
                record = body(*arguments)
            finally:
                self._limit = math.inf
        except _TimeOut:
            return {"status": "timeout"}
        # A bare `except:` in the program may have swallowed the timeout and returned a value all the same.
        return record if time.process_time() - self._cpu_start <= seconds else {"status": "timeout"}


class _Opaque(Exception):
    """The value, or a part of it, has no encoding; the message names its type."""


def encode(value: Any) -> Any:
    """Encode a value as JSON: None, bool and str as themselves, everything else as [tag, content].

    Tags: i int, f float and b bytes (hexadecimal), c complex (its two floats), q Fraction (its two ints), m Decimal
    (text), l list, t tuple, s set, z frozenset, d dict (list of key and value), o anything else, too deep or too large:
    [type name, truth]. Instances of subclasses are sent as their base, so a subclass cannot bring a comparison of its
    own. Raises what the value's own `__bool__` raises.
    """
    left = _MAX_SIZE

    def spend(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise _Opaque(f"{_type_name(value)} (too large)")

    def walk(item: Any, depth: int) -> Any:
        spend(_NODE_SIZE)
        if depth > _MAX_DEPTH:
            raise _Opaque(f"{_type_name(value)} (too deep)")
        if item is None or item is True or item is False:
            return item
        if isinstance(item, str):
            spend(str.__len__(item))
            return str.__str__(item)
        if isinstance(item, int):
            spend(int.bit_length(item) // 4)
            return ["i", int.__format__(item, "x")]
        if isinstance(item, float):
            return ["f", float.hex(item)]
        if isinstance(item, bytes):
            spend(2 * bytes.__len__(item))
            return ["b", bytes.hex(item)]
        if type(item) is complex:
            return ["c", [float.hex(item.real), float.hex(item.imag)]]
        if type(item) is fractions.Fraction:
            return ["q", [walk(item.numerator, depth), walk(item.denominator, depth)]]
        if type(item) is decimal.Decimal:
            text = str(item)
            spend(len(text))
            return ["m", text]
        for tag, base in _SEQUENCES:
            if isinstance(item, base):
                return [tag, [walk(part, depth + 1) for part in base.__iter__(item)]]
        if isinstance(item, dict):
            return ["d", [[walk(key, depth + 1), walk(part, depth + 1)] for key, part in dict.items(item)]]
        raise _Opaque(_type_name(item))

    try:
        return walk(value, 0)
    except _Opaque as opaque:
        return ["o", [str(opaque), bool(value)]]


def _type_name(value: Any) -> str:
    return str(type(value).__name__)[:100]


def _failure(error: BaseException) -> dict[str, Any]:
    """Record for an exception: `refused` when the sandbox denied something, else `raised`."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - the program's own __str__
        message = f"<{_type_name(broken)} in __str__>"
    name = _type_name(error)
    reason = (f"{name}: {message}" if message else name)[:_MAX_REASON]
    denied = isinstance(error, OSError) and error.errno in _REFUSED_ERRNOS
    return {"status": "refused" if denied else "raised", "reason": reason}


def _is_own_check(statement: ast.stmt) -> bool:
    """Whether a module-level statement is one of those that are removed (see the module's docstring)."""
    if isinstance(statement, ast.Assert):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"


def _load(text: str, namespace: dict[str, Any]) -> dict[str, Any]:
    try:
        stripped = False
        if text.isascii() and "assert" not in text and "print" not in text:
            code = compile(text, "<program>", "exec", dont_inherit=True)  # nothing to remove: no need of the tree
        else:
            tree = ast.parse(text, "<program>")
            kept = [statement for statement in tree.body if not _is_own_check(statement)]
            stripped = len(kept) < len(tree.body)
            tree.body = kept
            code = compile(tree, "<program>", "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102
    except _TimeOut:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return _loading_failure(error)
    return {"status": "loaded", "stripped": stripped}


def _loading_failure(error: BaseException) -> dict[str, Any]:
    record = _failure(error)
    return record if record["status"] == "refused" else {**record, "status": "load_error"}


def _run_script(code: types.CodeType, stdin: str) -> str:
    """Run a program as `python program.py` does and return what it prints, cut where it is too much."""
    output = io.BytesIO()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogatepass")), "utf-8", "surrogatepass")
    sys.stdout = io.TextIOWrapper(output, "utf-8", "surrogatepass")
    try:
        exec(code, module.__dict__)  # noqa: S102
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    sys.stdout.flush()
    return output.getvalue()[:_MAX_SIZE].decode("utf-8", "replace")


def _run_unittest(source: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run the `unittest.TestCase` classes that the source defines; all must succeed and there must be one."""
    namespace = dict(namespace)
    exec(compile(source, "<test>", "exec", dont_inherit=True), namespace)  # noqa: S102
    import unittest  # few programs need it, and every module that a zygote holds makes its forks slower

    loader = unittest.TestLoader()
    types_here = [value for value in namespace.values() if isinstance(value, type)]
    classes = [value for value in types_here if issubclass(value, unittest.TestCase)]
    result = unittest.TestResult()
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(value) for value in dict.fromkeys(classes))
    suite.run(result)
    if result.testsRun and result.wasSuccessful():
        return {"status": "ran"}
    status = "raised" if result.errors and not result.failures else "assertion_failed"
    failed = [str(case) for case, _ in [*result.failures, *result.errors]] or ["no tests"]
    return {"status": status, "reason": ", ".join(failed)[:_MAX_REASON]}


def _test(kind: str, content: Any, namespace: dict[str, Any], script: Any) -> dict[str, Any]:
    try:
        if kind == "values":
            values = [eval(_compiled(expression), namespace) for expression in content]
            return {"status": "values", "values": [encode(value) for value in values]}
        if kind == "stdin":
            return {"status": "values", "values": [_run_script(script, content)]}
        if kind == "unittest":
            return _run_unittest(content, namespace)
        exec(compile(content, "<test>", "exec", dont_inherit=True), dict(namespace))  # noqa: S102
        return {"status": "ran"}
    except _TimeOut:
        raise
    except AssertionError as error:
        return {**_failure(error), "status": "assertion_failed"} if kind == "run" else _failure(error)
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return _failure(error)


def _compiled(expression: str | types.CodeType) -> types.CodeType:
    return compile(expression, "<test>", "eval", dont_inherit=True) if isinstance(expression, str) else expression


class Harness:
    """What runs one program and its tests, made before the program's process: its parts are inherited."""

    def __init__(self) -> None:
        self._module = types.ModuleType("program")
        self._clock = _Clock()
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        sys.modules["program"] = self._module  # dataclasses and pickle look the module up by name
        sys.argv = ["program"]
        sys.setrecursionlimit(_RECURSION_LIMIT)
        random.seed(0)

    def run(
        self,
        text: str,
        is_script: bool,
        steps: Sequence[tuple[str, Any]],
        max_time_outs: int,
        per_test: float,
        per_program: float,
        send: Callable[[bytes], None],
    ) -> None:
        """Load the program `text`, run `steps` in order, and send a JSON record for the loading and for each step.

        An empty record comes first: where it is missing, the process never became ready, which is not the fault of the
        program. A step is ("values", [expression, ...]), texts or compiled, whose values are sent encoded, ("run",
        statements) or ("unittest", classes), which are only run, or, in a script, ("stdin", text): a script is not
        loaded but run from its beginning for each step, as `__main__` and with nothing removed, and its output is the
        step's value. `per_test` and `per_program` are CPU seconds. After `max_time_outs` time-outs, or once the CPU
        time of the program is used up, a record with status "end" takes the place of the rest.
        """

        def report(record: dict[str, Any]) -> str:
            send(self._encode(record).encode())
            return record["status"]

        send(b"")
        namespace = self._module.__dict__
        script = None
        if is_script:
            try:
                script = compile(text, "<program>", "exec", dont_inherit=True)
            except Exception as error:  # noqa: BLE001 - a text that is not a program
                report(_loading_failure(error))
                return
            report({"status": "loaded"})
        elif report(self._clock.run(per_program, _load, text, namespace)) != "loaded":
            return
        time_outs = 0
        for kind, content in steps:
            seconds = min(per_test, per_program - time.process_time())
            if time_outs == max_time_outs or seconds <= 0:
                reason = f"{time_outs} time-outs before" if seconds > 0 else "out of CPU time"
                report({"status": "end", "reason": reason})
                return
            time_outs += report(self._clock.run(seconds, _test, kind, content, namespace, script)) == "timeout"
