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
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_BLOCK = re.compile(r"^[ \t]*```([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
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


class VerifierUnavailable(RuntimeError):
    """The server could not be reached, or judged nothing, for as long as was waited. It says nothing about programs."""


def program_of(completion: Any) -> str:
    """The program of a completion: a text, or chat messages, of which the last one counts.

    It is the last fenced block of Python or without a language, or else the whole text.

    >>> program_of("Here it is:\\n```python\\nx = 1\\n```\\nGood luck!")
    'x = 1'
    """
    text = _THOUGHT.sub("", _text_of(completion))
    blocks = [body for label, body in _BLOCK.findall(text) if label.lower() in ("", "python", "python3", "py")]
    return (blocks[-1] if blocks else text).rstrip()


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


def _call_test(called: str, given: Any, expected: Any) -> str:
    if isinstance(given, str):
        # One argument on each line, as JSON, and so is the value.
        arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
        accepted = [json.loads(expected) if isinstance(expected, str) else expected]
    else:
        arguments = list(given)
        # Some sets hold the value, and some a list of it.
        accepted = [expected, *(expected if isinstance(expected, list) and len(expected) == 1 else [])]
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
            program = program_of(completion)
            try:
                tests = as_tests(given[at], program, of("fn_name", at))
            except (ValueError, TypeError) as error:
                _log.warning("completion %d has no reward: %s", at, error)
                continue
            row: dict[str, Any] = {"id": str(at), "program": program, "tests": tests}
            entry_point = of("entry_point", at)
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
