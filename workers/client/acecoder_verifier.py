"""Rewards for trainers, from the sandbox server of acecoder-temporal: `npx acecoder-temporal sandbox --serve`.

One file that needs nothing but Python itself: copy it, or put its folder on PYTHONPATH. With TRL:

    from acecoder_verifier import reward
    trainer = GRPOTrainer(model=..., reward_funcs=reward, train_dataset=...)

Rows of the data set have a column `tests`, or one of the others that `COLUMNS` names. A reward is the share of tests
that pass. It is None where no verdict could be made, which TRL leaves out of the group's mean: no trouble of the server
is ever a 0.0. A server that stays away raises `VerifierUnavailable`.

`ACECODER_SANDBOX_URL` says where the server is (http://127.0.0.1:8740), and `ACECODER_SANDBOX_TOKEN` is its token.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["COLUMNS", "Verifier", "VerifierUnavailable", "as_tests", "program_of", "reward"]

COLUMNS = ("tests", "test_cases", "input_output", "public_test_cases", "ground_truth")
"""Columns that may hold tests, the first one that is there counts."""

DEFAULT_URL = "http://127.0.0.1:8740"
_ROWS_PER_REQUEST = 200
_BYTES_PER_REQUEST = 16 * 1024 * 1024
_RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0

_log = logging.getLogger(__name__)
_THOUGHTS = [
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "thoughts", "reasoning", "analysis")),
    ("<scratchpad>", "</scratchpad>"),
    ("[think]", "[/think]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
]
_FINAL = "<|channel|>final<|message|>"
_OPENING = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*\{?\.?([\w+.-]*)\}?[^`\n]*$")
_ONE_LINE = re.compile(r"^[ \t]*`{3,}[ \t]*([^`\n]*\S)[ \t]*`{3,}[ \t]*$")
_LABEL = re.compile(r"^(?:i?py(?:thon)?[\d.]*|sage)?$", re.IGNORECASE)
_TAGS = re.compile(
    r"<(answer|code|pre|solution|program|final_answer|final)(?:\s[^>\n]{0,200})?>(.*?)(?:</\1>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_MARKS = [
    re.compile(r"\[(?:BEGIN|PYTHON|CODE)\][ \t]*\n(.*?)(?:\[(?:DONE|END|/PYTHON|/CODE)\]|\Z)", re.DOTALL),
    re.compile(r"\\begin\{(?:lstlisting|minted|verbatim)\}[^\n]*\n(.*?)(?:\\end\{|\Z)", re.DOTALL),
]
_END_MARK = re.compile(r"(?:<\|[\w ]{1,40}\|>|</s>|<eos>|<end_of_turn>)\Z", re.ASCII)
_END_MARK_CHARACTERS = 44
_NESTED_TAGS = 3
_FENCES = re.compile(r"```|~~~")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'"}
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)")
_MEMBERS = ("code", "program", "solution", "answer", "completion", "response", "python")
_PROSE = re.compile(
    r"^#{2,6} |^\*\*|^[-*+] |^\d+[.)] |^> |^`[^`]+` \w"
    r"|^[A-Z][A-Za-z\'\u2019-]*(?:[,:!]|\.$|[,:]? [`\"\'(*]?[A-Za-z])"
    r"|^(?:here|this|the|it|note|sure|we|you|where|which)[ ,:!]"
)
_ASSIGNMENT = re.compile(r"^[\w\s,:.\[\]]+=(?!=)")
_BEGINS = re.compile(r"^(?:(?:async\s+)?def\s+\w+|class\s+\w+|import\s+\w|from\s+[\w.]+\s+import\b|@\w)")
_LOOKS = 20
"""Lines of an answer for which the text before them is read again, at most."""
_LONG = 30_000
"""Characters of the values of a test, from which on they stand in texts."""
_NAME = re.compile(r"[A-Za-z_]\w*")

_PLAIN = """
import collections

def _plain(value):
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(part) for part in value]
    if type(value) in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return {str(key): _plain(part) for key, part in value.items()}
    raise AssertionError("a value that JSON does not have")

"""
"""What a value is in JSON, which has no tuples and no keys but texts: expected values of such sets come from it.
Anything else is no right answer: an object may compare itself.
"""


_STARRED = [
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
    "itertools",
    "functools",
    "operator",
    "io",
    "sys",
    "json",
    "builtins",
    "typing",
]
_IMPORTS = "".join(
    [f"from {name} import *\n" for name in _STARRED]
    + [f"import {name}\n" for name in _STARRED if name not in ("builtins", "typing")]
    + ["sys.setrecursionlimit(50000)\n"]
)
"""What LiveCodeBench and APPS put in front of programs: answers to their problems name `List` and import nothing."""


class VerifierUnavailable(RuntimeError):
    """The server could not be reached, or judged nothing, for as long as was waited. It says nothing about programs."""


def program_of(completion: Any, entry_point: str = "") -> str:
    """The program of a completion: a text, or chat messages, of which the last one counts.

    It is the last fenced block of Python or without a language that defines `entry_point`, or else a part outside of
    fences that does. Where nothing defines it, it is the last block that is code, or the text without prose around.
    `activities/policy/programs.ts` does the same, and both are tested by the same answers.

    >>> program_of("Here it is:\\n```python\\nx = 1\\n```\\nGood luck!")
    'x = 1'
    """
    reply = _without_end_marks(_text_of(completion).removeprefix("\ufeff"))
    text = _inside_of(_unwrapped(_without_thoughts(reply)))
    pieces = _pieces_of(text)
    blocks = [code for code, fenced in pieces if fenced]
    others = [_without_prose(code) for code, fenced in pieces if not fenced]

    def last(codes: list[str], test: Any) -> str | None:
        return next((code for code in reversed(codes) if test(code)), None)

    def defines(code: str) -> bool:
        name = re.escape(entry_point)
        pattern = rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^{name}[ \t]*(?::[^=\n]*)?=(?!=)"
        return entry_point != "" and re.search(pattern, code, re.MULTILINE) is not None

    for codes, test in (
        (blocks, defines),
        (others, defines),
        (blocks, lambda code: code.strip() != "" and not _is_prose(_first_line(code))),
        (others, lambda code: re.search(r"^(?:async\s+)?def\s+\w+", code, re.MULTILINE) is not None),
        (blocks, lambda _: True),
    ):
        found = last(codes, test)
        if found is not None:
            return found.rstrip()
    return _without_prose(text).rstrip()


def _without_end_marks(text: str) -> str:
    """A text without marks of chat templates at its end."""
    while True:
        rest = text.rstrip()
        mark = _END_MARK.search(rest[-_END_MARK_CHARACTERS:])
        if mark is None:
            return text
        text = rest[: -len(mark[0])]


def _without_thoughts(text: str) -> str:
    """A text without the thoughts before it, whose opening mark may be missing."""
    if _FINAL in text:
        return re.sub(r"<\|(?:return|end)\|>\s*$", "", text[text.rindex(_FINAL) + len(_FINAL) :])
    start = text.lstrip("\ufeff \t\r\n")
    lower = start.lower()
    for opening, closing in _THOUGHTS:
        end = lower.find(closing)
        opened = lower.startswith(opening)
        if opened and end < 0:
            return ""
        if opened or (end >= 0 and opening not in lower[:end] and start[:1] not in ("{", "[")):
            return _without_thoughts(re.sub(r"^\s*\n", "", start[end + len(closing) :]))
    return text


def _inside_of(text: str, depth: int = 0) -> str:
    """What tags or an object of JSON hold, where the whole answer is in them."""
    try:
        value = json.loads(re.sub(r"^```(?:json)?\s*\n(.*)\n```$", r"\1", text.strip(), flags=re.DOTALL))
    except ValueError:
        value = None
    if isinstance(value, dict):
        program = next((value[name] for name in _MEMBERS if isinstance(value.get(name), str)), None)
        if program is not None:
            return program
    tagged = [match for match in _TAGS.finditer(text) if match[2].strip() != ""]
    if not tagged or depth >= _NESTED_TAGS or _FENCES.search(_TAGS.sub("", text)):
        return text
    if re.search(r"^(?:def|class|import|from) ", text[: tagged[0].start()], re.MULTILINE):
        return text
    inner = tagged[-1][2]
    page = tagged[-1][1].lower() in ("pre", "code") and not re.search("[<>]", _TAGS.sub(r"\2", inner))
    told = _inside_of(inner.lstrip("\n"), depth + 1)
    return re.sub(r"&(?:lt|gt|amp|quot|#39);", lambda entity: _ENTITIES[entity[0]], told) if page else told


def _unwrapped(text: str) -> str:
    """A text without what stands around all of it: marks of a quotation, a span of code, a label, or other marks."""
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and all(re.match(r">(?!>)", line) for line in lines):
        return re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    span = re.fullmatch(r"\s*`([^`\n]+)`\s*", text)
    if span:
        return span[1]
    marked = [] if _FENCES.search(text) else [match[1] for mark in _MARKS if (match := mark.search(text))]
    inner = next((each for each in marked if each.strip()), None)
    if inner is not None:
        return inner
    label = re.match(r"[ \t]*([\w.]+)[ \t]*\n", text)
    return text[label.end() :] if label and _LABEL.match(label[1]) else text


def _repaired(code: str) -> str:
    """Code without prompts of the interpreter, and with blanks that Python knows."""
    lines = code.split("\n")
    if re.match(r"[ \t]*>>> ", _first_line(code)):
        lines = [_PROMPT.sub("", line) for line in lines if _PROMPT.match(line)]
    return "\n".join(re.sub("^[ \t\u00a0]+", lambda blanks: blanks[0].replace("\u00a0", " "), line) for line in lines)


def _dedented(code: str, most: int) -> str:
    """Code without the indentation that a list gives it, which is at most that of its fence."""
    lines = code.split("\n")
    common = min([most, *(len(line) - len(line.lstrip()) for line in lines if line.strip())])
    return re.sub(rf"^[ \t]{{1,{common}}}", "", code, flags=re.MULTILINE) if common > 0 else code


def _pieces_of(text: str) -> list[tuple[str, bool]]:
    """Fenced blocks of Python, and what stands between them, in order; with each whether it is a block."""
    pieces: list[tuple[str, bool]] = []
    outside: list[str] = []
    lines = text.split("\n")
    at = looks = 0

    def flush() -> None:
        if any(line.strip() for line in outside):
            pieces.append((_repaired("\n".join(outside)), False))
        outside.clear()

    while at < len(lines):
        line = lines[at]
        at += 1
        inline, opening = _ONE_LINE.match(line), _OPENING.match(line)
        if inline:
            flush()
            label, _, rest = inline[1].partition(" ")
            pieces.append((rest.strip() if label and rest and _LABEL.match(label) else inline[1], True))
        elif opening and (looks >= _LOOKS or len(_open_text("\n".join(outside))[0]) != 3):
            looks += 1
            flush()
            code, at = _body_of(lines, at, opening[1])
            if _LABEL.match(opening[2]):
                pieces.append((_repaired(_dedented(code, len(line) - len(line.lstrip(" \t")))), True))
        else:
            outside.append(line)
    flush()
    return pieces


def _body_of(lines: list[str], start: int, marks: str) -> tuple[str, int]:
    """The lines up to the fence that closes a block, and the line behind it. One in a docstring closes nothing."""
    closing = re.compile(rf"^(.*?)[ \t]*{re.escape(marks[0])}{{{len(marks)},}}[ \t]*$")
    candidate: tuple[str, int] | None = None
    looks = 0
    for at in range(start, len(lines)):
        match = closing.match(lines[at])
        if not match or looks > _LOOKS:
            continue
        looks += 1
        last = match[1]
        code = "\n".join([*lines[start:at], *([last] if last.strip() else [])])
        if len(_open_text(code)[0]) != 3:
            return code, at + 1
        if candidate is None and not last.strip() and lines[at][:1] not in (" ", "\t"):
            candidate = code, at + 1
    return candidate or ("\n".join(lines[start:]), len(lines))


def _open_text(code: str) -> tuple[str, bool]:
    """The quotes of the text that code ends in, if any, and whether all texts and brackets in it are closed."""
    quote, depth, at = "", 0, 0
    while at < len(code):
        character = code[at]
        if quote:
            if character == "\\":
                at += 1
            elif code.startswith(quote, at):
                at += len(quote) - 1
                quote = ""
            elif character == "\n" and len(quote) == 1:
                return quote, False
        elif character in "\"'":
            quote = character * 3 if code.startswith(character * 3, at) else character
            at += len(quote) - 1
        elif character == "#":
            end = code.find("\n", at)
            at = len(code) if end < 0 else end - 1
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        at += 1
    return quote, quote == "" and depth == 0


def _is_prose(line: str) -> bool:
    return _PROSE.search(line) is not None and not _ASSIGNMENT.match(line)


def _first_line(text: str) -> str:
    return next((line for line in text.split("\n") if line.strip()), "")


def _without_prose(text: str) -> str:
    """A text from the first line that begins code to the first line behind it that is prose; whole where it is code."""
    lines = text.split("\n")
    start = 0
    if _is_prose(_first_line(text)):
        start = next((at for at, line in enumerate(lines) if _BEGINS.match(line)), -1)
        if start < 0:
            return text
    looks = 0
    for at in range(start, len(lines)):
        if _is_prose(lines[at]) and looks < _LOOKS:
            looks += 1
            if _open_text("\n".join(lines[start:at]))[1]:
                return "\n".join(lines[start:at])
    return "\n".join(lines[start:])


def _text_of(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        return _text_of(completion.get("content") or "")
    if isinstance(completion, Sequence) and completion:
        if all(isinstance(part, Mapping) and "role" not in part for part in completion):
            # The parts of one message.
            return "".join(str(part.get("text") or "") for part in completion)
        said = [message for message in completion if message.get("role", "assistant") == "assistant"]
        return _text_of(said[-1]) if said else ""
    if isinstance(completion, Sequence):
        return ""
    raise TypeError(f"a completion is a text or a list of messages, not {type(completion).__name__}")


def as_tests(given: Any, program: str = "", fn_name: str | None = None) -> list[Any]:
    """Tests as the server takes them, from any form that data sets have.

    - a list of texts: asserts, `unittest` or pytest tests; one text is one test;
    - a list of `{"stdin", "stdout"}` or of `{"input", "output"}`, as in LiveCodeBench;
    - `{"inputs", "outputs"}`, as in APPS, TACO and CodeContests, and with `fn_name` for a function;
    - the JSON text of any of these.

    `program` says whether the function of `fn_name` is a method of its class `Solution`. `fn_name` is that of tests
    which name none. ValueError for anything else.
    """
    value = _from_json(given)
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        if "inputs" in value and "outputs" in value:
            return _paired(list(value["inputs"]), list(value["outputs"]), value.get("fn_name") or fn_name, program)
        for name in ("tests", "test_cases", "assert_case"):
            if name in value:
                return as_tests(value[name], program, value.get("fn_name") or fn_name)
        return as_tests([value], program, fn_name)
    if isinstance(value, Sequence) and value:
        return [_one_test(_from_json(test), program, fn_name) for test in value]
    raise ValueError(f"these are no tests: {str(given)[:200]!r}")


def _finds_imports(given: Any) -> bool:
    """Whether the project of such tests puts imports in front of programs."""
    value = _from_json(given)
    if isinstance(value, Mapping):
        inside = [value[name] for name in ("tests", "test_cases", "assert_case") if name in value]
        return ("inputs" in value and "outputs" in value) or any(map(_finds_imports, inside))
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    tests = [_from_json(test) for test in value]
    return any(isinstance(test, Mapping) and "input" in test and "output" in test for test in tests)


def _from_json(given: Any) -> Any:
    if isinstance(given, str) and given.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(given)
        except (ValueError, RecursionError):
            return given
    return given


def _one_test(test: Any, program: str, fn_name: str | None) -> Any:
    if isinstance(test, str):
        return test
    if isinstance(test, Mapping):
        if "stdin" in test and "stdout" in test:
            return dict(test)
        if "input" in test and "output" in test:
            name = test.get("fn_name") or test.get("func_name") or fn_name
            kind = test.get("testtype", "functional" if name else "stdin")
            if kind == "functional" and name is None:
                raise ValueError("a functional test needs fn_name")
            return _paired([test["input"]], [test["output"]], name if kind == "functional" else None, program)[0]
        # A kind of test that the server knows, or refuses.
        return dict(test)
    raise ValueError(f"this is no test: {str(test)[:200]!r}")


def _paired(inputs: list[Any], outputs: list[Any], name: Any, program: str) -> list[Any]:
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"there are {len(inputs)} inputs and {len(outputs)} outputs")
    if name is None:
        return [
            {"stdin": _stream(stdin), "stdout": _stream(stdout)} for stdin, stdout in zip(inputs, outputs, strict=True)
        ]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"fn_name is {name!r}, which is no name")
    is_method = not re.search(rf"^(async\s+)?def {name}\b", program, re.MULTILINE) and re.search(
        r"^class Solution\b", program, re.MULTILINE
    )
    called = f"Solution().{name}" if is_method else name
    return [_call_test(called, given, expected) for given, expected in zip(inputs, outputs, strict=True)]


def _stream(value: Any) -> str:
    """A stream is a text, or the list of its lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _call_test(called: str, given: Any, expected: Any) -> Any:
    if isinstance(given, str):
        # One argument on each line, as JSON, and so is the value.
        arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
        accepted = [json.loads(expected) if isinstance(expected, str) else expected]
    else:
        arguments = list(given)
        # Some sets hold the value, and some a list of it.
        accepted = [expected, *(expected if isinstance(expected, list) and len(expected) == 1 else [])]
    texts = [json.dumps(argument) for argument in arguments]
    if sum(map(len, texts)) + len(json.dumps(accepted)) > _LONG:
        # Large values stand in texts of JSON: a test of so much code would cost more than the program.
        loads, dumps = "__import__('json').loads", "__import__('json').dumps"
        return {
            "call": f"{loads}({dumps}({called}(*map({loads}, {json.dumps(texts)}))))",
            "anyOf": [f"{loads}({json.dumps(json.dumps(value))})" for value in accepted],
        }
    call = f"{called}({', '.join(map(repr, arguments))})"
    if len(accepted) == 1 and not isinstance(expected, (list, dict)) and not isinstance(accepted[0], (list, dict)):
        return f"assert {call} == {accepted[0]!r}"
    return f"{_PLAIN}assert _plain({call}) in {tuple(accepted)!r}"


class Verifier:
    """A client of one server. Its `reward` is what a trainer calls.

    `columns` are those that may hold tests; `binary` gives 1.0 to a program that passes every test and 0.0 to all
    others. `limits` are `{"cpuSecondsPerTest", "cpuSecondsPerProgram", "memoryBytes"}`. A request is made up to
    `attempts` times, with growing pauses, and each may take `timeout` seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        columns: Sequence[str] = COLUMNS,
        binary: bool = False,
        limits: Mapping[str, float] | None = None,
        attempts: int = 6,
        timeout: float = 600.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.url = (url or os.environ.get("ACECODER_SANDBOX_URL") or DEFAULT_URL).rstrip("/")
        self._token = token or os.environ.get("ACECODER_SANDBOX_TOKEN") or ""
        self.columns = tuple(columns)
        self.binary = binary
        self.limits = dict(limits or {})
        self.attempts = attempts
        self.timeout = timeout
        self._sleep = sleep
        # A server on this host is not behind a proxy, and a token is for no other host: no redirect is followed.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def reward(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """The reward of each completion; `columns` are lists as long as `completions`, or values for all of them.

        None where no verdict could be made. `VerifierUnavailable` when the server stays away; ValueError when no column
        holds tests.
        """
        name = next((name for name in self.columns if columns.get(name) is not None), None)
        if name is None:
            raise ValueError(
                f"no column holds tests: one of {', '.join(self.columns)} is needed, not {sorted(columns)}"
            )
        given = columns[name]
        if not isinstance(given, (list, tuple)) or len(given) != len(completions):
            raise ValueError(
                f"the column {name} must be a list with one entry for each of {len(completions)} completions"
            )

        def of(column: str, at: int) -> Any:
            values = columns.get(column)
            return values[at] if isinstance(values, (list, tuple)) and at < len(values) else values

        rows: list[dict[str, Any]] = []
        rewards: list[float | None] = [None] * len(completions)
        for at, completion in enumerate(completions):
            entry_point = of("entry_point", at)
            program = program_of(completion, entry_point if isinstance(entry_point, str) else "")
            try:
                tests = as_tests(given[at], program, of("fn_name", at))
            except (ValueError, TypeError) as error:
                _log.warning("completion %d has no reward: %s", at, error)
                continue
            if _finds_imports(given[at]) and "from __future__" not in program:
                program = _IMPORTS + program
            row: dict[str, Any] = {"id": str(at), "program": program, "tests": tests}
            if isinstance(entry_point, str) and all(isinstance(test, str) for test in tests):
                row["entryPoint"] = entry_point
            rows.append(row)
        for verdict in self.verify(rows):
            if verdict.get("judged") and all(test.get("status") == "vacuous" for test in verdict["outcomes"]):
                _log.warning("completion %s has no reward: its tests assert nothing about it", verdict["id"])
            elif verdict.get("judged"):
                rate = float(verdict["passRate"])
                rewards[int(verdict["id"])] = float(rate == 1.0) if self.binary else rate
            else:
                _log.warning("completion %s has no reward: %s", verdict.get("id"), verdict.get("error"))
        return rewards

    def verify(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The server's verdicts of rows `{"id", "program", "tests", ...}`, in order."""
        verdicts: list[dict[str, Any]] = []
        for part in _parts(list(rows)):
            answered = self._verify(part)
            # What the host could not judge is asked once more, alone; what then has no verdict has none.
            late = [at for at, verdict in enumerate(answered) if verdict.get("retry")]
            if late and len(late) < len(part):
                try:
                    again = self._verify([part[at] for at in late])
                except VerifierUnavailable as error:
                    _log.warning("%d programs stay without a verdict: %s", len(late), error)
                else:
                    for at, verdict in zip(late, again, strict=True):
                        answered[at] = verdict
            verdicts += answered
        return verdicts

    def _verify(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        answer = self._ask({"rows": list(rows), **({"limits": self.limits} if self.limits else {})})
        verdicts = answer.get("verdicts")
        if not isinstance(verdicts, list) or len(verdicts) != len(rows):
            raise VerifierUnavailable(f"{self.url} is no verifier: it answered something else")
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.get("id") not in (row.get("id"), None):
                raise VerifierUnavailable(f"{self.url} answered for another program")
            verdict["id"] = row.get("id")
        return verdicts

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        why, wait = "", 0.0
        for attempt in range(self.attempts):
            if attempt:
                self._sleep(wait)
            wait = min(_LONGEST_WAIT, 0.5 * 2**attempt)
            try:
                request = urllib.request.Request(f"{self.url}/verify", data, headers)
                with self._opener.open(request, timeout=self.timeout) as response:
                    answer = json.load(response)
                if isinstance(answer, dict):
                    return answer
                why = "it answered something else"
            except urllib.error.HTTPError as error:
                said = error.read(2_000).decode(errors="replace")
                if error.code not in _RETRY_STATUSES:
                    raise ValueError(f"{self.url} refuses the request ({error.code}): {said}") from None
                why = f"{error.code} {said}"
                after = error.headers.get("Retry-After", "")
                if after.isdigit():
                    wait = min(_LONGEST_WAIT, max(wait, float(after)))
            except (OSError, ValueError) as error:
                why = str(error)
        raise VerifierUnavailable(f"{self.url} gave no verdict in {self.attempts} attempts: {why}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _parts(rows: list[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """The rows in requests that a server takes."""
    part: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if part and (len(part) == _ROWS_PER_REQUEST or size + length > _BYTES_PER_REQUEST):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part


def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """`Verifier().reward`: the server and its token are those of the environment."""
    return Verifier().reward(completions, **columns)
