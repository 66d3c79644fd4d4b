"""Searches calls of one seed that make good tests: a script that runs in the sandbox, next to the seed.

It reads {code, entryPoint?, calls?, skip?, seed, tests, attempts} from standard input. On its last line it prints one
JSON object: the tests with their expected values, or the reason why there are too few. The lines before are the calls
that it tried, so that a call that nothing ends can be skipped when the script is run again.

Arguments come from the examples of the docstring, from calls of the seed's own tree, and from trying: values by name,
default, annotation and use of each parameter, whose kinds are weighed by what the seed makes of them. Which lines a
call reaches decides what is kept.

A call is kept if its run among the others and one in a fresh copy of the seed give the same value, if that value has a
literal, and if the call is cheap. All choices follow from the number `seed`, and limits are counted in calls and in
lines first, so that the same seed gives the same tests. The seed runs in this process, so everything printed here is
taken for hostile outside.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import copy
import datetime
import decimal
import enum
import errno
import fractions
import io
import itertools
import json
import os
import pathlib
import random
import re
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_FILE = "<seed>"
MOST_LINES = 20_000
"""Lines of the seed that one call may run."""
MOST_SECONDS = 0.05
"""CPU seconds of a call that is kept."""
_STUCK_SECONDS = 0.1
"""CPU seconds after which a call is given up, whatever it does."""
MOST_LITERAL = 1_500
"""Characters of an expected value."""
MOST_ITEMS = 400
_FIRST_ITEMS = 10
LEAST_TESTS = 5
LEAST_OUTPUTS = 2
_SPARE = 3
"""Candidates for each test that is wanted, so that those which fail the second run can be replaced."""
_MOST_STUCK = 8
_MOST_SEARCH_SECONDS = 2.0
"""CPU seconds after which no more calls are tried. Other limits end all but a few searches before."""
_RARE = frozenset(
    {"decimal", "date", "textFile", "byteFile", "pattern", "code", "type", "functions", "iterator", "range"}
)
"""Kinds that are tried where something speaks for them, and hardly ever otherwise."""
_USUAL = {"int": 1.5, "str": 1.5, "ints": 0.8, "strs": 0.6}
"""Weights of the kinds that most functions take, where nothing speaks for any."""


class GivenUp(BaseException):
    """Raised in a seed that runs for too long; not an Exception, so `except Exception` lets it pass."""


# --- what a run of a call is ------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a call: a `literal`, or the `reason` why there is none, with a detail for people."""

    literal: str | None = None
    reason: str = ""
    detail: str = ""
    wrapper: str = ""
    """What the call is put into, with {} in its place, where its value has a literal only then."""
    lines: frozenset[int] = frozenset()


@dataclass
class Candidate:
    """An expression that calls the seed. `claim` is the literal that the docstring promises."""

    text: str
    origin: str
    claim: str | None = None
    outcome: Outcome = field(default_factory=Outcome)


class World:
    """The seed, loaded as often as fresh copies of it are needed, and what its calls do."""

    def __init__(self, code: str) -> None:
        self.tree = ast.parse(code)
        self._code = compile(code.removeprefix("\ufeff"), _FILE, "exec", dont_inherit=True)
        self._lines = 0
        self._reached: set[int] = set()
        self._is_calling = False
        self._touched: set[str] = set()
        self._clock_calls = _clock_functions()
        self.stuck = 0
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGVTALRM, self._ring)

    def load(self) -> dict[str, Any]:
        """A fresh copy of the seed's module."""
        module = types.ModuleType("program")
        sys.modules["program"] = module
        random.seed(0)
        with _quiet():
            exec(self._code, module.__dict__)  # noqa: S102
        return module.__dict__

    def run(self, text: str, names: dict[str, Any], traced: bool = True) -> Outcome:
        """Evaluate the text of a call and say what it gives."""
        try:
            code = compile(text, "<call>", "eval", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Outcome(reason="raised", detail=_told(error))
        self._lines, self._reached, self._touched = 0, set(), set()
        known = dict(names)
        state = random.getstate()
        started = time.process_time()
        try:
            with _quiet():
                signal.setitimer(signal.ITIMER_VIRTUAL, _STUCK_SECONDS, 0.05)
                self._is_calling = True
                if traced:
                    sys.settrace(self._trace)
                else:
                    sys.setprofile(self._profile)
                try:
                    value = eval(code, known)
                    wrapper, value = _settled(value)
                finally:
                    sys.settrace(None)
                    sys.setprofile(None)
                    self._is_calling = False
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except GivenUp:
            self.stuck += 1
            return self._with(Outcome(reason="tooSlow", detail=f"more than {MOST_LINES} lines or {_STUCK_SECONDS} s"))
        except BaseException as error:  # noqa: BLE001 - whatever a seed raises is a fact about the call
            denied = isinstance(error, OSError) and error.errno in (1, 13, 30)
            reason = "sideEffects" if denied or self._touched & _SIDE_EFFECTS else "raised"
            return self._with(Outcome(reason=reason, detail=_told(error)))
        seconds = time.process_time() - started
        if not traced and random.getstate() != state:
            self._touched.add("chance")
        if touched := sorted(self._touched):
            reason = "sideEffects" if _SIDE_EFFECTS & self._touched else "nondeterministic"
            return self._with(Outcome(reason=reason, detail=f"uses {', '.join(touched)}"))
        if not traced and seconds > MOST_SECONDS:
            return self._with(Outcome(reason="tooSlow", detail=f"more than {MOST_SECONDS} s"))
        try:
            with _quiet():
                literal = literal_of(value)
        except BaseException as error:  # noqa: BLE001 - a value's own methods
            return self._with(Outcome(reason="noLiteral", detail=_told(error)))
        if literal is None:
            return self._with(Outcome(reason="noLiteral", detail=f"a value of type {type(value).__name__}"[:200]))
        if _ADDRESS.search(literal):
            return self._with(Outcome(reason="noLiteral", detail="a text with the address of an object"))
        return self._with(Outcome(literal=literal, wrapper=wrapper))

    def _with(self, outcome: Outcome) -> Outcome:
        outcome.lines = frozenset(self._reached)
        return outcome

    def _trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != _FILE:
            return None
        if event == "line":
            self._lines += 1
            self._reached.add(frame.f_lineno)
            if self._lines > MOST_LINES:
                raise GivenUp
        return self._trace

    def _profile(self, _frame: types.FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called in _LOOKS:
            self._touched.add("files")
        elif event == "c_call" and (
            called in self._clock_calls
            or (
                getattr(called, "__name__", "") in _CLOCK_METHODS
                and isinstance(getattr(called, "__self__", None), type)
            )
        ):
            self._touched.add("clock")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_calling:
            return
        kind = _EVENTS.get(event) or next((kind for start, kind in _EVENT_STARTS if event.startswith(start)), "")
        if not kind:
            return
        frame: types.FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            # What an import statement reads is no act of the seed, and neither is what a trace back shows.
            if "importlib" in frame.f_code.co_filename or frame.f_code.co_filename.endswith("linecache.py"):
                return
            frame = frame.f_back
        self._touched.add(kind)
        raise PermissionError(errno.EACCES, f"a test may not use {kind}")

    def _ring(self, _signal: int, _frame: types.FrameType | None) -> None:
        if self._is_calling:
            raise GivenUp


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_EVENTS = {
    "open": "files",
    "os.listdir": "files",
    "os.scandir": "files",
    "os.mkdir": "files",
    "os.remove": "files",
    "os.rename": "files",
    "os.chdir": "files",
    "os.putenv": "environment",
    "os.unsetenv": "environment",
    "os.system": "processes",
    "os.exec": "processes",
    "os.fork": "processes",
    "os.forkpty": "processes",
    "os.kill": "processes",
    "os.posix_spawn": "processes",
    "builtins.input": "input",
    "_thread.start_new_thread": "threads",
    "webbrowser.open": "processes",
}
_EVENT_STARTS = (
    ("socket.", "network"),
    ("subprocess.", "processes"),
    ("shutil.", "files"),
    ("tempfile.", "files"),
    ("glob.", "files"),
    ("urllib.", "network"),
    ("ftplib.", "network"),
    ("smtplib.", "network"),
    ("sqlite3.", "files"),
    ("ctypes.", "processes"),
)
_SIDE_EFFECTS = {"files", "environment", "processes", "input", "threads", "network"}
_CLOCK_METHODS = {"now", "today", "utcnow"}


_LOOKS = frozenset({os.stat, os.lstat, os.fstat, os.access, os.readlink, os.statvfs, os.getcwd})
"""Built-in functions that look at files, of which no audit hook hears."""


def _clock_functions() -> frozenset[Any]:
    """Built-in functions whose answers come from the host or from chance."""
    names = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time")
    return frozenset([*(getattr(time, name) for name in names), time.localtime, time.mktime, os.urandom, os.getpid])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Standard streams that nobody reads, so that what the seed prints is no answer of this script."""
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def _told(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - the seed's own __str__
        text = type(error).__name__
    return re.sub(r"0x[0-9a-f]+", "0x", text.split("\n", 1)[0])[:200]


# --- values and their literals ----------------------------------------------------------------------------------------

_LITERAL_TYPES = (int, float, str, bytes, list, tuple, dict, set, bool, type(None))


def _settled(value: Any) -> tuple[str, Any]:
    """How a value becomes one with a literal, as a text around the call, and that value."""
    kind = type(value)
    if kind in (list, tuple) and value and len(value) <= MOST_ITEMS and all(map(_is_lazy, value)):
        return "[list(item) for item in {}]", [list(itertools.islice(item, MOST_ITEMS)) for item in value]
    if kind in _LITERAL_TYPES:
        return "", value
    if isinstance(value, (decimal.Decimal, fractions.Fraction, pathlib.PurePath, datetime.timedelta)):
        return "str({})", str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return "str({})", str(value)
    if isinstance(value, enum.Enum):
        return "({}).name", value.name
    if isinstance(value, re.Match):
        return "({}).group()", value.group()
    for base, name in ((int, "int"), (float, "float"), (str, "str"), (bytes, "bytes"), (bytearray, "bytes")):
        if isinstance(value, base):
            plain: Any = {"int": int, "float": float, "str": str, "bytes": bytes}[name]
            return f"{name}({{}})", plain(value)
    if isinstance(value, tuple):
        return "tuple({})", tuple(value)
    if isinstance(value, dict):
        return "dict({})", dict(value)
    if isinstance(value, (set, frozenset)):
        return "set({})", set(value)
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)):
        return "", value
    if not hasattr(kind, "__iter__"):
        return "", value
    items: list[Any] = []
    lazy = 0
    for item in value:
        # At once: what a group of `groupby` holds is gone with the next group.
        lazy += _is_lazy(item)
        items.append(list(itertools.islice(item, MOST_ITEMS)) if _is_lazy(item) else item)
        if len(items) > MOST_ITEMS:
            # It may never end: its first items are the answer.
            return f"[item for _, item in zip(range({_FIRST_ITEMS}), {{}})]", items[:_FIRST_ITEMS]
    return "[list(item) for item in {}]" if items and lazy == len(items) else "list({})", items


def _is_lazy(value: Any) -> bool:
    """Whether a value gives its items one by one."""
    return hasattr(type(value), "__next__") and hasattr(type(value), "__iter__")


def literal_of(value: Any) -> str | None:
    """The literal of a value that is made of plain data; None where it has none, or only a long one."""
    text = _written(value, 0)
    if text is None or len(text) > MOST_LITERAL:
        return None
    try:
        back = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return text if type(back) is type(value) and back == value else None


def _written(value: Any, depth: int) -> str | None:
    kind = type(value)
    if depth > 20:
        return None
    if kind in (bool, type(None), int, float, str, bytes):
        if kind is int and value.bit_length() > 4 * MOST_LITERAL:
            return None
        return repr(value)
    if kind in (list, tuple, set):
        parts = [_written(item, depth + 1) for item in value]
        if any(part is None for part in parts):
            return None
        texts = [part for part in parts if part is not None]
        if kind is set:
            return f"{{{', '.join(sorted(texts))}}}" if texts else "set()"
        inner = ", ".join(texts)
        return f"[{inner}]" if kind is list else f"({inner}{',' if len(texts) == 1 else ''})"
    if kind is dict:
        pairs = [(_written(key, depth + 1), _written(item, depth + 1)) for key, item in value.items()]
        if any(key is None or item is None for key, item in pairs):
            return None
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    return None


# --- arguments --------------------------------------------------------------------------------------------------------

_WORDS = (
    'apple', 'bread', 'a', 'of', 'The', 'Anna', 'level', 'noon', 'green', 'River', 'x2', 'data', 'hello world',
    'The quick brown fox', 'one  two   three', ' leading', 'trailing ', 'A1 b2 C3!', "it's 10:45", 'aabbbc',
    'foo_bar', 'fooBar', 'a,b,c', '1,2,3', 'key=value', 'a=1&b=2', '/usr/local/lib', 'file.txt',
    'https://example.com/a?b=c', 'user@example.com', '2024-01-15', '2023-12-31T23:59:58', '12:30:45',
    '2 weeks 1 day', '3.14', '42', '-7', '0x1f', '1.2.3', 'abc', 'ABC', 'abcabc', '<b>x</b>',
    'line one\nline two\n', 'a\tb', '(a+b)*c', 'x', '  ', '', 'True', 'utf-8', '%d items', '{name}', 'caf\xe9',
    '10%', "'quoted'", '"q"', 'a b c d', 'hello', 'hello hello', 'key: value', '[section]', '#comment', 'aaa',
    'ba',
)  # fmt: skip
_INTS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    8,
    10,
    12,
    16,
    25,
    31,
    42,
    64,
    99,
    100,
    127,
    255,
    256,
    1000,
    1024,
    2024,
    65535,
    -2,
    -7,
    -100,
)
_FLOATS = (0.0, 1.0, -1.0, 0.5, 2.5, 3.14, -2.75, 10.0, 0.1, 100.25, 1e-3, 1e6)
_CALLABLES = (
    'lambda *a: a[0]', 'lambda x: x', 'lambda x: x + x', 'lambda x: bool(x)', 'len', 'str', 'int',
    'lambda x: x % 2 == 0', 'lambda x: x > 2', 'lambda x, y: x + y', 'lambda x, y: x < y', 'str.upper', 'abs',
    'lambda *a: None', 'max', 'min', 'list', 'tuple', 'sum', 'bool', 'repr', 'type', 'lambda x: -x',
    'lambda x: len(str(x))', 'lambda: 7', 'lambda *a, **k: sorted(map(str, a))', 'isinstance',
)  # fmt: skip
_CHARACTERS = "aZ09 _-.,:/\n\t\x00\x7f\u00e9\u0660\u4e2d\u200b\U0001f600\ud800"
_PATTERNS = ("a", "[a-z]+", r"\\d+", "(a)(b)?", r"\\s", "^x", ".")


class Values:
    """Expressions for values of each kind, drawn from one stream of choices."""

    def __init__(self, chance: random.Random, constants: list[Any]) -> None:
        self._chance = chance
        self._strings = [value for value in constants if type(value) is str]
        self._ints = [value for value in constants if type(value) is int]
        self._bytes = [value for value in constants if type(value) is bytes]
        self.kinds: dict[str, Callable[[], str]] = {
            "int": self._int,
            "str": self._str,
            "character": lambda: repr(chance.choice(_CHARACTERS)),
            "float": lambda: repr(chance.choice(_FLOATS) if chance.random() < 0.6 else chance.randrange(-400, 400) / 4),
            "bool": lambda: chance.choice(("True", "False")),
            "none": lambda: "None",
            "ints": lambda: self._several(self._int, "[]"),
            "strs": lambda: self._several(self._str, "[]"),
            "mixed": lambda: self._several(self._scalar, "[]"),
            "matrix": self._matrix,
            "pairs": lambda: self._several(lambda: f"({self._str()}, {self._int()})", "[]"),
            "tuple": lambda: self._several(self._scalar, "()"),
            "intTuple": lambda: self._several(self._int, "()", least=2),
            "dict": self._dict,
            "dicts": lambda: self._several(self._dict, "[]"),
            "set": self._set,
            "bytes": self._some_bytes,
            "function": lambda: chance.choice(_CALLABLES),
            "functions": lambda: self._several(lambda: chance.choice(_CALLABLES), "[]", least=1),
            "iterator": lambda: f"iter({self._several(self._int, '[]')})",
            "range": lambda: f"range({chance.randrange(0, 12)})",
            "lines": lambda: f"[{', '.join(repr(line) for line in self._lines())}]",
            "textFile": lambda: f"__import__('io').StringIO({''.join(self._lines())!r})",
            "byteFile": lambda: f"__import__('io').BytesIO({''.join(self._lines()).encode()!r})",
            "pattern": lambda: f"__import__('re').compile({chance.choice(_PATTERNS)!r})",
            "type": lambda: chance.choice(("int", "str", "list", "dict", "float", "ValueError", "object")),
            "date": self._date,
            "decimal": lambda: f"__import__('decimal').Decimal({chance.choice(('1.5', '0', '-2', '10.25', '3'))!r})",
            "code": lambda: repr(chance.choice(_SOURCES)),
        }

    def of(self, kind: str, attributes: list[str]) -> str:
        if kind == "object":
            parts = ", ".join(f"{name}={self._attribute(name)}" for name in attributes)
            return f"__import__('types').SimpleNamespace({parts})"
        return self.kinds[kind]()

    def _attribute(self, name: str) -> str:
        kinds = [kind for kind, weight in _by_name(name).items() if weight >= 2 and kind in self.kinds]
        kind = self._chance.choice(kinds) if kinds else self._chance.choice(("int", "str", "none", "bool", "strs"))
        return self.kinds[kind]()

    def _int(self) -> str:
        if self._ints and self._chance.random() < 0.3:
            value = self._chance.choice(self._ints)
            value = value if abs(value) < 1 << 40 else 3
            return repr(value + self._chance.choice((0, 0, 1, -1)))
        if self._chance.random() < 0.6:
            return repr(self._chance.choice(_INTS[:16]))
        return repr(self._chance.choice(_INTS) if self._chance.random() < 0.5 else self._chance.randrange(-60, 400))

    def _str(self) -> str:
        chance = self._chance
        if self._strings and chance.random() < 0.45:
            text = chance.choice(self._strings)[:80]
            around = chance.random()
            if around < 0.25:
                text = chance.choice(_WORDS) + text + chance.choice(_WORDS)
            elif around < 0.35:
                text = text + chance.choice(self._strings)[:80]
            elif around < 0.4:
                text = text.upper() if text.islower() else text.lower()
            return repr(text)
        if chance.random() < 0.85:
            return repr(chance.choice(_WORDS))
        return repr("".join(chance.choice("abcXYZ 019_-.,:/\n") for _ in range(chance.randrange(0, 12))))

    def _some_bytes(self) -> str:
        if self._bytes and self._chance.random() < 0.5:
            return repr(self._chance.choice(self._bytes)[:80])
        if self._chance.random() < 0.3:
            return repr(bytes(self._chance.randrange(256) for _ in range(self._chance.randrange(0, 17))))
        return repr(ast.literal_eval(self._str()).encode())

    def _scalar(self) -> str:
        return self._chance.choice(
            (self._int, self._int, self._str, self._str, self.kinds["float"], self.kinds["none"])
        )()

    def _several(self, item: Callable[[], str], around: str, least: int = 0) -> str:
        chance = self._chance
        count = max(least, chance.choice((0, 1, 2, 3, 3, 4, 5, 7)))
        items = [item() for _ in range(count)]
        for place in range(1, count):
            if chance.random() < 0.2:
                items[place] = items[chance.randrange(place)]
        inner = ", ".join(items)
        return f"{around[0]}{inner}{',' if around == '()' and count == 1 else ''}{around[1]}"

    def _matrix(self) -> str:
        width = self._chance.randrange(1, 4)
        rows = [f"[{', '.join(self._int() for _ in range(width))}]" for _ in range(self._chance.randrange(1, 4))]
        return f"[{', '.join(rows)}]"

    def _dict(self) -> str:
        chance = self._chance
        names = [*self._strings[:40], "a", "b", "c", "name", "key", "value", "id"]
        keys = {
            self._int() if chance.random() < 0.15 else repr(chance.choice(names)): None
            for _ in range(chance.randrange(0, 5))
        }
        return "{" + ", ".join(f"{key}: {self._scalar()}" for key in keys) + "}"

    def _set(self) -> str:
        items = sorted({self._int() for _ in range(self._chance.randrange(0, 5))})
        return f"{{{', '.join(items)}}}" if items else "set()"

    def _lines(self) -> list[str]:
        return [ast.literal_eval(self._str()).replace("\n", " ") + "\n" for _ in range(self._chance.randrange(0, 5))]

    def _date(self) -> str:
        chance = self._chance
        day = f"{chance.choice((1999, 2000, 2023, 2024))}, {chance.randrange(1, 13)}, {chance.randrange(1, 29)}"
        if chance.random() < 0.5:
            return f"__import__('datetime').date({day})"
        return f"__import__('datetime').datetime({day}, {chance.randrange(24)}, {chance.randrange(60)})"


_SOURCES = (
    "x = 1\n",
    "def f(a):\n    return a + 1\n",
    "1 + 2",
    "[x for x in y]",
    "for i in z:\n    print(i)\n",
    "a.b(c)",
)

_NAMES: dict[str, str] = {
    "int": (
        "n k i j m num nums count size width height index idx start stop end step depth level limit length len "
        "pos offset year month day hour minute second port bits base indent lineno col row line_no r times digits "
        "mode flag flags status code signum fd number x y z a b c lo hi bound maxsize repeat order radix shift"
    ),
    "str": (
        "s st t text string str name word line path prefix suffix sep delimiter delim pattern key char ch c msg "
        "message title label value source src fmt format url uri host domain email header tag encoding charset "
        "lang locale data content body doc docstring filename file fname dir directory cmd command arg token "
        "version spec quote chars letters p u ext attr attribute field scheme netloc query fragment html xml "
        "punct what who kind type"
    ),
    "ints": (
        "it seq sequence lst list items values xs elements elems array arr nums numbers population coll "
        "collection data args argv objs objects container src source x y a b p q l heap"
    ),
    "strs": (
        "words names strings lines texts keys tokens parts paths args argv fields columns labels tags iterable "
        "seq list l items files filenames choices options headers cmd command"
    ),
    "lines": "lines text iterable source",
    "matrix": "matrix rows grid table lists seqs iterables mat graph data cells sets",
    "pairs": "pairs items iterable params headers query edges fields attrs seq data",
    "dict": (
        "d dct dict mapping m map kwargs kwds options opts config env environ headers params attrs data obj table "
        "vars factory namespace ns globals locals kw state info dicts"
    ),
    "dicts": "dicts maps mappings rows records",
    "function": (
        "f fn func function pred predicate key callback callable cb op binop reducer default_factory factory "
        "transform key_func keyfunc value_func valuefunc test condition wrapper g action handler cmp mycmp method "
        "object obj"
    ),
    "functions": "funcs functions fns callables preds validators predicates",
    "bytes": (
        "b bs bytes data buf buffer raw payload s message msg string block seed bytestring secret salt value object"
    ),
    "textFile": "f fp fh file fileobj stream inp input source out output io reader",
    "byteFile": "f fp fh file fileobj stream inp input rfile",
    "bool": (
        "strict reverse verbose flag force recursive negate keepends quiet debug on yes default inclusive signed "
        "quotes lower upper"
    ),
    "float": (
        "x y z a b value v r theta angle mean mu sigma seconds secs timeout time ratio p t real imag h s l q i "
        "rate delta timestamp low high data number"
    ),
    "intTuple": (
        "t tup tuple args point pair version_info version shape size bbox rgb color timetuple tm key addr address "
        "info exc_info parts res"
    ),
    "tuple": "t tup tuple pair args item parts entry res result",
    "date": "dt date day datetime when d start stop now begin time",
    "type": "cls type klass typ exc exception exc_type classinfo class_ types kind base",
    "pattern": "pattern regex rx pat match expr",
    "set": "s set set1 set2 a b other exclude skip charset chars seen",
    "code": "code source src expr stmt text body",
    "none": "default other obj object value sentinel initial pad padvalue item elem element x sep loop context",
    "iterator": "it iterator iterable gen generator iterable1 iterable2",
    "decimal": "d dec decimal num value amount x y a b",
}
"""Names that parameters of each kind often have."""
_ENDINGS: tuple[tuple[str, str], ...] = (
    (r"c|ch|char|character|code|letter", "character"),
    (r"max\w*", "int"),
    (r"min\w*", "int"),
    (r"\w*name", "str"),
    (r"\w*path", "str"),
    (r"iterable\w*", "ints"),
    (r"sorted_\w+", "ints"),
    (r"\w*_func", "function"),
    (r"\w*func", "function"),
    (r"\w*_?file", "textFile"),
    (r"is_\w+", "bool"),
    (r"has_\w+", "bool"),
    (r"ignore\w*", "bool"),
    (r"include\w*", "bool"),
    (r"\w*_only", "bool"),
    (r"allow\w*", "bool"),
    (r"use_\w+", "bool"),
    (r"case\w*", "bool"),
    (r"fill\w*", "none"),
)
_KINDS_OF_NAMES = [(frozenset(names.split()), kind) for kind, names in _NAMES.items()]

_ANNOTATIONS: tuple[tuple[str, str, float], ...] = (
    (r"\bint\b|\bSupportsIndex\b", "int", 30),
    (r"\bstr\b|\bAnyStr\b|\bText\b", "str", 30),
    (r"\bfloat\b|\bcomplex\b", "float", 30),
    (r"\bbool\b", "bool", 30),
    (r"\bNone\b|\bOptional\b", "none", 4),
    (r"\bbytes\b|\bbytearray\b|\bBuffer\b|\bReadableBuffer\b", "bytes", 30),
    (r"([Ll]ist|Sequence|Iterable|Iterator|Collection)\[(str|Any|T)", "strs", 30),
    (r"([Ll]ist|Sequence|Iterable|Iterator|Collection)\b", "ints", 15),
    (r"[Tt]uple", "tuple", 15),
    (r"[Tt]uple\[(int|float)", "intTuple", 30),
    (r"[Dd]ict|Mapping", "dict", 30),
    (r"\b[Ss]et\b|AbstractSet|[Ff]rozen[Ss]et", "set", 30),
    (r"Callable", "function", 30),
    (r"\bdate(time)?\b", "date", 30),
    (r"Decimal", "decimal", 30),
    (r"Pattern", "pattern", 30),
    (r"\bIO\b|TextIO|StringIO", "textFile", 30),
    (r"[Tt]ype\[", "type", 30),
)

_ATTRIBUTES: tuple[tuple[type, str, float], ...] = (
    (str, "str", 6),
    (bytes, "bytes", 2),
    (dict, "dict", 6),
    (list, "ints", 4),
    (list, "strs", 3),
    (set, "set", 3),
    (io.StringIO, "textFile", 4),
    (io.BytesIO, "byteFile", 3),
    (datetime.datetime, "date", 3),
    (re.Pattern, "pattern", 3),
    (decimal.Decimal, "decimal", 1),
    (int, "int", 1),
)


def _by_name(name: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    short = name.strip("_").lower()
    for names, kind in _KINDS_OF_NAMES:
        if short in names:
            weights[kind] = weights.get(kind, 0) + 4
    for pattern, kind in _ENDINGS:
        if re.fullmatch(pattern, short):
            weights[kind] = weights.get(kind, 0) + 4
    return weights


@dataclass
class Parameter:
    """A parameter, and how likely each kind of value is for it."""

    name: str
    form: str
    """positional, keyword, several (*args) or named (**kwargs)"""
    has_default: bool
    weights: dict[str, float]
    attributes: list[str]
    constants: list[str]
    """Literals that the seed compares it with, or has as its default."""


def parameters_of(function: ast.FunctionDef, kinds: list[str], skip_first: bool = False) -> list[Parameter]:
    """The parameters of a function, with the kinds of values that name, default, annotation and use speak for."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    given = [(argument, "positional", default) for argument, default in zip(positional, defaults, strict=True)]
    given = given[1:] if skip_first else given
    given += [
        (argument, "keyword", default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    documentation = ast.get_docstring(function) or ""
    found: list[Parameter] = []
    for argument, form, default in given:
        weights = _unknown(kinds)
        for kind, weight in _by_name(argument.arg).items():
            weights[kind] += weight
        if argument.annotation is not None:
            _weigh_text(weights, ast.unparse(argument.annotation))
        described = re.search(rf"(?:^|\W){re.escape(argument.arg)}\s*(?:\(([^)]*)\)|:\s*([^\n]*))", documentation)
        if described:
            _weigh_text(weights, described.group(1) or described.group(2), 0.3)
        attributes, constants = _uses_of(function, argument.arg, weights)
        if default is not None:
            _weigh_default(weights, default, constants)
        found.append(Parameter(argument.arg, form, default is not None, weights, attributes, constants))
    for argument, form in ((arguments.vararg, "several"), (arguments.kwarg, "named")):
        if argument is not None:
            weights = _unknown(kinds)
            for kind, weight in _by_name(argument.arg.removesuffix("s")).items():
                weights[kind] += weight
            for kind in ("int", "str", "ints"):
                weights[kind] += 2
            attributes, constants = _uses_of(function, argument.arg, dict(weights))
            found.append(Parameter(argument.arg, form, True, weights, attributes, constants))
    return found


def _unknown(kinds: list[str]) -> dict[str, float]:
    return {kind: 0.05 if kind in _RARE else _USUAL.get(kind, 0.3) for kind in kinds}


def _weigh_text(weights: dict[str, float], text: str, share: float = 1.0) -> None:
    for pattern, kind, weight in _ANNOTATIONS:
        if re.search(pattern, text):
            weights[kind] += share * weight


def _weigh_default(weights: dict[str, float], default: ast.expr, constants: list[str]) -> None:
    try:
        value = ast.literal_eval(default)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return
    constants.append(repr(value))
    by_type = {
        bool: "bool",
        int: "int",
        float: "float",
        str: "str",
        bytes: "bytes",
        tuple: "tuple",
        list: "ints",
        dict: "dict",
    }
    if kind := by_type.get(type(value)):
        weights[kind] += 12
        if kind == "tuple":
            weights["strs"] += 3
    elif value is None:
        weights["none"] += 2


def _uses_of(function: ast.FunctionDef, name: str, weights: dict[str, float]) -> tuple[list[str], list[str]]:
    """What a function does with a parameter: adds to the weights; attributes that it reads, literals that it meets."""
    attributes: list[str] = []
    constants: list[str] = []

    def is_it(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    def more(weight: float, *kinds: str) -> None:
        for kind in kinds:
            weights[kind] += weight

    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=value, attr=attribute) if is_it(value):
                attributes.append(attribute)
            case ast.Call(func=called) if is_it(called):
                more(15, "function")
            case ast.Call(func=ast.Name(id=called), args=[*arguments]) if any(map(is_it, arguments)):
                if called == "isinstance" and len(arguments) == 2:
                    _weigh_text(weights, ast.unparse(arguments[1]), 0.5)
                elif called in (
                    "iter",
                    "enumerate",
                    "sorted",
                    "list",
                    "tuple",
                    "set",
                    "zip",
                    "sum",
                    "any",
                    "all",
                    "next",
                    "map",
                ):
                    more(2, "ints", "strs", "iterator")
                elif called in ("max", "min"):
                    more(1, "ints", "int")
                elif called == "len":
                    more(2, "ints", "strs", "str", "tuple")
                elif called in ("range", "chr", "bin", "hex", "oct", "abs", "divmod", "pow", "index"):
                    more(6, "int")
                elif called == "ord":
                    more(10, "character")
                elif called in ("float", "int", "open"):
                    more(3, "str", "int")
                elif called == "callable":
                    more(6, "function")
            case ast.For(iter=value) | ast.comprehension(iter=value) | ast.YieldFrom(value=value) if is_it(value):
                more(3, "ints", "strs", "iterator", "matrix", "pairs", "lines")
            case ast.For(iter=value, target=ast.Tuple()) if is_it(value):
                more(5, "pairs", "matrix")
            case ast.Subscript(value=value, slice=ast.Constant(value=str())) if is_it(value):
                more(8, "dict")
            case ast.Subscript(value=value) if is_it(value):
                more(2, "ints", "strs", "str", "tuple", "dict", "intTuple", "matrix")
            case ast.Subscript(slice=value) if is_it(value):
                more(3, "int", "str")
            case ast.BinOp(left=ast.Constant(value=str()), right=value) if is_it(value):
                more(4, "str", "tuple")
            case ast.BinOp(
                left=left, right=right, op=ast.LShift() | ast.RShift() | ast.BitAnd() | ast.BitXor() | ast.FloorDiv()
            ) if is_it(left) or is_it(right):
                more(10, "int")
            case ast.BinOp(left=left, right=right, op=ast.Add()) if is_it(left) or is_it(right):
                more(2, "int", "str", "float", "ints")
            case ast.BinOp(left=left, right=right) if is_it(left) or is_it(right):
                more(4, "int", "float")
            case ast.UnaryOp(op=ast.USub(), operand=value) if is_it(value):
                more(4, "int", "float")
            case ast.Compare(left=left, comparators=[*others], ops=[*operators]) if is_it(left) or any(
                map(is_it, others)
            ):
                for other in (left, *others):
                    parts = other.elts if isinstance(other, (ast.Tuple, ast.List, ast.Set)) else [other]
                    for part in parts:
                        if isinstance(part, ast.Constant) and type(part.value) in (int, str, float, bytes, bool):
                            constants.append(repr(part.value))
                            more(3, type(part.value).__name__)
                if any(isinstance(operator, (ast.Lt, ast.Gt, ast.LtE, ast.GtE)) for operator in operators):
                    more(2, "int", "float")
                if any(isinstance(operator, ast.In) for operator in operators) and any(map(is_it, others)):
                    more(2, "str", "strs", "dict", "set")
            case _:
                pass
    known = sorted(set(attributes))
    for base, kind, weight in _ATTRIBUTES:
        shared = [attribute for attribute in known if hasattr(base, attribute)]
        if known and len(shared) == len(known):
            weights[kind] += 3 * weight
        elif shared:
            weights[kind] += 0.3 * weight
    if known and not any(all(hasattr(base, attribute) for attribute in known) for base, _, _ in _ATTRIBUTES):
        weights["object"] = weights.get("object", 0.0) + 12
    return known, constants


# --- the search -------------------------------------------------------------------------------------------------------


class Target:
    """A function, or a method with the constructor of its class: what one call is made of."""

    def __init__(self, opening: str, parts: list[list[Parameter]]) -> None:
        self.opening = opening
        self.parts = parts
        """Parameters of each pair of brackets."""


def targets_of(tree: ast.Module, entry: str, kinds: list[str]) -> list[Target]:
    """What can be called of the entry point: the function, or each method that others may call."""
    node = next(
        (
            part
            for part in reversed(tree.body)
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and part.name == entry
        ),
        None,
    )
    if isinstance(node, ast.FunctionDef):
        return [Target(f"{entry}({{}})", [parameters_of(node, kinds)])]
    if not isinstance(node, ast.ClassDef):
        return []
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    start = methods.get("__init__") or methods.get("__new__")
    constructor = parameters_of(start, kinds, skip_first=True) if start else _fields_of(node, kinds)
    targets: list[Target] = []
    for name, method in methods.items():
        if name.startswith("_") and name not in (
            "__len__",
            "__getitem__",
            "__contains__",
            "__call__",
            "__repr__",
            "__iter__",
        ):
            continue
        decorators = {ast.unparse(decorator) for decorator in method.decorator_list}
        if "property" in decorators:
            targets.append(Target(f"{entry}({{}}).{name}", [constructor]))
        elif "staticmethod" in decorators:
            targets.append(Target(f"{entry}.{name}({{}})", [parameters_of(method, kinds)]))
        elif "classmethod" in decorators:
            targets.append(Target(f"{entry}.{name}({{}})", [parameters_of(method, kinds, skip_first=True)]))
        else:
            given = parameters_of(method, kinds, skip_first=True)
            targets.append(Target(f"{entry}({{}}).{name}({{}})", [constructor, given]))
    return targets


def _fields_of(node: ast.ClassDef, kinds: list[str]) -> list[Parameter]:
    """Parameters of the constructor that a dataclass has by its fields."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return []
    found: list[Parameter] = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            weights = _unknown(kinds)
            _weigh_text(weights, ast.unparse(part.annotation))
            found.append(Parameter(part.target.id, "positional", part.value is not None, weights, [], []))
    return found


class Search:
    """Candidates of one seed: those that its texts hold, then those that trying gives."""

    def __init__(self, world: World, entry: str, given: dict[str, Any], tell: Callable[[str], None]) -> None:
        self.world, self.entry, self.given, self.tell = world, entry, given, tell
        self.chance = random.Random(given["seed"])
        constants = [
            node.value
            for node in ast.walk(_without_docstrings(world.tree))
            if isinstance(node, ast.Constant) and type(node.value) in (int, str, bytes)
        ]
        self.values = Values(self.chance, constants)
        self.targets = targets_of(world.tree, entry, list(self.values.kinds))
        self.names = world.load()
        self.kept: list[Candidate] = []
        self.seen: set[str] = set(given.get("skip") or [])
        self.reached: set[int] = set()
        self.outputs: collections.Counter[str] = collections.Counter()
        self.reasons: collections.Counter[str] = collections.Counter()
        self.details: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.wrong_claims = 0

    def attempt(self, candidate: Candidate) -> bool:
        """Run a candidate; whether it gives a value."""
        if candidate.text in self.seen:
            return False
        self.seen.add(candidate.text)
        # What is tried last is known outside where nothing ends a call but the end of the process.
        self.tell(candidate.text)
        outcome = self.world.run(candidate.text, self.names)
        candidate.outcome = outcome
        if outcome.literal is None:
            self.reasons[outcome.reason] += 1
            self.details[outcome.reason][outcome.detail] += 1
            return False
        if candidate.claim is not None and not _equal(candidate.claim, outcome.literal):
            self.wrong_claims += 1
            return False
        self.kept.append(candidate)
        return True

    def from_texts(self) -> None:
        """Candidates that the docstrings and the tree hold."""
        for text, claim in examples_of(self.world.tree, self.entry):
            self.attempt(Candidate(text, "docstring", claim))
        for text in self.given.get("calls") or []:
            self.attempt(Candidate(text, "tree"))

    def by_trying(self) -> None:
        """Candidates by trying, until enough of them add nothing."""
        if not self.targets:
            return
        corpus: list[tuple[Target, list[list[tuple[Parameter, str, str]]]]] = []
        attempts = self.given["attempts"]
        wanted = _SPARE * self.given["tests"]
        idle = 0
        for number in range(attempts):
            if self.world.stuck > _MOST_STUCK or idle > attempts // 2 or time.process_time() > _MOST_SEARCH_SECONDS:
                return
            if corpus and self.chance.random() < 0.5:
                target, old = self.chance.choice(corpus)
                drawn = [list(part) for part in old]
                self._change(target, drawn)
            else:
                target = self.targets[number % len(self.targets)]
                drawn = [[self._draw(parameter) for parameter in self._chosen(part)] for part in target.parts]
            text = _call_text(target, drawn)
            if len(text) > 600 or text in self.seen:
                continue
            candidate = Candidate(text, "trial")
            gives = self.attempt(candidate)
            outcome = candidate.outcome
            is_new = bool(outcome.lines - self.reached)
            self.reached |= outcome.lines
            is_other = gives and self.outputs[outcome.literal or ""] == 0
            if gives:
                self.outputs[outcome.literal or ""] += 1
            self._learn(drawn, outcome, gives and (is_new or is_other))
            if is_new or is_other:
                corpus.append((target, drawn))
            idle = 0 if is_new or is_other else idle + 1
            if len(self.kept) >= wanted and idle > 40:
                return

    def _chosen(self, parameters: list[Parameter]) -> list[Parameter]:
        """The parameters that a call gives: all without a default, and some of the others."""
        chosen: list[Parameter] = []
        for parameter in parameters:
            if parameter.form == "several":
                chosen += [parameter] * self.chance.choice((0, 1, 1, 2, 2, 3))
            elif parameter.form == "named":
                chosen += [parameter] * self.chance.choice((0, 0, 0, 1))
            elif not parameter.has_default or self.chance.random() < 0.4:
                chosen.append(parameter)
        return chosen

    def _draw(self, parameter: Parameter) -> tuple[Parameter, str, str]:
        if parameter.constants and self.chance.random() < 0.25:
            return parameter, "constant", self.chance.choice(parameter.constants)
        kinds = list(parameter.weights)
        kind = self.chance.choices(kinds, [parameter.weights[name] for name in kinds])[0]
        return parameter, kind, self.values.of(kind, parameter.attributes)

    def _change(self, target: Target, drawn: list[list[tuple[Parameter, str, str]]]) -> None:
        """Draw some arguments of a call again, mostly with the kinds that they have, or choose other parameters."""
        place = self.chance.randrange(len(drawn))
        if not drawn[place] or self.chance.random() < 0.15:
            drawn[place] = [self._draw(parameter) for parameter in self._chosen(target.parts[place])]
            return
        for _ in range(self.chance.choice((1, 1, 2))):
            at = self.chance.randrange(len(drawn[place]))
            parameter, kind, _ = drawn[place][at]
            if kind != "constant" and self.chance.random() < 0.75:
                drawn[place][at] = parameter, kind, self.values.of(kind, parameter.attributes)
            else:
                drawn[place][at] = self._draw(parameter)

    def _learn(self, drawn: list[list[tuple[Parameter, str, str]]], outcome: Outcome, adds: bool) -> None:
        """Make kinds likelier that gave something, and less likely where they do not fit."""
        blamed = _blamed_by(outcome.detail) if outcome.reason == "raised" else set[str]()
        for part in drawn:
            for parameter, kind, _ in part:
                if kind not in parameter.weights:
                    continue
                is_blamed = bool(blamed & _TYPES_OF_KINDS.get(kind, _NO_TYPES))
                factor = 1.3 if adds else 0.8 if is_blamed else 0.98 if outcome.literal is None else 1.0
                parameter.weights[kind] = min(60.0, max(0.03, parameter.weights[kind] * factor))


def _blamed_by(detail: str) -> set[str]:
    """Names of types that the message of an error holds against the arguments."""
    if not detail.startswith(("TypeError", "AttributeError")) and "object of type" not in detail:
        return set()
    # "must be str, not list" wants the first one.
    words = set(re.findall(r"\w+", detail.rsplit(", not ", 1)[-1].rsplit("object of type", 1)[-1]))
    # Of two types that do not go together, a number is seldom the wrong one.
    return words - {"int"} if len(words & _NAMED_TYPES) > 1 else words


_NO_TYPES: frozenset[str] = frozenset()
_TYPES_OF_KINDS = {
    "int": frozenset({"int"}),
    "float": frozenset({"float"}),
    "str": frozenset({"str"}),
    "character": frozenset({"str"}),
    "code": frozenset({"str"}),
    "bool": frozenset({"bool"}),
    "none": frozenset({"NoneType"}),
    "bytes": frozenset({"bytes"}),
    **dict.fromkeys(
        ("ints", "strs", "mixed", "matrix", "pairs", "dicts", "functions", "lines"),
        frozenset({"list", "list_iterator"}),
    ),
    **dict.fromkeys(("tuple", "intTuple"), frozenset({"tuple"})),
    "dict": frozenset({"dict"}),
    "set": frozenset({"set"}),
    "function": frozenset({"function", "type", "builtin_function_or_method", "method_descriptor"}),
    "type": frozenset({"type"}),
    "iterator": frozenset({"list_iterator"}),
    "range": frozenset({"range"}),
    "textFile": frozenset({"StringIO"}),
    "byteFile": frozenset({"BytesIO"}),
    "pattern": frozenset({"Pattern"}),
    "date": frozenset({"date", "datetime"}),
    "decimal": frozenset({"Decimal"}),
    "object": frozenset({"SimpleNamespace"}),
}
"""What messages of errors call the values of a kind: an error blames what it names."""
_NAMED_TYPES = frozenset[str]().union(*_TYPES_OF_KINDS.values())


def _call_text(target: Target, drawn: list[list[tuple[Parameter, str, str]]]) -> str:
    brackets: list[str] = []
    for parameters, part in zip(target.parts, drawn, strict=True):
        positional: list[str] = []
        keywords: dict[str, str] = {}
        order = [parameter.name for parameter in parameters if parameter.form == "positional"]
        has_several = any(parameter.form == "several" for parameter, _, _ in part)
        for parameter, _, text in part:
            if parameter.form == "several" or (
                parameter.form == "positional" and (has_several or len(positional) == order.index(parameter.name))
            ):
                positional.append(text)
            elif parameter.form == "named":
                keywords.setdefault("abc"[len(keywords) % 3], text)
            else:
                keywords.setdefault(parameter.name, text)
        brackets.append(", ".join([*positional, *(f"{name}={text}" for name, text in keywords.items())]))
    pieces = target.opening.split("{}")
    return "".join(itertools.chain.from_iterable(itertools.zip_longest(pieces, brackets, fillvalue="")))


def _equal(claim: str, literal: str) -> bool:
    try:
        left, right = ast.literal_eval(claim), ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(left) is type(right) and bool(left == right)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[0] = ast.Pass()
    return tree


# --- examples in docstrings -------------------------------------------------------------------------------------------


def examples_of(tree: ast.Module, entry: str) -> list[tuple[str, str | None]]:
    """Expressions of the examples in the docstrings of the entry point that call it, with the literal that is promised.

    What an example before it has assigned stands in the place of its name.
    """
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not (documentation := ast.get_docstring(node)):
            continue
        if ">>>" not in documentation:
            continue
        # Imported for few seeds only, because it imports much.
        import doctest

        try:
            examples = doctest.DocTestParser().get_examples(documentation)
        except ValueError:
            continue
        values: dict[str, ast.expr] = {}
        for example in examples:
            try:
                body = ast.parse(example.source).body
            except SyntaxError:
                continue
            if len(body) != 1:
                continue
            statement = body[0]
            if (
                isinstance(statement, ast.Assign)
                and len(statement.targets) == 1
                and isinstance(statement.targets[0], ast.Name)
            ):
                values[statement.targets[0].id] = _Inlined(values).visit(statement.value)
            elif isinstance(statement, ast.Expr):
                text = ast.unparse(_Inlined(values).visit(copy.deepcopy(statement.value)))
                if re.search(rf"(?<![\w.]){re.escape(entry)}\(", text) and not example.exc_msg and len(text) <= 600:
                    found.append((text, _literal_text(example.want)))
    return found


class _Inlined(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return (
            copy.deepcopy(self._values[node.id]) if node.id in self._values and isinstance(node.ctx, ast.Load) else node
        )


def _literal_text(want: str) -> str | None:
    """The literal that an example promises; None where it promises something else, such as dots."""
    try:
        return literal_of(ast.literal_eval(want.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


# --- what is kept -----------------------------------------------------------------------------------------------------


def chosen_of(search: Search, tests: int) -> Iterator[Candidate]:
    """Candidates in the order of their worth: what texts hold, what reaches new lines, what gives another answer."""
    first = [candidate for candidate in search.kept if candidate.origin != "trial"]
    rest = [candidate for candidate in search.kept if candidate.origin == "trial"]
    reached: set[int] = set()
    outputs: collections.Counter[str] = collections.Counter()
    for candidate in sorted(first, key=lambda each: each.origin != "docstring")[: max(tests - LEAST_TESTS, tests // 2)]:
        reached |= candidate.outcome.lines
        outputs[candidate.outcome.literal or ""] += 1
        yield candidate
    while rest:
        best = min(
            range(len(rest)),
            key=lambda at: _rank(rest[at], reached, outputs, at),
        )
        candidate = rest.pop(best)
        reached |= candidate.outcome.lines
        outputs[candidate.outcome.literal or ""] += 1
        yield candidate


def _rank(candidate: Candidate, reached: set[int], outputs: collections.Counter[str], place: int) -> tuple[float, ...]:
    """Worth of a candidate, the lowest best: new lines by ordinary arguments, by others, then other answers."""
    outcome = candidate.outcome
    new_lines = len(outcome.lines - reached)
    is_odd = "__import__" in candidate.text or "lambda" in candidate.text
    known = outputs[outcome.literal or ""]
    dull = outcome.literal in _DULL
    length = len(candidate.text) // 120
    if new_lines:
        return (0, is_odd, -new_lines, known, dull, length, place)
    return (1, known, is_odd, dull, length, place)


_DULL = ("None", "[]", "()", "''", "{}")
_MOST_OF_ONE_OUTPUT = 0.5


def kept_of(search: Search, world: World, tests: int) -> tuple[list[dict[str, Any]], set[int]]:
    """Tests out of the candidates that give the same value again in a fresh copy of the seed, and the lines reached."""
    kept: list[dict[str, Any]] = []
    reached: set[int] = set()
    outputs: collections.Counter[str] = collections.Counter()
    for candidate in chosen_of(search, tests):
        if len(kept) == tests:
            break
        literal = candidate.outcome.literal or ""
        if outputs[literal] >= max(1, _MOST_OF_ONE_OUTPUT * tests):
            continue
        call = candidate.outcome.wrapper.format(candidate.text) if "{}" in candidate.outcome.wrapper else candidate.text
        # A copy for each: what one call leaves in its module must not show in the next.
        names = world.load()
        random.seed(len(kept) + 1)
        again = world.run(call, names, traced=False)
        if again.literal != literal or again.wrapper:
            reason = "nondeterministic" if again.literal is not None else again.reason
            search.reasons[reason] += 1
            search.details[reason][again.detail or "another value in the second run"] += 1
            continue
        outputs[literal] += 1
        reached |= candidate.outcome.lines
        kept.append({"call": call, "literal": literal, "origin": candidate.origin})
    return kept, reached


_LEAST_REACHED = 0.9
"""Share of the lines that one answer must come out of to be taken for the only one."""


def _why(search: Search, kept: list[dict[str, Any]], reached: set[int], lines: set[int]) -> tuple[str, str] | None:
    """Why a seed has no question, with a detail for people; None where it has one."""
    outputs = {test["literal"] for test in kept}
    # Chance may hide where a call has nothing to choose from.
    if search.reasons["nondeterministic"] > len(kept) // 4:
        return "nondeterministic", _detail(search, "nondeterministic")
    if len(kept) >= LEAST_TESTS and len(outputs) >= LEAST_OUTPUTS:
        return None
    if not search.targets and not search.kept:
        return "nothingToCall", ""
    most = [reason for reason, _ in search.reasons.most_common()]
    for reason in ("nondeterministic", "sideEffects"):
        if reason in most and (reason == most[0] or search.reasons[reason] >= 3):
            return reason, _detail(search, reason)
    if kept and len(outputs) < LEAST_OUTPUTS and len(reached) < _LEAST_REACHED * len(lines):
        return "linesNotReached", f"{len(reached)} of {len(lines)} lines, always {next(iter(outputs))[:80]}"
    if kept and outputs <= {"None"}:
        return "returnsNothing", ""
    if len(kept) >= LEAST_TESTS:
        return "oneAnswer", f"always {next(iter(outputs))[:80]}"
    if "tooSlow" in most[:1]:
        return "tooSlow", _detail(search, "tooSlow")
    if "noLiteral" in most and search.reasons["noLiteral"] >= len(kept):
        return "noLiteral", _detail(search, "noLiteral")
    detail = _detail(search, most[0]) if most else f"{len(reached)} of {len(lines)} lines reached"
    return ("noArguments" if not kept else "tooFewCalls"), detail


def _detail(search: Search, reason: str) -> str:
    return search.details[reason].most_common(1)[0][0] if search.details.get(reason) else ""


_NO_LINES = (ast.FunctionDef, ast.ClassDef, ast.Global, ast.Nonlocal, ast.Pass)
"""Statements that calls do not run as lines of their own."""


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def entry_of(tree: ast.Module) -> str:
    """The name of the last public function or class of a text."""
    names = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    public = [name for name in names if not name.startswith("_")]
    return (public or names or [""])[-1]


def shown_of(tree: ast.Module, entry: str) -> dict[str, Any]:
    """What a question says of the entry point: its headers and its documentation, without the bodies."""
    node = next(
        (part for part in tree.body if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and part.name == entry), None
    )
    if node is None:
        return {"header": "", "documentation": "", "isClass": False}
    if isinstance(node, ast.FunctionDef):
        text = ast.get_docstring(node) or ""
        header = _header(node)
    else:
        texts = [ast.get_docstring(node) or ""]
        headers = [f"class {node.name}{_bases(node)}:"]
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and (not method.name.startswith("_") or method.name == "__init__"):
                headers.append(f"    {_header(method)}")
                if documentation := ast.get_docstring(method):
                    texts.append(f"{method.name}: {documentation}")
        text, header = "\n\n".join(filter(None, texts)), "\n".join(headers)
    return {"header": header, "documentation": text[:4000], "isClass": isinstance(node, ast.ClassDef)}


def _bases(node: ast.ClassDef) -> str:
    return f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""


def _header(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}"


def answer(given: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """What the search comes to: {entryPoint, header, documentation, isClass, tests, lines, reason?, detail?}."""
    nothing: dict[str, Any] = {"entryPoint": "", "header": "", "documentation": "", "isClass": False, "tests": []}
    try:
        world = World(given["code"])
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {**nothing, "reason": "notParsed", "detail": _told(error)}
    entry = given.get("entryPoint") or entry_of(world.tree)
    shown = {"entryPoint": entry, **shown_of(world.tree, entry), "tests": []}
    try:
        search = Search(world, entry, given, tell)
    except BaseException as error:  # noqa: BLE001 - whatever loading a seed raises
        return {**shown, "reason": "doesNotLoad", "detail": _told(error)}
    search.from_texts()
    search.by_trying()
    tests, reached = kept_of(search, world, given["tests"])
    all_lines = {
        line
        for node in ast.walk(world.tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == entry
        for part in ast.walk(node)
        if isinstance(part, ast.stmt) and not isinstance(part, _NO_LINES) and not _is_text(part)
        for line in [part.lineno]
    }
    result = {
        **shown,
        "tests": tests,
        "reached": len(reached & all_lines),
        "lines": len(all_lines),
        "wrongClaims": search.wrong_claims,
        "attempts": len(search.seen),
    }
    if why := _why(search, tests, reached & all_lines, all_lines):
        result |= {"reason": why[0], "detail": why[1]}
    return result


def main() -> None:
    given = json.loads(sys.stdin.read())
    # The seed can close the standard one.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    builtins.input = _no_input

    def tell(text: str) -> None:
        out.write(json.dumps(text) + "\n")
        out.flush()

    result = answer(given, tell)
    out.write("\n" + json.dumps(result) + "\n")
    out.flush()
    # Threads and exit handlers that the seed has left say nothing more.
    os._exit(0)


def _no_input(*_: object) -> str:
    sys.audit("builtins.input")
    raise EOFError("the sandbox gives no input")


if __name__ == "__main__":
    main()
