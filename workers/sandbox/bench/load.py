"""The reference load: programs and tests that CodeGen-16B wrote for HumanEval (published with CodeT, MIT)."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLES = 16
TESTS = 20
# A sample is cut where the model goes on to something else than the function.
_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\nassert")


@dataclass(frozen=True)
class Question:
    """A HumanEval problem with its reference, sampled programs and synthesized asserts (most of them wrong)."""

    id: str
    entry_point: str
    reference: str
    check: str
    programs: list[str]
    tests: list[str]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        yield from map(json.loads, lines)


def _cut(text: str) -> str:
    return text[: min((at for stop in _STOPS if (at := text.find(stop)) >= 0), default=len(text))]


def _asserts(samples: list[str], entry_point: str) -> list[str]:
    """The first distinct one-line asserts that parse and name the entry point."""
    found: dict[str, None] = {}
    for sample in samples:
        for fragment in f"assert {sample}".split("\nassert "):
            line = fragment.removeprefix("assert ").split("\n")[0].strip()
            try:
                (statement,) = ast.parse(f"assert {line}").body
            except (SyntaxError, ValueError):
                continue
            names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if entry_point in names:
                found[ast.unparse(statement)] = None
            if len(found) == TESTS:
                return list(found)
    return list(found)


def questions(shared: Path) -> list[Question]:
    """Read the load from `<shared>/data/codet-codegen16b-humaneval`. FileNotFoundError when it is not there."""
    folder = shared / "data" / "codet-codegen16b-humaneval"
    solutions = {row["prompt"]: row["samples"] for row in _rows(folder / "code_solution.jsonl")}
    tests = {row["prompt"]: row["samples"] for row in _rows(folder / "test_case.jsonl")}
    test_prompts = {row["task_id"]: row["prompt"] for row in _rows(folder / "HumanEval_for_test_case_generation.jsonl")}
    return [
        Question(
            id=row["task_id"],
            entry_point=row["entry_point"],
            reference=row["prompt"] + row["canonical_solution"],
            check=row["test"],
            programs=[row["prompt"] + _cut(sample) for sample in solutions[row["prompt"]][:SAMPLES]],
            tests=_asserts(tests[test_prompts[row["task_id"]]], row["entry_point"]),
        )
        for row in _rows(folder / "HumanEval_for_code_generation.jsonl")
    ]
