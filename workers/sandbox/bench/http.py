"""The HTTP server as a bench meets it: `npm run sandbox -- --serve`, and one thread with several connections to it.

The client costs as little as it can, because it shares the cores with what is measured: requests are made before the
clock runs, and answers are read after it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[3]
_END_OF_HEAD = b"\r\n\r\n"


class Server:
    """A running server, with as many programs at a time as there are cores."""

    def __init__(self, home: Path) -> None:
        command = ["node", "--import", "tsx", "infra/commands/sandbox.ts", "--serve", "--port", "0"]
        command += ["--workers", str(len(os.sched_getaffinity(0)))]
        environment = {**os.environ, "ACECODER_HOME": str(home)}
        environment.pop("ACECODER_SANDBOX_TOKEN", None)
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        url = urlsplit(self._process.stdout.readline().split()[-1])
        assert url.hostname is not None
        assert url.port is not None
        self._address = (url.hostname, url.port)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        if self._process.wait(60) != 0:
            raise RuntimeError("the server ended with an error")

    def judge(self, jobs: Sequence[dict[str, Any]], connections: int, rows: int) -> tuple[dict[str, list[str]], float]:
        """(statuses by job, wall seconds) of requests of so many rows each, over so many connections at once."""
        requests = [self._request(jobs[at : at + rows]) for at in range(0, len(jobs), rows)]
        answers: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            start = time.monotonic()
            left = iter(requests)
            for _ in range(min(connections, len(requests))):
                connection = socket.create_connection(self._address)
                connection.sendall(next(left))
                selector.register(connection, selectors.EVENT_READ, bytearray())
            while len(answers) < len(requests):
                for key, _ in selector.select():
                    connection, inbox = key.fileobj, key.data
                    assert isinstance(connection, socket.socket)
                    part = connection.recv(1 << 20)
                    if not part:
                        raise RuntimeError("the server closed a connection")
                    inbox += part
                    if (body := _body(inbox)) is None:
                        continue
                    answers.append(body)
                    inbox.clear()
                    if request := next(left, None):
                        connection.sendall(request)
                    else:
                        selector.unregister(connection)
                        connection.close()
            seconds = time.monotonic() - start
        verdicts = [verdict for answer in answers for verdict in json.loads(answer)["verdicts"]]
        return {
            verdict["id"]: [outcome["status"] for outcome in verdict.get("outcomes", [])] for verdict in verdicts
        }, seconds

    def _request(self, jobs: Sequence[dict[str, Any]]) -> bytes:
        body = json.dumps({"rows": list(jobs)}).encode()
        head = f"POST /verify HTTP/1.1\r\nHost: {self._address[0]}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _body(inbox: bytearray) -> bytes | None:
    """The body of a whole answer; None where it has not arrived."""
    end = inbox.find(_END_OF_HEAD)
    if end < 0:
        return None
    head = inbox[:end].decode().lower()
    if not head.startswith("http/1.1 200"):
        raise RuntimeError(bytes(inbox).decode(errors="replace"))
    size = int(head.split("content-length:")[1].split()[0])
    body = end + len(_END_OF_HEAD)
    return bytes(inbox[body : body + size]) if len(inbox) >= body + size else None
