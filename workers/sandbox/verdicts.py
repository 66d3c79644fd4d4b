"""Operations of the sandbox: `judge` (programs against tests), `limits` (for programs that answer as a reference does),
`evaluate` (values of calls), `run` (scripts without tests), `mutants` (how good checkers are) and `probe`.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import math
import re
import signal
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast, overload

from operations import (
    AnswersParams,
    AnswersResult,
    BrokenReference,
    CallValue,
    CpuLimits,
    EvaluateParams,
    EvaluateResult,
    JudgeParams,
    JudgeResult,
    LimitsParams,
    LimitsResult,
    MutantsParams,
    MutantsResult,
    NormalizeParams,
    NormalizeResult,
    ProbeParams,
    ProbeResult,
    ProgramRun,
    RunParams,
    RunResult,
    SuiteAnswers,
    TestOutcome,
    Verdict,
)
from sandbox import asserts, checkers, suites
from sandbox.asserts import Interaction
from sandbox.checkers import Checked
from sandbox.pool import (
    CPU_TIME,
    ENDED,
    FELL,
    MAX_OUTPUT,
    MAX_TIME_OUTS,
    MAX_TOLD_OUTPUT,
    OVERFLOW,
    PROGRAM_GONE,
    WALL_TIME,
    Job,
    Limits,
    Pool,
    Report,
    marshalled,
)
from sandbox.suites import Suite
from serve import Call, ServiceError

HARNESS_VERSION = "8"
"""Raised whenever the same program and tests could get another verdict."""

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
_MAX_STREAM_CHARACTERS = 16_000_000
_MAX_TESTS = 1_000
_MAX_REASON = 200
_MAX_BROKEN = checkers.MAX_OUTPUT_CHARACTERS  # bytes that are read of an output that is no text
_MAX_RECORD = 1_500_000
# What a larger record begins with (`inside/program.py`, `inside/answers.py`); all others are small.
_LARGE = 16_384
# Records of so many bytes at most are read and judged once, and so many of them are kept.
_SMALL, _KEPT = 256, 8_192
# In most programs that do not end.
_MAY_BE_ENDLESS = re.compile(r"\bwhile\b")
# Tests of questions whose code is kept for their next program.
_KEPT_STEPS = 64
_LARGE_VALUES, _LARGE_ANSWER = b'{"status":"values","values":[', b'{"status":"answer","answer":"'
_MAX_CRASHES = 2
_NEAR_THRESHOLD = 0.05
_SLACK_FACTOR = 2
_SLOW_FACTOR = 4
_CACHE_BYTES = 8 * 1024 * 1024
_ENTRY_BYTES = 320  # of a cached verdict without its data: the key, two objects and a place in the dictionary
# As in "<object object at 0x7f3a5c0b2d40>".
_ADDRESS = re.compile(r"(?<= at )0x[0-9a-f]+")

# Programs with checked tests that run before their answers are judged: what this process holds at a time.
_CHECKED_AT_ONCE = 24
_SUITES_AT_ONCE = 96
_BRIEF_SECONDS = 0.02
"""CPU seconds of the run in which the suites of a program share a process."""
_MAX_SURVIVORS = 3
_MUTANTS = 20


@dataclass(frozen=True)
class InModule:
    """A text with `unittest` classes that runs in the module of the program, as BigCodeBench runs it."""

    text: str

    @property
    def content(self) -> list[Any]:
        """What decides the verdict, for keys."""
        return [self.text]


Test = asserts.Test | Checked | Suite | InModule
Record = dict[str, Any]
"""What the process of a program wrote about one step, with a `status` and perhaps a `reason`; hostile."""
Answer = tuple[str, str]
"""What a checker judges: ("data", tokens in JSON) or ("text", the output of a script); hostile."""
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A program, its tests or calls, and its limits: what decides the verdict."""

    program: str
    tests: tuple[Test, ...]
    limits: Limits
    tested: bool = False
    """Whether the tests run in a process of their own, although each could be judged here."""
    first: bool = False
    """Whether the timeouts of the run are to be confirmed, by itself where it can, or by another run."""

    @property
    def max_time_outs(self) -> int:
        """Tests that may be out of time before the rest is not run, where the run does not confirm its own timeouts."""
        return 1 if self.first else MAX_TIME_OUTS

    @property
    def is_script(self) -> bool:
        return bool(self.tests) and _is_of_script(self.tests[0])

    @property
    def is_checked(self) -> bool:
        """Whether answers leave the process of the program, and are judged in another one."""
        return any(isinstance(test, (Checked, Suite)) for test in self.tests)

    @property
    def is_of_suites(self) -> bool:
        return bool(self.tests) and isinstance(self.tests[0], Suite)

    @property
    def suites(self) -> list[Suite]:
        return [test for test in self.tests if isinstance(test, Suite)]

    @property
    def is_mixed(self) -> bool:
        """Whether there are texts and calls among the tests, which run in different ways."""
        return not self.is_script and len(set(map(type, self.tests))) > 1


def _is_of_script(test: Test) -> bool:
    return isinstance(test, Interaction) or (isinstance(test, Checked) and test.stdin is not None)


@dataclass
class Trial:
    """What is known of a program's run. `crashed` is the test in which its process died, if another one can go on.
    `late` says that the last test that ran needs a run with more time to be decided, and is a timeout until then;
    `confirmed` says that its timeouts need no further run. `deferred` says that its values could not be judged here.
    `answers` are those that are still to be checked, by index of the test; the outcomes of these are passes until then.
    """

    outcomes: list[TestOutcome]
    flags: set[str] = field(default_factory=set)
    cpu_seconds: float = 0.0
    crashed: int | None = None
    late: bool = False
    confirmed: bool = False
    deferred: bool = False
    answers: dict[int, Answer] = field(default_factory=dict)

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
_WHOLE_SUITE = "out of CPU time for all inputs"


class Cache:
    """Verdicts by the content of what was judged, the least recently used ones dropped; holds no unjudged ones."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._left = max_bytes

    @staticmethod
    def key(work: Work, context: Sequence[Any]) -> bytes:
        """`context` is what else decides: harness, interpreter, isolation, what the caller wants run again."""
        tests = [
            test
            if isinstance(test, str)
            else [type(test).__name__.lower(), test.content]
            if isinstance(test, (Checked, Suite, InModule))
            else [test.stdin, test.stdout, test.compare]
            for test in work.tests
        ]
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
        "importPolicy": pool.import_policy,
        "calibrationSeconds": pool.calibration_seconds,
        "workers": pool.size,
    }


def judge(pool: Pool, params: JudgeParams, call: Call, cache: Cache | None = None) -> JudgeResult:
    """Run programs against their tests.

    params: {jobs: [{id, program, tests, limits?}], limits?, thresholds?: [rate], references?: [job]}. A test
    is a text (Python statements, or `unittest.TestCase` classes), {call, ...} for a call with several right answers, or
    {stdin, ...} for a program that is run as a script; `checkers.parse` lists the forms. One program is run as a script
    in all its tests or in none. Limits of a job go before those of the request; a program that imports in its functions
    gets 0.25 s more for each test.

    Result: {verdicts: [{id, outcomes: [{status, reason?, inside?}], flags}], measurements: [{id, cpuSeconds}],
    brokenReferences: [{id, test, status, reason?}]}, verdicts and measurements in job order, one outcome for each test.
    status: pass, assertion_failed, raised, timeout, not_run, load_error, killed, refused (the sandbox denied
    something), checker_failed (a fault of the test's checker, which is no fact about the program) or unjudged (trouble
    of the host: to be repeated, never a label). `inside` marks outcomes made in the program's own process, which is
    weaker evidence, and `checker` is the version of the checker program that decided.

    Equal programs with equal tests run once. What is run again: the tests after one that ended the process, up to
    twice; apart from the others, one on each core, the programs that ran out of time, unless their first run goes on to
    twice the limit and thus confirms it; where it is not confirmed, alone with four times the limits; alone, a program
    whose pass rate is within 0.05 of one of `thresholds`. A suite has twice the limit of a test at once.

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
    for id, work in [*jobs, *references]:
        if any(isinstance(test, Suite) and test.expected is None for test in work.tests):
            raise ServiceError("InvalidInput", f"Job {id} has a suite without 'expected': ask for its answers first.")
    thresholds = _rates(params)
    broken = _broken_references(pool, references, call)
    # Asked once of each job: the hash of a work is that of all its texts.
    indexes: dict[Work, int] = {}
    of_job = [indexes.setdefault(work, len(indexes)) for _, work in jobs]
    works = list(indexes)
    pool.prepare(_texts(work) for work in works)
    context = [HARNESS_VERSION, pool.python_version, pool.isolation, thresholds]
    keys = [Cache.key(work, context) for work in works] if cache else []
    known = {at: trial for at, key in enumerate(keys) if cache and (trial := cache.get(key))}
    missing = [at for at in range(len(works)) if at not in known]
    judged = _judge_works(pool, [works[at] for at in missing], thresholds, call)
    trials = known | dict(zip(missing, judged, strict=True))
    sound = [reference for reference in references if reference[0] not in broken]
    failing = _broken_references(pool, sound, call)
    # A checker that now fails and then does not says nothing about the host.
    faulty = {id: each for id, each in failing.items() if each["status"] == "checker_failed"}
    broken |= faulty
    if failing.keys() - faulty.keys():
        names = ", ".join(id for id in failing if id not in faulty)
        message = f"References that passed before the batch fail after it: {names}; no verdict is given."
        raise ServiceError("SandboxUnavailable", message)
    for at, key in enumerate(keys):
        if cache:
            cache.put(key, trials[at])
    given = [(id, trials[at]) for (id, _), at in zip(jobs, of_job, strict=True)]
    return {
        "verdicts": [{"id": id, "outcomes": trial.outcomes, "flags": sorted(trial.flags)} for id, trial in given],
        "measurements": [{"id": id, "cpuSeconds": trial.cpu_seconds} for id, trial in given],
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
    works = list(dict.fromkeys(part for _, work in jobs for part in _parts(work)))
    pool.prepare(_texts(work) for work in works)
    empty = Work("", (), most)
    trials = _run_works(pool, [*works, empty] * _MEASUREMENTS, call, alone=False)
    width = len(works) + 1
    least = [min(trial.cpu_seconds for trial in trials[at::width]) for at in range(width)]
    beyond_empty = {work: max(0.0, seconds - least[-1]) for work, seconds in zip(works, least, strict=False)}
    return {"limits": [limits_from(sum(beyond_empty[part] for part in _parts(work)), most) for _, work in jobs]}


def _places(work: Work) -> list[list[int]]:
    """Places of the tests that run together: all of them, or texts and calls apart."""
    if not work.is_mixed:
        return [list(range(len(work.tests)))]
    return [[place for place, test in enumerate(work.tests) if isinstance(test, str) is kind] for kind in (True, False)]


def _parts(work: Work) -> list[Work]:
    """A work, or where texts and calls are among its tests one for each of the two kinds."""
    if not work.is_mixed:
        return [work]
    return [replace(work, tests=tuple(work.tests[place] for place in places)) for places in _places(work)]


def _texts(work: Work) -> list[str]:
    tests = (test.text if isinstance(test, InModule) else test for test in work.tests)
    return [work.program, *(test for test in tests if isinstance(test, str))]


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
    """Judge each work; one with texts and calls as two."""
    if not any(work.is_mixed for work in works):
        return _judge_alike(pool, works, thresholds, call)

    def parts(indexes: Sequence[int]) -> list[Work]:
        return [part for index in indexes for part in _parts(works[index])]

    def merged(indexes: Sequence[int], trials: Sequence[Trial]) -> dict[int, Trial]:
        found = {index: Trial([{"status": "not_run"} for _ in works[index].tests]) for index in indexes}
        owners = [(index, places) for index in indexes for places in _places(works[index])]
        for (index, places), part in zip(owners, trials, strict=True):
            whole = found[index]
            for place, outcome in zip(places, part.outcomes, strict=True):
                whole.outcomes[place] = outcome
            whole.flags |= part.flags
            whole.cpu_seconds += part.cpu_seconds
        return found

    every = range(len(works))
    whole = merged(every, _judge_alike(pool, parts(every), (), call))
    for index, first in whole.items():
        if _is_near(first, thresholds) and first.last_time_out is None:
            again = merged([index], _run_with_crashes(pool, parts([index]), call, alone=True))[index]
            if again.statuses != first.statuses:
                again.flags.add("flaky")
            whole[index] = again
    return [whole[index] for index in every]


def _judge_alike(pool: Pool, works: Sequence[Work], thresholds: Sequence[float], call: Call) -> list[Trial]:
    trials = _run_with_crashes(pool, [replace(work, first=True) for work in works], call)
    late = {index: at for index, trial in enumerate(trials) if (at := trial.last_time_out) is not None}
    doubtful = [index for index in late if not trials[index].late and not trials[index].confirmed]
    repeated = dict(
        zip(doubtful, _run_with_crashes(pool, [_with_slack(works[at]) for at in doubtful], call), strict=True)
    )
    for index, (work, first) in enumerate(zip(works, trials, strict=True)):
        if index in late:
            if first.confirmed and not first.late:
                continue
            ran = late[index] + 1
            if index in repeated:
                trials[index] = repeated[index]
                if repeated[index].statuses[:ran] == first.statuses[:ran]:
                    continue
            decider = replace(work, limits=work.limits.times(_SLOW_FACTOR))
        elif _is_near(first, thresholds) and first.last_time_out is None:
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
    return replace(work, limits=_per_test(work.limits, _SLACK_FACTOR), first=False)


@functools.lru_cache
def _per_test(limits: Limits, factor: float, more: float = 0.0) -> Limits:
    """Limits with `factor` times the CPU time of a test, and so many seconds more."""
    return replace(limits, cpu_seconds_per_test=factor * limits.cpu_seconds_per_test + more)


def _is_near(trial: Trial, thresholds: Sequence[float]) -> bool:
    rate = trial.statuses.count("pass") / max(1, len(trial.outcomes))
    return any(abs(rate - threshold) <= _NEAR_THRESHOLD + 1e-9 for threshold in thresholds)


def _run_with_crashes(pool: Pool, works: Sequence[Work], call: Call, alone: bool = False) -> list[Trial]:
    """Run each work; where a test ended the process, the tests after it get another one."""
    trials = _run_works(pool, works, call, alone)
    for _ in range(_MAX_CRASHES):
        broken = [(index, trial.crashed) for index, trial in enumerate(trials) if trial.crashed is not None]
        rests = [
            replace(_with_slack(works[at]) if trials[at].confirmed else works[at], tests=works[at].tests[crashed + 1 :])
            for at, crashed in broken
        ]
        for (at, crashed), rest in zip(broken, _run_works(pool, rests, call, alone), strict=True):
            trial, ran = trials[at], crashed + 1
            trial.outcomes[ran:] = rest.outcomes
            trial.crashed = None if rest.crashed is None else ran + rest.crashed
            trial.late = rest.late
            trial.confirmed |= rest.confirmed
            trial.flags |= rest.flags
            trial.cpu_seconds += rest.cpu_seconds
    return trials


def _run_works(pool: Pool, works: Sequence[Work], call: Call, alone: bool) -> list[Trial]:
    """Run each work, and judge the answers that have a checker: of few works at a time, because answers are large."""
    checked = [index for index, work in enumerate(works) if work.is_checked and not work.is_of_suites]
    of_suites = [index for index, work in enumerate(works) if work.is_of_suites]
    rest = [index for index, work in enumerate(works) if not work.is_checked]
    # The slowest first, so that no core waits for one that came last.
    rest.sort(key=lambda index: _expected_slowness(works[index]), reverse=True)
    trials = dict(zip(rest, _run_jobs(pool, [works[at] for at in rest], call, alone), strict=True))
    trials |= zip(of_suites, _run_suites(pool, [works[at] for at in of_suites], call, alone), strict=True)
    for some in (checked[at : at + _CHECKED_AT_ONCE] for at in range(0, len(checked), _CHECKED_AT_ONCE)):
        ran = _run_jobs(pool, [works[at] for at in some], call, alone)
        pending: list[tuple[Trial, int, Checked, Answer]] = []
        for index, trial in zip(some, ran, strict=True):
            for place, answer in trial.answers.items():
                test = works[index].tests[place]
                assert isinstance(test, Checked)
                pending.append((trial, place, test, answer))
            trial.answers = {}
            trials[index] = trial
        outcomes = _check(pool, [(id(trial), test, answer) for trial, _, test, answer in pending], call, alone)
        for (trial, place, _, _), outcome in zip(pending, outcomes, strict=True):
            trial.outcomes[place] = outcome
    return [trials[index] for index in range(len(works))]


def _expected_slowness(work: Work) -> tuple[float, bool]:
    """By what works are put into an order: their limits come from their references, and what does not end mostly has a
    `while`.
    """
    return work.limits.cpu_seconds_per_test, _MAY_BE_ENDLESS.search(work.program) is not None


def _run_jobs(pool: Pool, works: Sequence[Work], call: Call, alone: bool) -> list[Trial]:
    """Run each work: in one process, or with its tests in another one, or each test of a script in its own process."""
    if not works:
        return []
    owners = [(index, place) for index, work in enumerate(works) for place in range(_number_of_jobs(work))]
    jobs = _Jobs(works, owners)

    def digest(at: int, report: Report | None) -> Trial:
        index, place = owners[at]
        return trial_of(works[index], place, jobs[at], report)

    trials: list[Trial] = [Trial([]) for _ in works]
    for (index, _), part in zip(owners, pool.run(jobs, call, digest, alone), strict=True):
        whole = trials[index]
        if not whole.outcomes:
            trials[index] = part
            continue
        whole.answers |= {len(whole.outcomes) + at: answer for at, answer in part.answers.items()}
        whole.outcomes += part.outcomes
        whole.flags |= part.flags
        whole.cpu_seconds += part.cpu_seconds
    for work, trial in zip(works, trials, strict=True):
        _stop_after_time_outs(work, trial)
    if deferred := [index for index, trial in enumerate(trials) if trial.deferred]:
        again = [replace(works[index], tested=True) for index in deferred]
        for index, trial in zip(deferred, _run_jobs(pool, again, call, alone), strict=True):
            trials[index] = trial
    return trials


class _Jobs(Sequence[Job]):
    """The jobs of works, by (index of the work, number of its job). Each is made when it is first needed: the first
    programs run while the tests of others are read.
    """

    def __init__(self, works: Sequence[Work], owners: Sequence[tuple[int, int]]) -> None:
        self._works, self._owners = works, owners
        self._made: dict[int, list[Job]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    @overload
    def __getitem__(self, at: int) -> Job: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Job]: ...
    def __getitem__(self, at: int | slice) -> Job | Sequence[Job]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        index, place = self._owners[at]
        if index not in self._made:
            self._made[index] = _jobs(self._works[index])
        return self._made[index][place]


def trial_of(work: Work, place: int, job: Job, report: Report | None) -> Trial:
    """What is known of the run of a job, which is number `place` of a work's. The report is hostile: whatever it holds
    ends no batch.
    """
    is_apart = job.stdin is not None or (job.answers and work.tested)
    tests = work.tests[place : place + 1] if is_apart else work.tests

    def read() -> Trial:
        if job.stdin is not None:
            return _script_trial(tests, report)
        if job.answers:
            return _answers_trial(cast("tuple[Checked, ...]", tests), report, may_defer=not work.tested)
        return _trial(tests, report, tested=job.tests is not None, may_be_late=job.late_after < math.inf)

    return _read_hostile(read, lambda: Trial([_WROTE.copy() for _ in tests]))


_WROTE: TestOutcome = {"status": "killed", "reason": "wrote to the result channel"}


def _read_hostile(read: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """What is read of a report, or of one that could not be read."""
    # Half a million lists make no garbage, and looking for it would take three times as long as reading them.
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - hostile records end no batch
        print(f"The records of a program could not be read: {error!r}", file=sys.stderr)
        return otherwise()
    finally:
        if was_collecting:
            gc.enable()


def _stop_after_time_outs(work: Work, trial: Trial) -> None:
    """Tests of a script after those in which it was out of time do not count: which of them ran is no matter."""
    if not work.is_script and not (work.is_checked and work.tested):
        return
    most = work.max_time_outs
    late = [at for at, outcome in enumerate(trial.outcomes) if outcome["status"] == "timeout"]
    if len(late) >= most:
        for at in range(late[most - 1] + 1, len(trial.outcomes)):
            trial.outcomes[at] = {"status": "not_run", "reason": f"{most} time-outs before"}
        trial.answers = {at: answer for at, answer in trial.answers.items() if at <= late[most - 1]}


def _limits_of(work: Work) -> Limits:
    return _per_test(work.limits, 1, _IMPORT_SECONDS if _INNER_IMPORT.search(work.program) else 0.0)


def _number_of_jobs(work: Work) -> int:
    """How many jobs `_jobs` makes of a work."""
    return len(work.tests) if work.is_script or (work.is_checked and work.tested) else 1


def _jobs(work: Work) -> list[Job]:
    """What is run for a work: one job, or one for each test of a script."""
    more = _IMPORT_SECONDS if _INNER_IMPORT.search(work.program) else 0.0
    limits = _limits_of(work)
    if work.is_script:
        return [Job(work.program, limits=limits, stdin=_stdin(test)) for test in work.tests]
    if work.is_checked:
        calls = [checkers.plan(test).call for test in work.tests if isinstance(test, Checked)]
        steps = [[code] if code else [] for code in calls]
        groups = [[step] for step in steps] if work.tested else [steps]
        return [Job(work.program, each, limits, max_time_outs=work.max_time_outs, answers=True) for each in groups]
    if work.tests and isinstance(work.tests[0], InModule):
        texts = [("module", test.text) for test in work.tests if isinstance(test, InModule)]
        return [Job(work.program, limits=limits, tests=texts, max_time_outs=work.max_time_outs)]
    tests = tuple(test for test in work.tests if isinstance(test, str))
    if work.tested or (steps := _steps(tests)) is None:
        return [Job(work.program, limits=limits, tests=tests, max_time_outs=work.max_time_outs)]
    slack = _per_test(work.limits, _SLACK_FACTOR, more)
    if not work.first or slack.cpu_seconds_per_test >= limits.cpu_seconds_per_program:
        return [Job(work.program, steps, limits, max_time_outs=work.max_time_outs)]
    # It goes on as the run that would confirm its timeouts, and only tells late tests apart.
    return [Job(work.program, steps, slack, late_after=limits.cpu_seconds_per_test)]


@functools.lru_cache(maxsize=_KEPT_STEPS)
def _steps(tests: tuple[str, ...]) -> bytes | None:
    """What runs of tests whose values are judged here; None where they need a process of their own."""
    plans = [asserts.plan(test) for test in tests]
    return marshalled([plan.step[1] for plan in plans]) if all(plan.parts for plan in plans) else None


def _stdin(test: Test) -> str:
    assert isinstance(test, (Interaction, Checked))
    return test.stdin or ""


def _answers_trial(tests: tuple[Checked, ...], report: Report | None, may_defer: bool) -> Trial:
    """Digest the report of a run whose answers are judged apart: what is known before."""
    records = _records(report, len(tests)) if report else []
    answers: list[Answer | None] = []

    def finish(_: Test, record: Record) -> TestOutcome:
        outcome, answer = _answer_record(record)
        answers.append(answer)
        return outcome

    trial = Trial(_outcomes(report, records, tests, finish), cpu_seconds=report.cpu_seconds if report else 0.0)
    # All answers of a program may be too large for one run.
    trial.deferred = may_defer and report is not None and report.kind == OVERFLOW
    if records and records[0].get("stripped") is True:
        trial.flags.add("stripped")
    for place, (test, outcome) in enumerate(zip(tests, trial.outcomes, strict=True)):
        if fault := checkers.plan(test).fault:
            trial.flags.add("unparsable")
            if outcome["status"] != "unjudged":
                trial.outcomes[place] = {"status": "checker_failed", "reason": fault}
        elif place < len(answers) and (answer := answers[place]) and outcome["status"] == "pass":
            trial.answers[place] = answer
    _note_crash(trial, report)
    return trial


def _answer_record(record: Record) -> tuple[TestOutcome, Answer | None]:
    """The outcome until now of a step, a pass where there is an answer, and the answer."""
    reason = _clean(record.get("reason", ""))
    match record["status"]:
        case "answer" if isinstance(record.get("answer"), str):
            return {"status": "pass"}, ("data", record["answer"])
        case "no_data":
            return {"status": "assertion_failed", "reason": _clean(f"got {reason}, which is no plain data")}, None
        case "too_large":
            return {"status": "killed", "reason": "its answer is larger than what the sandbox takes"}, None
        case _:
            return _failed_record(record), None


def _note_crash(trial: Trial, report: Report | None) -> None:
    """Note the test in which the process of a program ended, if there are tests after it."""
    ran = sum(status != "not_run" for status in trial.statuses)
    if report is None or report.kind != ENDED or not 0 < ran < len(trial.outcomes):
        return
    if trial.outcomes[ran - 1].get("reason") == _death(report).get("reason"):
        trial.crashed = ran - 1


def _trial(tests: tuple[Test, ...], report: Report | None, tested: bool, may_be_late: bool) -> Trial:
    """Digest the report of one run."""
    records = _records(report, len(tests)) if report else []
    deferred = late = confirmed = False

    def finish(test: Test, record: Record) -> TestOutcome:
        nonlocal deferred, late, confirmed
        if may_be_late:
            confirmed |= record.get("confirmed") is True
            if record["status"] == "late":
                late = True
                return {"status": "timeout"}
        try:
            return _tested_record(record) if tested else _judge_record(test, record)
        except asserts.Defer:
            deferred = True
            return {"status": "not_run"}

    outcomes = _outcomes(report, records, tests, finish)
    trial = Trial(outcomes, cpu_seconds=report.cpu_seconds if report else 0.0, late=late, confirmed=confirmed)
    trial.deferred = deferred or (not tested and report is not None and report.kind == OVERFLOW)
    if records and records[0].get("stripped") is True:
        trial.flags.add("stripped")
    cheating = tested and bool(records) and records[-1].get("cheating") is True
    for test, outcome in zip(tests, outcomes, strict=True):
        assert not isinstance(test, (Checked, Suite))
        plan = asserts.Plan(("text", "")) if isinstance(test, InModule) else asserts.plan(test)
        if outcome.get("inside"):
            trial.flags.add("inside")
            if cheating and outcome["status"] == "pass":
                outcome["status"] = "assertion_failed"
                outcome["reason"] = "passes asserts that are known to be false"
        if plan.weak:
            trial.flags.add("weak")
            outcome["weak"] = True
        if plan.repaired:
            trial.flags.add("repaired")
            outcome["repaired"] = True
        if not plan.parses:
            trial.flags.add("unparsable")
    if cheating:
        trial.flags.add("cheating")
    _note_crash(trial, report)
    return trial


def _script_trial(tests: tuple[Test, ...], report: Report | None) -> Trial:
    """Digest the report of a script that was run for one test: how it ended, and then what it wrote, decide."""
    (test,) = tests
    assert isinstance(test, (Interaction, Checked))
    records = _records(report, 1) if report else []
    trial = Trial([], cpu_seconds=report.cpu_seconds if report else 0.0)
    if report is None:
        trial.outcomes.append({"status": "unjudged", "reason": "the sandbox had trouble"})
    elif not records or records[0]["status"] != "loaded":
        trial.outcomes.append(_loading_failure(report, records))
    elif len(records) > 1 and records[1]["status"] in _FAILURES:
        trial.outcomes.append(_failed_record(records[1]))
    elif report.kind == OVERFLOW:
        reason = f"wrote more than {MAX_OUTPUT // 2**20} MiB to standard output"
        trial.outcomes.append({"status": "killed", "reason": reason})
    elif report.kind != ENDED or report.status != 0:
        trial.outcomes.append(_death(report))
    elif isinstance(test, Checked) and test.checker is not None:
        written = _text(report.output)
        if len(written) > checkers.MAX_OUTPUT_CHARACTERS:
            reason = f"wrote more than the {checkers.MAX_OUTPUT_CHARACTERS} characters that a checker gets"
            trial.outcomes.append({"status": "killed", "reason": reason})
        else:
            trial.outcomes.append({"status": "pass"})
            trial.answers[0] = ("text", written)
    else:
        expected, size = _interactions(test), len(report.output)
        most = max(map(asserts.most_bytes, expected), default=0)
        if size <= most and _is_expected(report.output, expected):
            trial.outcomes.append({"status": "pass"})
        else:
            limit = f"{size:,} bytes, of which at most {most:,} are compared: " if size > most else ""
            reason = limit + _got(_text(report.output[: 8 * _MAX_REASON]))
            trial.outcomes.append({"status": "assertion_failed", "reason": _clean(reason)})
    return trial


def _is_expected(output: bytes, interactions: Sequence[Interaction]) -> bool:
    """Whether the output of a script is one of those expected."""
    written = _text(output)
    return any(asserts.same_output(written, each) for each in interactions if len(output) <= asserts.most_bytes(each))


def _interactions(test: Interaction | Checked) -> list[Interaction]:
    """A test of a script with one expected output for each that it has."""
    if isinstance(test, Interaction):
        return [test]
    return [Interaction(test.stdin or "", each, test.compare) for each in test.expected]


# --- answers that are judged apart from the program -------------------------------------------------------------------


def _check(
    pool: Pool, given: Sequence[tuple[int, Checked | Suite, Answer]], call: Call, alone: bool
) -> list[TestOutcome]:
    """The outcomes of answers, each (program, its test, its answer), in order. The answers of one program to one
    checker are judged in one process. After a crash those that are left get another one; a timeout is confirmed alone,
    with four times the limits.
    """
    outcomes: dict[int, TestOutcome] = {}
    pending = list(range(len(given)))
    for _ in range(1 + _MAX_CRASHES):
        groups: dict[tuple[int, str], list[int]] = {}
        for at in pending:
            groups.setdefault((given[at][0], _checker(given[at][1])), []).append(at)
        for limits in (checkers.LIMITS, suites.CHECK_LIMITS):
            some = [group for group in groups.values() if _check_limits(given[group[0]][1]) == limits]
            outcomes |= _run_checks(pool, given, some, limits, call, alone)
        pending = [at for at in pending if at not in outcomes]
        if not pending:
            break
    late = [at for at, outcome in outcomes.items() if outcome.get("reason") in _LATE_CHECKS]
    for at in late:
        slow = _check_limits(given[at][1]).times(_SLOW_FACTOR)
        outcomes |= _run_checks(pool, given, [[at]], slow, call, alone=True)
    for at in pending:
        outcomes[at] = {"status": "checker_failed", "reason": "the checker: ended with an earlier answer"}
    for at, (_, test, _) in enumerate(given):
        if isinstance(test, Checked) and (version := test.digest):
            outcomes[at]["checker"] = version
    return [outcomes[at] for at in range(len(given))]


def _checker(test: Checked | Suite) -> str:
    """The text of the checker program, empty where there is none."""
    return "" if isinstance(test, Suite) else test.checker or ""


def _check_limits(test: Checked | Suite) -> Limits:
    return suites.CHECK_LIMITS if isinstance(test, Suite) else checkers.LIMITS


def _check_of(test: Checked | Suite) -> tuple[Any, ...]:
    return test.check if isinstance(test, Suite) else checkers.plan(test).check


_CHECK_TIME = "the checker: out of CPU time"
_CHECK_TIME_OUTS = f"the checker: {MAX_TIME_OUTS} time-outs before"
_LATE_CHECKS = (_CHECK_TIME, _CHECK_TIME_OUTS)


def _run_checks(
    pool: Pool,
    given: Sequence[tuple[int, Checked | Suite, Answer]],
    groups: Sequence[Sequence[int]],
    limits: Limits,
    call: Call,
    alone: bool,
) -> dict[int, TestOutcome]:
    """The outcomes of the answers of each group, which one process judges, up to the one in which it ended."""
    jobs = [
        Job(
            _checker(given[group[0]][1]),
            limits=limits,
            checks=[(*_check_of(given[at][1]), given[at][2]) for at in group],
        )
        for group in groups
    ]

    def digest(index: int, report: Report | None) -> dict[int, TestOutcome]:
        group = groups[index]
        if report is None:
            return {at: {"status": "unjudged", "reason": "the sandbox had trouble"} for at in group}
        records = _records(report, len(group))
        if not records or records[0]["status"] != "loaded":
            said = _clean(records[0].get("reason", "out of CPU time")) if records else _death(report).get("reason", "")
            return {at: {"status": "checker_failed", "reason": f"the checker does not load: {said}"} for at in group}
        steps = records[1:]
        end = steps.pop() if steps and steps[-1]["status"] == "end" else None
        outcomes = {at: _checked_record(record) for at, record in zip(group, steps, strict=False)}
        rest = group[len(outcomes) :]
        if end is not None:
            for at in rest:
                reason = _clean(f"the checker: {end.get('reason', '')}")
                outcomes[at] = {"status": "checker_failed", "reason": reason}
        elif rest:
            death = _clean(f"the checker: {_death(report).get('reason', '')}")
            outcomes[rest[0]] = {"status": "checker_failed", "reason": death}
        return outcomes

    found: dict[int, TestOutcome] = {}
    if jobs:
        for each in pool.run(jobs, call, digest, alone):
            found |= each
    return found


def _checked_record(record: Record) -> TestOutcome:
    """The outcome that a checker gave an answer; anything that it must not say is its fault."""
    reason = record.get("reason", "")
    match record["status"]:
        case "accepted":
            return {"status": "pass"}
        case "rejected":
            return {"status": "assertion_failed", "reason": _clean(reason)}
        case "malformed":
            return {"status": "killed", "reason": "wrote to the result channel"}
        case "timeout":
            return {"status": "checker_failed", "reason": _CHECK_TIME}
        case "fault":
            return {"status": "checker_failed", "reason": _clean(f"the checker: {reason}")}
        case _:
            return {"status": "checker_failed", "reason": "the checker: wrote to the result channel"}


def mutants(pool: Pool, params: MutantsParams, call: Call) -> MutantsResult:
    """How many wrong answers checkers reject.

    params: {jobs: [{id, program, tests, limits?}], limits?, mutants?, seed?}. Each job is a right program with tests
    that have a checker, a property or a comparison. Result: {checkers: [{id, accepted, answers, mutants, killed,
    failed, survivors: [{test, answer}]}]} in job order. `answers` of the program are given to the checkers, and
    `accepted` of them pass. Each is changed in `mutants` ways, the same for the same seed; `killed` are rejected,
    `failed` end with a fault of the checker. A mutant may be right where there are several right answers, so the first
    three survivors are shown.
    """
    jobs = _parse(params, "jobs", "tests", Limits.parse(params))
    count, seed = params.get("mutants", _MUTANTS), params.get("seed", 0)
    for id, work in jobs:
        if not work.is_checked or not all(isinstance(test, Checked) for test in work.tests):
            raise ServiceError("InvalidInput", f"Job {id} has tests without a checker, a property or a comparison.")
    ran = _run_jobs(pool, [work for _, work in jobs], call, alone=False)
    result: MutantsResult = {"checkers": []}
    for (id, work), trial in zip(jobs, ran, strict=True):
        if "unjudged" in trial.statuses:
            raise ServiceError("SandboxUnavailable", f"The program {id} could not be run.")
        tests = cast("tuple[Checked, ...]", work.tests)
        right = _check(pool, [(0, tests[at], answer) for at, answer in trial.answers.items()], call, alone=False)
        changed = [
            (at, mutant)
            for at, answer in trial.answers.items()
            for mutant in checkers.mutants(
                answer, [other for place, other in trial.answers.items() if place != at], count, seed
            )
        ]
        outcomes = _check(pool, [(at, tests[at], mutant) for at, mutant in changed], call, alone=False)
        if any(outcome["status"] == "unjudged" for outcome in [*right, *outcomes]):
            raise ServiceError("SandboxUnavailable", f"The checkers of {id} could not be run.")
        survivors = [each for each, outcome in zip(changed, outcomes, strict=True) if outcome["status"] == "pass"]
        failed = sum(outcome["status"] == "checker_failed" for outcome in outcomes)
        result["checkers"].append(
            {
                "id": id,
                "answers": len(tests),
                "accepted": sum(outcome["status"] == "pass" for outcome in right),
                "mutants": len(changed),
                "killed": len(changed) - len(survivors) - failed,
                "failed": failed,
                "survivors": [
                    {"test": at, "answer": _clean(checkers.shown(mutant))} for at, mutant in survivors[:_MAX_SURVIVORS]
                ],
            }
        )
    return result


def _text(written: bytes) -> str:
    """What a script wrote, as text; bytes that are none become what no expected text contains."""
    try:
        return written.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        broken = written[: _MAX_BROKEN + 1].decode("utf-8", "surrogateescape")
        return broken if len(written) <= _MAX_BROKEN else broken + "\udcff"


def _got(written: str) -> str:
    return _clean(f"got {written[:_MAX_REASON]!r}")


def evaluate(pool: Pool, params: EvaluateParams, call: Call) -> EvaluateResult:
    """Compute the values of calls of programs.

    params: {jobs: [{id, program, calls: [str]}], limits?}. Result: {values: [{id, results: [{status: "value", literal}
    | {status, reason}]}]} in job order, one result for each call; the other statuses are those of `judge`. A literal is
    a Python expression with the same text on every run; a value that has none counts as raised.
    """
    jobs = _parse(params, "jobs", "calls", Limits.parse(params))
    works = list(dict.fromkeys(work for _, work in jobs))

    def digest(index: int, report: Report | None) -> list[CallValue | TestOutcome]:
        records = _records(report, len(works[index].tests)) if report else []
        return _outcomes(report, records, works[index].tests, _value_record)

    results = pool.run(
        [Job(work.program, [[text] for text in work.tests], work.limits) for work in works],
        call,
        digest,
    )
    by_work = dict(zip(works, results, strict=True))
    return {"values": [{"id": id, "results": by_work[work]} for id, work in jobs]}


def answers(pool: Pool, params: AnswersParams, call: Call) -> AnswersResult:
    """What references answer to the inputs of suites, which is then what programs are to answer.

    params: {jobs: [{id, program, tests, limits?}], limits?}; all tests are suites. Result: {answers: [{id, suites:
    [{status: "answers", answers, slowest} | {status, reason}]}]} in job order. `answers` is a text to hand back as
    `expected`, and `slowest` are the CPU seconds of the slowest call. An answer that is no plain data is a failure.
    """
    jobs = _parse(params, "jobs", "tests", Limits.parse(params))
    for id, work in jobs:
        if not work.is_of_suites:
            raise ServiceError("InvalidInput", f"Job {id} has tests that are no suites.")
    works = list(dict.fromkeys(work for _, work in jobs))
    pool.prepare(_texts(work) for work in works)
    pieces = [(work, suite) for work in works for suite in work.suites]

    def read(suite: Suite, report: Report | None) -> SuiteAnswers | TestOutcome:
        loaded, (said,) = _said(report, [suite])
        match said.end:
            case {"status": "answered", "slowest": float() | int() as slowest} if len(said.answers) == len(
                suite.arguments
            ):
                if suites.NO_DATA in said.answers:
                    at = said.answers.index(suites.NO_DATA)
                    return {"status": "raised", "reason": f"input {at}: the answer is no plain data"}
                return {"status": "answers", "answers": suites.text_of(said.answers), "slowest": float(slowest)}
            case _:
                return _end_of_suite(report, loaded, said)

    def digest(at: int, report: Report | None) -> SuiteAnswers | TestOutcome:
        return _read_hostile(lambda: read(pieces[at][1], report), _WROTE.copy)

    of_pieces = [_suites_job(work.program, [suite], _limits_of(work)) for work, suite in pieces]
    found: dict[Work, list[SuiteAnswers | TestOutcome]] = {work: [] for work in works}
    for (work, _), each in zip(pieces, pool.run(of_pieces, call, digest), strict=True):
        found[work].append(each)
    return {"answers": [{"id": id, "suites": found[work]} for id, work in jobs]}


# --- suites ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What the process of a program said of a suite: its answers, each as its tokens, and how the last call ended; None
    where the process ended first. Hostile.
    """

    answers: list[str]
    end: Record | None


_DAMAGED: Record = {"status": "damaged"}


def _suites_job(program: str, tests: Sequence[Suite], limits: Limits, brief: bool = False) -> Job:
    ((entry_point, truths),) = {(each.entry_point, each.truths) for each in tests}
    calls = [each.calls for each in tests]
    return Job(program, limits=limits, suites=(entry_point, calls, truths, not brief))


def _said(report: Report | None, tests: Sequence[Suite]) -> tuple[Record | None, list[Said]]:
    """How a program loaded, and what it said of each suite."""
    nothing = Said([], None)
    frames = _frames(report.records if report else b"")
    loaded = _record(next(frames, b""))
    if loaded is None or loaded["status"] != "loaded":
        return loaded, [nothing] * len(tests)
    found: list[Said] = []
    for suite in tests:
        said, most = Said([], None), len(suite.arguments)
        for frame in frames:
            if frame.startswith(b"{"):
                said = replace(said, end=_record(frame) or _DAMAGED)
                break
            if len(said.answers) + frame.count(b"\n") >= most:
                said = Said([], _DAMAGED)
                break
            said.answers.extend(frame.decode("ascii").split("\n"))
        found.append(said)
    if next(frames, None) is not None:
        # The process has written its own records, and nothing tells which ones.
        found = [Said([], _DAMAGED)] * len(tests)
    return loaded, found


def _frames(data: bytes) -> Iterator[bytes]:
    """What a process wrote after the empty record that says "ready"; the last may be cut where it was ended."""
    position = 4
    while position + 4 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        position += 4 + size
        if position > len(data):
            return
        yield data[position - size : position]


def _run_suites(pool: Pool, works: Sequence[Work], call: Call, alone: bool) -> list[Trial]:
    """Judge each work, whose tests are suites: the first answer that is wrong decides, whatever comes after it.

    First all suites of a program share a process and little time, which decides nearly all of them. Each of the others
    gets a process and the time of the limits; the limit of an input is doubled there, so that a timeout needs no other
    run to be confirmed.
    """
    trials = [Trial([{"status": "not_run"} for _ in work.tests], confirmed=True) for work in works]
    together: dict[tuple[int, str, bool], list[int]] = {}
    for index, work in enumerate(works):
        for place, suite in enumerate(work.suites):
            together.setdefault((index, suite.entry_point, suite.truths), []).append(place)
    every = [(index, places) for (index, *_), places in together.items()]
    left = _run_parts(pool, works, trials, every, call, alone, brief=True)
    # The slowest first, so that no core waits for one that came last.
    left.sort(key=lambda part: -works[part[0]].limits.cpu_seconds_per_test)
    _run_parts(pool, works, trials, left, call, alone, brief=False)
    return trials


def _run_parts(
    pool: Pool,
    works: Sequence[Work],
    trials: Sequence[Trial],
    parts: Sequence[tuple[int, Sequence[int]]],
    call: Call,
    alone: bool,
    brief: bool,
) -> list[tuple[int, Sequence[int]]]:
    """Run parts of works, each (index of the work, places of its suites), in a process each, and note the outcomes in
    the trials. Of few at a time, because answers are large. The parts that a brief run leaves open.
    """
    left: list[tuple[int, Sequence[int]]] = []
    for some in (parts[at : at + _SUITES_AT_ONCE] for at in range(0, len(parts), _SUITES_AT_ONCE)):
        tests = [[works[index].suites[place] for place in places] for index, places in some]
        limits = [_brief(works[index]) if brief else _limits_of(_with_slack(works[index])) for index, _ in some]
        jobs = [
            _suites_job(works[index].program, suites_of_part, each, brief)
            for (index, _), suites_of_part, each in zip(some, tests, limits, strict=True)
        ]

        def digest(
            at: int, report: Report | None, tests: Sequence[Sequence[Suite]] = tests
        ) -> tuple[float, list[TestOutcome | Answer | None]]:
            seconds = report.cpu_seconds if report else 0.0
            return seconds, _read_hostile(
                lambda: suite_outcomes(report, tests[at], brief), lambda: [_WROTE.copy() for _ in tests[at]]
            )

        pending: list[tuple[int, int, Answer]] = []
        for (index, places), (seconds, outcomes) in zip(some, pool.run(jobs, call, digest, alone), strict=True):
            trials[index].cpu_seconds += seconds
            for place, outcome in zip(places, outcomes, strict=True):
                if outcome is None:
                    left.append((index, [place]))
                elif isinstance(outcome, tuple):
                    pending.append((index, place, outcome))
                else:
                    trials[index].outcomes[place] = outcome
        given = [(index, works[index].suites[place], answer) for index, place, answer in pending]
        for (index, place, _), outcome in zip(pending, _check(pool, given, call, alone), strict=True):
            trials[index].outcomes[place] = outcome
    return left


def _brief(work: Work) -> Limits:
    """Limits of the run in which the suites of a program share a process."""
    return replace(
        work.limits,
        cpu_seconds_per_test=min(_BRIEF_SECONDS, work.limits.cpu_seconds_per_test),
        cpu_seconds_per_program=min(_BRIEF_SECONDS, work.limits.cpu_seconds_per_program),
    )


def suite_outcomes(report: Report | None, tests: Sequence[Suite], brief: bool) -> list[TestOutcome | Answer | None]:
    """For each suite its outcome, or the answers that another process is to judge; None where a brief run did not come
    to the end of it. The report is hostile.
    """
    loaded, found = _said(report, tests)
    outcomes: list[TestOutcome | Answer | None] = []
    for suite, said in zip(tests, found, strict=True):
        outcome = _outcome_of_answers(suite, said)
        last = said.end or loaded
        is_open = brief and (last is None or last["status"] in ("loaded", "timeout"))
        outcomes.append(outcome if outcome or is_open else _end_of_suite(report, loaded, said))
    return outcomes


def _outcome_of_answers(suite: Suite, said: Said) -> TestOutcome | Answer | None:
    """What the answers to a suite come to; None where none of them is wrong, and there is not one for each input."""
    try:
        compared, why = suites.why_wrong_here(suite, said.answers)
    except suites.Strange:
        return _WROTE.copy()
    if why is not None:
        return {"status": "assertion_failed", "reason": _clean(why)}
    if said.end is None or said.end["status"] != "answered" or len(said.answers) != len(suite.arguments):
        return None
    return {"status": "pass"} if compared else ("data", suites.text_of(said.answers))


def _end_of_suite(report: Report | None, loaded: Record | None, said: Said) -> TestOutcome:
    """The outcome of a suite to which a program did not answer, and whose answers, if any, are right."""
    if report is None:
        return {"status": "unjudged", "reason": "the sandbox had trouble"}
    if loaded is None or loaded["status"] != "loaded":
        return _loading_failure(report, [loaded] if loaded else [])
    match said.end:
        case {"status": "too_large"}:
            return {"status": "killed", "reason": "its answers are larger than what the sandbox takes"}
        case {"status": "timeout", "whole": True}:
            return {"status": "timeout", "reason": _WHOLE_SUITE}
        case {"status": str(status), "input": int(at)} as record if status in _FAILURES:
            outcome = _failed_record(record)
            return {**outcome, "reason": _clean(f"input {at}: {outcome.get('reason', 'out of CPU time')}")}
        case None:
            death = _death(report)
            late = death["status"] == "timeout" and report.kind == CPU_TIME
            return {"status": "timeout", "reason": _WHOLE_SUITE} if late else death
        case _:
            return _WROTE.copy()


def run(pool: Pool, params: RunParams, call: Call) -> RunResult:
    """Run programs as scripts and say what became of them; no test judges them.

    params: {jobs: [{id, program, stdin, limits?}], limits?}. The CPU time of a test is that of the whole run. Result:
    {runs: [{id, status, exitCode, stdout, stderr, cpuSeconds, reason?}]} in job order. status: ended, which has an exit
    code; timeout, which is of this one run and not confirmed; killed; or unjudged (trouble of the host). Standard error
    is cut after 64 KiB; a program that writes more than 4 MiB to standard output is killed.
    """
    limits = Limits.parse(params)
    jobs: list[tuple[str, Job]] = []
    given: Any = params.get("jobs") or []
    for position, job in enumerate(given):
        if not isinstance(job.get("program"), str) or not isinstance(job.get("stdin"), str):
            raise ServiceError("InvalidInput", f"Job {position} needs 'program' and 'stdin' (strings).")
        _check_length(position, _MAX_CHARACTERS, [job["program"]])
        _check_length(position, _MAX_STREAM_CHARACTERS, [job["stdin"]])
        own = Limits.parse(job, limits)
        own = replace(own, cpu_seconds_per_program=own.cpu_seconds_per_test)
        jobs.append((job["id"], Job(job["program"], limits=own, stdin=job["stdin"], tells=True)))
    runs = pool.run([job for _, job in jobs], call, lambda at, report: _program_run(jobs[at][0], report))
    return {"runs": runs}


def _program_run(id: str, report: Report | None) -> ProgramRun:
    """What a run without tests came to; all that the process wrote is only repeated."""
    told: ProgramRun = {"id": id, "status": "unjudged", "exitCode": None, "stdout": "", "stderr": "", "cpuSeconds": 0.0}
    if report is None:
        return {**told, "reason": "the sandbox had trouble"}
    (size,) = struct.unpack_from(">I", report.output) if len(report.output) >= 4 else (0,)
    streams = report.output[4:]
    told["stdout"], told["stderr"] = _text(streams[:size]), _text(streams[size:])
    told["cpuSeconds"] = report.cpu_seconds
    records = _records(report, 1)
    if report.kind == OVERFLOW:
        return {
            **told,
            "status": "killed",
            "reason": f"wrote more than {MAX_TOLD_OUTPUT // 2**20} MiB to standard output",
        }
    if report.kind == ENDED and len(records) > 1 and records[1]["status"] == "timeout":
        return {**told, "status": "timeout", "reason": "out of CPU time"}
    if report.kind == ENDED and not report.signal:
        return {**told, "status": "ended", "exitCode": report.status >> 8}
    death = _death(report)
    return {
        **told,
        "status": "timeout" if death["status"] == "timeout" else "killed",
        "reason": death.get("reason", ""),
    }


def normalize(params: NormalizeParams, call: Call) -> NormalizeResult:
    """What tests are, however they are written.

    params: {tests: [str]}. Result: {tests: [{test, output}]}, in order. `test` is equal for tests that differ in
    spelling only: white space, comments, messages, the order of the two sides of `==`, and how the expected value is
    written. `output` is equal for tests that expect the same value. No program is run for it.
    """
    normal = [asserts.normal(test) for test in params["tests"]]
    return {"tests": [{"test": test, "output": output} for test, output in normal]}


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
    expressions: list[str] = []
    for test in cast("list[Any]", given):
        match test:
            case str():
                tests.append(test)
            case {"stdin": str(stdin), "stdout": str(stdout)} if texts == "tests" and len(test) == 2:
                tests.append(Interaction(stdin, stdout))
            case {"stdin": str(stdin), "stdout": str(stdout), "compare": str(compare)} if (
                texts == "tests" and len(test) == 3 and compare in asserts.COMPARISONS
            ):
                tests.append(Interaction(stdin, stdout, compare))
            case {"module": str(text)} if texts == "tests" and len(test) == 1:
                tests.append(InModule(text))
            case {"suite": str(inputs)} if texts == "tests" and (suite := suites.parse(test)):
                try:
                    _ = suite.arguments
                except suites.NoInputs as error:
                    message = f"Job {position} has a suite of {suite.task} whose inputs cannot be read: {error}."
                    raise ServiceError("InvalidInput", message) from None
                _check_length(position, suites.MAX_INPUT_CHARACTERS, [inputs, suite.expected or ""])
                tests.append(suite)
            case {"call": str()} | {"stdin": str()} if texts == "tests" and (checked := checkers.parse(test)):
                tests.append(checked)
            case _:
                message = f"Job {position} has {texts} that are neither texts nor of a known form."
                raise ServiceError("InvalidInput", message)
    if set(map(type, tests)) != {str} and len({_is_of_script(test) for test in tests}) > 1:
        raise ServiceError(
            "InvalidInput", f"Job {position} has both stdin tests and others; give it tests of one kind."
        )
    for kind, name in ((Suite, "suites"), (InModule, "tests in its module")):
        if len({isinstance(test, kind) for test in tests}) > 1:
            message = f"Job {position} has both {name} and other tests; give it tests of one kind."
            raise ServiceError("InvalidInput", message)
    if len(tests) > _MAX_TESTS:
        message = f"Job {position} has {len(tests)} {texts}; at most {_MAX_TESTS} are allowed."
        raise ServiceError("InvalidInput", message)
    streams = [text for test in tests if isinstance(test, Interaction) for text in asserts.texts(test)]
    checked = [test for test in tests if isinstance(test, Checked)]
    for test in checked:
        streams += [test.stdin or "", test.call or "", *test.expected]
        expressions += [test.property or ""]
    for most, given_texts in (
        (_MAX_CHARACTERS, [job["program"], *(test for test in tests if isinstance(test, str)), *expressions]),
        (_MAX_CHARACTERS, [test.text for test in tests if isinstance(test, InModule)]),
        (_MAX_STREAM_CHARACTERS, streams),
        (checkers.MAX_CHECKER_CHARACTERS, [test.checker or "" for test in checked]),
    ):
        _check_length(position, most, given_texts)
    own = Limits.parse(job, limits)
    # Samples that differ in the white space at their end only are the same program.
    return job["id"], Work(job["program"].rstrip(), tuple(tests), own)


def _check_length(position: int, most: int, texts: Sequence[str]) -> None:
    longest = max(map(len, texts), default=0)
    if longest > most:
        message = f"Job {position} has a text of {longest} characters; at most {most} are allowed."
        raise ServiceError("InvalidInput", message)


_JSON = json.JSONDecoder()
# What a step's record may say of a test that failed.
_FAILURES: dict[str, Verdict] = {
    "assertion_failed": "assertion_failed",
    "raised": "raised",
    "timeout": "timeout",
    "refused": "refused",
}


def _records(report: Report, steps: int) -> list[Record]:
    """Parse what the process wrote, up to the first thing that is not a record: the bytes are hostile. A process writes
    how it loaded, a record for each of so many steps, and one at the end; of more, only the first is read.
    """
    records: list[Record] = []
    data, position = report.records, 4  # after the empty record that says "ready"
    while position + 4 <= len(data) and len(records) < steps + 3:
        (size,) = struct.unpack_from(">I", data, position)
        text = data[position + 4 : position + 4 + size]
        position += 4 + size
        record = _record(text) if len(text) == size else None
        if record is None:
            return [*records, {"status": "damaged"}]
        records.append(record)
    return records


def _record(text: bytes) -> Record | None:
    """The record of a JSON text; None where it is none. Large values stay unread until they are judged, so that those
    of one test alone are in memory.
    """
    if len(text) <= _SMALL:
        return _small(text)
    if len(text) > _LARGE:
        # What takes long to read holds more values than any honest process sends.
        if text.count(b'["') > asserts.MAX_TAGS or text.count(b",") > asserts.MAX_COMMAS:
            return None
        if text.startswith(_LARGE_VALUES) and len(text) <= _MAX_RECORD:
            return {"status": "values", "unread": text}
        return _large_answer(text) if text.startswith(_LARGE_ANSWER) else None
    return _read(text)


def _large_answer(text: bytes) -> Record | None:
    """A record with an answer and nothing else: whatever else is in it is not read."""
    if len(text) > _MAX_RECORD:
        return None
    try:
        answer, end = _JSON.raw_decode(text.decode("ascii"), len(_LARGE_ANSWER) - 1)
    except ValueError:
        return None
    return {"status": "answer", "answer": answer} if text[end:] == b"}" else None


class _Small(dict[str, Any]):
    """A record with its text, kept because programs for one question write the same ones. Nothing changes it."""

    __slots__ = ("text",)
    text: bytes


@functools.lru_cache(maxsize=_KEPT)
def _small(text: bytes) -> Record | None:
    if (read := _read(text)) is None:
        return None
    small = _Small(read)
    small.text = text
    return small


def _whole(record: Record) -> Record:
    """A record with its values. `Malformed` where what was left unread is none."""
    if not isinstance(text := record.get("unread"), bytes):  # which no JSON text holds
        return record
    if (read := _read(text)) is None or read["status"] != "values":
        raise asserts.Malformed("not values")
    return read


def _read(text: bytes) -> Record | None:
    if len(text) > _MAX_RECORD:
        return None
    try:
        parsed: Any = _JSON.decode(text.decode("ascii"))
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
    end = steps.pop() if steps and steps[-1]["status"] in ("end", "done") else None
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
    return _judge_small(test, record.text).copy() if isinstance(record, _Small) else _judge(test, record)


@functools.lru_cache(maxsize=_KEPT)
def _judge_small(test: Test, text: bytes) -> TestOutcome:
    record = _small(text)
    assert record is not None
    return _judge(test, record)


def _judge(test: Test, record: Record) -> TestOutcome:
    if record["status"] != "values":
        return _failed_record(record)
    record = _whole(record)
    failure = cast("Record | None", record.get("failure"))
    if failure is not None and (type(failure) is not dict or failure.get("status") not in ("raised", "refused")):
        raise asserts.Malformed("not a failure")
    outcome = asserts.outcome(
        asserts.plan(cast("asserts.Test", test)), record.get("values"), _failed_record(failure) if failure else None
    )
    if "reason" in outcome:
        outcome["reason"] = _clean(outcome["reason"])
    return outcome


def _tested_record(record: Record) -> TestOutcome:
    """The outcome that the process with the tests, or where it says so the program's, gave a test."""
    status = record["status"]
    outcome: TestOutcome
    if status == "ran":
        outcome = {"status": "pass"}
    elif status == "vacuous":
        outcome = {"status": "vacuous", "reason": _clean(record.get("reason", ""))}
    else:
        outcome = _failed_record(record)
    if record.get("inside") is True:
        outcome["inside"] = True
    return outcome


def _value_record(_: Test, record: Record) -> CallValue | TestOutcome:
    if record["status"] != "values":
        return _failed_record(record)
    record = _whole(record)
    if isinstance(record.get("failure"), dict):
        return _failed_record(record["failure"])
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
    status = record.get("status")
    if not isinstance(status, str) or status not in _FAILURES:
        raise asserts.Malformed("unknown status")
    failure: TestOutcome = {"status": _FAILURES[status]}
    if isinstance(record.get("reason"), str):
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
    if report.tester_status not in (0, PROGRAM_GONE):
        return {"status": "killed", "reason": "ended the process of its tests"}
    if report.tester_status == PROGRAM_GONE and report.kind == ENDED and report.status == 0:
        return {"status": "killed", "reason": "exited with status 0"}
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
