"""Judges the answers of a suite as EvalPlus does (arXiv 2305.01210), in a process that never held the program.

Two versions of its rules are known. 0.2.1 made the verdicts that are published for MBPP+ v0.1.0. 0.3.1 compares the
answers of eight entry points as sets, has two more oracles, and takes a number for close only where its type is right.

In two places this differs. EvalPlus broadcasts answers of other shapes against what is expected, as NumPy does; here
answers of another shape are wrong, but that 0.2.1 takes a number for a list of it. And an answer that is too large to
leave its process is compared by a digest: its numbers have the types, and its dictionaries the order, of what is
expected.
"""

# Answers have no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import marshal
import math
from _blake2 import blake2b  # not hashlib: it brings OpenSSL with it
from collections.abc import Sequence
from typing import Any

RELATIVE = 1e-7
"""Relative tolerance of every comparison that has an absolute one."""
_FLOAT_ATOL = 1e-6

# Entry points of MBPP+ whose answers are compared in a way of their own.
_SETS = frozenset(
    {
        "similar_elements",
        "find_char_long",
        "common_in_nested_lists",
        "extract_singly",
        "larg_nnum",
        "intersection_array",
        "find_dissimilar",
        "Diff",
    }
)
TRUTHS = frozenset({"check_str", "text_match_three", "text_starta_endb"})
"""Entry points of MBPP+ of whose answers only matters whether there is one: their references answer with a match."""


_DIGEST = b"blake2b of marshal: "
_MEMBERS_AT_ONCE = 10_000


def digest(value: Any) -> bytes:
    """What stands for a large value. ValueError where it is no plain data."""
    found = blake2b(digest_size=32)
    if type(value) in (list, tuple):
        # In parts, because all of it may not fit into memory a second time.
        found.update(f"{type(value).__name__} {len(value)} ".encode())
        for start in range(0, len(value), _MEMBERS_AT_ONCE):
            found.update(marshal.dumps(value[start : start + _MEMBERS_AT_ONCE], 2))
    else:
        found.update(marshal.dumps(value, 2))
    return _DIGEST + found.hexdigest().encode()


def is_right_where_equal(rules: str, dataset: str, entry_point: str) -> bool:
    """Whether an answer that is equal to what is expected is right, whatever it is and whatever the input."""
    if dataset == "humaneval":
        return entry_point != "find_zero"
    return rules == "0.2.1" or entry_point not in _SETS


def _is_digest(value: Any) -> bool:
    return type(value) is bytes and value.startswith(_DIGEST)


def _equal(got: Any, wanted: Any) -> bool:
    if _is_digest(got) == _is_digest(wanted):
        return got == wanted
    try:
        return got == digest(wanted) if _is_digest(got) else digest(got) == wanted
    except ValueError:
        return False


_MAX_SHOWN = 200


def why_wrong(
    rules: str, dataset: str, entry_point: str, atol: float, inputs: Sequence[Any], expected: Any, answers: Any
) -> str | None:
    """What is wrong with the answers to a suite, in a few words; None where all are right."""
    at = first_difference(rules, dataset, entry_point, atol, inputs, expected, answers)
    if at is None:
        return None
    if type(answers) is not list or at >= len(answers):
        return f"input {at}: got nothing"
    try:
        return f"input {at}: got {repr(answers[at])[:_MAX_SHOWN]}"
    except (ValueError, RecursionError, MemoryError):
        return f"input {at}: got a {type(answers[at]).__name__} that is too large to show"


def first_difference(
    rules: str, dataset: str, entry_point: str, atol: float, inputs: Sequence[Any], expected: Any, answers: Any
) -> int | None:
    """Index of the first answer that is wrong; None where all are right."""
    if type(answers) is not list or len(answers) != len(inputs) or len(expected) != len(inputs):
        return 0
    strict = rules == "0.3.1"
    for at, (arguments, wanted, got) in enumerate(zip(inputs, expected, answers, strict=True)):
        try:
            if dataset == "humaneval" and entry_point == "find_zero":
                (coefficients,) = arguments
                value = _polynomial(coefficients, got)
                if (abs(value) if strict else value) > atol:
                    return at
                if strict:
                    continue
            same = _equal(got, wanted)
            if dataset == "mbpp":
                same = _by_oracle(strict, entry_point, atol, arguments, wanted, got, same)
            # Once an answer is to be a float, later answers of the suite may be off by as much.
            if atol == 0 and _is_floats(wanted, strict):
                atol = _FLOAT_ATOL
            if not same and not (atol != 0 and _is_close(got, wanted, atol, strict)):
                return at
        except Exception:  # noqa: BLE001 - what cannot be compared is wrong
            return at
    return None


def _by_oracle(strict: bool, entry_point: str, atol: float, arguments: Any, wanted: Any, got: Any, same: bool) -> bool:
    """Whether an answer is right to the oracle of its entry point, if it has one."""
    if entry_point == "are_equivalent":
        return True
    if entry_point == "sum_div":
        return same or got == 0
    if strict and entry_point == "surface_Area":
        return same or abs(got - _pyramid_surface(*arguments)) <= atol
    if strict and entry_point == "digit_distance_nums":
        return same or got == _digit_distance(*arguments)
    if strict and entry_point in _SETS:
        return set(got) == set(wanted)
    return same


def _is_floats(value: Any, strict: bool) -> bool:
    if isinstance(value, (list, tuple)):
        return (bool(value) or not strict) and all(isinstance(each, float) for each in value)
    return isinstance(value, float)


def _is_close(got: Any, wanted: Any, atol: float, strict: bool) -> bool:
    if strict and type(got) is not type(wanted):
        return False
    ours, theirs = _numbers(got), _numbers(wanted)
    if ours is None or theirs is None:
        return False
    (shape, left), (other, right) = ours, theirs
    if shape != other:
        if strict or (shape and other):
            return False
        left, right = left * (len(right) if not shape else 1), right * (len(left) if not other else 1)
    return all(_near(a, b, atol, nan_is_nan=not strict) for a, b in zip(left, right, strict=True))


def _near(got: Any, wanted: Any, atol: float, nan_is_nan: bool) -> bool:
    if got == wanted:
        return True
    if got != got or wanted != wanted:
        return nan_is_nan and got != got and wanted != wanted
    if math.isinf(abs(got)) or math.isinf(abs(wanted)):
        return False
    return abs(got - wanted) <= atol + RELATIVE * abs(wanted)


def _numbers(value: Any) -> tuple[tuple[int, ...], list[Any]] | None:
    """Shape and numbers of what NumPy takes for an array of numbers; None for anything else."""
    if isinstance(value, (bool, int, float, complex)):
        # Beyond 64 bits NumPy has objects, which it cannot compare.
        return ((), [value]) if not isinstance(value, int) or -(1 << 63) <= value < 1 << 64 else None
    if not isinstance(value, (list, tuple)):
        return None
    parts = [_numbers(each) for each in value]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len({shape for shape, _ in found}) > 1:
        return None
    shape = found[0][0] if found else ()
    return (len(parts), *shape), [number for _, numbers in found for number in numbers]


# --- oracles ---------------------------------------------------------------------------------------------------------


def _polynomial(coefficients: Any, x: Any) -> Any:
    """The value of a polynomial, given from its lowest coefficient on."""
    return sum(coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients))


def _pyramid_surface(base_edge: Any, height: Any) -> Any:
    """Surface of a square pyramid whose height is that of its apex above the base, rounded."""
    slant = math.sqrt((base_edge / 2) ** 2 + height**2)
    return round(base_edge**2 + 4 * (base_edge * slant) / 2)


def _digit_distance(first: Any, second: Any) -> int:
    """Sum of the differences of digits, with zeros before the shorter number."""
    texts = str(first), str(second)
    width = max(map(len, texts))
    return sum(abs(int(a) - int(b)) for a, b in zip(*(text.zfill(width) for text in texts), strict=True))
