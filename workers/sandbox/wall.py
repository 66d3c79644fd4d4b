"""The outer wall: starts one zygote behind namespaces, with nothing of the host but the interpreter.

Three ways are tried, the first that works is used:
- as root, bubblewrap keeps the right to change the user and each zygote takes its own user id: zygotes then
  share no limits per user (threads), and no process inside is root on the host;
- otherwise bubblewrap with a user namespace;
- where bubblewrap is missing, `unshare` of util-linux, which cannot hide the host's files: then Landlock must;
- where there are no namespaces, nothing around the zygote: then Landlock and seccomp must do everything.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import cgroups
from sandbox.libraries import Libraries

_INSIDE = Path(__file__).parent / "inside"
_HOSTS = Path(__file__).parent / "hosts"
_INTERPRETER = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
# -I and -E would make the interpreter ignore PYTHONHASHSEED; the environment holds nothing else.
_PYTHON = [str(_INTERPRETER), "-s", "-S", "-B"]
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "LD_BIND_NOW": "1"}
# A fork copies no threads, and what a program computes depends on no number of cores.
_LIBRARY_ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "HOME": "/tmp",
    "MPLCONFIGDIR": "/tmp",
    "MPLBACKEND": "Agg",
}
_START_SECONDS = 30
# Above the ids of people and below those of nobody and of containers; one id for each zygote.
_FIRST_USER_ID = 59_000
_CAP_SYS_ADMIN = 21


SCRATCH = "/tmp"
"""The folder that programs may write to, where they may write at all."""


@dataclass(frozen=True)
class Setting:
    """What programs have besides the interpreter: libraries, those of their modules that zygotes import beforehand, and
    bytes of memory for files.
    """

    libraries: Libraries | None = None
    preload: frozenset[str] = field(default_factory=frozenset[str])
    scratch_bytes: int = 0
    processes: bool = False
    """Whether programs may start processes and use loopback."""

    @property
    def words(self) -> dict[str, object]:
        """For the zygote."""
        return {
            "libraries": self.libraries.folder if self.libraries else "",
            "modules": sorted(self.libraries.modules) if self.libraries else [],
            "preload": sorted(self.preload),
            "scratchBytes": self.scratch_bytes,
            "processes": self.processes,
        }


class WallError(Exception):
    """The wall could not be started; the message says what the tool said."""


@dataclass
class Wall:
    """A running zygote: `control` is the only way in; the end of `process`, the outermost one, ends all inside."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    hello: dict[str, Any]
    group: cgroups.Group | None = None

    def close(self) -> None:
        """Kill the zygote and everything in its namespace, and reap it."""
        self.control.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        if self.group:
            self.group.remove()


def receive(control: socket.socket, size: int) -> bytes:
    """Read exactly `size` bytes; OSError (a timeout is one) when they do not come."""
    parts = bytearray()
    while len(parts) < size:
        part = control.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("the zygote closed its end")
        parts += part
    return bytes(parts)


def _bound() -> list[str]:
    """Folders of the host that are there behind the wall: the system's libraries and the interpreter."""
    libraries = [
        folder for folder in ("/usr", "/lib", "/lib64") if Path(folder).is_dir() and not Path(folder).is_symlink()
    ]
    return libraries if _INTERPRETER.is_relative_to("/usr") else [*libraries, str(_INTERPRETER.parents[1])]


def _packages() -> list[str]:
    """Folders of installed packages below those: nobody asked for them, and some hold the answers of a benchmark."""
    roots = {_INTERPRETER.parents[1], Path("/usr"), Path("/usr/local")}
    # Where lib64 is a link to lib, the folder behind it is found too.
    libraries = [each for root in roots for each in root.glob("lib*") if not each.is_symlink()]
    return sorted({str(each) for library in libraries for each in library.glob("python*/*-packages") if each.is_dir()})


def _readable(setting: Setting) -> list[str]:
    """Files and folders that programs may read. Below a folder that ends with "/." they may only list names."""
    places: list[str] = []
    packages = {Path(each) for each in _packages()}
    for folder in map(Path, _bound()):
        inner = [each for each in packages if each.is_relative_to(folder)]
        # The folders of the system are too many to name what lies in them.
        if not inner or str(folder) in ("/usr", "/lib", "/lib64"):
            places.append(str(folder))
            continue
        on_the_way = {parent for each in inner for parent in each.parents if parent.is_relative_to(folder)}
        for parent in sorted(on_the_way):
            places.append(f"{parent}/.")
            places += [
                str(each)
                for each in sorted(parent.iterdir())
                if each.exists() and each not in on_the_way and each not in packages
            ]
    places += [setting.libraries.folder, *_library_devices()] if setting.libraries else []
    return [*places, *(["/etc/hosts"] if setting.processes else [])]


def _hidden_by_scratch(setting: Setting) -> str | None:
    """A folder that programs need and that their own folder for files would hide."""
    needed = [str(_INSIDE), *_bound(), *([setting.libraries.folder] if setting.libraries else [])]
    return next((folder for folder in needed if Path(folder).is_relative_to(SCRATCH)), None)


def _library_devices() -> list[str]:
    """Devices that libraries read where Python asks the kernel: TensorFlow takes random numbers from a file."""
    return [device for device in ("/dev/urandom",) if Path(device).exists()]


def _bubblewrap(as_root: bool, more: Sequence[str] = (), setting: Setting = Setting()) -> list[str]:
    command = [shutil.which("bwrap") or "/usr/bin/bwrap", "--die-with-parent", "--new-session"]
    command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if as_root:
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for folder in ("/lib", "/lib64", "/bin"):
        if Path(folder).is_symlink():
            command += ["--symlink", os.readlink(folder), folder]
    for path, bind in [
        *((folder, "--ro-bind") for folder in [*_bound(), str(_INSIDE)]),
        ("/dev/null", "--dev-bind"),
        *((folder, "--tmpfs") for folder in _packages()),
        *([(setting.libraries.folder, "--ro-bind")] if setting.libraries else []),
        *((device, "--dev-bind") for device in (_library_devices() if setting.libraries else [])),
    ]:
        # Folders on the way are made by bubblewrap for their owner only; the zygote's user has to pass them.
        for parent in reversed(Path(path).parents[:-1]):
            command += ["--perms", "0755", "--dir", str(parent)]
        command += [bind, path] if bind == "--tmpfs" else [bind, path, path]
        command += ["--remount-ro", path] if bind == "--tmpfs" else []
    if setting.libraries:
        # TensorFlow asks for the path and the arguments of its process. Where there is a /proc, threadpoolctl asks for
        # what is mapped. There is nothing else of processes.
        for folder in ("/proc", "/proc/self"):
            command += ["--perms", "0755", "--dir", folder]
        command += ["--symlink", str(_INTERPRETER), "/proc/self/exe"]
        for empty in ("cmdline", "maps"):
            command += ["--dev-bind", "/dev/null", f"/proc/self/{empty}"]
    if setting.processes:
        command += ["--perms", "0755", "--dir", "/etc", "--ro-bind", str(_HOSTS), "/etc/hosts"]
    if setting.scratch_bytes:
        command += ["--size", str(setting.scratch_bytes), "--perms", "1777", "--tmpfs", SCRATCH]
    else:
        command += ["--dir", SCRATCH]
    return [*command, *more, "--remount-ro", "/", "--chdir", SCRATCH if setting.scratch_bytes else "/", "--"]


def peer_command(readable: list[str], writable: str) -> list[str]:
    """Command prefix that runs a program which executes untrusted code itself behind the same wall, with folders of its
    own to read and one to write.
    """
    folders = ["--tmpfs", "/tmp", "--dir", "/dev", "--tmpfs", "/dev/shm", "--dev-bind", "/dev/urandom", "/dev/urandom"]
    folders += ["--proc", "/proc", "--bind", writable, writable]
    return _bubblewrap(False, [*folders, *(word for folder in readable for word in ("--ro-bind", folder, folder))])


def _unshare() -> list[str]:
    command = [shutil.which("unshare") or "/usr/bin/unshare", "--user", "--map-user=65534", "--map-group=65534"]
    return [*command, "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=SIGKILL", "--"]


def ways() -> list[str]:
    """Names of the walls to try, strongest first."""
    return [*(["bubblewrap+uid"] if os.getuid() == 0 else []), "bubblewrap", "unshare", "bare"]


def advice() -> str:
    """What to do on a host where no wall works, in one sentence.

    Root without the capability to change namespaces, as containers that drop all capabilities have it, may neither use
    its rights nor make a user namespace that maps root. Any other user may.
    """
    if shutil.which("bwrap") is None:
        return "Install bubblewrap."
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if os.getuid() == 0 and effective and not int(effective[1], 16) >> _CAP_SYS_ADMIN & 1:
        return "This process is root without the capability SYS_ADMIN: run it as another user, such as 65534."
    return (
        "bubblewrap is installed; where it may make no namespace, allow user namespaces on the host and in containers."
    )


LEVELS = ("weak", "reduced", "full")
"""Levels of isolation, weakest first; `level` says what they mean."""


def level(way: str, hello: dict[str, Any]) -> str:
    """The level of a wall and of the kernel's limits inside it.

    full: own namespaces, the host's files hidden twice (not mounted, and Landlock), signals kept apart (Landlock ABI
    6), system calls filtered. weak: no namespaces, one process tree and one network with the host. reduced: between.
    """
    if way == "bare":
        return "weak"
    complete = way.startswith("bubblewrap") and hello["landlock"] >= 6 and hello["seccomp"]
    return "full" if complete else "reduced"


def start(way: str, index: int, setting: Setting = Setting()) -> Wall:
    """Start zygote number `index` behind the wall `way`, one of `ways()`; `WallError` when it does not come up."""
    if setting.scratch_bytes and not way.startswith("bubblewrap"):
        raise WallError(f"{way}: only bubblewrap can give programs a folder to write to")
    if setting.scratch_bytes and (hidden := _hidden_by_scratch(setting)):
        raise WallError(f"{hidden} lies in {SCRATCH}, which programs with files have as a folder of their own; move it")
    if setting.processes and not setting.scratch_bytes:
        raise WallError(f"{way}: programs that start processes need a folder to write to")
    ours, theirs = socket.socketpair()
    if way == "bare":
        command: list[str] = []
    elif way == "unshare":
        command = _unshare()
    else:
        command = _bubblewrap(as_root=way == "bubblewrap+uid", setting=setting)
    user_id = _FIRST_USER_ID + index if os.getuid() == 0 and way in ("bubblewrap+uid", "bare") else 0
    namespaces = "shared" if way == "bare" else "own"
    words = [str(theirs.fileno()), str(user_id), namespaces, json.dumps(setting.words), *_readable(setting)]
    command += [*_PYTHON, str(_INSIDE / "zygote.py"), *words]
    group = None
    if hierarchies := cgroups.available():
        group = hierarchies.at(str(index))
        try:
            hierarchies.make(group)
        except OSError as error:
            raise WallError(f"{way}: {error}") from error
        command = [*group.command(), *command]
    try:
        process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**_ENVIRONMENT, **(_LIBRARY_ENVIRONMENT if setting.libraries else {})},
            cwd="/",
        )
    except OSError as error:
        ours.close()
        raise WallError(f"{way}: {error}") from error
    finally:
        theirs.close()
    wall = Wall(process, ours, {}, group)
    try:
        ours.settimeout(_START_SECONDS)
        (size,) = struct.unpack(">I", receive(ours, 4))
        wall.hello = json.loads(receive(ours, min(size, 4096)))
    except (OSError, ValueError) as error:
        process.kill()
        said = process.communicate()[1][-500:].decode(errors="replace").strip()
        wall.close()
        raise WallError(f"{way}: {said or error}") from error
    missing = ""
    if way in ("unshare", "bare") and not wall.hello["landlock"]:
        missing = "the kernel has no Landlock, so the host's files would be visible"
    elif way == "bare" and not wall.hello["seccomp"]:
        missing = "seccomp does not work, so the host's processes and network would be in reach"
    if missing:
        wall.close()
        raise WallError(f"{way}: {missing}")
    return wall
