"""Fork server inside the wall: one warm interpreter that forks a process for each program.

Usage, by `sandbox.wall` only: `python -s -S -B zygote.py CONTROL_FD UID NAMESPACES READABLE...`; NAMESPACES
is "own", or "shared" where the process namespace is the host's. Bytes on the control descriptor:
- once, zygote -> supervisor: frame with JSON {"landlock": ABI, "seccomp": bool, "python": "3.11.7",
  "calibrationSeconds": n};
- supervisor -> zygote: `_JOB` header (length, CPU seconds for each test, for the program, bytes of memory) and a
  marshalled (program, is a script, steps), which only the child reads; the next job may come before the reply;
- zygote -> supervisor: `_REPLY` header (kind, wait status, CPU microseconds, length) and the child's records, unread.
The first frame is a length of 4 bytes, big-endian, and that many bytes.

The zygote has no threads and holds nothing but modules: fork copies its page tables, and no program may find anything
in it. Its children share its user and process namespace, therefore the supervisor does not trust it either.

What a program costs is mostly page faults: a child copies every page that it touches. So everything is prepared before
the fork and has run a few times, so that the interpreter has specialised it; libraries are bound at once
(`LD_BIND_NOW`, see `sandbox.wall`); and what modules want to do in every child, such as seeding `random`, is left out.
"""

from __future__ import annotations

import contextlib
import gc
import json
import marshal
import math
import os
import select
import signal
import struct
import sys
import time
import traceback


# Modules have nothing to repair in a child of this single-threaded process.
def _ignore(**_: object) -> None:
    return


_register_at_fork, os.register_at_fork = os.register_at_fork, _ignore

import hardening  # noqa: E402
import program  # noqa: E402

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

_JOB = struct.Struct(">IddQ")
# Kind, wait status, CPU microseconds, bytes of records. The kinds: the process ended, was killed because its CPU time
# was over, because its wall time was over or because it wrote more than a program can need, or could not be started.
_REPLY = struct.Struct(">ciQI")
_ENDED, _CPU_TIME, _WALL_TIME, _OVERFLOW, _TROUBLE = b"E", b"C", b"W", b"O", b"T"
_MAX_RECORDS = 16 * 1024 * 1024
_QUICK_MILLISECONDS = 20
_LEAST_WAIT_SECONDS = 0.05
_WARM_UPS = 10


class _Jobs:
    """Frames with jobs as they come over the control descriptor."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._inbox = b""

    def next(self) -> tuple[float, float, int, bytes]:
        """(CPU seconds for each test, for the program, bytes of memory, marshalled rest) of the next job."""
        self._wait_for(_JOB.size)
        size, per_test, per_program, memory_bytes = _JOB.unpack_from(self._inbox)
        end = _JOB.size + size
        self._wait_for(end)
        rest, self._inbox = self._inbox[_JOB.size : end], self._inbox[end:]
        return per_test, per_program, memory_bytes, rest

    def _wait_for(self, size: int) -> None:
        if len(self._inbox) >= size:
            return
        parts = bytearray(self._inbox)
        while len(parts) < size:
            part = os.read(self._control, 1 << 20)
            if not part:
                os._exit(0)  # the supervisor is gone
            parts += part
        self._inbox = bytes(parts)


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


class _Zygote:
    """What all programs of this zygote have in common."""

    def __init__(self, control: int, readable: list[str], alone: bool) -> None:
        self._control = control
        self._alone = alone
        self.landlock = hardening.Landlock(readable)
        self.seccomp = _seccomp_works(self.landlock)
        hardening.limit_zygote()
        if self.seccomp:
            hardening.filter_zygote()
        _warm_up()
        self._harness = program.Harness()

    def run(self, per_test: float, per_program: float, memory_bytes: int, rest: bytes) -> None:
        """Run a job in a child and send its reply."""
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            _write(self._control, _REPLY.pack(_TROUBLE, 0, 0, 0))
            return
        if pid == 0:
            self._child(writer, per_test, per_program, memory_bytes, rest)
        os.close(writer)
        kind, records = self._collect(reader, pid, per_program)
        os.close(reader)
        _, status, usage = os.wait4(pid, 0)
        if self._alone and not self.seccomp:
            _end_leftovers()
        cpu_seconds = usage.ru_utime + usage.ru_stime
        signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        out_of_cpu = signalled == signal.SIGKILL and cpu_seconds >= per_program
        if kind == _ENDED and (signalled == signal.SIGXCPU or out_of_cpu):
            kind = _CPU_TIME
        _write(self._control, _REPLY.pack(kind, status, int(cpu_seconds * 1e6), len(records)) + records)

    def _child(self, records: int, per_test: float, per_program: float, memory_bytes: int, rest: bytes) -> None:
        """Become the program's process: limits first, then the program; never returns."""
        try:
            hardening.end_with_parent()
            self.landlock.restrict()
            os.dup2(records, 3)
            os.closerange(4, 1 << 16)
            hardening.limit_program(_cpu_backstop(per_program), memory_bytes)
            if self.seccomp:
                hardening.filter_program()

            def send(record: bytes) -> None:
                _write(3, struct.pack(">I", len(record)) + record)

            source, script, steps, max_time_outs = marshal.loads(rest)
            self._harness.run(source, script, steps, max_time_outs, per_test, per_program, send)
        except BaseException:  # noqa: BLE001 - the process ends here in any case; a missing record tells the supervisor
            os._exit(1)
        os._exit(0)

    def _collect(self, reader: int, pid: int, cpu_limit: float) -> tuple[bytes, bytes]:
        """Read the child's records until it ends, or end it when it writes too much or its CPU or wall time is over:
        (kind, records).
        """
        start = time.monotonic()
        cpu_clock = (~pid << 3) | 2  # the process's CPU-time clock, as clock_getcpuclockid(3) makes it
        records = b""
        poll = select.poll()
        poll.register(self._control, select.POLLRDHUP)
        exited = os.pidfd_open(pid)
        poll.register(exited, select.POLLIN)
        # Most programs end soon and fit into the pipe: until then, reading each record as it comes would cost more than
        # running its test.
        ready = poll.poll(_QUICK_MILLISECONDS)
        poll.register(reader, select.POLLIN)
        try:
            while True:
                cpu_used = time.clock_gettime(cpu_clock)
                cpu_left = _most_cpu(cpu_limit) - cpu_used
                left = start + program.wall_limit(cpu_limit, cpu_used) - time.monotonic()
                if cpu_left <= 0 or left <= 0 or len(records) > _MAX_RECORDS:
                    os.kill(pid, signal.SIGKILL)
                    kind = _CPU_TIME if cpu_left <= 0 else _WALL_TIME if left <= 0 else _OVERFLOW
                    return kind, records[:_MAX_RECORDS]
                if not ready:
                    # Several threads use more than a second of CPU time in a second.
                    ready = poll.poll(1000 * min(left, max(cpu_left / 2, _LEAST_WAIT_SECONDS)))
                descriptors = dict(ready)
                ready = []
                if self._control in descriptors:
                    os._exit(0)  # the supervisor is gone; the wall ends everything else
                if exited in descriptors:
                    return self._rest(reader, records)
                if reader in descriptors:
                    part = os.read(reader, 1 << 16)
                    records += part
                    if not part:
                        poll.unregister(reader)
        finally:
            os.close(exited)

    def _rest(self, reader: int, records: bytes) -> tuple[bytes, bytes]:
        """What an ended child has left in the pipe."""
        while part := os.read(reader, 1 << 16):
            records += part
            if len(records) > _MAX_RECORDS:
                return _OVERFLOW, records[:_MAX_RECORDS]
        return _ENDED, records


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
    steps = [("values", [value]), ("values", [text, "f([1.5])"]), ("values", ["f()"]), ("run", "assert f([2]) == []")]
    harness = program.Harness()
    for more in ("", "assert f([1])"):
        for _ in range(_WARM_UPS):
            harness.run(_SAMPLE + more, False, steps, 1, 1, 1, lambda record: None)
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
    zygote = _Zygote(control, sys.argv[4:], alone=sys.argv[3] == "own")
    null = os.open("/dev/null", os.O_RDWR)
    gc.collect()
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
    jobs = _Jobs(control)
    while True:
        zygote.run(*jobs.next())


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - the supervisor reads the text and starts another zygote
        traceback.print_exc()
        os._exit(1)
