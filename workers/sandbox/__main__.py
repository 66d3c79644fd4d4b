"""Service of the sandbox: `PYTHONPATH=<repository>/workers python -m sandbox [--workers N]`, driven as `serve`
describes.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from operations import sandbox_operations
from sandbox import verdicts
from sandbox.libraries import Libraries, NotUsable
from sandbox.pool import Pool
from sandbox.wall import LEVELS
from serve import Call, ServiceError, keep_running_without_log, serve

_MOST_WORKERS = 4
_PR_SET_PDEATHSIG = 1

P = TypeVar("P")
"""Params of an operation."""
R = TypeVar("R")
"""Result of an operation."""


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, whatever it does then: a long calculation in C lets no
    thread of Python run. The walls end with it, and what is left of control groups a later start removes.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), *[ctypes.c_ulong(0)] * 3)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    _end_with_parent()
    keep_running_without_log()
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="Runs untrusted Python programs against tests."
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=min(_MOST_WORKERS, len(os.sched_getaffinity(0))),
        help="programs at the same time",
    )
    parser.add_argument(
        "--minimum",
        choices=LEVELS,
        default="reduced",
        help="level of isolation below which no program is run, as wall.level defines them",
    )
    parser.add_argument(
        "--libraries", default="", help="virtual environment, or folder of packages, that programs may import"
    )
    parser.add_argument(
        "--scratch-mib", type=int, default=0, help="MiB of files in memory that a program may write (none)"
    )
    parser.add_argument(
        "--processes", action="store_true", help="programs may start processes and use loopback; needs --scratch-mib"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="number of the first zygote, for services of one host that shall share no user",
    )
    options = parser.parse_args()
    workers = options.workers
    if workers < 1:
        parser.error("--workers must be at least 1")

    pool: Pool | None = None
    trouble = ""
    try:
        libraries = Libraries.find(options.libraries) if options.libraries else None
        pool = Pool(workers, options.minimum, libraries, options.scratch_mib << 20, options.first, options.processes)
    except (NotUsable, ServiceError) as error:
        # The service starts all the same, so that every request gets the reason as its reply.
        trouble = str(error)
        print(trouble, file=sys.stderr)

    def with_pool(operation: Callable[[Pool, P, Call], R]) -> Callable[[P, Call], R]:
        def run(params: P, call: Call) -> R:
            if pool is None:
                raise ServiceError("SandboxUnavailable", trouble)
            return operation(pool, params, call)

        return run

    serve(
        sandbox_operations(
            judge=with_pool(functools.partial(verdicts.judge, cache=verdicts.Cache())),
            limits=with_pool(verdicts.limits),
            answers=with_pool(verdicts.answers),
            evaluate=with_pool(verdicts.evaluate),
            run=with_pool(verdicts.run),
            mutants=with_pool(verdicts.mutants),
            normalize=verdicts.normalize,
            probe=with_pool(verdicts.probe),
        ),
        {
            "python": pool.python_version if pool else "",
            "isolation": pool.isolation if pool else "none",
            "level": pool.level if pool else "none",
            "trouble": trouble,
            "importPolicy": pool.import_policy if pool else "",
            "harness": verdicts.HARNESS_VERSION,
            "calibrationSeconds": str(pool.calibration_seconds) if pool else "",
        },
        on_orphaned=pool.close if pool else lambda: None,
    )


if __name__ == "__main__":
    main()
