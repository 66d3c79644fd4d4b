"""A micro model of sixteen questions, built once a session, and calls that record what an operation sends."""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from serve import Call, importing

with importing():
    from runtime.micro_model import build_micro_model
    from runtime.models import DEVICE, make_deterministic
    from runtime.mutation import mutants
    from runtime.sampling import sample

gc.disable()  # until the test modules have imported their libraries

FUNCTIONS = [
    "def twice(n):\n    return n * 2",
    "def half(n):\n    return n // 2",
    "def next_one(n):\n    return n + 1",
    "def is_small(n):\n    return n < 10",
    "def is_zero(n):\n    return n == 0",
    "def larger(a, b):\n    return max(a, b)",
    "def smaller(a, b):\n    return min(a, b)",
    "def first(items):\n    return items[0]",
    "def last(items):\n    return items[-1]",
    "def loud(text):\n    return text.upper() + '!'",
    "def quiet(text):\n    return text.lower()",
    "def backwards(text):\n    return text[::-1]",
    "def size(items):\n    return len(items)",
    "def total(items):\n    result = 0\n    for item in items:\n        result += item\n    return result",
    "def count_even(items):\n    return sum(1 for item in items if item % 2 == 0)",
    "def sign(n):\n    if n > 0:\n        return 1\n    if n < 0:\n        return -1\n    return 0",
]
PREFIX = "```python\n"
FORMS = {"python": {"request": "", "opening": PREFIX}}
"""Around question and program in conversations of reward models: what the micro model was asked and answered."""
WORKERS = Path(__file__).parents[2]
GUARD_SECONDS = 600
"""How long a test waits for what must come. It guards against hanging and is no bar."""


def question(function: str) -> list[dict[str, str]]:
    """The messages that ask for `function`."""
    return [{"role": "user", "content": f"Write {function.splitlines()[0].removeprefix('def ').rstrip(':')}."}]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weight_digests(folder: Path) -> list[str]:
    """sha256 of each weight file, in order of the files' names."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))]


class Recorder:
    """A call and the messages it sent; `cancel_at` cancels it at the progress of that many units with that message."""

    def __init__(self, cancel_at: tuple[str, int] | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self._cancel_at = cancel_at
        self.call = Call(1, self._take)

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "progress" and (message["message"], message["done"]) == self._cancel_at:
            self.call.cancel()

    def checkpoints(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == "checkpoint"]


class Process:
    """A Python process as a Node worker starts it: requests on descriptor 3, replies on 4."""

    def __init__(
        self,
        log: Path,
        module: str = "runtime",
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
        is_forked: bool = False,
    ) -> None:
        """Start it; `is_forked`: by `forked.py`, where no device is in use, which no fork survives."""
        own = {"PYTHONPATH": str(WORKERS), "ACECODER_TORCH_THREADS": "1", **(environment or {})}
        child_requests, self._requests = os.pipe()
        replies, child_replies = os.pipe()
        self._replies = os.fdopen(replies, "rb")
        self.child: subprocess.Popen[bytes] | Forked
        if is_forked and DEVICE.type == "cpu":
            self.child = Forked(module, child_requests, child_replies, log, own)
            return
        # Descriptors 3 and 4 of the child cannot be dup'ed by subprocess itself.
        command = f'exec "{python}" -m {module} 3<&{child_requests} 4>&{child_replies}'
        with log.open("wb") as output:
            self.child = subprocess.Popen(
                ["bash", "-c", command],
                pass_fds=(child_requests, child_replies),
                stdout=output,
                stderr=output,
                env={**os.environ, **own},
                start_new_session=True,
            )
        os.close(child_requests)
        os.close(child_replies)

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
def running(
    log: Path,
    module: str = "runtime",
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    is_forked: bool = False,
) -> Iterator[Process]:
    process = Process(log, module, environment, python, is_forked)
    try:
        yield process
    finally:
        process.child.kill()
        process.child.wait()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries complain of what is left when the interpreter ends


@pytest.fixture(scope="session", autouse=True)
def _deterministic_torch() -> None:
    make_deterministic(1)  # a model this small gains nothing from a second thread, and a busy machine loses much


@pytest.fixture
def call() -> Call:
    return Recorder().call


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [{"messages": question(code), "assistantPrefix": PREFIX, "completion": code} for code in FUNCTIONS]
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", rows)


@pytest.fixture(scope="session")
def micro_model(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "micro"
    build_micro_model({"corpus": corpus, "output": str(output), "seed": 7, "steps": 100}, Recorder().call)
    return output


@pytest.fixture(scope="session")
def sampling_requests(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes requests for every question, eight samples each, with the given fields changed."""

    def write(**changes: Any) -> str:
        rows = [
            {
                "id": f"q{number}", "messages": question(code), "assistantPrefix": PREFIX, "n": 8, "temperature": 0.8,
                "topP": 1, "maxNewTokens": 64, "stop": ["\n```"], "seeds": [100 * number + index for index in range(8)],
                **changes,
            }
            for number, code in enumerate(FUNCTIONS)
        ]  # fmt: skip
        return write_jsonl(tmp_path_factory.mktemp("requests") / "requests.jsonl", rows)

    return write


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Each question's program against up to three wrong variants of it."""
    rows = [
        {
            "id": f"q{number}/{index}", "questionId": f"q{number}", "messages": question(code),
            "assistantPrefix": PREFIX, "chosen": code, "rejected": wrong,
            "chosenPassRate": 1.0, "rejectedPassRate": 0.5,
        }
        for number, code in enumerate(FUNCTIONS)
        for index, wrong in enumerate(mutants(code)[:3])
    ]  # fmt: skip
    return write_jsonl(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)


@pytest.fixture(scope="session")
def rollouts(micro_model: Path, sampling_requests: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Samples of the micro model, rewarded with 1 where they are the right program."""
    folder = tmp_path_factory.mktemp("rollouts")
    samples = folder / "samples.jsonl"
    sample(
        {"model": str(micro_model), "requests": sampling_requests(), "output": str(samples), "maxRows": 128},
        Recorder().call,
    )
    rows = [
        {
            "id": f"{row['id']}/{row['index']}", "questionId": row["id"], "promptIds": row["promptIds"],
            "completionIds": row["completionIds"],
            "reward": float(normal_form(row["text"]) == normal_form(FUNCTIONS[int(row["id"][1:])])),
        }
        for row in read_jsonl(samples)
    ]  # fmt: skip
    return write_jsonl(folder / "rollouts.jsonl", rows)


def normal_form(program: str) -> str | None:
    """The program as `ast.unparse` writes it, or None when it does not parse."""
    try:
        return ast.unparse(ast.parse(program))
    except SyntaxError:
        return None
