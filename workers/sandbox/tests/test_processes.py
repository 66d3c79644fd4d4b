"""Programs that may start processes and use a loopback network of their own, and what they still may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from service import QUICK, Service

LOOPBACK = """
import socket, threading
server = socket.create_server(("localhost", 0))
def answer():
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
threading.Thread(target=answer).start()
print(socket.create_connection(server.getsockname()).recv(5))
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError as error:
    print(error.errno)
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[Service]:
    running = Service("--workers", "1", "--scratch-mib", "32", "--processes")
    if running.versions["isolation"] == "none":
        trouble = running.versions["trouble"]
        running.close()
        pytest.skip(f"PROCESSES NOT TRIED: {trouble}")
    yield running
    running.close()


def ran(service: Service, program: str) -> dict[str, Any]:
    return service.ask("run", jobs=[{"id": "p", "program": program, "stdin": ""}], limits=QUICK)["runs"][0]


def test_a_program_starts_processes(processes: Service) -> None:
    program = "import subprocess\nprint(subprocess.run('cat /etc/hosts; exit 3', shell=True, capture_output=True))"
    said = ran(processes, program)
    assert (said["status"], "returncode=3" in said["stdout"], "localhost" in said["stdout"]) == ("ended", True, True)


def test_it_has_loopback_and_no_other_network(processes: Service) -> None:
    assert ran(processes, LOOPBACK)["stdout"] == "b'hello'\n101\n"


def test_what_it_has_started_ends_with_it(processes: Service) -> None:
    started = "import subprocess\nprint(subprocess.Popen(['sleep', '1000']).pid)"
    first = ran(processes, started)
    assert (first["status"], first["exitCode"]) == ("ended", 0)
    asked = ran(processes, f"import os\nos.kill({int(first['stdout'])}, 0)")
    assert "ProcessLookupError" in asked["stderr"]


def test_it_signals_no_process_but_its_own(processes: Service) -> None:
    program = """
import os
for other in range(1, 100):
    if other != os.getpid():
        try:
            os.kill(other, 9)
            print("killed", other)
        except OSError:
            pass
print("done")
"""
    assert ran(processes, program)["stdout"] == "done\n"


def test_usually_it_may_do_none_of_it(service: Service) -> None:
    assert "PermissionError" in ran(service, "import subprocess\nsubprocess.run(['true'])")["stderr"]
    assert "PermissionError" in ran(service, "import socket\nsocket.socket()")["stderr"]
