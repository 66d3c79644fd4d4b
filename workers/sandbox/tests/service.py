"""The sandbox as its users see it: a service process spoken to over descriptors 3 and 4."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
QUICK = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 1, "memoryBytes": 160 * 1024 * 1024}


_AS_USER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--no-new-privs", "--"]
_NO_NAMESPACES = (
    'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all -- "$0" "$@"'
)
MODES = {
    "as started": [],
    "ordinary user": _AS_USER,
    "no namespaces": [
        *_AS_USER, *("unshare", "--user", "--map-user=54321", "--keep-caps", "--"), *("/bin/sh", "-c", _NO_NAMESPACES),
    ],
}  # fmt: skip
"""Commands in front of the service that give it fewer rights; all but the first need root."""


class Service:
    """A running `python -m sandbox`; requests one at a time. `mode` is one of `MODES`; `workers` has its code."""

    def __init__(self, *arguments: str, mode: str = "as started", workers: Path = WORKERS) -> None:
        # The interpreter of the tests, the checkout and what PATH names may be in folders that only root can read.
        usual = mode == "as started"
        python = sys.executable if usual else SYSTEM_PYTHON
        self._copy = None if usual else _readable_copy()
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        # The shell moves the pipes to the descriptors that the service expects.
        command = f'exec "$0" -m sandbox "$@" 3<&{requests} 4>&{replies}'
        self.process = subprocess.Popen(
            [*MODES[mode], "/bin/bash", "-c", command, python, *arguments],
            pass_fds=(requests, replies),
            env={
                **os.environ,
                **({} if usual else {"PATH": SYSTEM_PATH}),
                "PYTHONPATH": str(self._copy or workers),
            },
            start_new_session=True,
        )
        os.close(requests)
        os.close(replies)
        self._lines = os.fdopen(self._replies)
        self.versions = json.loads(self._lines.readline())["versions"]

    def send(self, message: dict[str, Any]) -> None:
        os.write(self._requests, json.dumps(message).encode() + b"\n")

    def reply(self) -> dict[str, Any]:
        """The next reply that is not progress."""
        while (message := json.loads(self._lines.readline()))["type"] == "progress":
            pass
        return message

    def ask(self, op: str, **params: Any) -> dict[str, Any]:
        self.send({"id": 1, "op": op, "params": params})
        message = self.reply()
        assert message["type"] == "result", message
        return message["result"]

    def judge(self, program: str, *tests: str, **limits: float) -> list[dict[str, Any]]:
        """Outcomes of one program, under quick limits."""
        jobs = [{"id": "p", "program": program, "tests": list(tests)}]
        return self.ask("judge", jobs=jobs, limits={**QUICK, **limits})["verdicts"][0]["outcomes"]

    def statuses(self, program: str, *tests: str, **limits: float) -> list[str]:
        return [outcome["status"] for outcome in self.judge(program, *tests, **limits)]

    def close(self) -> None:
        os.close(self._requests)
        self._lines.close()
        code = self.process.wait(10)
        if self._copy:
            shutil.rmtree(self._copy)
        assert code == 0


def _readable_copy() -> Path:
    """The service's code where every user can read it."""
    folder = Path(tempfile.mkdtemp(prefix="acecoder-sandbox-"))
    shutil.copytree(
        WORKERS / "sandbox", folder / "sandbox", ignore=shutil.ignore_patterns("tests", "bench", "__pycache__")
    )
    for module in ("serve.py", "operations.py"):
        shutil.copy(WORKERS / module, folder)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


def why_no_other_user() -> str | None:
    """Why the service cannot be started for another user here; None when it can."""
    if os.getuid() != 0:
        return "only root can start the service with fewer rights"
    try:
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        subprocess.run([*_AS_USER, SYSTEM_PYTHON, "-c", check], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return f"{SYSTEM_PYTHON} is not there for every user, or older than 3.11"
    return None


def descendants(pid: int) -> list[int]:
    """Process ids of all children of `pid`, their children and so on; outermost first."""
    found: list[int] = []
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    for child in children:
        found += [child, *descendants(child)]
    return found


def zygotes(service: Service) -> list[int]:
    """Process ids of the zygotes of a service that runs no program."""
    return [
        pid
        for pid in descendants(service.process.pid)
        if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes() and not descendants(pid)
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> bool:
    """Whether the condition comes about. `seconds` guards against hanging and is no bar."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
