"""The process that holds the tests of a program: runs them, with the program in another process behind a socket.

The names of the program stand for themselves here: a call of one goes to the other process with copies of its
arguments, and its result comes back as a copy, or as a proxy where it is an object that has no copy. What the program
does to Python in its process, to the builtins or to `unittest`, does nothing here, and what decides, the test's text
and the values that it expects, is not there.

A copy is compared here. A proxy can only be compared by the program, which may lie: it is asked about other values too,
in random order, and an object that equals most of them equals nothing. Outcomes that hang on such an answer are marked.

A test that must be where the program is, because it patches it or looks into it, is sent there (`inside.py`).
"""

# What a test computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
import builtins
import json
import os
import random
import struct
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

import forms
import inside
import program
import served
import wire

PROGRAM_GONE = 3
"""Exit status of a tester whose program has ended in a test."""

_INSIDE_NAMES = frozenset(
    {
        "patch", "mock", "Mock", "MagicMock", "AsyncMock", "inspect", "getsource", "signature", "redirect_stdout",
        "redirect_stderr", "capsys", "capfd", "caplog",
        "monkeypatch", "settrace", "setprofile", "_getframe", "__globals__", "__code__", "__closure__", "__defaults__",
        "__annotations__", "__wrapped__", "__dict__", "reload", "gc", "ctypes", "tracemalloc", "setrecursionlimit",
        "environ", "assertLogs", "assertNoLogs", "assertWarns", "warns", "catch_warnings", "getLogger", "threading",
        "ThreadPoolExecutor", "asdict", "is_dataclass", "fields", "vars", "get_type_hints",
        "stdout", "stderr", "stdin", "open", "tempfile", "recwarn", "tmp_path", "weakref", "seed", "cache_info",
        "singledispatch", "isgeneratorfunction", "iscoroutinefunction", "iscoroutine", "isawaitable", "getrefcount",
        "modules",
    }
)  # fmt: skip
_KNOWN_MODULES = frozenset(
    [
        "math",
        "cmath",
        "typing",
        "collections",
        "itertools",
        "functools",
        "datetime",
        "decimal",
        "fractions",
        "string",
        "re",
        "random",
        "heapq",
        "bisect",
        "statistics",
        "copy",
        "json",
        "dataclasses",
        "enum",
        "abc",
        "numbers",
        "operator",
        "collections.abc",
        "time",
        "asyncio",
        "contextlib",
    ]
)
"""Modules from which a program's imports are the same here: nothing in them equals everything."""
_MOST_CANARIES = 3
_OWN_SECONDS = 0.5
_EXCEPTIONS = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_STDLIB_EXCEPTIONS = frozenset(
    {
        "json.decoder.JSONDecodeError", "decimal.InvalidOperation", "decimal.DivisionByZero", "re.error",
        "dataclasses.FrozenInstanceError", "queue.Empty", "queue.Full", "asyncio.exceptions.TimeoutError",
        "asyncio.exceptions.CancelledError", "struct.error", "statistics.StatisticsError", "zlib.error",
        "binascii.Error", "sqlite3.IntegrityError", "sqlite3.OperationalError", "csv.Error", "configparser.Error",
        "zoneinfo._common.ZoneInfoNotFoundError", "urllib.error.URLError", "urllib.error.HTTPError",
        "subprocess.CalledProcessError", "email.errors.MessageError", "xml.etree.ElementTree.ParseError",
    }
)  # fmt: skip


class NeedsInside(BaseException):
    """The test cannot be run here."""


class _Gone(BaseException):
    """The program's process has ended, or sends what it must not."""


class _TestTimeOut(BaseException):
    """The program has used the time of the test."""


LIBRARIES: frozenset[str] = frozenset()
"""Modules of the libraries that programs may import. The zygote sets it once."""


def _library_names(tree: ast.Module) -> set[str]:
    """Names that a text binds to modules of libraries, or to what they hold."""
    names: set[str] = set()
    for node in ast.walk(tree) if LIBRARIES else []:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names.update(each.asname or each.name for each in node.names)
        elif isinstance(node, ast.Import):
            roots = [(each, each.name.split(".")[0]) for each in node.names]
            names.update(each.asname or root for each, root in roots if root in LIBRARIES)
    return names


def _needs_inside(tree: ast.Module, classes: frozenset[str], of_program: frozenset[str] = frozenset()) -> bool:
    """Whether a test can only run where the program is. Objects of libraries have no form outside of the process that
    made them.
    """
    if _library_names(tree) or not of_program.isdisjoint(forms.walk_names(tree)):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id in classes for base in node.bases
        ):
            return True
    return not _INSIDE_NAMES.isdisjoint(forms.walk_names(tree))


class _Mutation(ast.NodeTransformer):
    """Makes asserted equalities false that are certain to decide where they are evaluated."""

    def __init__(self, replace: Callable[[ast.expr], ast.expr]) -> None:
        self._replace = replace
        self.done = False

    def _false(self, right: ast.expr) -> ast.expr:
        self.done = True
        return ast.Call(ast.Name("__mutated__", ast.Load()), [self._replace(right)], [])

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        parts = (
            node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else [node.test]
        )
        for part in parts:
            match part:
                case ast.Compare(ops=[ast.Eq()], comparators=[right]):
                    part.comparators = [self._false(right)]
                case ast.Call(
                    func=ast.Name(id="all"), args=[ast.GeneratorExp(elt=ast.Compare(ops=[ast.Eq()]) as each)]
                ):
                    each.comparators = [self._false(each.comparators[0])]
                case _:
                    pass
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(
                func=ast.Attribute(attr="assertEqual" | "assertEquals" | "assertListEqual"), args=[_, right, *_]
            ):
                node.args[1] = self._false(right)
            case ast.Call(func=ast.Attribute(attr="assertTrue"), args=[ast.Compare(ops=[ast.Eq()]) as compared, *_]):
                compared.comparators = [self._false(compared.comparators[0])]
            case _:
                pass
        return node


class Tester:
    """The side of the tests. `descriptor` is the socket to the program, `records` takes one record for each test."""

    def __init__(self, clock: program.Clock, descriptor: int, records: int) -> None:
        self._clock = clock
        self._channel = wire.Channel(descriptor)
        self._records = records
        self._proxies: dict[int, Any] = {}
        self._classes: dict[int, type] = {}
        self._about: dict[type, dict[str, Any]] = {}
        self._live: dict[int, tuple[Any, list[Any]]] = {}
        self._own: list[Any] = []
        self._own_ids: dict[int, int] = {}
        self._chance = random.Random(os.urandom(16))
        self._kept: list[Any] = []
        self._mixed: dict[Any, type] = {}
        self._gone = False
        self._busy = 0
        self.delegated = False
        self.cheating = False

    def run(
        self, source: str, tests: list[str | tuple[str, str]], max_time_outs: int, per_test: float, per_program: float
    ) -> None:
        """Load the program in its process and run the tests. Records: an empty one, one for the loading, one for each
        test, and one with status "done", or "end" in place of the tests that are not run.
        """
        self._send(b"")
        parsed = [self._parsed(test) if isinstance(test, str) else None for test in tests]
        looks_in = [
            not isinstance(test, str) or ("unittest" in test and tree is not None and _needs_inside(tree, frozenset()))
            for test, tree in zip(tests, parsed, strict=True)
        ]
        needs = ["unittest"] if any(looks_in) else []
        try:
            self._run(source, tests, parsed, needs, max_time_outs, per_test, per_program)
        except (EOFError, wire.Malformed, _Gone):
            os._exit(PROGRAM_GONE)

    def _run(
        self,
        source: str,
        tests: list[str | tuple[str, str]],
        parsed: list[ast.Module | None],
        needs: list[str],
        max_time_outs: int,
        per_test: float,
        per_program: float,
    ) -> None:
        as_it_is = any(not isinstance(test, str) for test in tests)
        self._channel.send(["load", source, needs, as_it_is])
        loaded = self._receive_record()
        self._report(loaded)
        if loaded["status"] != "loaded":
            return
        self._names = self._program_names(source, [tree for tree in parsed if tree])
        functions = [name for name in self._names if name in self._public_functions and not name.startswith("_")]
        self._runner = forms.Runner(self._names, self._own_names, vars(builtins).copy(), functions)
        classes = frozenset(name for name, value in self._names.items() if isinstance(value, _ProxyType))
        parsed_source = self._parsed(source) if LIBRARIES else None
        self._of_libraries = frozenset(_library_names(parsed_source) if parsed_source else ())
        time_outs = 0
        inside_tests: list[str] = []
        for place, (text, tree) in enumerate(zip(tests, parsed, strict=True)):
            self._channel.send(["begin"])
            match self._channel.receive():
                case ["left", (int() | float()) as left]:
                    pass
                case _:
                    raise wire.Malformed("not the time that is left")
            if time_outs == max_time_outs or left <= 0:
                self._report({"status": "end", "reason": program.end_reason(time_outs, left)})
                return
            self.delegated = False
            if isinstance(text, str):
                later = [each for each in tests[place + 1 :] if isinstance(each, str)]
                record = self._judge(text, tree, classes, per_test, later)
            else:
                self._channel.send(["module", text[1]])
                record = {**self._receive_record(), "inside": True}
            if record.get("inside") and isinstance(text, str):
                inside_tests.append(text)
            elif self.delegated:
                record["inside"] = True
            time_outs += self._report(record) == "timeout"
            if self._busy:  # the time was over in the middle of a request
                self._report({"status": "end", "reason": "the test before did not end"})
                return
        for text in inside_tests[:_MOST_CANARIES]:
            for mutation in self._mutations(text):
                self._channel.send(["begin"])
                self._channel.receive()
                self._channel.send(["inside", mutation])
                record = self._receive_record()
                self.cheating |= record["status"] == "ran" and record.get("mutated") is True
        self._report({"status": "done", "cheating": self.cheating})

    def _judge(
        self, text: str, tree: ast.Module | None, classes: frozenset[str], per_test: float, later: list[str]
    ) -> dict[str, Any]:
        if tree is not None and _only_imports(tree):
            return self._set_up(tree, later)
        if tree is None or not _needs_inside(tree, classes, self._of_libraries):
            try:
                record = self._clock.run(per_test + _OWN_SECONDS, self._outside, text, sleeps=True)
                if self._gone:
                    raise _Gone
                return record
            except NeedsInside:
                if self._busy:  # a function of the test was running for the program
                    raise _Gone from None
                self.delegated = False
            except _TestTimeOut:
                return {"status": "timeout"}
        self._channel.send(["inside", text])
        record = self._receive_record()
        self.cheating |= record.pop("cheating", False) is True
        record.pop("mutated", None)
        return {**record, "inside": True}

    def _outside(self, text: str) -> dict[str, Any]:
        return self._runner.run(text, program.MAX_REASON)

    def _set_up(self, tree: ast.Module, later: list[str]) -> dict[str, Any]:
        """A test that only imports: set-up for those after it that use it."""
        found: dict[str, Any] = {}
        record = self._clock.run(1 + _OWN_SECONDS, self._imported, tree, found, sleeps=True)
        if record["status"] != "ran":
            return record
        before = set(self._names)
        for name, value in found.items():
            self._names.setdefault(name, value)
        for test in later:
            after = self._parsed(test)
            if after and not (found.keys() & set(forms.walk_names(after))).issubset(_imported_names(after)):
                return {"status": "ran"}
        return {"status": "vacuous", "reason": "only imports" + ("" if found.keys() - before else " what is there")}

    def _imported(self, tree: ast.Module, found: dict[str, Any]) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": self._runner.imported}}
        try:
            exec(compile(tree, "<test>", "exec", dont_inherit=True), namespace)  # noqa: S102
        except forms.Refused as error:
            return {"status": "refused", "reason": str(error)}
        except Exception as error:  # noqa: BLE001 - what an import raises
            return program.failure(error)
        found.update((name, value) for name, value in namespace.items() if name != "__builtins__")
        return {"status": "ran"}

    @staticmethod
    def _parsed(text: str) -> ast.Module | None:
        try:
            return ast.parse(text.removeprefix("\ufeff"))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    # --- records ------------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        view = memoryview(struct.pack(">I", len(data)) + data)
        while view:
            view = view[os.write(self._records, view) :]

    def _report(self, record: dict[str, Any]) -> str:
        self._send(json.dumps(record).encode())
        return record["status"]

    def _receive_record(self) -> dict[str, Any]:
        while True:
            match self._channel.receive():
                case ["record", dict(record)] if isinstance(record.get("status"), str):
                    known = ("status", "reason", "stripped", "cheating", "mutated")
                    return {
                        key: value[: program.MAX_REASON] if isinstance(value, str) else bool(value)
                        for key, value in record.items()
                        if key in known
                    }
                case _:
                    raise wire.Malformed("not a record")

    # --- mutations of tests that run inside: known to be false --------------------------------------------------------

    def _mutations(self, text: str) -> list[str]:
        """The test with what it compares by `==` made false in two ways: no value equals both of a value and a mark,
        and none equals another constant of its kind. A program that passes one, and has evaluated it, is cheating.
        """
        found: list[str] = []
        for replace in (self._marked, self._replaced):
            if (tree := self._parsed(text)) is None:
                return []
            mutation = _Mutation(replace)
            mutation.visit(tree)
            if mutation.done:
                found.append(ast.unparse(ast.fix_missing_locations(tree)))
        return found or ["__mutated__(0)\nassert False is True"]

    def _marked(self, right: ast.expr) -> ast.expr:
        marks = [ast.Constant(f"{self._chance.getrandbits(64):x}"), ast.Constant(self._chance.getrandbits(40))]
        return ast.List([right, *marks], ast.Load())

    def _replaced(self, right: ast.expr) -> ast.expr:
        if not isinstance(right, ast.Constant) or isinstance(right.value, (bool, type(None), type(...))):
            return self._marked(right)
        if type(right.value) is int:
            return ast.Constant(self._chance.randrange(1_000, 1 << 30))
        return ast.Constant(self._chance.choice(inside.others(right.value, self._chance)))

    # --- names of the program -----------------------------------------------------------------------------------------

    def _program_names(self, source: str, trees: list[ast.Module]) -> dict[str, Any]:
        self._public_functions: set[str] = set()
        wanted = {name for tree in trees for name in forms.walk_names(tree)}
        self._channel.send(["names", sorted(wanted)])
        match self._channel.receive():
            case ["names", dict(described), new_classes]:
                self._learn(new_classes)
            case _:
                raise wire.Malformed("not names")
        names: dict[str, Any] = {}
        imported = self._imports_of(source)
        for name, tokens in described.items():
            if name not in imported:
                value = names[name] = self._value(tokens)
                if isinstance(value, types.FunctionType):
                    self._public_functions.add(name)
        self._own_names = frozenset(names)
        return {**imported, **names}

    def _imports_of(self, source: str) -> dict[str, Any]:
        """What a program imports from the standard library under names of its own."""
        tree = self._parsed(source)
        found: dict[str, Any] = {}
        for statement in tree.body if tree else []:
            names: list[tuple[str, str, str | None]] = []
            match statement:
                case ast.Import(names=aliases):
                    names = [(alias.asname or alias.name.split(".")[0], alias.name, None) for alias in aliases]
                case ast.ImportFrom(module=str(module), names=aliases, level=0):
                    names = [(alias.asname or alias.name, module, alias.name) for alias in aliases]
                case _:
                    pass
            for name, module, attribute in names:
                if module not in _KNOWN_MODULES:
                    continue
                loaded = __import__(module, fromlist=["_"] if attribute or "." in module else ())
                if attribute is None:
                    found[name] = loaded
                elif attribute == "*":
                    public = getattr(loaded, "__all__", [each for each in vars(loaded) if not each.startswith("_")])
                    found |= {each: getattr(loaded, each) for each in public if hasattr(loaded, each)}
                elif hasattr(loaded, attribute):
                    found[name] = getattr(loaded, attribute)
        return found

    # --- requests to the program --------------------------------------------------------------------------------------

    def operate(self, name: str, target: Any, *operands: Any) -> Any:
        """Have the program's process do something with an object of the program."""
        tokens = self._tokens((target, *operands))
        updates: list[Any] = []
        for number, (value, before) in list(self._live.items()):
            after = self._tokens(value)
            if after != before:
                updates.append([number, after])
                self._live[number] = (value, after)
        arguments = [*operands[0], *operands[1].values()] if name == "call" else []
        return self._request("op", name, tokens, updates, arguments=arguments)

    def _request(self, *message: Any, arguments: list[Any] | None = None) -> Any:
        if self._gone:
            raise _Gone
        self._busy += 1
        try:
            self._channel.send(list(message))
            while True:
                match self._channel.receive():
                    case ["ask", str(name), tokens, new_classes]:
                        self._learn(new_classes)
                        self._serve(name, tokens)
                    case ["value", tokens, changed, updates, new_classes]:
                        self._learn(new_classes)
                        self._busy -= 1
                        value = self._value(tokens)
                        same = self._update(changed, updates, arguments or [])
                        return value if same is None else same
                    case ["raised", described, updates, new_classes]:
                        self._learn(new_classes)
                        error = self._value(described)
                        self._update([], updates, [])
                        if not isinstance(error, BaseException):
                            raise wire.Malformed("not an exception")
                        self._busy -= 1
                        raise error
                    case ["timeout"]:
                        self._busy -= 1
                        raise _TestTimeOut
                    case _:
                        raise wire.Malformed("unknown reply")
        except (EOFError, wire.Malformed, ConnectionError):
            self._gone = True
            raise _Gone from None

    def _update(self, changed: Any, updates: Any, arguments: list[Any]) -> Any:
        """Change the containers of the test that the program has changed; an argument that is the result."""
        same = None
        for place, tokens in changed:
            if tokens is None:
                same = arguments[place]
            else:
                _assign_members(arguments[place], self._value(tokens))
        for number, tokens in updates:
            if number in self._live and tokens is not None:
                value = self._live[number][0]
                inside.assign(value, self._value(tokens))
                self._live[number] = (value, self._tokens(value))
        return same

    def _value(self, tokens: Any) -> Any:
        return wire.value_of(tokens, self._resolve)

    def _resolve(self, tag: str, source: Iterator[Any]) -> Any:
        if tag == "mine":
            return self._own[_number(next(source))]
        number = _number(next(source))
        if tag == "live":
            tokens = next(source)
            value = self._value(tokens)
            if number in self._live:
                known = self._live[number][0]
                inside.assign(known, value)
                value = known
            self._live[number] = (value, tokens)
            return value
        if tag == "function":
            name, qualified, text = next(source), next(source), next(source)
            if number not in self._proxies:
                self._proxies[number] = self._stub(number, str(name), str(qualified), str(text))
            return self._proxies[number]
        if tag == "class":
            return self._classes[_number(next(source))]
        if tag == "exception":
            kind = self._classes[_number(next(source))]
            arguments, text, reason, errno = (next(source) for _ in range(4))
            return self._exception(number, kind, arguments, str(text), str(reason), errno)
        if tag != "object":
            raise wire.Malformed("unknown tag")
        kind, how, content = self._classes[_number(next(source))], next(source), next(source)
        if number not in self._proxies:
            self._proxies[number] = self._proxy(number, kind, how, content)
        return self._proxies[number]

    def _stub(self, number: int, name: str, qualified: str, text: str) -> Any:
        def stub(*arguments: Any, **named: Any) -> Any:
            return self.operate("call", stub, arguments, named)

        stub.__name__, stub.__qualname__, stub.__doc__, stub.__module__ = name, qualified, text or None, "program"
        self._mark(stub, number)
        return stub

    def _mark(self, value: Any, number: int) -> None:
        _HANDLES[id(value)] = number
        self._kept.append(value)

    def _proxy(self, number: int, kind: type, how: Any, content: Any) -> Any:
        if how == "generator":
            return self._generator(number, kind)
        if how == "coroutine":
            return self._coroutine(number, kind)
        if not isinstance(kind, _ProxyType):
            raise wire.Malformed("not a class of the program")
        if content is not None and self._about[kind]["equality"] != "own":
            base, tokens = content
            value = self._value(tokens)
            if type(value).__name__ != base or type(value) not in _CONTENT_BASES:
                raise wire.Malformed("not a content")
            mixed = self._mixed.get((kind, type(value)))
            if mixed is None:
                members = {
                    "__getattr__": _Proxy.__getattr__,
                    "__repr__": lambda self: _told(self, "repr"),
                    "__str__": lambda self: _told(self, "str"),
                }
                mixed = type(kind.__name__, (_Content, type(value)), members)
                self._mixed[kind, type(value)] = mixed
                _ALIASES.setdefault(kind, []).append(mixed)
            made = cast("Any", type(value)).__new__(mixed, value)
        else:
            made = object.__new__(kind)
        self._mark(made, number)
        return made

    def _bare(self, number: int, kind: type) -> Any:
        bare = object.__new__(kind if isinstance(kind, _ProxyType) else _Proxy)
        self._mark(bare, number)
        return bare

    def _generator(self, number: int, kind: type) -> Any:
        bare = self._bare(number, kind)

        def generate() -> Iterator[Any]:
            while True:
                try:
                    value = self.operate("next", bare)
                except StopIteration:
                    return
                yield value

        generator = generate()
        self._mark(generator, number)
        return generator

    def _coroutine(self, number: int, kind: type) -> Any:
        bare = self._bare(number, kind)

        async def finish() -> Any:
            return self.operate("await", bare)

        coroutine = finish()
        self._mark(coroutine, number)
        return coroutine

    def _exception(self, number: int, kind: type, arguments: Any, text: str, reason: str, errno: Any) -> BaseException:
        values = self._value(arguments)
        if not issubclass(kind, BaseException) or type(values) is not tuple:
            raise wire.Malformed("not an exception")
        try:
            error = kind.__new__(kind, *values)
            error.args = values
        except Exception:  # noqa: BLE001 - classes with arguments of their own
            error = Exception(text)
        if isinstance(error, SystemExit) and values:
            error.code = values[0]
        if isinstance(error, StopIteration) and values:
            error.value = values[0]
        error._of_program, error._text, error._reason = True, text, reason  # type: ignore[attr-defined]
        error._errno = errno if type(errno) is int else 0  # type: ignore[attr-defined]
        self._mark(error, number)
        self._proxies[number] = error
        return error

    def _learn(self, new_classes: Any) -> None:
        """Make a class here for each class of the program that is new."""
        for entry in new_classes:
            match entry:
                case [
                    int(number),
                    int(handle),
                    str(name),
                    list(own),
                    list(meta),
                    list(bases),
                    list(known),
                    str(equality),
                    str(hashing),
                    str(stdlib),
                    bool(),
                ]:
                    self._classes[number] = self._made(
                        handle, name[:100], own, meta, bases, known, equality, hashing, stdlib
                    )
                case _:
                    raise wire.Malformed("not a class")

    def _made(
        self,
        handle: int,
        name: str,
        own: list[Any],
        meta: list[Any],
        bases: list[Any],
        known: list[Any],
        equality: str,
        hashing: str,
        stdlib: str,
    ) -> type:
        for each in known:
            if each in _EXCEPTIONS and not own_exception(name, each) and not bases and not stdlib:
                return _EXCEPTIONS[each]
        if stdlib in _STDLIB_EXCEPTIONS:
            module, _, attribute = stdlib.rpartition(".")
            return getattr(__import__(module, fromlist=["_"]), attribute)
        parents = [self._classes[_number(each)] for each in bases]
        error = next((_EXCEPTIONS[each] for each in known if each in _EXCEPTIONS), None)
        if error is not None:
            exceptions = tuple(
                each for each in parents if issubclass(each, BaseException) and not isinstance(each, _ProxyType)
            )
            made = _ProxyErrorType(
                name, exceptions[:1] or (error,), {"__str__": _error_text, "__getattr__": _error_attribute}
            )
        else:
            members = {each: _method(each) for each in own if each in _METHODS}
            if hashing == "none":
                members["__hash__"] = None
            elif hashing == "own":
                members["__hash__"] = lambda self: _tester_of(self).operate("hash", self)
            proxies = tuple(each for each in parents if isinstance(each, _ProxyType))
            made = _ProxyType(name, _linear(proxies), members)
        self._mark(made, handle)
        _TESTERS[id(made)] = self
        self._about[made] = {"equality": equality, "known": known, "meta": meta}
        return made

    # --- what goes to the program -------------------------------------------------------------------------------------

    def _tokens(self, value: Any) -> list[Any]:
        found = wire.tokens(value, self._refer)
        return found

    def _refer(self, value: Any) -> list[Any]:
        if (number := _HANDLES.get(id(value))) is not None:
            return ["mine", number]
        module = getattr(value, "__module__", None)
        if isinstance(value, (types.BuiltinFunctionType, types.FunctionType, type)) and module != "__main__":
            name = getattr(value, "__qualname__", "")
            root = (module or "builtins").split(".")[0]
            if root in sys.stdlib_module_names and "<" not in name:
                return ["stdlib", module or "builtins", name]
        if isinstance(value, (types.ModuleType, types.CoroutineType, types.FrameType, types.CodeType)):
            raise NeedsInside
        if isinstance(value, type):
            raise NeedsInside
        if (number := self._own_ids.get(id(value))) is None:
            number = self._own_ids[id(value)] = len(self._own)
            self._own.append(value)
        kind = "function" if isinstance(value, (types.FunctionType, types.MethodType)) else "object"
        return ["yours", number, kind, str(getattr(value, "__name__", ""))]

    # --- requests of the program --------------------------------------------------------------------------------------

    def _serve(self, name: str, tokens: Any) -> None:
        """Do what the program asks for with an object of the test: call it, or what its class lets everybody do."""
        try:
            target, *operands = self._value(tokens)
            value = self._asked(name, target, operands)
            message = ["value", self._tokens(value)]
        except (NeedsInside, _TestTimeOut, _Gone, wire.Malformed, program.TimeOut):
            raise
        except BaseException as error:  # noqa: BLE001 - goes to the program, as it would in one process
            message = ["raised", self._tokens(error), type(error).__name__, str(error)[: program.MAX_REASON]]
        self._channel.send(message)

    def _asked(self, name: str, target: Any, operands: list[Any]) -> Any:
        if id(target) not in self._own_ids:
            raise wire.Malformed("not an object of the test")
        if name == "call":
            if not callable(target):
                raise TypeError(f"'{type(target).__name__}' object is not callable")
            return target(*operands[0], **operands[1])
        if name in ("get", "set"):
            attribute = operands[0]
            owner = isinstance(target, types.FunctionType | types.MethodType | types.GeneratorType)
            if type(attribute) is not str or attribute.startswith("_") or owner:
                raise AttributeError(f"'{type(target).__name__}' object has no attribute '{attribute}'")
            return getattr(target, attribute) if name == "get" else setattr(target, attribute, operands[1])
        if name not in _REMOTE_METHODS:
            raise wire.Malformed("unknown operation")
        if name in ("__eq__", "__hash__", "__str__", "__repr__", "__bool__", "__len__"):
            function = {
                "__eq__": lambda a, b: a == b,
                "__hash__": hash,
                "__str__": str,
                "__repr__": repr,
                "__bool__": bool,
                "__len__": len,
            }[name]
            return function(target, *operands)
        method = getattr(type(target), name, None)
        if method is None:
            raise TypeError(f"'{type(target).__name__}' object has no {name}")
        return method(target, *operands)

    # --- comparisons with proxies -------------------------------------------------------------------------------------

    def equal(self, proxy: Any, other: Any) -> Any:
        if proxy is other:
            return True
        about = self._about.get(type(proxy), {"equality": "default"})
        if _is_proxy(other):
            self.delegated = self.delegated or about["equality"] != "default"
            return self.operate("eq", proxy, other) is True
        if about["equality"] == "default":
            return NotImplemented
        if not _is_plain(other):
            # Two objects of a library, such as compiled patterns, are equal where they are together.
            if type(other).__eq__ is not object.__eq__ and _root_of(type(other)) in sys.stdlib_module_names:
                raise NeedsInside
            return NotImplemented
        if about["equality"] == "base" and not _is_proxy(content := self.operate("content", proxy)):
            return content == other
        self.delegated = True
        holds, sound = inside.discriminates(lambda value: self.operate("eq", proxy, value) is True, other, self._chance)
        if holds and not sound:
            self.cheating = True
            return False
        return holds

    def ordered(self, name: str, proxy: Any, other: Any) -> Any:
        result = self.operate(name, proxy, other)
        if _is_proxy(other):
            self.delegated = True
            return result
        self.delegated = True
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            far = 10**9 + abs(other) * 10 + self._chance.randrange(10**6)
            ends = [self.operate(name, proxy, other + far), self.operate(name, proxy, other - far)]
            if bool(ends[0]) == bool(ends[1]):
                self.cheating = True
                raise AssertionError("an object compares in the same way with all numbers")
        return result

    def combined(self, name: str, proxy: Any, other: Any) -> Any:
        result = self.operate(name, proxy, other)
        if _is_proxy(other) or not isinstance(other, (int, float, complex)) or isinstance(other, bool):
            return result
        if (number := self._number(result)) is not None and name in ("__add__", "__radd__", "__sub__", "__rsub__"):
            self.delegated = True
            different = [self.operate(name, proxy, each) for each in inside.others(other, self._chance)[:6]]
            if sum(self._number(each) == number for each in different) > 1:
                self.cheating = True
                raise AssertionError("an object calculates the same from all numbers")
        return result

    def _number(self, value: Any) -> Any:
        """The number that a result is, or that an object says it is; None for others."""
        if isinstance(value, (int, float, complex)):
            return value
        if not _is_proxy(value):
            return None
        try:
            return self.operate("__float__", value)
        except Exception:  # noqa: BLE001 - most are no numbers
            return None

    def contains(self, proxy: Any, other: Any) -> Any:
        result = self.operate("__contains__", proxy, other)
        if _is_proxy(other) or not result:
            return result
        self.delegated = True
        different = [self._chance.getrandbits(70), f"{self._chance.getrandbits(70):x}", -self._chance.getrandbits(70)]
        if sum(_or_false(self, proxy, each) for each in different) > 1:
            self.cheating = True
            return False
        return result


def _or_false(tester: Tester, proxy: Any, value: Any) -> bool:
    try:
        return bool(tester.operate("__contains__", proxy, value))
    except Exception:  # noqa: BLE001 - the program's own
        return False


def own_exception(name: str, base: str) -> bool:
    """Whether a class is another one than the builtin exception that it is told to be."""
    return name != base


def _linear(proxies: tuple[type, ...]) -> tuple[type, ...]:
    """Bases without those that others of them have already."""
    kept = tuple(
        each for each in proxies if not any(each is not other and issubclass(other, each) for other in proxies)
    )
    return kept or (_Proxy,)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise wire.Malformed("not a number")
    return value


def _imported_names(tree: ast.Module) -> set[str]:
    return {
        (alias.asname or alias.name).split(".")[0]
        for statement in ast.walk(tree)
        if isinstance(statement, (ast.Import, ast.ImportFrom))
        for alias in statement.names
    }


def _only_imports(tree: ast.Module) -> bool:
    return bool(tree.body) and all(isinstance(each, (ast.Import, ast.ImportFrom)) for each in tree.body)


def _assign_members(target: Any, value: Any) -> None:
    if type(target) is tuple and type(value) is tuple and len(target) == len(value):
        for old, new in zip(target, value, strict=True):
            _assign_members(old, new)
    else:
        inside.assign(target, value)


# --- proxies ---------------------------------------------------------------------------------------------------------

_HANDLES: dict[int, int] = {}
"""Numbers of the program's objects that stand here, by the id of what stands for them."""
_TESTERS: dict[int, Tester] = {}
_ALIASES: dict[type, list[type]] = {}
_CONTENT_BASES = (int, float, str, bytes, tuple)
_REMOTE_METHODS = frozenset({*served.FORWARDED, "__eq__", "__hash__", "__str__", "__repr__"})


def _tester_of(value: Any) -> Tester:
    return next(iter(_TESTERS.values()))


def _is_proxy(value: Any) -> bool:
    return id(value) in _HANDLES


def _root_of(kind: type) -> str:
    return str(kind.__module__).split(".")[0]


def _is_plain(value: Any) -> bool:
    try:
        wire.tokens(value, _no_reference, 100_000)
    except (wire.TooLarge, NeedsInside):
        return False
    return True


def _no_reference(value: Any) -> list[Any]:
    if _is_proxy(value):
        return [None]
    raise NeedsInside


def _told(self: Any, how: str) -> Any:
    text = _tester_of(self).operate(how, self)
    return text if type(text) is str else str(text)


def _error_text(self: Any) -> str:
    return str(getattr(self, "_text", ""))


def _error_attribute(self: Any, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return _tester_of(self).operate("get", self, name)


class _Content:
    """An immutable value whose class is the program's."""


class _ProxyErrorType(type):
    """Class of the program's own exceptions."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return _tester_of(cls).operate("call", cls, arguments, named)


class _ProxyType(type):
    """Class of objects of the program: a call of it makes an object there."""

    def __new__(mcs, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        if bases and "__qualname__" in members:
            raise NeedsInside  # a class statement: its methods would have to run in both processes
        return super().__new__(mcs, name, bases, members)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return _tester_of(cls).operate("call", cls, arguments, named)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__") and name not in ("__members__", "__match_args__"):
            raise AttributeError(name)
        return _tester_of(cls).operate("get", cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        _tester_of(cls).operate("set", cls, name, value)

    def __instancecheck__(cls, value: Any) -> bool:
        if type.__instancecheck__(cls, value):
            return True
        return any(type.__instancecheck__(each, value) for each in _ALIASES.get(cls, []))

    def __iter__(cls) -> Any:
        return iter(_tester_of(cls).operate("__iter__", cls))

    def __len__(cls) -> int:
        return _tester_of(cls).operate("__len__", cls)

    def __bool__(cls) -> bool:
        return True

    def __getitem__(cls, key: Any) -> Any:
        return _tester_of(cls).operate("__getitem__", cls, key)

    def __contains__(cls, key: Any) -> Any:
        return _tester_of(cls).contains(cls, key)


class _Proxy(metaclass=_ProxyType):
    """An object of the program."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__array__", "__array_ufunc__", "_of_program", "_fixture"):
            raise AttributeError(name)
        return _tester_of(self).operate("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _tester_of(self).operate("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        _tester_of(self).operate("delete", self, name)

    def __eq__(self, other: Any) -> Any:
        return _tester_of(self).equal(self, other)

    def __ne__(self, other: Any) -> Any:
        equal = _tester_of(self).equal(self, other)
        return NotImplemented if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __str__(self) -> str:
        return _told(self, "str")

    def __repr__(self) -> str:
        return _told(self, "repr")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise NeedsInside  # a copy would have to be made where the object is

    def __dir__(self) -> Any:
        return _tester_of(self).operate("dir", self)


def _method(name: str) -> Any:
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        return _tester_of(self).operate("call", self, arguments, named)

    def ordered(self: Any, other: Any) -> Any:
        return _tester_of(self).ordered(name, self, other)

    def combined(self: Any, other: Any) -> Any:
        return _tester_of(self).combined(name, self, other)

    def contains(self: Any, other: Any) -> Any:
        return _tester_of(self).contains(self, other)

    def leave(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        return _tester_of(self).operate("__exit__", self, None, error if _is_proxy(error) else None, None)

    def method(self: Any, *arguments: Any) -> Any:
        return _tester_of(self).operate(name, self, *arguments)

    def iterate(self: Any) -> Any:
        found = _tester_of(self).operate(name, self)
        return found if hasattr(found, "__next__") else iter(found)

    if name == "__call__":
        return call
    if name in ("__lt__", "__le__", "__gt__", "__ge__"):
        return ordered
    if name in ("__add__", "__radd__", "__sub__", "__rsub__"):
        return combined
    if name == "__contains__":
        return contains
    if name == "__exit__":
        return leave
    if name in ("__iter__", "__reversed__"):
        return iterate
    return method


_METHODS = frozenset(served.FORWARDED)
