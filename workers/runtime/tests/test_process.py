"""The real process over its descriptors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import FUNCTIONS

WORKERS = Path(__file__).parents[2]


class Process:
    """A runtime process as a Node worker starts it: requests on descriptor 3, replies on 4."""

    def __init__(self, log: Path, processes: int = 1) -> None:
        child_requests, self._requests = os.pipe()
        replies, child_replies = os.pipe()
        # Descriptors 3 and 4 of the child cannot be dup'ed by subprocess itself.
        command = f'exec "{sys.executable}" -m runtime 3<&{child_requests} 4>&{child_replies}'
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                ["bash", "-c", command],
                pass_fds=(child_requests, child_replies),
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "PYTHONPATH": str(WORKERS),
                    "ACECODER_TORCH_THREADS": "1",
                    "ACECODER_PROCESSES": str(processes),
                },
                start_new_session=True,
            )
        os.close(child_requests)
        os.close(child_replies)
        self._replies = os.fdopen(replies, "rb")

    def send(self, message: dict[str, Any]) -> None:
        os.write(self._requests, json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        line = self._replies.readline()
        assert line, "the process closed its replies"
        return json.loads(line)

    def answer(self, id: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The progress messages of request `id`, and the reply that ends it."""
        progress = []
        while (message := self.receive())["type"] == "progress":
            assert message["id"] == id
            progress.append(message)
        return progress, message

    def close_requests(self) -> None:
        os.close(self._requests)


@contextmanager
def running(log: Path) -> Iterator[Process]:
    process = Process(log)
    try:
        yield process
    finally:
        process.child.kill()
        process.child.wait()


def test_the_process_serves_and_leaves_with_its_parent(
    micro_model: Path, corpus: str, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    params = {
        "model": str(micro_model),
        "requests": sampling_requests(),
        "output": str(tmp_path / "x.jsonl"),
        "maxRows": 32,
    }
    rows = 8 * len(FUNCTIONS)
    with running(tmp_path / "log") as process:
        ready = process.receive()
        assert ready["type"] == "ready"
        assert ready["versions"].keys() == {
            "python",
            "torch",
            "transformers",
            "trl",
            "threads",
            "cpuCapability",
            "device",
            "processes",
        }
        assert (ready["versions"]["threads"], ready["versions"]["processes"]) == ("1", "1")

        process.send({"id": 1, "op": "sample", "params": params})
        progress, reply = process.answer(1)
        assert [message["done"] for message in progress] == list(range(1, rows + 1))
        assert (reply["type"], reply["result"]["rows"]) == ("result", rows)

        process.send({"id": 2, "op": "sample", "params": {**params, "model": "/nowhere"}})
        assert process.answer(2)[1]["error"]["type"] == "ModelNotFound"

        build = {"corpus": corpus, "output": str(tmp_path / "model"), "seed": 1, "steps": 100_000}
        process.send({"id": 3, "op": "buildMicroModel", "params": build})
        assert process.receive()["type"] == "progress"
        process.send({"id": 3, "cancel": True})
        assert process.answer(3)[1]["error"]["type"] == "Cancelled"

        process.send({"id": 4, "op": "dance"})
        assert process.answer(4)[1]["error"]["type"] == "InvalidInput"

        process.send({"id": 5, "op": "buildMicroModel", "params": build})
        assert process.receive()["type"] == "progress"
        process.close_requests()
        assert process.child.wait(timeout=5) == 0
    assert not (tmp_path / "model").exists()
