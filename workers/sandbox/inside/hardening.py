"""Kernel limits that the zygote and each program's process put on themselves before untrusted code runs.

Resource limits, Landlock and seccomp, applied through ctypes because the sandbox has the standard library only. The
wall around the zygote (see `sandbox.wall`) hides files, network and processes of the host; the limits here keep one
program away from the zygote and from the programs that run after it. What is the same for every program the zygote sets
for itself once, and its children inherit it: a program's process then makes few system calls, each prepared beforehand.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import resource
import signal
import struct
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_MAP_FAILED = ctypes.c_void_p(-1).value

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_ZEROS = (ctypes.c_ulong(0),) * 4
_SIGKILL = ctypes.c_ulong(signal.SIGKILL)


class HardeningError(OSError):
    """A limit that was there when the zygote started could not be applied: trouble of the host, not of the program."""


def _prctl(option: int, *arguments: ctypes.c_ulong | ctypes.c_void_p) -> None:
    if _libc.prctl(option, *arguments, *_ZEROS[len(arguments) :]) != 0:
        raise HardeningError(ctypes.get_errno(), f"prctl {option} failed: {os.strerror(ctypes.get_errno())}")


def give_back_memory() -> None:
    """Give back what was freed: a fork copies each page of it, and a child is better off with fresh ones."""
    _libc.malloc_trim(ctypes.c_size_t(0))


def protect_zygote() -> None:
    """Forbid new privileges and debugging (ptrace, /proc/pid/mem) of the zygote by processes of the same user."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def end_with_parent() -> None:
    """Have the kernel kill the calling process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


_libc_fork = ctypes.PyDLL(None, use_errno=True).fork


def fork() -> int:
    """`os.fork` of a process without threads, in which Python has nothing to prepare or to repair."""
    if (pid := _libc_fork()) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def socket_pair() -> tuple[int, int]:
    """Two connected sockets; without the module for it, which every fork would have to carry."""
    pair = (ctypes.c_int * 2)()
    if _libc.socketpair(1, 1, 0, pair) != 0:  # AF_UNIX, SOCK_STREAM
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pair[0], pair[1]


# --- resource limits -------------------------------------------------------------------------------------------------

_THREADS = 64
_OPEN_FILES = 128
_STACK_BYTES = 8 * 1024 * 1024


def limit_zygote() -> None:
    """Set the rlimits that all programs have in common: no core is left, open files are few and the stack is
    bounded.
    """
    for limit, value in (
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def address_space() -> int:
    """Bytes of address space that this process has, to the page: the least limit under which it can have one more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 1 << 46
    while high - low > mmap.PAGESIZE:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
        # By the system call: the allocator may have a page left.
        page = _libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), 3, 0x22, -1, ctypes.c_long(0))
        if page == _MAP_FAILED:
            low = middle
        else:
            _libc.munmap(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE))
            high = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return low


def limit_program(cpu_seconds: int, memory_bytes: int, file_bytes: int = 0) -> None:
    """Set a program's own rlimits: CPU seconds (SIGXCPU, one second later SIGKILL), bytes of address space, threads,
    bytes of a file that it may write.

    The kernel counts these CPU seconds in ticks, which can be a fifth too many: they are the backstop, not the limit.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NPROC, (_THREADS, _THREADS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


# --- Landlock (linux/landlock.h) -------------------------------------------------------------------------------------

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_LEAST_ABI_FOR_PROCESSES = 6
# Remove folders and files, make folders, files and symbolic links, move them, truncate: from ABI 1, 2 and 3 on.
_CHANGE_BY_ABI = ((1, 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12), (2, 1 << 13), (3, 1 << 14))
# How many file access rights each ABI version knows; the last entry holds for all later versions.
_FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}


class Landlock:
    """A Landlock ruleset: read the given files and below the given folders, list names below those that end with "/.",
    write to /dev/null and to a `writable` folder, nothing else. With `processes` what may be read may be executed, and
    TCP is left to the network namespace; signals must be kept apart then, which takes ABI 6.

    TCP is denied from ABI 4 on; signals to and abstract sockets of processes outside are denied from ABI 6 on. The
    ruleset is made once by the zygote; every program restricts itself with it. `abi` is 0 where the kernel has no
    Landlock.
    """

    def __init__(self, readable: list[str], writable: str = "", processes: bool = False) -> None:
        self.abi = max(0, _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))
        self._ruleset = -1
        if processes and self.abi < _LEAST_ABI_FOR_PROCESSES:
            raise HardeningError(0, "Programs may start processes where the kernel has Landlock ABI 6 only.")
        if not self.abi:
            return
        files = (1 << _FILE_RIGHTS_BY_ABI[min(self.abi, 5)]) - 1
        attributes = struct.pack("=Q", files)
        attributes += struct.pack("=Q", 0 if processes else 0b11) if self.abi >= 4 else b""
        attributes += struct.pack("=Q", 0b11) if self.abi >= 6 else b""
        self._ruleset = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
        if self._ruleset < 0:
            raise HardeningError(ctypes.get_errno(), "The Landlock ruleset could not be made.")
        readings = _READ_FILE | _READ_DIR | (_EXECUTE if processes else 0)
        rights_by_path = {path: _READ_DIR if path.endswith("/.") else readings for path in readable}
        rights_by_path["/dev/null"] = _READ_FILE | _WRITE_FILE
        if writable:
            changes = sum(rights for abi, rights in _CHANGE_BY_ABI if self.abi >= abi)
            rights_by_path[writable] = _READ_FILE | _READ_DIR | _WRITE_FILE | changes
        for path, rights in rights_by_path.items():
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            if not os.path.isdir(path):
                rights &= _READ_FILE | _WRITE_FILE | _EXECUTE
            rule = struct.pack("=Qi", rights, folder)
            if _libc.syscall(_LANDLOCK_ADD_RULE, self._ruleset, 1, rule, 0) != 0:
                raise HardeningError(ctypes.get_errno(), f"The Landlock rule for {path} could not be added.")
            os.close(folder)

    def restrict(self) -> None:
        """Apply the ruleset to the calling process for good."""
        if self.abi and _libc.syscall(_LANDLOCK_RESTRICT, self._ruleset, 0) != 0:
            raise HardeningError(ctypes.get_errno(), "Landlock could not be applied.")


# --- seccomp (linux/seccomp.h, linux/filter.h) -----------------------------------------------------------------------

_ARCH_X86_64 = 0xC000003E
_KILL, _ALLOW, _EPERM, _ENOSYS = 0x80000000, 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_CLONE, _CLONE3, _CLONE_THREAD = 56, 435, 0x10000

# x86-64 numbers of what a computing Python process needs: memory, files already visible, time, own signals, threads,
# pipes and polling. No process, network, mount, key, tracing or kernel-management call is among them.
_ALLOWED = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35, "getitimer": 36, "alarm": 37,
    "setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "shutdown": 48, "exit": 60, "wait4": 61, "uname": 63,
    "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "getgroups": 115,
    "getresuid": 118, "getresgid": 120, "getpgid": 121, "getsid": 124, "rt_sigpending": 127, "rt_sigtimedwait": 128,
    "rt_sigsuspend": 130, "sigaltstack": 131, "getpriority": 140, "sched_getparam": 143, "sched_getscheduler": 145,
    "sched_get_priority_max": 146, "sched_get_priority_min": 147, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "epoll_create": 213, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232,
    "epoll_ctl": 233, "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270,
    "ppoll": 271, "set_robust_list": 273, "get_robust_list": 274, "epoll_pwait": 281, "timerfd_create": 283,
    "eventfd": 284, "timerfd_settime": 286, "timerfd_gettime": 287, "eventfd2": 290, "epoll_create1": 291, "dup3": 292,
    "pipe2": 293, "preadv": 295, "getcpu": 309, "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334,
    "close_range": 436, "faccessat2": 439, "epoll_pwait2": 441,
}  # fmt: skip


# What changes files, for programs that have a folder to write to.
_CHANGES = {
    "sendfile": 40, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "chdir": 80, "fchdir": 81,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91,
    "flock": 73, "umask": 95, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "symlinkat": 266, "fchmodat": 268,
    "utimensat": 280, "fallocate": 285, "pwritev": 296, "renameat2": 316, "copy_file_range": 326,
}  # fmt: skip
# What starts processes and talks to them, for programs that may: in a network of their own, which has loopback alone.
_PROCESSES = {
    "connect": 42, "accept": 43, "sendmsg": 46, "recvmsg": 47, "bind": 49, "listen": 50, "getsockname": 51,
    "getpeername": 52, "setsockopt": 54, "getsockopt": 55, "fork": 57, "vfork": 58, "execve": 59, "setpgid": 109,
    "setsid": 112, "arch_prctl": 158, "waitid": 247, "accept4": 288, "recvmmsg": 299, "sendmmsg": 307,
}  # fmt: skip
_SOCKET, _FAMILIES = 41, (1, 2, 10, 16)  # Unix, both versions of IP, and netlink, which name look-up reads addresses by
_FCNTL = 72
# F_GETLK F_SETLK F_SETLKW, and those of open files: sqlite locks its files.
_LOCKS = (5, 6, 7, 36, 37, 38)

_Instruction = tuple[int, int, int, int]
# Allowed for some values of one argument only: number -> (position, values).
_ALLOWED_VALUES = {
    16: (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # ioctl: TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
    53: (0, (1,)),  # socketpair: AF_UNIX, which asyncio wakes itself with
    72: (1, (0, 1, 2, 3, 4, 1030)),  # fcntl: not F_SETOWN, which would aim signals at another process
}  # fmt: skip
# What the zygote needs to start, watch and end its children. A program's own filter denies all of it, but for signals
# to itself, its own limits, and clone for threads.
_ZYGOTE_ONLY = {"prctl": 157, "memfd_create": 319, "pidfd_open": 434, "landlock_restrict_self": _LANDLOCK_RESTRICT}
_KILL_CALL, _TGKILL, _PRLIMIT = 62, 234, 302
# Stands for the id of the process that installs the filter.
_CALLER = 0x7E57C0DE
_OWN_VALUES = {_KILL_CALL: (_CALLER,), _TGKILL: (_CALLER,), _PRLIMIT: (0, _CALLER)}


def _values(argument: int, values: tuple[int, ...]) -> list[_Instruction]:
    """Allow the call where an argument has one of the values."""
    checks = [(_JUMP_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), *checks, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _zygote_decision(number: int) -> list[_Instruction]:
    if number in _ALLOWED_NUMBERS:
        return [(_RETURN, 0, 0, _ALLOW)]
    if number == _CLONE3:  # glibc falls back to clone, whose flags can be seen
        return [(_RETURN, 0, 0, _ENOSYS)]
    if number in _ALLOWED_VALUES:
        return _values(*_ALLOWED_VALUES[number])
    return [(_RETURN, 0, 0, _EPERM)]


def _writing_zygote_decision(number: int) -> list[_Instruction]:
    if number in _CHANGES.values():
        return [(_RETURN, 0, 0, _ALLOW)]
    if number == _FCNTL:
        argument, values = _ALLOWED_VALUES[_FCNTL]
        return _values(argument, (*values, *_LOCKS))
    return _zygote_decision(number)


def _processes_zygote_decision(number: int) -> list[_Instruction]:
    if number in _PROCESSES.values():
        return [(_RETURN, 0, 0, _ALLOW)]
    return _values(0, _FAMILIES) if number == _SOCKET else _writing_zygote_decision(number)


def _processes_program_decision(number: int) -> list[_Instruction]:
    # Landlock keeps signals to the program and what it has started.
    return [(_RETURN, 0, 0, _ALLOW)] if number in (_CLONE, _KILL_CALL) else _program_decision(number)


def _program_decision(number: int) -> list[_Instruction]:
    if number == _CLONE:
        flags = [(_LOAD, 0, 0, _ARGUMENTS), (_JUMP_SET, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)]
        return [*flags, (_RETURN, 0, 0, _EPERM)]
    if number in _OWN_VALUES:
        return _values(0, _OWN_VALUES[number])
    return [(_RETURN, 0, 0, _EPERM if number in _ZYGOTE_ONLY.values() else _ALLOW)]


def _search(ranges: list[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """Binary search for the range that the number is in; each range begins at its number."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below = _search(ranges[:middle])
    return [(_JUMP_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *_search(ranges[middle:])]


def _filter(decision: Callable[[int], list[_Instruction]]) -> bytes:
    """The BPF program. When it is installed the kernel tries it on every number there is: a list of comparisons in
    place of the search would cost a program more than all its other limits together.
    """
    ranges: list[tuple[int, list[_Instruction]]] = []
    for number in range(_CLONE3 + 100):
        decided = decision(number)
        if not ranges or ranges[-1][1] != decided:
            ranges.append((number, decided))
    instructions: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _ARCH_X86_64),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        *_search(ranges),  # the last range holds the numbers of the x32 ABI too, which the zygote's filter denies
    ]
    return b"".join(
        struct.pack("=HBBI", code, yes, no, constant & 0xFFFFFFFF) for code, yes, no, constant in instructions
    )


class _Filter:
    """A BPF program in memory, ready to be installed."""

    def __init__(self, code: bytes) -> None:
        self._words = (ctypes.c_uint32 * (len(code) // 4)).from_buffer_copy(code)
        self._own = [at for at, word in enumerate(self._words) if word == _CALLER]
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(self._words))
        self._header = ctypes.create_string_buffer(header, len(header))
        self._argument = ctypes.c_void_p(ctypes.addressof(self._header))
        self._mode = ctypes.c_ulong(2)

    def install(self) -> None:
        own_id = os.getpid()
        for at in self._own:
            self._words[at] = own_id
        _prctl(_PR_SET_SECCOMP, self._mode, self._argument)


_ALLOWED_NUMBERS = frozenset({*_ALLOWED.values(), *_ZYGOTE_ONLY.values(), *_OWN_VALUES, _CLONE})
_ZYGOTE_FILTER, _PROGRAM_FILTER = _Filter(_filter(_zygote_decision)), _Filter(_filter(_program_decision))
_WRITING_ZYGOTE_FILTER = _Filter(_filter(_writing_zygote_decision))
_PROCESSES_ZYGOTE_FILTER = _Filter(_filter(_processes_zygote_decision))
_PROCESSES_PROGRAM_FILTER = _Filter(_filter(_processes_program_decision))


def seccomp_known() -> bool:
    """Whether the filter's system call numbers are those of this machine."""
    return platform.machine() == "x86_64"


def filter_zygote(writes: bool = False, processes: bool = False) -> None:
    """Allow the zygote and all its children the listed system calls only; others fail with EPERM, so that Python can
    raise. With `writes` they may change files, where Landlock lets them; with `processes` they may start processes too.
    """
    (_PROCESSES_ZYGOTE_FILTER if processes else _WRITING_ZYGOTE_FILTER if writes else _ZYGOTE_FILTER).install()


def filter_program(processes: bool = False) -> None:
    """Take from the calling process what only the zygote needs: processes, signals and limits of others. With
    `processes` it keeps those that it starts.
    """
    (_PROCESSES_PROGRAM_FILTER if processes else _PROGRAM_FILTER).install()
