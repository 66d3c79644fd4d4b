"""The server through verl's own client, where verl is installed; its request and response forms are tested always, in
`activities/execution/verifier.test.ts`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


CLIENT = "utils/reward_score/sandbox_fusion/__init__.py"


@pytest.fixture(scope="module")
def client() -> ModuleType:
    """verl's client as it is installed. Its folder is loaded alone, because the package above it needs Ray."""
    try:
        package = importlib.util.find_spec("verl")
        if package is None or package.origin is None:
            raise ImportError("verl is not installed")
        spec = importlib.util.spec_from_file_location("verl_client", Path(package.origin).parent / CLIENT)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (ImportError, OSError) as error:
        pytest.skip(
            f"VERL'S OWN CLIENT NOT TRIED: {error}; "
            "put the folder of `pip install --no-deps verl requests` on PYTHONPATH"
        )


@pytest.fixture(scope="module")
def url(client: ModuleType) -> Iterator[str]:
    command = ["node", "--import", "tsx", "infra/commands/sandbox.ts", "--serve", "--port", "0", "--workers", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "ACECODER_SANDBOX_TOKEN"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield f"{server.stdout.readline().split()[-1]}/run_code"
    server.terminate()
    assert server.wait(60) == 0


STDIN = {"inputs": ["1", "2"], "outputs": ["2", "4\n"]}
CALLS = {"inputs": ["1\n2", "3\n4"], "outputs": ["[1, 2]", "[3, 4]"], "fn_name": "pair"}


@pytest.mark.parametrize(
    ("program", "tests", "score", "statuses"),
    [
        ("print(int(input()) * 2)", STDIN, 1.0, ["success", "success"]),
        ("print(2)", STDIN, 0.5, ["success", "wrong_answer"]),
        ("raise ValueError", STDIN, 0.0, ["runtime_error", "runtime_error"]),
        ("def f(:", STDIN, 0.0, ["runtime_error", "runtime_error"]),
        ("while True: pass", STDIN, 0.0, ["timeout", "timeout"]),
        ("def pair(a, b):\n    return [a, b]", CALLS, 1.0, ["success", "success"]),
        ("class Solution:\n    def pair(self, a, b):\n        return (a, b)", CALLS, 1.0, ["success", "success"]),
        ("def pair(a, b):\n    return [b, a]", CALLS, 0.0, ["wrong_answer", "wrong_answer"]),
        (
            "def f(n):\n    return n",
            {"assert_case": ["assert f(1) == 1", "assert f(1) == 2"]},
            0.5,
            ["success", "runtime_error"],
        ),
    ],
)
def test_verl_reads_the_answers_as_they_are_meant(
    client: ModuleType, url: str, program: str, tests: dict[str, Any], score: float, statuses: list[str]
) -> None:
    completion = f"It is\n```python\n{program}\n```"
    given, about = client.compute_score(url, None, 1024, completion, json.dumps(tests), timeout=1)
    assert (given, [each["status"] for each in about]) == (score, statuses)
