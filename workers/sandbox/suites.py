"""Suites: one entry point, many inputs, and the answers that a reference gave, in the form of EvalPlus.

A suite is one test with one outcome. Its inputs are JSON, which has no tuples, sets or complex numbers; a table of
EvalPlus says by the number of an MBPP task what its inputs become. The program runs on all inputs in one process, and
its answers leave it as plain data. Another process compares them (`inside/evalplus.py`).
"""

# Inputs have no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import functools
import itertools
import json
import marshal
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.inside import evalplus, wire
from sandbox.pool import Limits

RULES = ("0.2.1", "0.3.1")
"""Versions of EvalPlus whose rules are known."""
CHECK_LIMITS = Limits(cpu_seconds_per_test=10, cpu_seconds_per_program=30)
"""Of the comparison of the answers of one suite, and of all suites of a program."""
MAX_INPUT_CHARACTERS = 16_000_000
_MAX_COMPARED_HERE = 32_768
"""Characters of answers that are compared in this process: so few cost it little time, whatever they are."""
_MAX_EXPECTED_HERE = 2_000_000
"""Characters of what is expected that are read in this process: as many as the answers of a suite may have."""
_KEPT = 1_024
"""Suites whose inputs are kept for the next program: more than those of a benchmark."""
_FIELDS = {"suite", "task", "entryPoint", "rules", "atol", "expected"}


class NoInputs(ValueError):
    """The inputs of a suite cannot be read; the message says why."""


@dataclass(frozen=True)
class Suite:
    """Inputs of a task of EvalPlus, as a JSON text. `expected` is the text that the reference's run gave; None where
    the reference is still to run.
    """

    inputs: str
    task: str
    entry_point: str
    rules: str
    atol: float
    expected: str | None

    @property
    def dataset(self) -> str:
        return "mbpp" if self.task.startswith("Mbpp/") else "humaneval"

    @property
    def truths(self) -> bool:
        """Whether only matters if there is an answer."""
        return self.dataset == "mbpp" and self.entry_point in evalplus.TRUTHS

    @property
    def content(self) -> list[Any]:
        """What decides the verdict, for keys."""
        return [self.inputs, self.task, self.entry_point, self.rules, self.atol, self.expected]

    @property
    def arguments(self) -> list[Any]:
        """The arguments of each call. `NoInputs` where the text holds none."""
        return _arguments(self.task, self.inputs)

    @property
    def calls(self) -> bytes:
        """The arguments of each call as the process of a program reads them: for each suite anew, because programs
        change what they are given.
        """
        return _marshalled(self.task, self.inputs)

    @property
    def check(self) -> tuple[Any, ...]:
        """What judges the answers, for the process that does."""
        detail = (self.rules, self.dataset, self.entry_point, self.atol, self.arguments, self.expected)
        return ("suite", detail, None)


def parse(test: dict[str, Any]) -> Suite | None:
    """The suite of a row: {suite, task, entryPoint, rules, atol, expected?}; None where it has another form."""
    match test:
        case {
            "suite": str(inputs), "task": str(task), "entryPoint": str(entry_point), "rules": str(rules), "atol": atol
        } if test.keys() <= _FIELDS and rules in RULES:  # fmt: skip
            expected = test.get("expected")
            is_number = type(atol) in (int, float) and math.isfinite(atol) and atol >= 0
            if not is_number or not isinstance(expected, (str, type(None))):
                return None
            return Suite(inputs, task, entry_point, rules, atol, expected)
        case _:
            return None


class Strange(ValueError):
    """Answers are no data: the process of the program has written something else."""


NO_DATA = '"E",false'
"""What stands for an answer that is no plain data (`inside/answers.py`)."""


def text_of(answers: Sequence[str]) -> str:
    """Answers, each as its tokens, as one text."""
    return f'["l",{",".join((str(len(answers)), *answers))}]'


def why_wrong_here(suite: Suite, answers: Sequence[str]) -> tuple[bool, str | None]:
    """Whether answers, to all inputs or to those before a call that failed, were all compared here, and what is wrong
    with the first that is; `Strange` where they are no data.

    Only so many are compared here as cost this process little time, whatever they are: larger ones go to another
    process, which comes to the same verdict at the cost of a fork. Which are compared follows from the answers alone,
    so that the verdict does not depend on how far a program came.
    """
    if suite.expected is None:
        return False, None
    if _is_identical(suite, answers):
        return True, None
    if len(suite.expected) > _MAX_EXPECTED_HERE:
        return False, None
    sizes = itertools.accumulate(map(len, answers))
    most = sum(1 for _ in itertools.takewhile(lambda size: size <= _MAX_COMPARED_HERE, sizes))
    wanted = json.loads(suite.expected)
    # A program that is wrong nearly always is from its first answers on.
    for count in (*(few for few in _FEW if few < most), most):
        try:
            got = wire.value_of(json.loads(text_of(answers[:count])), _no_object)
        except (wire.Malformed, ValueError, RecursionError):
            raise Strange from None
        expected = wire.first_members(wanted, count, _no_object)
        about = suite.rules, suite.dataset, suite.entry_point, suite.atol, suite.arguments[:count]
        if (why := evalplus.why_wrong(*about, expected, got)) is not None:
            return False, why
    return most == len(answers), None


_FEW = (2, 16)
"""Numbers of answers that are compared before all of them are."""


def _is_identical(suite: Suite, answers: Sequence[str]) -> bool:
    """Whether answers to all inputs have the text of what is expected, and are thus right.

    It says no where values of one text need not be equal (nan, and the values of a dictionary), and where the rules of
    the task do not compare by equality.
    """
    expected = suite.expected
    return (
        expected is not None
        and len(answers) == len(suite.arguments)
        and evalplus.is_right_where_equal(suite.rules, suite.dataset, suite.entry_point)
        and text_of(answers) == expected
        and not any(mark in expected for mark in ("nan", "NaN", '"V"'))
    )


def _no_object(tag: str, _: Any) -> Any:
    raise wire.Malformed(f"unknown tag {tag}")


# --- inputs ----------------------------------------------------------------------------------------------------------


def _each(form: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What applies `form` to each member of a list."""
    return lambda given: [form(member) for member in given]


def _first(form: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What applies `form` to the first argument."""
    return lambda given: [form(given[0]), *given[1:]]


def _deep_tuple(given: Any) -> Any:
    return tuple(map(_deep_tuple, given)) if isinstance(given, list) else given


def _tuple_where_list(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def _set_of(given: Any) -> Any:
    # An empty list stands for an empty dictionary.
    return set(given) if isinstance(given, list) and given else {}


def _numbered(form: Callable[[Any], Any], tasks: str) -> Iterable[tuple[int, Callable[[Any], Any]]]:
    return ((int(task), form) for task in tasks.split())


_FORMS: dict[int, Callable[[Any], Any]] = dict(
    [
        *_numbered(
            _each(tuple), "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809"
        ),
        *_numbered(_each(_each(tuple)), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
        *_numbered(_first(_each(tuple)), "75 413 444 753"),
        *_numbered(lambda given: [given[0], tuple(given[1])], "106 750"),
        *_numbered(_first(tuple), "250 307 405 446 617 720 763 808"),
        *_numbered(_each(lambda given: tuple(map(tuple, given))), "259 401 445"),
        *_numbered(_first(_each(_set_of)), "115"),
        *_numbered(lambda given: [float(given[0]), complex(given[1])], "124"),
        *_numbered(lambda given: [complex(given[0])], "252"),
        *_numbered(_each(lambda given: tuple(map(_tuple_where_list, given))), "278"),
        *_numbered(_first(lambda given: {key: tuple(value) for key, value in given.items()}), "722"),
        *_numbered(_deep_tuple, "580 615 791"),
    ]
)
"""What the arguments of a call become, by the number of the MBPP task (EvalPlus 0.2.1 and 0.3.1)."""


@functools.lru_cache(maxsize=_KEPT)
def _marshalled(task: str, inputs: str) -> bytes:
    return marshal.dumps(_arguments(task, inputs))


@functools.lru_cache(maxsize=_KEPT)
def _arguments(task: str, inputs: str) -> list[Any]:
    try:
        given = json.loads(inputs)
        # A task without further inputs has an object here.
        calls = [] if given == {} else given
        if not isinstance(calls, list) or not all(isinstance(each, list) for each in calls):
            raise NoInputs("they are no list of lists of arguments")
        name, _, number = task.partition("/")
        form = _FORMS.get(int(number)) if name == "Mbpp" and number.isdecimal() else None
        return calls if form is None else [form(each) for each in calls]
    except NoInputs:
        raise
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise NoInputs(str(error)) from None
