"""Fork server inside the wall: one warm interpreter that forks a process for each program.

Usage, by `sandbox.wall` only: `python -s -S -B zygote.py CONTROL_FD UID NAMESPACES SETTING READABLE...`; NAMESPACES
is "own", or "shared" where the process namespace is the host's; SETTING is JSON, `Setting.words` of `sandbox.wall`.
Bytes on the control descriptor:
- once, zygote -> supervisor: frame with JSON {"landlock": ABI, "seccomp": bool, "python": "3.11.7",
  "calibrationSeconds": n};
- supervisor -> zygote: `_JOB` header (numbers only) and a job, which only a child reads; the next job may come before
  the reply;
- zygote -> supervisor: `_REPLY` header (numbers only), the child's records and what it wrote to standard output,
  unread.
The first frame is a length of 4 bytes, big-endian, and that many bytes.

A job has one of seven modes. `_PLAIN`: one child runs the program and its steps (`program.Harness.run`). `_SCRIPT`: one
child runs the program once, as a script, with a standard input of its own. `_TESTED`: two children, connected by a
socket; one holds the tests (`tester.py`), the other one the program, which thus has no test in its memory. `_TOLD`: as
`_SCRIPT`, but standard error is read too; the output in the reply is then the length of standard output in 4 bytes,
standard output, and what standard error holds. `_ANSWERS`: as `_PLAIN`, but the values of the steps are sent as data
(`answers.py`). `_CHECKS`: one child judges such data (`checker.py`), without the program. `_SUITES`: one child runs the
program on the inputs of one suite or two (`answers.py`).

The zygote has no threads and holds nothing but modules: fork copies its page tables, and a child finds in its memory
whatever the zygote has ever held. So no byte of a job or of a record is ever in memory that a child inherits: the child
reads its job itself, and records go through a mapping that fork leaves out. A child that ends before it has read its
job leaves the descriptor in the middle of a frame; the zygote then ends too, and the supervisor starts another one.
The zygote's children share its user and process namespace, therefore the supervisor does not trust it either.

What a program costs is mostly page faults: a child copies every page that it touches. So everything is prepared before
the fork and has run a few times, so that the interpreter has specialised it; libraries are bound at once
(`LD_BIND_NOW`, see `sandbox.wall`); and what modules want to do in every child, such as seeding `random`, is left out.
"""

from __future__ import annotations

import pages

pages.reserve()

import contextlib  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import marshal  # noqa: E402
import math  # noqa: E402
import mmap  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import types  # noqa: E402
from typing import Any  # noqa: E402


# Modules have nothing to repair in a child of this single-threaded process.
def _ignore(**_: object) -> None:
    return


_register_at_fork, os.register_at_fork = os.register_at_fork, _ignore

import answers  # noqa: E402
import checker as checker_module  # noqa: E402
import hardening  # noqa: E402
import program  # noqa: E402
import served  # noqa: E402
import tester as tester_module  # noqa: E402

sys.path = sys.path[1:]  # programs shall not find the modules next to this file

# What programs import most; loaded once here instead of in every child. Not hashlib: it brings OpenSSL with it.
_MODULES = (
    "abc array bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal enum "
    "fractions functools heapq io itertools json math numbers operator queue random re statistics string "
    "textwrap time typing"
)
for _name in _MODULES.split(" "):
    __import__(_name)
os.register_at_fork = _register_at_fork
os.environ.pop("LD_BIND_NOW", None)

# Mode, bytes of the job, CPU seconds for each test, for the program, bytes of memory.
_JOB = struct.Struct(">BIddQ")
_PLAIN, _SCRIPT, _TESTED, _TOLD, _ANSWERS, _CHECKS, _SUITES = 0, 1, 2, 3, 4, 5, 6
# Kind, wait status of the program, of its tester (0 where there is none), CPU microseconds, bytes of records and of
# output.
# The kinds: the process ended, was killed because its CPU time was over, because its wall time was over or because it
# wrote more than a program can need, or could not be started.
_REPLY = struct.Struct(">ciiQII")
_ENDED, _CPU_TIME, _WALL_TIME, _OVERFLOW, _TROUBLE = b"E", b"C", b"W", b"O", b"T"
_MAX_RECORDS = 4 * 1024 * 1024
_MAX_OUTPUT = 16 * 1024 * 1024
_MAX_TOLD_OUTPUT = 4 * 1024 * 1024
_MAX_ERRORS = 64 * 1024
_READ_BYTES = 1 << 16
# The first byte of the records: the child has read its job to the end.
_HAS_READ = b"R"
_QUICK_MILLISECONDS = 20
_LEAST_WAIT_SECONDS = 0.05
_MOMENT_MILLISECONDS = 500
_WARM_UPS = 10
_SCRATCH = "/tmp"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _most_cpu(per_program: float) -> float:
    """CPU seconds after which a program that has switched off its own clock is ended by its zygote."""
    return 1.1 * per_program + 0.1


def _cpu_backstop(per_program: float) -> int:
    """Whole CPU seconds after which the kernel ends a program, should its zygote not; see `limit_program`."""
    return math.ceil(1.2 * per_program) + 1


class _Intake:
    """Bytes from a pipe, in memory that children do not inherit. With `drops`, what is more than `most` is dropped, and
    the intake is never full.
    """

    def __init__(self, most: int, drops: bool = False) -> None:
        room = most + (_READ_BYTES if drops else 1)
        self._memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._drops = drops
        self._memory.madvise(mmap.MADV_DONTFORK)
        self._view = memoryview(self._memory)
        self._most = most
        self.size = 0

    def take(self, descriptor: int) -> bool:
        """Read what there is, and wait for it; whether it was not the end."""
        taken = os.readv(descriptor, [self._view[self.size : self.size + _READ_BYTES]])
        self.size += taken
        if self._drops:
            self.size = min(self.size, self._most)
        return taken > 0

    @property
    def is_full(self) -> bool:
        return self.size > self._most

    def parts(self, start: int = 0) -> memoryview:
        return self._view[start : min(self.size, self._most)]

    def begins_with(self, byte: bytes) -> bool:
        return self.size > 0 and self._view[0] == byte[0]


def _send(descriptor: int, *parts: bytes | memoryview) -> None:
    """Write all the parts, without a copy of them."""
    left = [memoryview(part) for part in parts if len(part)]
    while left:
        written = os.writev(descriptor, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left:
            left[0] = left[0][written:]


def _read_exactly(descriptor: int, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        if (part := os.readv(descriptor, [view[done:]])) == 0:
            os._exit(1)  # the supervisor is gone
        done += part
    return data


class _Zygote:
    """What all programs of this zygote have in common."""

    def __init__(self, control: int, setting: dict[str, Any], readable: list[str], alone: bool) -> None:
        self._control = control
        self._alone = alone
        self._scratch_bytes: int = setting["scratchBytes"]
        self._processes: bool = setting["processes"]
        self._preloaded_bytes = _use_libraries(setting)
        self.landlock = hardening.Landlock(readable, _SCRATCH if self._scratch_bytes else "", self._processes)
        self.seccomp = _seccomp_works(self.landlock)
        hardening.limit_zygote()
        if self.seccomp:
            hardening.filter_zygote(writes=self._scratch_bytes > 0, processes=self._processes)
        _warm_up()
        self._harness = program.Harness()
        self._header = bytearray(_JOB.size)
        self._records = _Intake(_MAX_RECORDS)
        self._output = _Intake(_MAX_OUTPUT)
        self._told_output = _Intake(_MAX_TOLD_OUTPUT)
        self._errors = _Intake(_MAX_ERRORS, drops=True)

    def serve(self) -> None:
        """Run the next job in a child, or in two, and send its reply."""
        header, got = memoryview(self._header), 0
        while got < _JOB.size:
            if (part := os.readv(self._control, [header[got:]])) == 0:
                os._exit(0)  # the supervisor is gone
            got += part
        mode, size, per_test, per_program, memory_bytes = _JOB.unpack(self._header)
        self._records.size = 0
        limits = (per_test, per_program, memory_bytes)
        try:
            run = self._run_tested if mode == _TESTED else self._run_alone
            kind, status, tester_status, cpu_seconds = run(mode, size, limits)
        except OSError:
            # Nothing was started, so the job is still to be read, by a process that ends with it.
            _send(self._control, _REPLY.pack(_TROUBLE, 0, 0, 0, 0, 0))
            os._exit(1)
        if self._alone and (self._processes or not self.seccomp):
            _end_leftovers()
        if self._scratch_bytes:
            _empty(_SCRATCH)
        if not self._records.begins_with(_HAS_READ):
            os._exit(1)
        records, output = self._records.parts(1), self._written(mode)
        written = sum(map(len, output))
        head = _REPLY.pack(kind, status, tester_status, int(cpu_seconds * 1e6), len(records), written)
        _send(self._control, head, records, *output)

    def _written(self, mode: int) -> list[bytes | memoryview]:
        """What a script has written, as it goes into the reply."""
        if mode == _SCRIPT:
            return [self._output.parts()]
        if mode == _TOLD:
            told = self._told_output.parts()
            return [struct.pack(">I", len(told)), told, self._errors.parts()]
        return []

    def _run_alone(self, mode: int, size: int, limits: tuple[float, float, int]) -> tuple[bytes, int, int, float]:
        reader, writer = os.pipe()
        out_reader, out_writer = os.pipe() if mode in (_SCRIPT, _TOLD) else (-1, -1)
        error_reader, error_writer = os.pipe() if mode == _TOLD else (-1, -1)
        try:
            pid = hardening.fork()
        except OSError:
            for descriptor in (reader, writer, out_reader, out_writer, error_reader, error_writer):
                if descriptor >= 0:
                    os.close(descriptor)
            raise
        if pid == 0:
            self._become_program(mode, writer, out_writer, error_writer, size, limits)
        os.close(writer)
        pipes = [(reader, self._records)]
        if out_writer >= 0:
            self._output.size = self._told_output.size = self._errors.size = 0
            os.close(out_writer)
            pipes.append((out_reader, self._told_output if mode == _TOLD else self._output))
        if error_writer >= 0:
            os.close(error_writer)
            pipes.append((error_reader, self._errors))
        kind = self._collect(pipes, [pid], limits[1])
        for descriptor, _ in pipes:
            os.close(descriptor)
        _, status, usage = os.wait4(pid, 0)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return _named(kind, status, cpu_seconds, limits[1]), status, 0, cpu_seconds

    def _run_tested(self, _mode: int, size: int, limits: tuple[float, float, int]) -> tuple[bytes, int, int, float]:
        reader, writer = os.pipe()
        ours, theirs = hardening.socket_pair()
        tester = hardening.fork()
        if tester == 0:
            self._become_tester(writer, ours, size, limits)
        os.close(ours)
        try:
            pid = hardening.fork()
        except OSError:
            os.kill(tester, signal.SIGKILL)
            os.wait4(tester, 0)
            for descriptor in (reader, writer, theirs):
                os.close(descriptor)
            raise
        if pid == 0:
            self._become_tested(theirs, limits)
        os.close(theirs)
        os.close(writer)
        kind = self._collect([(reader, self._records)], [tester, pid], limits[1])
        os.close(reader)
        _, tester_status = os.waitpid(tester, 0)
        # Without its tester the program has nothing more to do; one that ended before it may still be ending.
        if tester_status == tester_module.PROGRAM_GONE << 8:
            self._wait_a_moment(pid)
        exited, status, usage = os.wait4(pid, os.WNOHANG)
        if exited == 0:
            os.kill(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
            status = 0
        cpu_seconds = usage.ru_utime + usage.ru_stime
        kind = _named(kind, status, cpu_seconds, limits[1])
        return kind, status, tester_status, cpu_seconds

    @staticmethod
    def _wait_a_moment(pid: int) -> None:
        exited, poll = os.pidfd_open(pid), select.poll()
        poll.register(exited, select.POLLIN)
        poll.poll(_MOMENT_MILLISECONDS)
        os.close(exited)

    def _become_program(
        self, mode: int, records: int, output: int, errors: int, size: int, limits: tuple[float, float, int]
    ) -> None:
        """Become the process of a program or checker: the job first, then limits, then the program; never returns."""
        try:
            hardening.end_with_parent()
            rest = _read_exactly(self._control, size)
            _write(records, _HAS_READ)
            content = marshal.loads(rest)
            if output >= 0:
                _give_standard_streams(content[1], output, errors)
            self._restrict(records, limits)

            def send(record: bytes) -> None:
                _write(3, struct.pack(">I", len(record)) + record)

            if output >= 0:
                self._harness.run_script(content[0], limits[0], send, tells=errors >= 0)
            source, given, max_time_outs, late_after = content
            if mode == _SUITES:
                answers.run_suites(self._harness, source, given, limits[0], limits[1], send)
            elif mode == _CHECKS:
                checker_module.run(self._harness.clock, source, given, max_time_outs, limits[0], limits[1], send)
            else:
                steps = marshal.loads(given)
                collect = answers.answer if mode == _ANSWERS else None
                self._harness.run(source, steps, max_time_outs, late_after, limits[0], limits[1], send, collect)
        except BaseException:  # noqa: BLE001 - the process ends here in any case; a missing record tells the supervisor
            os._exit(1)
        os._exit(0)

    def _become_tester(self, records: int, to_program: int, size: int, limits: tuple[float, float, int]) -> None:
        """Become the process that holds the tests of a program; never returns."""
        try:
            hardening.end_with_parent()
            rest = _read_exactly(self._control, size)
            _write(records, _HAS_READ)
            os.dup2(to_program, 63)
            self._restrict(records, limits)
            content = marshal.loads(rest)
            del rest
            source, tests, max_time_outs, _ = content
            tested = tester_module.Tester(self._harness.clock, 63, 3)
            tested.run(source, tests, max_time_outs, limits[0], limits[1])
        except BaseException:  # noqa: BLE001 - as above
            os._exit(1)
        os._exit(0)

    def _become_tested(self, to_tester: int, limits: tuple[float, float, int]) -> None:
        """Become a program's process that has no test; never returns."""
        try:
            hardening.end_with_parent()
            self._restrict(to_tester, limits)
            served.Served(3, self._harness).run(limits[0], limits[1])
        except BaseException:  # noqa: BLE001 - as above
            os._exit(1)
        os._exit(0)

    def _restrict(self, kept: int, limits: tuple[float, float, int]) -> None:
        """Give up everything but descriptors 0 to 2, 63, and `kept`, which becomes 3."""
        self.landlock.restrict()
        os.dup2(kept, 3)
        os.closerange(4, 63)
        os.closerange(64, 1 << 16)
        # What is imported for all programs is not counted, nor what pads it: neither is a program's doing.
        memory_bytes = limits[2] + self._preloaded_bytes + pages.padding
        hardening.limit_program(_cpu_backstop(limits[1]), memory_bytes, self._scratch_bytes)
        if self.seccomp:
            hardening.filter_program(self._processes)

    def _collect(self, pipes: list[tuple[int, _Intake]], pids: list[int], cpu_limit: float) -> bytes:
        """Read what the children write until the first of them ends, or end them when one writes too much or its CPU or
        wall time is over: the kind.
        """
        start, watched = time.monotonic(), False
        # The processes' CPU-time clocks, as clock_getcpuclockid(3) makes them.
        clocks = [(~pid << 3) | 2 for pid in pids]
        poll = select.poll()
        poll.register(self._control, select.POLLRDHUP)
        exited = os.pidfd_open(pids[0])
        poll.register(exited, select.POLLIN)
        # Most programs end soon and fit into the pipe: until then, reading each record as it comes would cost more than
        # running its test.
        ready = poll.poll(_QUICK_MILLISECONDS)
        open_pipes = dict(pipes)
        try:
            while True:
                descriptors = dict(ready)
                if self._control in descriptors:
                    os._exit(0)  # the supervisor is gone; the wall ends everything else
                if exited in descriptors:
                    if self._processes and self._alone and len(pids) == 1:
                        # What the program has started may hold its pipes open.
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(-1, signal.SIGKILL)
                    # What an ended child has left in its pipes.
                    for descriptor, intake in open_pipes.items():
                        while not intake.is_full and intake.take(descriptor):
                            pass
                    return _OVERFLOW if any(intake.is_full for intake in open_pipes.values()) else _ENDED
                for descriptor in list(open_pipes):
                    if descriptor in descriptors and not open_pipes[descriptor].take(descriptor):
                        poll.unregister(descriptor)
                        del open_pipes[descriptor]
                cpu_used = max(map(time.clock_gettime, clocks))
                cpu_left = _most_cpu(cpu_limit) - cpu_used
                left = start + program.wall_limit(cpu_limit, cpu_used) - time.monotonic()
                too_much = any(intake.is_full for intake in open_pipes.values())
                if cpu_left <= 0 or left <= 0 or too_much:
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                    return _CPU_TIME if cpu_left <= 0 else _WALL_TIME if left <= 0 else _OVERFLOW
                if not watched:
                    for descriptor in open_pipes:
                        poll.register(descriptor, select.POLLIN)
                    watched = True
                # Several threads use more than a second of CPU time in a second.
                ready = poll.poll(1000 * min(left, max(cpu_left / 2, _LEAST_WAIT_SECONDS)))
        finally:
            os.close(exited)


def _named(kind: bytes, status: int, cpu_seconds: float, per_program: float) -> bytes:
    """The kind, which may only show in how the kernel ended the program."""
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    out_of_cpu = signalled == signal.SIGKILL and cpu_seconds >= per_program
    return _CPU_TIME if kind == _ENDED and (signalled == signal.SIGXCPU or out_of_cpu) else kind


def _give_standard_streams(stdin: bytes, output: int, errors: int) -> None:
    """A file with what the program reads as descriptor 0, the pipe `output` as descriptor 1, and the pipe `errors`,
    where there is one, as descriptor 2.
    """
    source = os.memfd_create("stdin")
    _write(source, stdin)
    os.lseek(source, 0, os.SEEK_SET)
    os.dup2(source, 0)
    os.dup2(output, 1)
    if errors >= 0:
        os.dup2(errors, 2)


def _use_libraries(setting: dict[str, Any]) -> int:
    """Let programs import the libraries of the setting, and import some for all of them: bytes of address space that
    these take.
    """
    if not setting["libraries"]:
        return 0
    sys.path.append(setting["libraries"])
    tester_module.LIBRARIES = frozenset(setting["modules"])
    before = hardening.address_space()
    for name in setting["preload"]:
        # What cannot be imported here cannot be imported by the program either, which then hears of it.
        with contextlib.suppress(BaseException):
            __import__(name)
    return hardening.address_space() - before


def _empty(folder: str) -> None:
    """Remove what a program has left in a folder, so that no other one finds it."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            _empty(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def _end_leftovers() -> None:
    """Kill and reap whatever else runs in this process namespace, which must be the zygote's own; only needed where
    seccomp could not forbid forking.
    """
    try:
        while True:
            os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
    except ProcessLookupError:
        pass


def _seccomp_works(landlock: hardening.Landlock) -> bool:
    """Whether a child can install the filter and still run; asked once, in a process that ends."""
    if not hardening.seccomp_known():
        return False
    if (pid := os.fork()) == 0:
        try:
            landlock.restrict()
            hardening.filter_zygote()
            hardening.filter_program()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the exit status is the answer
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _calibrate() -> float:
    """CPU seconds of a million rounds of an empty loop: how fast this core is, for the reading of CPU times."""
    start = time.process_time()
    for _ in range(100_000):
        pass
    return round(10 * (time.process_time() - start), 4)


_SAMPLE = """
import re
from typing import List
def f(x: List[int]) -> List[int]:
    return [y for y in x if re.match("1", str(y))]
def g(x):
    assert x
"""


def _warm_up() -> None:
    """Run a program as every child does, in this process, until the interpreter has made and specialised what it needs:
    the first `ast.parse` alone makes a hundred types.
    """
    value = compile("f([1, 2])", "<test>", "eval")
    text = compile("str(f([10, 2]))", "<test>", "eval")
    steps: list[list[str | types.CodeType]] = [[value], [text, "f([1.5])"], ["f()"]]
    harness = program.Harness()
    for more in ("", "assert f([1])"):
        for _ in range(_WARM_UPS):
            harness.run(_SAMPLE + more, steps, 1, 1, 1, 1, lambda record: None)
    for _ in range(_WARM_UPS):
        calls = [marshal.dumps([[[1, 2]], [["a"]]])] * 2
        answers.run_suites(harness, _SAMPLE, ("f", calls, False, False), 1, 1, lambda record: None)
    for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
        signal.setitimer(timer, 0)


def main() -> None:
    control, uid = int(sys.argv[1]), int(sys.argv[2])
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    hardening.protect_zygote()
    # One session for a zygote and its programs, of which one runs at a time: the scheduler shares among sessions.
    with contextlib.suppress(PermissionError):
        os.setsid()
    zygote = _Zygote(control, json.loads(sys.argv[4]), sys.argv[5:], alone=sys.argv[3] == "own")
    null = os.open("/dev/null", os.O_RDWR)
    gc.collect()
    hardening.give_back_memory()
    pages.fill()
    pages.collapse()
    gc.freeze()
    hello = {
        "landlock": zygote.landlock.abi,
        "seccomp": zygote.seccomp,
        "python": ".".join(map(str, sys.version_info[:3])),
        "calibrationSeconds": _calibrate(),
    }
    hello_bytes = json.dumps(hello).encode()
    _write(control, struct.pack(">I", len(hello_bytes)) + hello_bytes)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    while True:
        zygote.serve()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - the supervisor reads the text and starts another zygote
        traceback.print_exc()
        os._exit(1)
