"""Ratios that are measured turn by turn, so that they hold on a busy host."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from sandbox.tests.service import Service, descendants

Job = dict[str, Any]
VERSION_0_1_0 = "005c93a"
"""The last commit of version 0.1.0, whose sandbox is run next to this one."""
_TURN = 7 * 16


@contextmanager
def _service(*arguments: str, workers: Path | None = None) -> Iterator[Service]:
    service = Service("--workers", "2", *arguments, **({"workers": workers} if workers else {}))
    try:
        service.ask("judge", jobs=[{"id": "warm", "program": "", "tests": []}])
        yield service
    finally:
        service.close()


def _seconds(service: Service, jobs: Sequence[Job]) -> float:
    start = time.monotonic()
    service.ask("judge", jobs=list(jobs))
    return time.monotonic() - start


def cpu_seconds(service: Service) -> float:
    """CPU seconds that the service and what it has run have used so far."""
    ticks = 0
    for pid in [service.process.pid, *descendants(service.process.pid)]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def against_version(jobs: Sequence[Job], root: Path, folder: Path) -> tuple[float, float, list[float], float]:
    """(our programs/s, those of version 0.1.0, the ratio of each turn, the CPU time of version 0.1.0 over ours) on the
    same programs, in turns.

    The other version comes from the history of the repository; CalledProcessError where that is not there.
    """
    archive = subprocess.run(["git", "archive", VERSION_0_1_0, "workers"], cwd=root, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    ours = theirs = 0.0
    ratios: list[float] = []
    with _service() as new, _service(workers=folder / "workers") as old:
        before = cpu_seconds(new), cpu_seconds(old)
        for turn, at in enumerate(range(0, len(jobs), _TURN)):
            part = jobs[at : at + _TURN]
            pair = [(new, 0), (old, 1)] if turn % 2 == 0 else [(old, 1), (new, 0)]
            seconds = dict(sorted((which, _seconds(service, part)) for service, which in pair))
            ours += seconds[0]
            theirs += seconds[1]
            ratios.append(seconds[1] / seconds[0])
        cpu_ratio = (cpu_seconds(old) - before[1]) / (cpu_seconds(new) - before[0])
    return len(jobs) / ours, len(jobs) / theirs, sorted(ratios), cpu_ratio


def numpy_against_stdlib(turns: int = 8, programs: int = 200) -> float:
    """Programs/s of programs that import numpy, over those that import a module of the standard library."""

    def load(line: str, turn: int) -> list[Job]:
        program = f"{line}\ndef f(x):\n    return sum(x)"
        return [
            {
                "id": str(n),
                "program": f"{program} + {n + turn * programs}\n",
                "tests": [f"assert f([1, 2]) == {3 + n}"] * 3,
            }
            for n in range(programs)
        ]

    ratios: list[float] = []
    with _service("--libraries", sys.prefix) as service:
        for turn in range(turns + 1):
            plain = _seconds(service, load("import bisect", turn))
            libraries = _seconds(service, load("import numpy as np", turn))
            # In the first turn the zygotes import numpy.
            if turn > 0:
                ratios.append(plain / libraries)
    return median(ratios)
