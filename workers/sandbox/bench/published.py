"""Verdicts that others have published for programs of language models, against ours on the same programs and tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.tests.service import Service

MODELS = ("codellama", "gpt-3.5-turbo-0613", "gpt-4-1106-preview", "starcoder")
_LIMITS = {"cpuSecondsPerTest": 5.0, "cpuSecondsPerProgram": 20.0}

_OWN_ASSERTS = "a wrong assert of the program itself, which the sandbox removes"
_NO_IMPORT = "the program uses math without importing it; their harness had imported it"
_RULE = "the assertion of MBPP decides here; EvalPlus compares with its reference, by rules that depend on the task"
EXPLAINED = {
    "HumanEval, gpt-4-1106-preview": {"HumanEval/64": _OWN_ASSERTS},
    "HumanEval, starcoder": dict.fromkeys(("HumanEval/106", "HumanEval/133"), _NO_IMPORT),
    "mbpp, Qwen2.5-Coder-1.5B": {
        **dict.fromkeys((f"Mbpp/{number}" for number in (87, 123, 232, 249, 295, 435, 783)), _RULE),
        "Mbpp/442": _NO_IMPORT,
    },
}
"""Programs that we judge otherwise than they were published, and why."""

Job = dict[str, Any]
Difference = dict[str, Any]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        yield from map(json.loads, lines)


def _imports(prompt: str) -> str:
    return "".join(line for line in prompt.splitlines(keepends=True) if line.startswith(("import ", "from ")))


def _check(task: dict[str, Any]) -> str:
    return f"{task['test']}\ncheck({task['entry_point']})"


def sets(shared: Path) -> Iterator[tuple[str, list[Job], dict[str, bool]]]:
    """(name, jobs, published verdicts by job) of each set. FileNotFoundError where the data are not there."""
    data = shared / "data"
    for model in MODELS:
        rows = list(_rows(data / f"llmdebugger-humaneval-4models/{model}.jsonl"))
        jobs = [
            {"id": row["task_id"], "program": _imports(row["prompt"]) + row["solution"], "tests": [_check(row)]}
            for row in rows
        ]
        yield f"HumanEval, {model}", jobs, {row["task_id"]: row["is_solved"] is True for row in rows}
    humaneval = {row["task_id"]: row for row in _rows(data / "humaneval/HumanEval.jsonl.gz")}
    mbpp = {row["task_id"]: row for row in _rows(data / "evalplus-mbpp/MbppPlus-v0.1.0.jsonl.gz")}
    folder = data / "qwen2.5-coder-1.5b-base-outputs"
    for name, tests in (
        ("humaneval", {id: _check(task) for id, task in humaneval.items()}),
        ("mbpp", {id: task["assertion"] for id, task in mbpp.items()}),
    ):
        with gzip.open(folder / f"evalplus-{name}-generated_eval_results.json.gz", "rt") as file:
            results = {id: entry[0] for id, entry in json.load(file)["eval"].items() if id in tests}
        jobs = [{"id": id, "program": each["solution"], "tests": [tests[id]]} for id, each in results.items()]
        yield f"{name}, Qwen2.5-Coder-1.5B", jobs, {id: each["base_status"] == "pass" for id, each in results.items()}


def differences(service: Service, jobs: list[Job], published: dict[str, bool]) -> list[Difference]:
    """Programs that we judge otherwise than they were published."""
    verdicts = service.ask("judge", jobs=jobs, limits=_LIMITS)["verdicts"]
    found: list[Difference] = []
    for verdict in verdicts:
        (outcome,) = verdict["outcomes"]
        if (outcome["status"] == "pass") != published[verdict["id"]]:
            found.append({"id": verdict["id"], "published": published[verdict["id"]], **outcome})
    return found
