"""Fork server inside the wall: one warm interpreter that forks a process for each program.

Usage, by `sandbox.wall` only: `python -s -S -B zygote.py CONTROL_FD UID NAMESPACES READABLE...`; NAMESPACES
is "own", or "shared" where the process namespace is the host's. Bytes on the control descriptor:
- once, zygote -> supervisor: frame with JSON {"landlock": ABI, "seccomp": bool, "python": "3.11.7",
  "calibrationSeconds": n};
- supervisor -> zygote: frame with a job: {program, script, steps, cpuSecondsPerTest, cpuSecondsPerProgram,
  memoryBytes};
- zygote -> supervisor: `_REPLY` header (kind, wait status, CPU microseconds, length) and the child's records, unread.
A frame is a length of 4 bytes, big-endian, and that many bytes.

The zygote has no threads and holds nothing but modules: fork copies its page tables, and no program may find anything
in it. Its children share its user and process namespace, therefore the supervisor does not trust it either.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import select
import signal
import struct
import sys
import time
import traceback

import hardening
import program

sys.path = sys.path[1:]  # programs shall not find the modules beside this file

# What programs import most; loaded once here instead of in every child.
_MODULES = (
    "abc array bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal enum "
    "fractions functools hashlib heapq io itertools json math numbers operator queue random re statistics string "
    "textwrap time typing"
)
for _name in _MODULES.split(" "):
    __import__(_name)

# Kind, wait status, CPU microseconds, bytes of records. The kinds: the process ended, was killed by the kernel because
# its CPU time was over, by the zygote because its wall time was over or because it wrote more than a program can need,
# or could not be started.
_REPLY = struct.Struct(">ciQI")
_ENDED, _CPU_TIME, _WALL_TIME, _OVERFLOW, _TROUBLE = b"E", b"C", b"W", b"O", b"T"
_MAX_RECORDS = 16 * 1024 * 1024


def _read_exactly(descriptor: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(descriptor, min(size - len(parts), 1 << 20))
        if not part:
            os._exit(0)  # the supervisor is gone
        parts += part
    return bytes(parts)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cpu_backstop(job: dict) -> int:
    """Whole CPU seconds after which the kernel ends a program that has switched off its own clock; see
    `limit_resources`.
    """
    return math.ceil(1.2 * job["cpuSecondsPerProgram"]) + 1


def _child(job: dict, records: int, null: int, landlock: hardening.Landlock, seccomp: bool) -> None:
    """Become the program's process: limits first, then the program; never returns."""
    try:
        hardening.end_with_parent()
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        landlock.restrict()
        os.dup2(records, 3)
        os.closerange(4, 1 << 16)
        hardening.limit_resources(_cpu_backstop(job), job["memoryBytes"])
        if seccomp:
            hardening.filter_system_calls()

        def send(record: bytes) -> None:
            _write(3, struct.pack(">I", len(record)) + record)

        program.run(job, send)
    except BaseException:  # noqa: BLE001 - the process ends here in any case; a missing record tells the supervisor
        os._exit(1)
    os._exit(0)


def _collect(control: int, reader: int, pid: int, cpu_limit: float) -> tuple[bytes, bytes]:
    """Read the child's records until it ends, or end it when it writes too much or its wall time is over: (kind,
    records).
    """
    start = time.monotonic()
    cpu_clock = (~pid << 3) | 2  # the process's CPU-time clock, as clock_getcpuclockid(3) makes it
    records = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(control, select.POLLRDHUP)
    exited = os.pidfd_open(pid)
    poll.register(exited, select.POLLIN)
    try:
        while True:
            left = start + program.wall_limit(cpu_limit, time.clock_gettime(cpu_clock)) - time.monotonic()
            if left <= 0 or len(records) > _MAX_RECORDS:
                os.kill(pid, signal.SIGKILL)
                return (_WALL_TIME if left <= 0 else _OVERFLOW), bytes(records[:_MAX_RECORDS])
            ready = dict(poll.poll(left * 1000))
            if control in ready:
                os._exit(0)  # the supervisor is gone; the wall ends everything else
            if reader in ready:
                part = os.read(reader, 1 << 16)
                records += part
                if not part:
                    poll.unregister(reader)
            elif exited in ready:
                return _ENDED, bytes(records)
    finally:
        os.close(exited)


def _run(control: int, job: dict, null: int, landlock: hardening.Landlock, seccomp: bool, alone: bool) -> None:
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        _write(control, _REPLY.pack(_TROUBLE, 0, 0, 0))
        return
    if pid == 0:
        _child(job, writer, null, landlock, seccomp)
    os.close(writer)
    kind, records = _collect(control, reader, pid, job["cpuSecondsPerProgram"])
    os.close(reader)
    _, status, usage = os.wait4(pid, 0)
    if alone:
        _end_leftovers()
    cpu_seconds = usage.ru_utime + usage.ru_stime
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    out_of_cpu = signalled == signal.SIGKILL and cpu_seconds >= job["cpuSecondsPerProgram"]
    if kind == _ENDED and (signalled == signal.SIGXCPU or out_of_cpu):
        kind = _CPU_TIME
    _write(control, _REPLY.pack(kind, status, int(cpu_seconds * 1e6), len(records)) + records)


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
            hardening.filter_system_calls()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the exit status is the answer
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _calibrate() -> float:
    """CPU seconds of a million rounds of an empty loop: how fast this core is, to be read beside CPU times."""
    start = time.process_time()
    for _ in range(100_000):
        pass
    return round(10 * (time.process_time() - start), 4)


def _warm_up() -> None:
    """Use once what every program uses, in this process: the first `ast.parse` alone makes a hundred types."""
    namespace: dict = {}
    program._load("import re\ndef f(x):\n    return [re.sub('a', 'b', x)]\nassert f('a')", namespace)
    program._test({"values": ["f('a')"]}, namespace, None)
    program._test({"run": "assert f('a') == 1"}, namespace, None)
    program.random.seed(0)


def main() -> None:
    control, uid = int(sys.argv[1]), int(sys.argv[2])
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    hardening.protect_zygote()
    null = os.open("/dev/null", os.O_RDWR)
    alone = sys.argv[3] == "own"
    landlock = hardening.Landlock(sys.argv[4:])
    seccomp = _seccomp_works(landlock)
    _warm_up()
    gc.collect()
    gc.freeze()
    hello = {
        "landlock": landlock.abi,
        "seccomp": seccomp,
        "python": ".".join(map(str, sys.version_info[:3])),
        "calibrationSeconds": _calibrate(),
    }
    hello_bytes = json.dumps(hello).encode()
    _write(control, struct.pack(">I", len(hello_bytes)) + hello_bytes)
    while True:
        (size,) = struct.unpack(">I", _read_exactly(control, 4))
        _run(control, json.loads(_read_exactly(control, size)), null, landlock, seccomp, alone)


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - the supervisor reads the text and starts another zygote
        traceback.print_exc()
        os._exit(1)
