"""Runs one untrusted program and its tests, in its own process, which ends afterwards.

Rules for the program's text, the same for every model:
- It is loaded once as an imported module named "program", so an `if __name__ == "__main__":` block does not run.
- `assert` statements and `print(...)` calls at module level are removed before loading: many models append examples of
  their own to a right solution, and a wrong example says nothing about the solution (the tests do). A `print(...)` that
  calls a function which changes the module's state stays, because later calls depend on it.
- A module level that reads standard input ends there, as examples of use do: what stands before it is the program.
- Programs for suites of EvalPlus, and for tests that run in the program's module, are loaded as they are: nothing is
  removed, because the harnesses of their benchmarks remove nothing.
- Nothing is imported for it: a program that misses an import fails. There is the standard library and nothing else.
- A program that reads standard input in its tests is a script instead: run from its beginning for each test, in a
  process of its own, as `__main__`, with nothing removed.

Everything this process writes is taken for hostile by the supervisor and by the process that holds the tests. Values
therefore travel in a small encoding and are compared outside.
"""

# What a program computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import _sitebuiltins
import ast
import builtins
import contextlib
import decimal
import fractions
import io
import json
import math
import os
import random
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

# Bounds of one encoded value, in characters; a number or a container counts as _NODE_SIZE.
_MAX_SIZE = 200_000
_NODE_SIZE = 10
_MAX_DEPTH = 50
_SEQUENCES: tuple[tuple[str, Any], ...] = (("l", list), ("t", tuple), ("s", set), ("z", frozenset))
"""Tags of what holds members."""
MAX_REASON = 1_000  # characters; the supervisor cleans and cuts further
# Python's own 1,000 for the program, and the frames of this harness below it.
_RECURSION_LIMIT = 1_020
_REFUSED_ERRNOS = frozenset({1, 13, 27, 30})  # EPERM, EACCES, EFBIG, EROFS
_NO_SCRATCH = "No usable temporary directory found"  # as `tempfile` says it where nothing can be written
# How often at least a timer rings again once it has rung: it may ring too early, and programs swallow the exception.
_REPEAT_SECONDS = 0.05
T = TypeVar("T")
_CPU_TIMER, _WALL_TIMER = signal.ITIMER_PROF, signal.ITIMER_REAL


def wall_limit(cpu_limit: float, cpu_used: float) -> float:
    """Wall seconds allowed with a CPU limit: enough for one that sleeps, and ten more for every CPU second used.

    A program that computes next to busy neighbours thus gets time as long as it gets a tenth of a core; verdicts shall
    not depend on the neighbours.
    """
    return 4 * cpu_limit + 1 + 10 * cpu_used


class TimeOut(BaseException):
    """Raised in the program when a test has used its time; not an Exception, so `except Exception` lets it pass."""


class Clock:
    """CPU time limit and, against sleeping, wall time limit of one step.

    The kernel's ITIMER_PROF counts ticks and may ring far too early next to busy neighbours; it only wakes the handler,
    which reads the exact clock. ITIMER_REAL does the same for a program that sleeps or has disarmed the other one. Both
    are set again by `run`, in case the program has changed them, and outside a step they mean nothing.
    """

    def __init__(self) -> None:
        self._limit = math.inf
        self._cpu_start = self._wall_start = 0.0
        self.now = 0.0
        """CPU seconds of the process at the end of the last step."""
        signal.signal(signal.SIGPROF, self._ring)
        signal.signal(signal.SIGALRM, self._ring)

        self._may_wait = False

    def _ring(self, _signal: int, _frame: types.FrameType | None) -> None:
        cpu_used = time.process_time() - self._cpu_start
        late = not self._may_wait and time.monotonic() - self._wall_start >= wall_limit(self._limit, cpu_used)
        if cpu_used >= self._limit or late:
            raise TimeOut

    def run(
        self,
        seconds: float,
        body: Callable[..., dict[str, Any]],
        *arguments: Any,
        sleeps: bool = False,
        late_after: float = math.inf,
    ) -> dict[str, Any]:
        """Return what `body` returns, or a timeout when it takes more than `seconds` of CPU, or the `wall_limit`, which
        does not hold for a body that waits for another process. A body that is in time, but would not have been with
        `late_after` as its `seconds`, is late.
        """
        self.arm(seconds)
        record = self.timed(seconds, body, *arguments, sleeps=sleeps)
        cpu_used = self.now - self._cpu_start
        late = not sleeps and time.monotonic() - self._wall_start >= wall_limit(late_after, cpu_used)
        is_late = (late or cpu_used > late_after) and record.get("status") != "timeout"
        return {"status": "late"} if is_late else record

    def arm(self, seconds: float) -> None:
        """Set the timers for a step of `seconds`, and often enough for the steps after it. The next step begins."""
        repeat = min(_REPEAT_SECONDS, seconds / 10)
        signal.setitimer(_CPU_TIMER, seconds, repeat)
        signal.setitimer(_WALL_TIMER, seconds, repeat)
        self.now = time.process_time()

    def timed(
        self, seconds: float, body: Callable[..., T], *arguments: Any, sleeps: bool = False
    ) -> T | dict[str, Any]:
        """As `run`, with timers that are armed already. The step begins where the one before it ended."""
        start = self.now
        try:
            try:
                self._cpu_start, self._wall_start = start, time.monotonic()
                self._may_wait = sleeps
                self._limit = seconds
                result = body(*arguments)
            finally:
                self._limit = math.inf
        except TimeOut:
            self.now = time.process_time()
            return {"status": "timeout"}
        self.now = time.process_time()
        used = self.now - start
        # A bare `except:` in the program may have swallowed the timeout and returned a value all the same.
        in_time = sleeps or time.monotonic() - self._wall_start < wall_limit(seconds, used)
        return result if in_time and used <= seconds else {"status": "timeout"}


class _Opaque(Exception):
    """The value, or a part of it, has no encoding; the message names its type."""


def encode(value: Any, budget: list[int] | None = None) -> Any:
    """Encode a value as JSON: None, bool and str as themselves, everything else as [tag, content].

    Tags: i int, f float and b bytes (hexadecimal), c complex (its two floats), q Fraction (its two ints), m Decimal
    (text), l list, t tuple, s set, z frozenset, d dict (list of key and value), o anything else, too deep or too large:
    [type name, truth]. Instances of subclasses are sent as their base, so a subclass cannot bring a comparison of its
    own; one that has a comparison of its own is an object without encoding, like all
    others that are no plain values. Raises what the value's own `__bool__` raises.
    """
    budget = budget or [_MAX_SIZE]

    def spend(size: int) -> None:
        budget[0] -= size
        if budget[0] < 0:
            raise _Opaque(f"{type_name(value)} (too large)")

    def walk(item: Any, depth: int) -> Any:
        spend(_NODE_SIZE)
        if depth > _MAX_DEPTH:
            raise _Opaque(f"{type_name(value)} (too deep)")
        if item is None or item is True or item is False:
            return item
        kind = type(item)
        if kind not in _EXACT and kind.__module__ in _OWN_EQUALITIES and kind.__eq__ not in _EQUALITIES:
            raise _Opaque(type_name(item))
        if isinstance(item, str):
            # A character beyond ASCII takes six in JSON, or twelve.
            spend(str.__len__(item) * (1 if str.isascii(item) else 12))
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
            spend(2 * _NODE_SIZE)
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
        raise _Opaque(type_name(item))

    try:
        return walk(value, 0)
    except _Opaque as opaque:
        return ["o", [str(opaque), bool(value)]]


_EXACT = frozenset({int, float, str, bytes, list, tuple, set, frozenset, dict, complex})
_EQUALITIES = frozenset(
    kind.__eq__ for kind in (int, float, str, bytes, list, tuple, set, frozenset, dict, object, complex)
)


# A program's own classes, and OrderedDict and Counter, which do not compare as the dictionaries that they are.
_OWN_EQUALITIES = frozenset({"program", "collections"})


def type_name(value: Any) -> str:
    return str(type(value).__name__)[:100]


def failure(error: BaseException) -> dict[str, Any]:
    """Record for an exception: `refused` when the sandbox denied something, else `raised`."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - the program's own __str__
        message = f"<{type_name(broken)} in __str__>"
    name = type_name(error)
    reason = (f"{name}: {message}" if message else name)[:MAX_REASON]
    denied = isinstance(error, OSError) and (error.errno in _REFUSED_ERRNOS or _NO_SCRATCH in message)
    return {"status": "refused" if denied else "raised", "reason": reason}


def _is_own_check(statement: ast.stmt) -> bool:
    """Whether a module-level statement is one of those that are removed (see the module's docstring)."""
    if isinstance(statement, ast.Assert):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"


def _changes_state(tree: ast.Module, call: ast.Call) -> bool:
    """Whether a call in the arguments of a `print` goes to a function that changes the module's variables."""
    called = {node.func.id for node in ast.walk(call) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    targets = [
        target
        for statement in tree.body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    ]
    variables = {target.id for target in targets if isinstance(target, ast.Name)}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or function.name not in called:
            continue
        for node in ast.walk(function):
            match node:
                case ast.Global():
                    return True
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in variables:
                    return True
                case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store()) if name in variables:
                    return True
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()) if name in variables:
                    return True
                case _:
                    pass
    return False


def _kept(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a program without its own checks."""
    for statement in tree.body:
        if not _is_own_check(statement):
            yield statement
            continue
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and _changes_state(tree, call):
            ignored = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
            yield ast.fix_missing_locations(ast.copy_location(ast.Try([statement], [ignored], [], []), statement))


def load(text: str, namespace: dict[str, Any], as_it_is: bool = False) -> dict[str, Any]:
    """Load a program. With `as_it_is` nothing of it is removed, and reading standard input ends it with an error."""
    try:
        stripped = False
        if as_it_is:
            code = compile(text.removeprefix("\ufeff"), "<program>", "exec", dont_inherit=True)
        elif text.isascii() and "assert" not in text and "print" not in text:
            code = compile(text, "<program>", "exec", dont_inherit=True)  # nothing to remove: no need of the tree
        else:
            text = text.removeprefix("\ufeff")
            tree = ast.parse(text, "<program>")
            kept = list(_kept(tree))
            stripped = len(kept) < len(tree.body)
            tree.body = kept
            code = compile(tree, "<program>", "exec", dont_inherit=True)
        if "inspect" in text:
            import linecache

            linecache.cache["<program>"] = (len(text), None, text.splitlines(keepends=True), "<program>")
        exec(code, namespace)  # noqa: S102
    except TimeOut:
        raise
    except EOFError as error:
        if as_it_is:
            return _loading_failure(error)
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename != "<program>":
            return _loading_failure(error)
        return {"status": "loaded", "stripped": True}
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
        return _loading_failure(error)
    return {"status": "loaded", "stripped": stripped}


def _loading_failure(error: BaseException) -> dict[str, Any]:
    record = failure(error)
    return record if record["status"] == "refused" else {**record, "status": "load_error"}


def _run_script(code: types.CodeType, tell: Callable[[BaseException], object] = lambda error: None) -> dict[str, Any]:
    """Run a program as `python program.py` does, to the end of its threads. `tell` gets the exception that ends it."""
    module = types.ModuleType("__main__")
    module.__dict__["__file__"] = "program.py"
    sys.modules["__main__"] = module
    exit_code: Any = None
    try:
        exec(code, module.__dict__)  # noqa: S102
    except TimeOut:
        raise
    except SystemExit as end:
        exit_code = end.code
        tell(end)
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt is the program's failure too
        tell(error)
        return failure(error)
    finally:
        _end_as_python_does()
    if exit_code in (None, 0):
        return {"status": "ran"}
    return {"status": "raised", "reason": f"SystemExit: {exit_code}"[:MAX_REASON]}


def _tell(error: BaseException) -> int:
    """Write an exception to standard error as Python does when it ends a script; the exit status that goes with it."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename != "<program>":
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    return 1


def _end_as_python_does() -> None:
    if threading := sys.modules.get("threading"):
        threading._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(ValueError):  # a stream whose buffer another one took over
            if stream is not None and not getattr(stream, "closed", True):
                stream.flush()


_STREAMS = {
    f"{folder}{name}": descriptor
    for descriptor, stream in enumerate(("stdin", "stdout", "stderr"))
    for folder, name in (("/dev/", stream), ("/dev/fd/", descriptor), ("/proc/self/fd/", descriptor))
}


def _open_by_name(file: Any, *arguments: Any, **settings: Any) -> Any:
    """`open`, for which the standard streams have the names that they have elsewhere: a script sees no such files."""
    descriptor = _STREAMS.get(str(file)) if isinstance(file, (str, os.PathLike)) else None
    return _open(file if descriptor is None else os.dup(descriptor), *arguments, **settings)


_open = open


def _values(expressions: Sequence[str | types.CodeType], namespace: dict[str, Any]) -> dict[str, Any]:
    """The values of expressions, each encoded before the next one runs, which may change it; up to one that raises."""
    values: list[Any] = []
    budget = [_MAX_SIZE]
    for expression in expressions:
        try:
            values.append(encode(eval(compiled(expression), namespace), budget))
        except TimeOut:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the program's failure too
            return {"status": "values", "values": values, "failure": failure(error)}
    return {"status": "values", "values": values}


def compiled(expression: str | types.CodeType) -> types.CodeType:
    """The code of an expression of a test."""
    return compile(expression, "<test>", "eval", dont_inherit=True) if isinstance(expression, str) else expression


class Harness:
    """What runs one program and its tests, made before the program's process: its parts are inherited."""

    def __init__(self) -> None:
        self.module = types.ModuleType("program")
        self.clock = Clock()
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        sys.modules["program"] = self.module  # dataclasses and pickle look the module up by name
        sys.argv = ["program"]
        builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")  # type: ignore[assignment]
        builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")  # type: ignore[assignment]
        sys.setrecursionlimit(_RECURSION_LIMIT)
        random.seed(0)

    def run(
        self,
        text: str,
        steps: Sequence[Sequence[str | types.CodeType]],
        max_time_outs: int,
        late_after: float,
        per_test: float,
        per_program: float,
        send: Callable[[bytes], None],
        collect: Callable[[Sequence[str | types.CodeType], dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Load the program `text`, run `steps` in order, and send a JSON record for the loading and for each step.

        An empty record comes first: where it is missing, the process never became ready, which is not the fault of the
        program. A step is a list of expressions, texts or compiled, of which `collect` makes the record; without it
        their values are sent encoded. `per_test` and `per_program` are CPU seconds. After `max_time_outs` time-outs, or
        once the CPU time of the program is used up,
        a record with status "end" takes the place of the rest.

        A step that needs more than `late_after`, CPU seconds too, and ends in time is "late", and the rest is not run.
        With such a limit the first timeout says whether the step had all of `per_test` ("confirmed"), and no step after
        it is late.
        """

        def report(record: dict[str, Any]) -> str:
            send(self._encode(record).encode())
            return record["status"]

        send(b"")
        namespace = self.module.__dict__
        if report(self.clock.run(per_program, load, text, namespace)) != "loaded":
            return
        time_outs = 0
        for expressions in steps:
            seconds = min(per_test, per_program - time.process_time())
            if time_outs == max_time_outs or seconds <= 0:
                report({"status": "end", "reason": end_reason(time_outs, seconds)})
                return
            record = self.clock.run(seconds, collect or _values, expressions, namespace, late_after=late_after)
            if record["status"] == "timeout":
                time_outs += 1
                if late_after < math.inf:
                    record["confirmed"] = seconds == per_test
                    late_after = math.inf
            if report(record) == "late":
                report({"status": "end"})
                return

    def run_script(self, text: str, seconds: float, send: Callable[[bytes], None], tells: bool = False) -> None:
        """Run the program `text` as a script that reads descriptor 0 and writes to descriptor 1, and end the process as
        Python does. Records: an empty one, one for the loading, one for the run. With `tells`, descriptor 2 gets what
        Python would write there, and the exit status is that of Python.
        """
        status = [1]
        send(b"")
        if tells:
            errors = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            sys.stderr = sys.__stderr__ = errors
        try:
            script = compile(text.removeprefix("\ufeff"), "<program>", "exec", dont_inherit=True)
        except Exception as error:  # noqa: BLE001 - a text that is not a program
            send(self._encode(_loading_failure(error)).encode())
            if tells:
                _tell(error)
                sys.stderr.flush()
                os._exit(1)
            return
        send(self._encode({"status": "loaded"}).encode())
        # Fresh ones: those of this interpreter remember that they could be wound back.
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogatepass", closefd=False)  # noqa: SIM115
        out = open(1, "w", encoding="utf-8", errors="surrogatepass", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = out
        builtins.open = io.open = _open_by_name

        def tell(error: BaseException) -> None:
            status[0] = _tell(error)

        record = self.clock.run(seconds, _guarded, _run_script, script, *([tell] if tells else []))
        send(self._encode(record).encode())
        if tells:
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
        os._exit(0 if record["status"] == "ran" else status[0])


def _guarded(body: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return body(*arguments)
    except TimeOut:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        return failure(error)


def end_reason(time_outs: int, seconds_left: float) -> str:
    """Why the rest of the tests of a program is not run."""
    return f"{time_outs} time-outs before" if seconds_left > 0 else "out of CPU time"
