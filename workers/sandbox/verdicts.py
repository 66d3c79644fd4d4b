"""Operations of the sandbox: `judge` (programs against tests), `evaluate` (values of calls) and `probe`."""

from __future__ import annotations

import json
import re
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sandbox import asserts
from sandbox.pool import CPU_TIME, FELL, OVERFLOW, WALL_TIME, Limits, Pool, Report
from serve import Call, ServiceError

HARNESS_VERSION = "1"
"""Raised whenever the same program and tests could get another verdict."""

_MAX_CHARACTERS = 1_000_000
_MAX_REASON = 200
# As in "<object object at 0x7f3a5c0b2d40>".
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+")

Outcome = dict[str, Any]
Record = dict[str, Any]
T = TypeVar("T")
Text = tuple[str, tuple[str, ...]]
"""A program and its tests or calls: what decides the verdict."""


def probe(pool: Pool) -> dict[str, Any]:
    """{isolation, pythonVersion, harnessVersion, workers}: what verdicts depend on, for the records."""
    return {
        "isolation": pool.isolation,
        "pythonVersion": pool.python_version,
        "harnessVersion": HARNESS_VERSION,
        "workers": pool.size,
    }


def judge(pool: Pool, params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Run programs against their tests.

    params: {jobs: [{id, program, tests: [str]}], limits?}. Result: {verdicts: [{id, outcomes: [{status, reason?,
    inside?}], flags}], measurements: [{id, cpuSeconds}]} in job order, one outcome for each test. status: pass,
    assertion_failed, raised, timeout, not_run, load_error, killed, refused (the sandbox denied something) or unjudged
    (trouble of the host: to be repeated, never a label). `inside` marks outcomes made in the program's own process,
    which is weaker evidence. flags: "stripped" when module-level asserts or prints were removed, "inside" when an
    outcome has that mark.
    """
    jobs = _parse(params, "tests")

    def digest(tests: tuple[str, ...], report: Report | None) -> dict[str, Any]:
        records = _records(report) if report else []
        outcomes = _outcomes(report, records, tests, _judge_record)
        for test, outcome in zip(tests, outcomes, strict=True):
            if asserts.plan(test).holds is None:
                outcome["inside"] = True
        flags = ["stripped"] if records and records[0].get("stripped") is True else []
        flags += ["inside"] if any("inside" in outcome for outcome in outcomes) else []
        return {"outcomes": outcomes, "flags": flags, "cpuSeconds": report.cpu_seconds if report else 0.0}

    digests = _run(pool, jobs, lambda test: asserts.plan(test).step, Limits.parse(params), call, digest)
    return {
        "verdicts": [
            {"id": id, "outcomes": digests[text]["outcomes"], "flags": digests[text]["flags"]} for id, text in jobs
        ],
        "measurements": [{"id": id, "cpuSeconds": digests[text]["cpuSeconds"]} for id, text in jobs],
    }


def evaluate(pool: Pool, params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Compute the values of calls of programs.

    params: {jobs: [{id, program, calls: [str]}], limits?}. Result: {values: [{id, results: [{status: "value", literal}
    | {status, reason}]}]} in job order, one result for each call; the other statuses are those of `judge`. A literal is
    a Python expression with the same text on every run; a value that has none counts as raised.
    """
    jobs = _parse(params, "calls")

    def digest(calls: tuple[str, ...], report: Report | None) -> list[Outcome]:
        return _outcomes(report, _records(report) if report else [], calls, lambda _, record: _value_record(record))

    digests = _run(pool, jobs, lambda expression: {"values": [expression]}, Limits.parse(params), call, digest)
    return {"values": [{"id": id, "results": digests[text]} for id, text in jobs]}


def _parse(params: Mapping[str, Any], texts: str) -> list[tuple[str, Text]]:
    """Check the jobs of a request; `texts` is the name of their list of tests or calls."""
    jobs = []
    for position, job in enumerate(params.get("jobs") or []):
        strings = job.get(texts)
        if not isinstance(strings, list) or not all(isinstance(text, str) for text in [job.get("program"), *strings]):
            needed = f"'program' (a string) and '{texts}' (a list of strings)"
            raise ServiceError("InvalidInput", f"Job {position} needs {needed}.")
        longest = max(map(len, [job["program"], *strings]))
        if longest > _MAX_CHARACTERS:
            message = f"Job {position} has a text of {longest} characters; at most {_MAX_CHARACTERS} are allowed."
            raise ServiceError("InvalidInput", message)
        jobs.append((job["id"], (job["program"], tuple(strings))))
    return jobs


def _run(
    pool: Pool,
    jobs: Sequence[tuple[str, Text]],
    step: Callable[[str], Mapping[str, Any]],
    limits: Limits,
    call: Call,
    digest: Callable[[tuple[str, ...], Report | None], T],
) -> dict[Text, T]:
    """Run every distinct text once; the digests of the reports by text."""
    distinct = list(dict.fromkeys(text for _, text in jobs))
    digests = pool.run(
        [{"program": program, "steps": [step(each) for each in texts]} for program, texts in distinct],
        limits,
        call,
        lambda index, report: digest(distinct[index][1], report),
    )
    return dict(zip(distinct, digests, strict=True))


def _records(report: Report) -> list[Record]:
    """Parse what the process wrote, up to the first thing that is no record: the bytes are hostile."""
    records: list[Record] = []
    data, position = report.records, 4  # after the empty record that says "ready"
    while position + 4 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        text = data[position + 4 : position + 4 + size]
        position += 4 + size
        try:
            record = json.loads(text) if len(text) == size else None
        except (ValueError, RecursionError):
            record = None
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("status"), str)
            or not isinstance(record.get("reason", ""), str)
        ):
            return [*records, {"status": "damaged"}]
        records.append(record)
    return records


def _outcomes(
    report: Report | None, records: list[Record], texts: Sequence[str], finish: Callable[[str, Record], Outcome]
) -> list[Outcome]:
    """One outcome for each test or call of a program; `finish` turns a step's record into its outcome."""
    if report is None:
        return [{"status": "unjudged", "reason": "the sandbox had trouble"} for _ in texts]
    if not records or records[0]["status"] != "loaded":
        failure = _loading_failure(report, records)
        return [dict(failure) for _ in texts]
    steps = records[1:]
    end = steps.pop() if steps and steps[-1]["status"] == "end" else None
    if len(steps) > len(texts):
        # The process has written records of its own making; which ones cannot be told.
        return [{"status": "killed", "reason": "wrote to the result channel"} for _ in texts]
    outcomes = []
    for text, record in zip(texts, steps, strict=False):
        try:
            outcomes.append(finish(text, record))
        except asserts.Malformed:
            outcomes.append({"status": "killed", "reason": "wrote to the result channel"})
            break
    else:
        if len(outcomes) < len(texts) and end is None:
            outcomes.append(_death(report))
    reason = _clean(end["reason"]) if end and "reason" in end else "the process ended in an earlier test"
    return outcomes + [{"status": "not_run", "reason": reason} for _ in texts[len(outcomes) :]]


def _judge_record(test: str, record: Record) -> Outcome:
    judged = asserts.plan(test)
    if record["status"] == "values":
        outcome = asserts.outcome(judged, record.get("values"))
        return {name: _clean(text) for name, text in outcome.items()}
    if record["status"] == "ran" and judged.holds is None:
        return {"status": "pass"}
    return _failed_record(record)


def _value_record(record: Record) -> Outcome:
    if record["status"] != "values":
        return _failed_record(record)
    match record.get("values"):
        case [encoded]:
            try:
                literal = asserts.literal(asserts.decode(encoded))
                if _ADDRESS.search(literal):
                    return {"status": "raised", "reason": "value holds a memory address, which differs from run to run"}
                return {"status": "value", "literal": literal}
            except asserts.NoLiteral as error:
                return {"status": "raised", "reason": str(error)}
    raise asserts.Malformed("not one value")


def _failed_record(record: Record) -> Outcome:
    if record["status"] not in ("assertion_failed", "raised", "timeout", "refused"):
        raise asserts.Malformed(f"unknown status {record['status']}")
    return {"status": record["status"], **({"reason": _clean(record["reason"])} if "reason" in record else {})}


def _loading_failure(report: Report, records: list[Record]) -> Outcome:
    """The outcome of every test of a program that did not load."""
    if not records:
        death = _death(report)
        status = "load_error" if death["status"] == "timeout" else death["status"]
        return {"status": status, "reason": f"{death['reason']} while loading"}
    status = records[0]["status"]
    if status == "timeout":
        return {"status": "load_error", "reason": "out of CPU time while loading"}
    if status not in ("load_error", "refused"):
        return {"status": "killed", "reason": "wrote to the result channel"}
    return {"status": status, "reason": _clean(records[0].get("reason", ""))}


def _death(report: Report) -> Outcome:
    """The outcome of the test in which the program's process ended."""
    if report.kind == FELL:
        return {"status": "killed", "reason": "brought the sandbox down"}
    if report.kind == OVERFLOW:
        return {"status": "killed", "reason": "too many values"}
    if report.kind in (CPU_TIME, WALL_TIME):
        return {"status": "timeout", "reason": "out of CPU time" if report.kind == CPU_TIME else "out of wall time"}
    if report.signal:
        try:
            return {"status": "killed", "reason": signal.Signals(report.signal).name}
        except ValueError:
            return {"status": "killed", "reason": f"signal {report.signal}"}
    return {"status": "killed", "reason": f"exited with status {report.status >> 8}"}


def _clean(reason: str) -> str:
    """A short reason that is the same on every run and host: no addresses, no folder of the interpreter."""
    text = _ADDRESS.sub("0x...", reason).replace(sys.base_prefix, "<python>")
    return text.encode("utf-8", "replace").decode()[:_MAX_REASON]
