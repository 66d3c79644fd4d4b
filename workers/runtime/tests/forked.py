"""Runtimes that are forked from a process in which the libraries are imported already, which is most of a start.

Nothing of the runtime itself is imported there: a forked process runs `python -m MODULE` from its first line, with its
own environment, descriptors and session.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch",
        "torch.distributed.fsdp",
        "torch._dynamo",
        "transformers.models.auto",
        "transformers.models.llama.modeling_llama",
        "transformers.generation.utils",
        "peft",
        "trl.trainer.reward_trainer",
    ]
)


class Forked:
    """A forked process; of a `subprocess.Popen` it has what the tests use."""

    def __init__(self, module: str, requests: int, replies: int, log: Path, environment: Mapping[str, str]) -> None:
        """Take over the descriptors of the child's ends."""
        ends = (Connection(requests, writable=False), Connection(replies, readable=False))
        self._process = _CONTEXT.Process(target=_run, args=(module, *ends, str(log), dict(environment)))
        self._process.start()
        for end in ends:
            end.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self._process.exitcode


def _run(module: str, requests: Connection, replies: Connection, log: str, environment: Mapping[str, str]) -> None:
    """Be `python -m MODULE`, with requests on descriptor 3 and replies on 4."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    # Copied out of the way first, because an end may have the number of another.
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (output, output, requests.fileno(), replies.fileno())]
    for end in (requests, replies):
        end.close()
    os.close(output)
    for number, end in enumerate(given, start=1):
        os.dup2(end, number)
        os.close(end)
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = [module]
    assert not {"runtime", "serve", module} & sys.modules.keys()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
