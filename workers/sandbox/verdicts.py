"""Operations of the sandbox: `judge` (programs against tests), `limits` (for programs that answer as a reference does),
`evaluate` (values of calls) and `probe`.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from operations import (
    BrokenReference,
    CallValue,
    CpuLimits,
    EvaluateParams,
    EvaluateResult,
    JudgeParams,
    JudgeResult,
    LimitsParams,
    LimitsResult,
    ProbeParams,
    ProbeResult,
    TestOutcome,
    Verdict,
)
from sandbox import asserts
from sandbox.asserts import Interaction, Test
from sandbox.pool import CPU_TIME, ENDED, FELL, MAX_TIME_OUTS, OVERFLOW, WALL_TIME, Job, Limits, Pool, Report
from serve import Call, ServiceError

HARNESS_VERSION = "5"
"""Raised whenever the same program and tests could get another verdict."""

IMPORT_POLICY = "stdlib, no preamble, own module-level asserts and prints removed"
"""The rule of `inside/program.py` in a few words, for the records."""

# Limits derived from a reference: each test gets so many times the CPU seconds of the reference's whole run, rounded up
# to one of few steps, so that a noisy measurement gives the same limits again.
_REFERENCE_FACTOR = 20
_STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_TESTS_WORTH = 4
_LEAST_PER_PROGRAM = 1.0
_MEASUREMENTS = 5
# A module that a function imports is charged to the test that calls it first; asyncio takes a tenth of a second.
_INNER_IMPORT = re.compile(r"^[ \t]+(import\s+\w|from\s+[\w.]+\s+import\b)|__import__|importlib", re.MULTILINE)
_IMPORT_SECONDS = 0.25

_MAX_CHARACTERS = 1_000_000
_MAX_TESTS = 1_000
_MAX_REASON = 200
_MAX_CRASHES = 2
_NEAR_THRESHOLD = 0.05
_SLACK_FACTOR = 2
_SLOW_FACTOR = 4
_CACHE_BYTES = 8 * 1024 * 1024
_ENTRY_BYTES = 320  # of a cached verdict without its data: the key, two objects and a place in the dictionary
# As in "<object object at 0x7f3a5c0b2d40>".
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+")

Record = dict[str, Any]
"""What the process of a program wrote about one step, with a `status` and perhaps a `reason`; hostile."""
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A program, its tests or calls, and its limits: what decides the verdict."""

    program: str
    tests: tuple[Test, ...]
    limits: Limits


@dataclass
class Trial:
    """What is known of a program's run. `crashed` is the test in which its process died, if another one can go on."""

    outcomes: list[TestOutcome]
    flags: set[str] = field(default_factory=set)
    cpu_seconds: float = 0.0
    crashed: int | None = None

    @property
    def statuses(self) -> list[str]:
        return [outcome["status"] for outcome in self.outcomes]

    @property
    def last_time_out(self) -> int | None:
        """Index of the last test that was out of time; when loading was, all tests are."""
        for index in reversed(range(len(self.outcomes))):
            outcome = self.outcomes[index]
            if outcome["status"] == "timeout" or outcome.get("reason") in (_LOADING_CPU, _LOADING_WALL):
                return index
        return None


_LOADING_CPU, _LOADING_WALL = "out of CPU time while loading", "out of wall time while loading"


class Cache:
    """Verdicts by the content of what was judged, the least recently used ones dropped; holds no unjudged ones."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._left = max_bytes

    @staticmethod
    def key(work: Work, context: Sequence[Any]) -> bytes:
        """`context` is what else decides: harness, interpreter, isolation, what the caller wants run again."""
        tests = [test if isinstance(test, str) else [test.stdin, test.stdout] for test in work.tests]
        content = json.dumps([work.program, tests, work.limits.fields, *context])
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()

    def get(self, key: bytes) -> Trial | None:
        if (data := self._entries.get(key)) is None:
            return None
        self._entries.move_to_end(key)
        outcomes, flags, cpu_seconds = json.loads(data)
        return Trial(outcomes, set(flags), cpu_seconds)

    def put(self, key: bytes, trial: Trial) -> None:
        if key in self._entries or "unjudged" in trial.statuses:
            return
        self._entries[key] = data = json.dumps([trial.outcomes, sorted(trial.flags), trial.cpu_seconds]).encode()
        self._left -= len(data) + _ENTRY_BYTES
        while self._left < 0:
            self._left += len(self._entries.popitem(last=False)[1]) + _ENTRY_BYTES


def probe(pool: Pool, params: ProbeParams, call: Call) -> ProbeResult:
    """What verdicts depend on and what they are measured on, for the records."""
    return {
        "isolation": pool.isolation,
        "level": pool.level,
        "pythonVersion": pool.python_version,
        "harnessVersion": HARNESS_VERSION,
        "importPolicy": IMPORT_POLICY,
        "calibrationSeconds": pool.calibration_seconds,
        "workers": pool.size,
    }


def judge(pool: Pool, params: JudgeParams, call: Call, cache: Cache | None = None) -> JudgeResult:
    """Run programs against their tests.

    params: {jobs: [{id, program, tests, limits?}], limits?, thresholds?: [rate], references?: [job]}. A test
    is a text (Python statements, or `unittest.TestCase` classes) or {stdin, stdout} for a program that is run as a
    script; one program has tests of one of these two kinds. Limits of a job go before those of the request; a
    program that imports in its functions gets 0.25 s more for each test.

    Result: {verdicts: [{id, outcomes: [{status, reason?, inside?}], flags}], measurements: [{id, cpuSeconds}],
    brokenReferences: [{id, test, status, reason?}]}, verdicts and measurements in job order, one outcome for each test.
    status: pass, assertion_failed, raised, timeout, not_run, load_error, killed, refused (the sandbox denied something)
    or unjudged (trouble of the host: to be repeated, never a label). `inside` marks outcomes made in the program's own
    process, which is weaker evidence.

    Equal programs with equal tests run once. What is run again: the tests after one that ended the process, up to
    twice; apart from the others, one on each core, the programs that ran out of time, and where that is not confirmed
    alone with four times the limits; alone, a program whose pass rate is within 0.05 of one of `thresholds`.

    flags: "unparsable" when a test is not Python, "stripped" when module-level asserts or prints were removed,
    "inside" when an outcome has that mark, "flaky" when a run alone changed an outcome (its outcomes count), "cheating"
    when the program passes asserts that are known to be false; its passes made inside do not count.

    Each of `references` is to pass all its tests. One that fails twice while the sandbox's own control program passes
    is broken, which says something about its question. One that passes before the batch and fails after it means that
    the host is not fit to judge, and so does a control program that fails: then the whole batch is `ServiceError`
    SandboxUnavailable.
    """
    limits = Limits.parse(params)
    jobs, references = _parse(params, "jobs", "tests", limits), _parse(params, "references", "tests", limits)
    thresholds = _rates(params)
    broken = _broken_references(pool, references, call)
    works = list(dict.fromkeys(work for _, work in jobs))
    context = [HARNESS_VERSION, pool.python_version, pool.isolation, thresholds]
    keys = [Cache.key(work, context) for work in works] if cache else []
    known = {work: trial for work, key in zip(works, keys, strict=bool(cache)) if cache and (trial := cache.get(key))}
    missing = [work for work in works if work not in known]
    trials = known | dict(zip(missing, _judge_works(pool, missing, thresholds, call), strict=True))
    sound = [reference for reference in references if reference[0] not in broken]
    if failing := _broken_references(pool, sound, call):
        message = f"References that passed before the batch fail after it: {', '.join(failing)}; no verdict is given."
        raise ServiceError("SandboxUnavailable", message)
    for work, key in zip(works, keys, strict=bool(cache)):
        if cache:
            cache.put(key, trials[work])
    return {
        "verdicts": [
            {"id": id, "outcomes": trials[work].outcomes, "flags": sorted(trials[work].flags)} for id, work in jobs
        ],
        "measurements": [{"id": id, "cpuSeconds": trials[work].cpu_seconds} for id, work in jobs],
        "brokenReferences": list(broken.values()),
    }


def limits(pool: Pool, params: LimitsParams, call: Call) -> LimitsResult:
    """Limits for programs that answer the same question as a reference, from its CPU time.

    params: {jobs: [{id, program, tests}], limits?}; a job is a reference, and `limits` are the most that it can give.
    Result: {limits: [{cpuSecondsPerTest, cpuSecondsPerProgram}]} in job order, by `limits_from` the least of several
    measurements: noise only ever adds.
    """
    most = Limits.parse(params)
    jobs = _parse(params, "jobs", "tests", most)
    works = list(dict.fromkeys(work for _, work in jobs))
    empty = Work("", (), most)
    trials = _run_works(pool, [*works, empty] * _MEASUREMENTS, call, alone=False)
    width = len(works) + 1
    least = [min(trial.cpu_seconds for trial in trials[at::width]) for at in range(width)]
    beyond_empty = {work: max(0.0, seconds - least[-1]) for work, seconds in zip(works, least, strict=False)}
    return {"limits": [limits_from(beyond_empty[work], most) for _, work in jobs]}


def limits_from(reference_seconds: float, most: Limits) -> CpuLimits:
    """Limits for programs that answer the same question as a reference whose whole run takes so many CPU seconds,
    beyond those of an empty program; none is above `most`.
    """
    per_test = next((step for step in _STEPS if step >= _REFERENCE_FACTOR * reference_seconds), _STEPS[-1])
    per_program = max(_LEAST_PER_PROGRAM, _TESTS_WORTH * per_test)
    return {
        "cpuSecondsPerTest": min(per_test, most.cpu_seconds_per_test),
        "cpuSecondsPerProgram": min(per_program, most.cpu_seconds_per_program),
    }


_CONTROL = Work("def double(x):\n    return 2 * x", ("assert double(2) == 4",), Limits())


def _broken_references(pool: Pool, references: Sequence[tuple[str, Work]], call: Call) -> dict[str, BrokenReference]:
    """The references that fail, by id, each with its first failing test. `ServiceError` SandboxUnavailable when the
    sandbox cannot say: a test is unjudged, or even the control program fails.
    """
    if not references:
        return {}
    trials = _judge_works(pool, [_CONTROL, *(work for _, work in references)], (), call)
    broken: dict[str, BrokenReference] = {}
    for (id, work), trial in zip([("control", _CONTROL), *references], trials, strict=True):
        if any(status != "pass" for status in trial.statuses):
            (again,) = _run_with_crashes(pool, [work], call, alone=True)
            failure = next(((at, each) for at, each in enumerate(again.outcomes) if each["status"] != "pass"), None)
            if failure is None:
                continue
            at, outcome = failure
            why = f"{outcome['status']} {outcome.get('reason', '')}".strip()
            if work == _CONTROL or "unjudged" in again.statuses:
                message = f"The program {id} does not pass its test {at} ({why}), so no verdict is given."
                raise ServiceError("SandboxUnavailable", message)
            broken[id] = {"id": id, "test": at, **outcome}
    return broken


def _judge_works(pool: Pool, works: Sequence[Work], thresholds: Sequence[float], call: Call) -> list[Trial]:
    trials = _run_with_crashes(pool, works, call, max_time_outs=1)
    late = {index: at for index, trial in enumerate(trials) if (at := trial.last_time_out) is not None}
    repeated = dict(zip(late, _run_with_crashes(pool, [_with_slack(works[at]) for at in late], call), strict=True))
    for index, (work, first) in enumerate(zip(works, trials, strict=True)):
        if index in late:
            ran = late[index] + 1
            trials[index] = repeated[index]
            if repeated[index].statuses[:ran] == first.statuses[:ran]:
                continue
            decider = replace(work, limits=work.limits.times(_SLOW_FACTOR))
        elif _is_near(first, thresholds):
            ran = len(work.tests)
            decider = work
        else:
            continue
        (again,) = _run_with_crashes(pool, [decider], call, alone=True)
        if again.statuses[:ran] != first.statuses[:ran]:
            again.flags.add("flaky")
        trials[index] = again
    return trials


def _with_slack(work: Work) -> Work:
    """The work that confirms a timeout and decides what comes after it, with twice the limit per test.

    On a busy host the same test costs more CPU time. With the limit of the first run, a test that needs nearly all of
    it would time out in both runs there, and in neither on an idle host.
    """
    limits = work.limits
    return replace(work, limits=replace(limits, cpu_seconds_per_test=_SLACK_FACTOR * limits.cpu_seconds_per_test))


def _is_near(trial: Trial, thresholds: Sequence[float]) -> bool:
    rate = trial.statuses.count("pass") / max(1, len(trial.outcomes))
    return any(abs(rate - threshold) <= _NEAR_THRESHOLD + 1e-9 for threshold in thresholds)


def _run_with_crashes(
    pool: Pool, works: Sequence[Work], call: Call, alone: bool = False, max_time_outs: int = MAX_TIME_OUTS
) -> list[Trial]:
    """Run each work; where a test ended the process, the tests after it get another one."""
    trials = _run_works(pool, works, call, alone, max_time_outs)
    for _ in range(_MAX_CRASHES):
        broken = [(index, trial.crashed) for index, trial in enumerate(trials) if trial.crashed is not None]
        rests = [replace(works[at], tests=works[at].tests[crashed + 1 :]) for at, crashed in broken]
        for (at, crashed), rest in zip(broken, _run_works(pool, rests, call, alone, max_time_outs), strict=True):
            trial, ran = trials[at], crashed + 1
            trial.outcomes[ran:] = rest.outcomes
            trial.crashed = None if rest.crashed is None else ran + rest.crashed
            trial.flags |= rest.flags
            trial.cpu_seconds += rest.cpu_seconds
    return trials


def _run_works(
    pool: Pool, works: Sequence[Work], call: Call, alone: bool, max_time_outs: int = MAX_TIME_OUTS
) -> list[Trial]:
    if not works:
        return []

    def digest(index: int, report: Report | None) -> Trial:
        return _trial(works[index].tests, report)

    return pool.run([_job(work, max_time_outs) for work in works], call, digest, alone)


def _job(work: Work, max_time_outs: int) -> Job:
    steps = [asserts.plan(test).step for test in (*work.tests, *asserts.canaries(work.tests))]
    is_script = bool(work.tests) and isinstance(work.tests[0], Interaction)
    limits = work.limits
    if _INNER_IMPORT.search(work.program):
        limits = replace(limits, cpu_seconds_per_test=limits.cpu_seconds_per_test + _IMPORT_SECONDS)
    return Job(work.program, steps, limits, is_script, max_time_outs)


def _trial(tests: tuple[Test, ...], report: Report | None) -> Trial:
    """Digest the report of one run."""
    records = _records(report) if report else []
    canaries = asserts.canaries(tests)
    all_outcomes = _outcomes(report, records, (*tests, *canaries), _judge_record)
    outcomes, false_ones = all_outcomes[: len(tests)], all_outcomes[len(tests) :]
    trial = Trial(outcomes, cpu_seconds=report.cpu_seconds if report else 0.0)
    if records and records[0].get("stripped") is True:
        trial.flags.add("stripped")
    cheating = any(outcome["status"] == "pass" for outcome in false_ones)
    for test, outcome in zip(tests, outcomes, strict=True):
        if asserts.plan(test).holds is not None:
            continue
        trial.flags.add("inside")
        if cheating and outcome["status"] == "pass":
            outcome["status"] = "assertion_failed"
            outcome["reason"] = "passes asserts that are known to be false"
        outcome["inside"] = True
    if cheating:
        trial.flags.add("cheating")
    if not all(asserts.plan(test).parses for test in tests):
        trial.flags.add("unparsable")
    ran = sum(status != "not_run" for status in trial.statuses)
    died = report is not None and report.kind == ENDED and 0 < ran < len(tests)
    if report and died and outcomes[ran - 1].get("reason") == _death(report).get("reason"):
        trial.crashed = ran - 1
    return trial


def evaluate(pool: Pool, params: EvaluateParams, call: Call) -> EvaluateResult:
    """Compute the values of calls of programs.

    params: {jobs: [{id, program, calls: [str]}], limits?}. Result: {values: [{id, results: [{status: "value", literal}
    | {status, reason}]}]} in job order, one result for each call; the other statuses are those of `judge`. A literal is
    a Python expression with the same text on every run; a value that has none counts as raised.
    """
    jobs = _parse(params, "jobs", "calls", Limits.parse(params))
    works = list(dict.fromkeys(work for _, work in jobs))

    def digest(index: int, report: Report | None) -> list[CallValue | TestOutcome]:
        records = _records(report) if report else []
        return _outcomes(report, records, works[index].tests, _value_record)

    results = pool.run(
        [Job(work.program, [("values", [text]) for text in work.tests], work.limits) for work in works],
        call,
        digest,
    )
    by_work = dict(zip(works, results, strict=True))
    return {"values": [{"id": id, "results": by_work[work]} for id, work in jobs]}


def _rates(params: JudgeParams) -> list[float]:
    rates: Any = params.get("thresholds") or []
    if not all(type(rate) in (int, float) and 0 <= rate <= 1 for rate in rates):
        raise ServiceError("InvalidInput", f"Thresholds are {rates!r}; they must be pass rates from 0 to 1.")
    return rates


def _parse(params: Mapping[str, object], jobs: str, texts: str, limits: Limits) -> list[tuple[str, Work]]:
    """Check the jobs of a request; `texts` is the name of their list of tests or calls."""
    given: Any = params.get(jobs) or []
    return [_parse_job(position, job, texts, limits) for position, job in enumerate(given)]


def _parse_job(position: int, job: Any, texts: str, limits: Limits) -> tuple[str, Work]:
    given = job.get(texts)
    if not isinstance(given, list) or not isinstance(job.get("program"), str):
        raise ServiceError("InvalidInput", f"Job {position} needs 'program' (a string) and '{texts}' (a list).")
    tests: list[Test] = []
    for test in cast("list[Any]", given):
        match test:
            case str():
                tests.append(test)
            case {"stdin": str(stdin), "stdout": str(stdout)} if texts == "tests" and len(test) == 2:
                tests.append(Interaction(stdin, stdout))
            case _:
                message = f"Job {position} has {texts} that are neither texts nor {{stdin, stdout}}."
                raise ServiceError("InvalidInput", message)
    if len({type(test) for test in tests}) > 1:
        raise ServiceError(
            "InvalidInput", f"Job {position} has both stdin tests and others; give it tests of one kind."
        )
    if len(tests) > _MAX_TESTS:
        message = f"Job {position} has {len(tests)} {texts}; at most {_MAX_TESTS} are allowed."
        raise ServiceError("InvalidInput", message)
    longest = max(map(len, [job["program"], *(text for test in tests for text in asserts.texts(test))]))
    if longest > _MAX_CHARACTERS:
        message = f"Job {position} has a text of {longest} characters; at most {_MAX_CHARACTERS} are allowed."
        raise ServiceError("InvalidInput", message)
    own = Limits.parse(job, limits)
    # Samples that differ in the white space at their end only are the same program.
    return job["id"], Work(job["program"].rstrip(), tuple(tests), own)


_decode = json.JSONDecoder().decode
# What a step's record may say of a test that failed.
_FAILURES: dict[str, Verdict] = {
    "assertion_failed": "assertion_failed",
    "raised": "raised",
    "timeout": "timeout",
    "refused": "refused",
}


def _records(report: Report) -> list[Record]:
    """Parse what the process wrote, up to the first thing that is not a record: the bytes are hostile."""
    records: list[Record] = []
    data, position = report.records, 4  # after the empty record that says "ready"
    while position + 4 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        text = data[position + 4 : position + 4 + size]
        position += 4 + size
        record = _record(text) if len(text) == size else None
        if record is None:
            return [*records, {"status": "damaged"}]
        records.append(record)
    return records


def _record(text: bytes) -> Record | None:
    """The record of a JSON text; None where it is none."""
    try:
        parsed: Any = _decode(text.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    record = cast("Record", parsed)
    is_sound = isinstance(record.get("status"), str) and isinstance(record.get("reason", ""), str)
    return record if is_sound else None


def _outcomes(
    report: Report | None, records: list[Record], texts: Sequence[Test], finish: Callable[[Test, Record], T]
) -> list[T | TestOutcome]:
    """One outcome for each test or call of a program; `finish` turns a step's record into its outcome."""
    if report is None:
        return [{"status": "unjudged", "reason": "the sandbox had trouble"} for _ in texts]
    if not records or records[0]["status"] != "loaded":
        failure = _loading_failure(report, records)
        return [failure.copy() for _ in texts]
    steps = records[1:]
    end = steps.pop() if steps and steps[-1]["status"] == "end" else None
    if len(steps) > len(texts):
        # The process has written its own records, and nothing tells which ones.
        return [{"status": "killed", "reason": "wrote to the result channel"} for _ in texts]
    outcomes: list[T | TestOutcome] = []
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
    not_run: list[T | TestOutcome] = [{"status": "not_run", "reason": reason} for _ in texts[len(outcomes) :]]
    return outcomes + not_run


def _judge_record(test: Test, record: Record) -> TestOutcome:
    judged = asserts.plan(test)
    if record["status"] == "values":
        outcome = asserts.outcome(judged, record.get("values"))
        if "reason" in outcome:
            outcome["reason"] = _clean(outcome["reason"])
        return outcome
    if record["status"] == "ran" and judged.holds is None:
        return {"status": "pass"}
    return _failed_record(record)


def _value_record(_: Test, record: Record) -> CallValue | TestOutcome:
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
        case _:
            pass
    raise asserts.Malformed("not one value")


def _failed_record(record: Record) -> TestOutcome:
    status = record["status"]
    if status not in _FAILURES:
        raise asserts.Malformed(f"unknown status {status}")
    failure: TestOutcome = {"status": _FAILURES[status]}
    if "reason" in record:
        failure["reason"] = _clean(record["reason"])
    return failure


def _loading_failure(report: Report, records: list[Record]) -> TestOutcome:
    """The outcome of every test of a program that did not load."""
    if not records:
        death = _death(report)
        status = "load_error" if death["status"] == "timeout" else death["status"]
        return {"status": status, "reason": f"{death.get('reason')} while loading"}
    said, reason = records[0]["status"], _clean(records[0].get("reason", ""))
    if said == "timeout":
        return {"status": "load_error", "reason": "out of CPU time while loading"}
    if said == "load_error":
        return {"status": "load_error", "reason": reason}
    if said == "refused":
        return {"status": "refused", "reason": reason}
    return {"status": "killed", "reason": "wrote to the result channel"}


def _death(report: Report) -> TestOutcome:
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
    if reason.isascii() and " at 0x" not in reason and sys.base_prefix not in reason:
        return reason[:_MAX_REASON]
    text = _ADDRESS.sub("0x...", reason).replace(sys.base_prefix, "<python>")
    return text.encode("utf-8", "replace").decode()[:_MAX_REASON]
