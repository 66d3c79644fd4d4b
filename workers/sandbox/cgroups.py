"""Control groups around the zygotes: memory and processes of each are bounded as a whole, where the host lets us.

Tried are version 2 and version 1 of the kernel's interface, below the group that this process is in; a host or
container that lets neither be written has the limits of each process only (see `inside/hardening.py`).
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Bounds of a zygote with its wall and one program: far above what a program's own limits allow by default.
_MEMORY_BYTES = 2 * 1024**3
_PROCESSES = 256
_PREFIX = "acecoder-sandbox-"
# Enters the groups whose `cgroup.procs` are its first arguments, then becomes the command.
_ENTER = 'n=$1; shift; while [ $n -gt 0 ]; do echo $$ > "$1" || exit 1; shift; n=$((n - 1)); done; exec "$@"'


@dataclass(frozen=True)
class Group:
    """The folders that one group has, one for each hierarchy."""

    folders: tuple[Path, ...]

    def command(self) -> list[str]:
        """Command prefix that starts a program in the group."""
        files = [str(folder / "cgroup.procs") for folder in self.folders]
        return ["/bin/sh", "-c", _ENTER, "sh", str(len(files)), *files]

    def remove(self) -> None:
        """Remove the group, whose processes have been killed; one that is still there is removed by a later start."""
        for folder in self.folders:
            for _ in range(20):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    time.sleep(0.005)
                    continue
                break


@dataclass(frozen=True)
class Hierarchies:
    """Where groups can be made: `version` 1 or 2 of the interface, the folders of this process's own group, and the
    settings of each group made below them.
    """

    version: int
    folders: tuple[Path, ...]
    settings: tuple[dict[str, int], ...]

    def at(self, name: str) -> Group:
        """A group of this process, which need not exist."""
        return Group(tuple(folder / f"{_PREFIX}{os.getpid()}-{name}" for folder in self.folders))

    def make(self, group: Group) -> None:
        """Make a group and set its limits. OSError when that is not possible."""
        for folder, settings in zip(group.folders, self.settings, strict=True):
            if self.version == 2:
                (folder.parent / "cgroup.subtree_control").write_text("+memory +pids")
            folder.mkdir(exist_ok=True)
            for name, value in settings.items():
                (folder / name).write_text(str(value))

    def sweep(self) -> None:
        """Remove groups that killed supervisors have left."""
        for folder in self.folders:
            for left in folder.glob(f"{_PREFIX}*"):
                if not Path("/proc", left.name.removeprefix(_PREFIX).partition("-")[0]).exists():
                    Group((left,)).remove()


def _own_folders() -> dict[str, Path]:
    """This process's own group by controller; "" is version 2."""
    mounts: dict[str, str] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts[""] = place
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), place)
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                found[controller] = Path(mounts[controller], path.lstrip("/"))
    return found


def _candidates() -> list[Hierarchies]:
    own = _own_folders()
    candidates: list[Hierarchies] = []
    if "" in own and {"memory", "pids"} <= set((own[""] / "cgroup.controllers").read_text().split()):
        settings = {"memory.max": _MEMORY_BYTES, "pids.max": _PROCESSES}
        candidates.append(Hierarchies(2, (own[""],), (settings,)))
    if "memory" in own and "pids" in own:
        settings_each = ({"memory.limit_in_bytes": _MEMORY_BYTES}, {"pids.max": _PROCESSES})
        candidates.append(Hierarchies(1, (own["memory"], own["pids"]), settings_each))
    return candidates


@functools.cache
def available() -> Hierarchies | None:
    """The first version of the interface in which a group can be made, limited and entered here."""
    try:
        candidates = _candidates()
    except (OSError, ValueError):
        return None
    for hierarchies in candidates:
        group = hierarchies.at("probe")
        try:
            hierarchies.make(group)
            if subprocess.run([*group.command(), "/bin/true"], capture_output=True).returncode == 0:
                hierarchies.sweep()
                return hierarchies
        except OSError as error:
            print(f"Control groups of version {hierarchies.version} cannot be used: {error}", file=sys.stderr)
        finally:
            group.remove()
    return None
