"""A pool of zygotes that run untrusted programs: starts, watches and replaces them.

This is the trusted side. Whatever a zygote sends is taken for hostile, because a program may have taken it over:
lengths are capped and every field is checked.
"""

from __future__ import annotations

import marshal
import math
import selectors
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from sandbox import cgroups, wall
from sandbox.libraries import MOST_PRELOADED, Libraries
from serve import Call, ServiceError

# See `inside/zygote.py`. A job: mode, bytes of its rest, CPU seconds for each test, for the program, bytes of memory. A
# reply: kind, wait status of the program, of its tester, CPU microseconds, bytes of records, of output.
_JOB = struct.Struct(">BIddQ")
_PLAIN, _SCRIPT, _TESTED, _TOLD, _ANSWERS, _CHECKS, _SUITES = 0, 1, 2, 3, 4, 5, 6
_REPLY = struct.Struct(">ciiQII")
ENDED, CPU_TIME, WALL_TIME, OVERFLOW, TROUBLE = b"E", b"C", b"W", b"O", b"T"
FELL = b"F"
"""The kind of a report made here: the zygote died, was late or sent nonsense while the program ran."""

_MAX_RECORDS = 4 * 1024 * 1024
MAX_OUTPUT = 16 * 1024 * 1024
"""Bytes that a script may write to standard output."""
MAX_TOLD_OUTPUT = 4 * 1024 * 1024
"""Bytes that a script whose streams are handed over may write to standard output."""
PROGRAM_GONE = 3 << 8
"""Wait status of a tester that has lost its program."""
_GRACE_SECONDS = 40
_TRIES_ALONE = 2
_STARTS_IN_A_ROW = 3
# Tasks sent to a zygote at a time, and the size up to which two frames fit into its socket's buffer.
_AHEAD = 2
_SMALL_FRAME = 64 * 1024

MAX_TIME_OUTS = 2
"""Tests of a program that may be out of time; the rest is not run."""

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """CPU seconds for each test and each program, and bytes of address space for each program."""

    cpu_seconds_per_test: float = 1
    cpu_seconds_per_program: float = 3
    memory_bytes: int = 512 * 1024 * 1024

    @staticmethod
    def parse(params: Mapping[str, object], default: Limits | None = None) -> Limits:
        """Read the `limits` of a request or job; what is missing is as in `default`. `InvalidInput` for values that are
        no limits.
        """
        given: Any = params.get("limits") or {}
        known = {
            "cpuSecondsPerTest": "cpu_seconds_per_test",
            "cpuSecondsPerProgram": "cpu_seconds_per_program",
            "memoryBytes": "memory_bytes",
        }
        for name, value in given.items():
            if name not in known:
                raise ServiceError("InvalidInput", f"Unknown limit '{name}'; known are {', '.join(known)}.")
            if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
                raise ServiceError("InvalidInput", f"Limit '{name}' is {value!r}; it must be a number above 0.")
        limits = replace(default or Limits(), **{known[name]: value for name, value in given.items()})
        if type(limits.memory_bytes) is not int or limits.memory_bytes < 128 * 1024 * 1024:
            wanted = "a whole number of at least 134217728 (128 MiB)"
            raise ServiceError("InvalidInput", f"Limit 'memoryBytes' is {limits.memory_bytes}; it must be {wanted}.")
        return limits

    def times(self, factor: float) -> Limits:
        """These limits with `factor` times the CPU time."""
        return replace(
            self,
            cpu_seconds_per_test=factor * self.cpu_seconds_per_test,
            cpu_seconds_per_program=factor * self.cpu_seconds_per_program,
        )

    @property
    def fields(self) -> dict[str, float]:
        """The limits under the names that they have in requests."""
        return {
            "cpuSecondsPerTest": self.cpu_seconds_per_test,
            "cpuSecondsPerProgram": self.cpu_seconds_per_program,
            "memoryBytes": self.memory_bytes,
        }

    @property
    def patience_seconds(self) -> float:
        """Wall time after which a zygote that has not answered is replaced; more than it gives its programs itself."""
        return 20 * self.cpu_seconds_per_program + _GRACE_SECONDS


@dataclass(frozen=True)
class Job:
    """One run of a program, which ends after `max_time_outs` timeouts.

    With `stdin` it runs as a script that reads this text; with `tells`, its standard error is in the report too. With
    `tests` a second process holds these and runs them (`inside/tester.py`), but for ("module", text), which runs in the
    module of the program. Otherwise each of `steps` is a list of expressions whose values are wanted
    (`inside/program.py`), with `answers` as the data that a checker reads; `steps` may also be what `marshalled` made
    of the lists. A step that needs more CPU seconds than `late_after`, and is in time, is told apart. With `checks` the
    program is a checker, or empty, and judges these (`inside/checker.py`). With `suites` its answers to many inputs are
    wanted (`inside/answers.py`).
    """

    program: str
    steps: Sequence[Sequence[Any]] | bytes = ()
    limits: Limits = Limits()
    tests: Sequence[str | tuple[str, str]] | None = None
    stdin: str | None = None
    tells: bool = False
    max_time_outs: int = MAX_TIME_OUTS
    late_after: float = math.inf
    answers: bool = False
    checks: Sequence[tuple[Any, ...]] | None = None
    suites: tuple[str, Sequence[bytes], bool, bool] | None = None


@dataclass(frozen=True)
class Report:
    """How one run of a program ended, and the bytes of the records and of the output that it wrote (hostile)."""

    kind: bytes
    status: int = 0
    cpu_seconds: float = 0.0
    records: bytes = b""
    tester_status: int = 0
    output: bytes = b""

    @property
    def signal(self) -> int | None:
        """The signal that ended the program's process, if one did."""
        return self.status & 0x7F or None

    @property
    def is_sound(self) -> bool:
        """Whether the run says something about the program and need not be repeated.

        A process that somebody killed for a reason unknown here may have met the host's out-of-memory killer, or the
        end of its service: SIGTERM goes to every process of it.
        """
        if self.kind in (FELL, TROUBLE) or not self.records.startswith(bytes(4)):
            return False
        return self.kind != ENDED or not {self.signal, self.tester_status & 0x7F} & {signal.SIGKILL, signal.SIGTERM}


class _Task(NamedTuple):
    """A job that is run: its place, its frame, and the wall time in seconds after which its zygote is replaced."""

    place: int
    frame: bytes
    patience: float


@dataclass
class _Zygote:
    """One member of the pool, the tasks sent to it, oldest first, and what has arrived of its replies."""

    index: int
    wall: wall.Wall
    sent: deque[_Task] = field(default_factory=deque)
    deadline: float = 0.0
    inbox: bytearray = field(default_factory=bytearray)


class Pool:
    """`size` zygotes, each behind its own wall; started once and kept between batches."""

    def __init__(
        self,
        size: int,
        minimum: str = wall.LEVELS[0],
        libraries: Libraries | None = None,
        scratch_bytes: int = 0,
        first: int = 0,
        processes: bool = False,
    ) -> None:
        """Choose the strongest wall that works here; `ServiceError` SandboxUnavailable when none does, or when it is
        below the `minimum` level (of `wall.LEVELS`). Programs may import `libraries`, and write files of
        `scratch_bytes` together. With `processes` they may start processes and use loopback. `first` is the number of
        the first zygote: its user follows from it, so that pools with other numbers share no limits per user.
        """
        self.size = size
        self._first = first
        self._setting = wall.Setting(libraries, scratch_bytes=scratch_bytes, processes=processes)
        self._zygotes: dict[int, _Zygote] = {}
        failures: list[str] = []
        for self._way in wall.ways():
            try:
                self._zygotes[0] = _Zygote(0, wall.start(self._way, first, self._setting))
                break
            except wall.WallError as error:
                failures.append(str(error))
        else:
            raise ServiceError(
                "SandboxUnavailable",
                f"No isolation works on this host, so no program is run ({'; '.join(failures)}). {wall.advice()}",
            )
        hello = self._zygotes[0].wall.hello
        self.python_version = str(hello["python"])
        self.calibration_seconds = float(hello["calibrationSeconds"])
        layers = [
            self._way,
            "rlimits",
            f"landlock{hello['landlock']}" if hello["landlock"] else "",
            "seccomp" if hello["seccomp"] else "",
            f"cgroup{hierarchies.version}" if (hierarchies := cgroups.available()) else "",
        ]
        self.isolation = "+".join(filter(None, layers))
        self.level = wall.level(self._way, hello)
        if wall.LEVELS.index(self.level) < wall.LEVELS.index(minimum):
            self.close()
            found = f"The strongest isolation that works here is {self.level} ({self.isolation}), below the configured"
            tried = f" ({'; '.join(failures)})" if failures else ""
            raise ServiceError("SandboxUnavailable", f"{found} minimum {minimum}, so no program is run{tried}.")

    @property
    def import_policy(self) -> str:
        """What programs may import and write, in a few words, for the records: verdicts depend on it."""
        libraries, scratch = self._setting.libraries, self._setting.scratch_bytes
        words = [f"stdlib and {libraries.name}" if libraries else "stdlib", "no preamble"]
        words += ["own module-level asserts and prints removed"]
        words += [f"files of {scratch // (1 << 20)} MiB"] if scratch else []
        words += ["processes and loopback"] if self._setting.processes else []
        return ", ".join(words)

    def prepare(self, jobs: Iterable[Iterable[str]]) -> None:
        """Have the zygotes import what many of the jobs, each given as its texts, import of the libraries."""
        if not (libraries := self._setting.libraries):
            return
        wanted = libraries.used(jobs)
        if wanted <= self._setting.preload:
            return
        both = wanted | self._setting.preload
        self._setting = replace(self._setting, preload=both if len(both) <= MOST_PRELOADED else wanted)
        for zygote in list(self._zygotes.values()):
            self._remove(zygote)

    def close(self) -> None:
        """Kill all zygotes and what runs in them; may be called from another thread when the parent is gone."""
        zygotes = list(self._zygotes.values())
        for zygote in zygotes:
            zygote.wall.process.kill()
        for zygote in zygotes:
            if zygote.wall.group:
                zygote.wall.group.remove()

    def run(
        self,
        jobs: Sequence[Job],
        call: Call,
        digest: Callable[[int, Report | None], T],
        alone: bool = False,
    ) -> list[T]:
        """Run each job and return its `digest(index, report)`, in the order of `jobs`; with `alone`, one after the
        other.

        Reports may be large and are dropped at once. A run that is not sound is repeated alone, up to twice; if it
        never is, the last report counts: `FELL` or a killed process. None in place of a report means that the host was
        in trouble, which says nothing about the program. Raises `Cancelled` when the parent asks to stop, and
        `ServiceError` SandboxUnavailable when not one job could be run.
        """
        digests: dict[int, T] = {}
        suspects: list[int] = []
        judged, shown = 0, time.monotonic()

        def settle(task: int, report: Report | None) -> None:
            nonlocal judged, shown
            digests[task] = digest(task, report)
            judged += report is not None
            if time.monotonic() - shown > 0.5 or len(digests) == len(jobs):
                shown = time.monotonic()
                call.progress(len(digests), len(jobs), "programs run")

        def on_first_run(task: int, report: Report) -> None:
            if report.is_sound:
                settle(task, report)
            else:
                suspects.append(task)

        def task_of(place: int) -> _Task:
            job = jobs[place]
            return _Task(place, _frame(job), job.limits.patience_seconds)

        def run(places: Iterable[int], alone: bool, on_report: Callable[[int, Report], None]) -> None:
            width, ahead = (1, 1) if alone else (self.size, _AHEAD)
            self._dispatch(map(task_of, places), width, ahead, call, on_report)

        run(range(len(jobs)), alone, on_first_run)
        for task in sorted(suspects):
            report = None
            for _ in range(_TRIES_ALONE):
                again: list[Report] = []
                run([task], True, lambda _, report, again=again: again.append(report))
                report = again[0] if again else None
                if report is None or report.is_sound:
                    break
            host_trouble = report is None or report.kind == TROUBLE or (report.kind != FELL and not report.records)
            settle(task, None if host_trouble else report)
        for task in range(len(jobs)):
            if task not in digests:  # no zygote could be started any more
                settle(task, None)
        if jobs and not judged:
            raise ServiceError(
                "SandboxUnavailable",
                f"None of {len(jobs)} programs could be run: the zygotes do not start or do not last. See the log.",
            )
        return [digests[task] for task in range(len(jobs))]

    def _dispatch(
        self,
        tasks: Iterable[_Task],
        width: int,
        ahead: int,
        call: Call,
        on_report: Callable[[int, Report], None],
    ) -> None:
        """Give each task to one of the first `width` zygotes, at most `ahead` at once, and hand over its report.

        With two, a zygote has its next small frame while it works on one, and need not wait for this side. Returns
        early when no zygote can be started any more.
        """
        waiting, again = iter(tasks), deque[_Task]()
        able = [zygote for index in range(width) if (zygote := self._zygotes.get(index) or self._start(index))]
        with selectors.DefaultSelector() as selector:

            def add(zygote: _Zygote) -> None:
                zygote.sent.clear()
                zygote.inbox.clear()
                zygote.wall.control.settimeout(_GRACE_SECONDS)
                selector.register(zygote.wall.control, selectors.EVENT_READ, zygote)

            def fall(zygote: _Zygote) -> None:
                """Replace a zygote; the task it was on may be to blame, the one after it is not."""
                selector.unregister(zygote.wall.control)
                able.remove(zygote)
                self._remove(zygote)
                blamed = zygote.sent.popleft() if zygote.sent else None
                again.extendleft(zygote.sent)
                if fresh := self._start(zygote.index):
                    able.append(fresh)
                    add(fresh)
                if blamed is not None:
                    on_report(blamed.place, Report(FELL))

            def fill(zygote: _Zygote) -> bool:
                """Send the zygote a task where it can take one; whether there may be more to send."""
                if len(zygote.sent) >= ahead:
                    return False
                if zygote.sent and len(zygote.sent[0].frame) > _SMALL_FRAME:
                    return False  # it may not be read yet, and sending would block
                task = again.popleft() if again else next(waiting, None)
                if task is None:
                    return False
                if zygote.sent and len(task.frame) > _SMALL_FRAME:
                    again.appendleft(task)
                    return False
                if not zygote.sent:
                    zygote.deadline = time.monotonic() + task.patience
                zygote.sent.append(task)
                try:
                    zygote.wall.control.sendall(task.frame)
                except OSError:
                    fall(zygote)
                return True

            for zygote in able:
                add(zygote)
            try:
                while True:
                    call.raise_if_cancelled()
                    while any([fill(zygote) for zygote in list(able)]):
                        pass
                    if not any(zygote.sent for zygote in able):
                        return
                    for key, _ in selector.select(timeout=0.2):
                        zygote = key.data
                        try:
                            reports = _receive(zygote)
                        except (OSError, ValueError):
                            fall(zygote)
                            continue
                        done = [zygote.sent.popleft() for _ in reports]
                        if zygote.sent:
                            zygote.deadline = time.monotonic() + zygote.sent[0].patience
                        if reports:
                            fill(zygote)
                        for task, report in zip(done, reports, strict=True):
                            on_report(task.place, report)
                    now = time.monotonic()
                    for zygote in list(able):
                        if zygote.sent and now > zygote.deadline:
                            fall(zygote)
            finally:
                # Only after a cancellation or an error are there zygotes left that still work on something.
                for zygote in able:
                    if zygote.sent:
                        self._remove(zygote)

    def _start(self, index: int) -> _Zygote | None:
        """A fresh zygote, or None when it does not come up several times in a row."""
        for _ in range(_STARTS_IN_A_ROW):
            try:
                self._zygotes[index] = _Zygote(index, wall.start(self._way, self._first + index, self._setting))
                return self._zygotes[index]
            except wall.WallError as error:
                print(f"A zygote could not be started: {error}", file=sys.stderr)
        return None

    def _remove(self, zygote: _Zygote) -> None:
        """Kill a zygote and everything behind its wall."""
        del self._zygotes[zygote.index]
        zygote.wall.close()


def marshalled(steps: Sequence[Sequence[Any]]) -> bytes:
    """The steps of a job as the zygote reads them, to be made once for all programs with the same tests."""
    return marshal.dumps([list(step) for step in steps])


def _frame(job: Job) -> bytes:
    content: Any
    if job.stdin is not None:
        mode = _TOLD if job.tells else _SCRIPT
        content = (job.program, job.stdin.encode("utf-8", "surrogatepass"))
    elif job.tests is not None:
        mode, content = _TESTED, (job.program, list(job.tests), job.max_time_outs, math.inf)
    elif job.suites is not None:
        mode, content = _SUITES, (job.program, job.suites, job.max_time_outs, math.inf)
    elif job.checks is not None:
        mode, content = _CHECKS, (job.program, list(job.checks), job.max_time_outs, math.inf)
    else:
        steps = job.steps if isinstance(job.steps, bytes) else marshalled(job.steps)
        mode = _ANSWERS if job.answers else _PLAIN
        content = (job.program, steps, job.max_time_outs, job.late_after)
    rest = marshal.dumps(content)
    limits = job.limits
    return (
        _JOB.pack(mode, len(rest), limits.cpu_seconds_per_test, limits.cpu_seconds_per_program, limits.memory_bytes)
        + rest
    )


def _receive(zygote: _Zygote) -> list[Report]:
    """Take what has arrived; the reports that are complete. OSError or ValueError when the zygote is gone or sends
    nonsense.
    """
    part = zygote.wall.control.recv(1 << 20)
    if not part:
        raise ConnectionError("the zygote closed its end")
    inbox = zygote.inbox
    inbox += part
    reports: list[Report] = []
    while len(inbox) >= _REPLY.size:
        kind, status, tester_status, microseconds, size, written = _REPLY.unpack_from(inbox)
        if kind not in (ENDED, CPU_TIME, WALL_TIME, OVERFLOW, TROUBLE) or size > _MAX_RECORDS or written > MAX_OUTPUT:
            raise ValueError("not a reply")
        middle, end = _REPLY.size + size, _REPLY.size + size + written
        if len(inbox) < end:
            break
        with memoryview(inbox) as view:
            records, output = bytes(view[_REPLY.size : middle]), bytes(view[middle:end])
        reports.append(Report(kind, status, microseconds / 1e6, records, tester_status, output))
        del inbox[:end]
    if len(reports) + bool(inbox) > len(zygote.sent):
        raise ValueError("more than was asked for")
    return reports
