"""The server through SandboxFusion's own client, where `sandbox-fusion` is installed.

Its forms are tested always, in `activities/execution/verifier.test.ts`. verl's client sends nothing
to `/submit`, so that this one checks what it answers.
"""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def client() -> ModuleType:
    try:
        return importlib.import_module("sandbox_fusion")
    except ImportError as error:
        pytest.skip(
            f"SANDBOXFUSION'S OWN CLIENT NOT TRIED: {error}; put the folder of `pip install sandbox-fusion` on "
            "PYTHONPATH"
        )


@pytest.fixture(scope="module")
def url(client: ModuleType) -> Iterator[str]:
    command = ["node", "--import", "tsx", "infra/commands/sandbox.ts", "--serve", "--port", "0", "--workers", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "ACECODER_SANDBOX_TOKEN"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().split()[-1]
    server.terminate()
    assert server.wait(60) == 0


PROGRAM = "It is\n```python\ndef double(n):\n    return 2 * n\n```"
SCRIPT = "```python\nprint(int(input()) * 2)\n```"
STREAMS = [
    {"input": {"stdin": "1"}, "output": {"stdout": "2"}},
    {"input": {"stdin": "2"}, "output": {"stdout": "5"}},
]
MBPP = {"id": 3, "content": "Double it.", "labels": {"task_id": 3, "test_setup_code": "N = 2"}}


def submitted(client: ModuleType, url: str, completion: str, question: Any, **config: Any) -> Any:
    request = client.SubmitRequest(
        dataset="own", id=3, completion=completion, config=client.TestConfig(provided_data=question, **config)
    )
    return client.submit(request, endpoint=url, max_attempts=1)


@pytest.mark.parametrize(
    ("completion", "question", "passed"),
    [
        (SCRIPT, {"id": 3, "content": "", "test": STREAMS[:1]}, [True]),
        (SCRIPT, {"id": 3, "content": "", "test": STREAMS}, [True, False]),
        (PROGRAM, {**MBPP, "test": ["assert double(N) == 4", "assert double(1) == 3"]}, [True, False]),
        (PROGRAM, [{**MBPP, "id": 2, "test": ["assert False"]}, {**MBPP, "test": ["assert double(N) == 4"]}], [True]),
        (PROGRAM, {"id": 3, "labels": {}, "test": {"code": "assert double(2) == 4", "asset": {}}}, [True]),
        (
            PROGRAM,
            {
                "id": 3,
                "labels": {"entry_point": "double"},
                "test": {"code": "def check(candidate):\n    assert candidate(2) == 5"},
            },
            [False],
        ),
        ("no program at all (", {"id": 3, "test": ["assert double(2) == 4"]}, [False]),
    ],
)
def test_the_client_reads_what_became_of_a_submission(
    client: ModuleType, url: str, completion: str, question: Any, passed: list[bool]
) -> None:
    result = submitted(client, url, completion, question)
    assert (result.id, result.accepted) == (3, all(passed))
    assert [each.passed for each in result.tests] == passed
    assert {each.exec_info.status for each in result.tests} <= {client.RunStatus.Success, client.RunStatus.Failed}


@pytest.mark.parametrize(
    ("question", "config", "why"),
    [
        (None, {}, "stores no data sets"),
        ({**MBPP, "test": ["assert double(1) == 2"]}, {"language": "cpp"}, "python alone"),
        ({**MBPP, "test": ["assert double(1) == 2"]}, {"custom_extract_logic": "submit_code_blocks([])"}, "fence"),
        ({**MBPP, "test": [{"input": {"in.txt": "1"}, "output": {"stdout": "2"}}]}, {}, "no files"),
        ({**MBPP, "test": {"code": "assert double(1) == 2", "asset": {"a.csv": "MQ=="}}}, {}, "no files"),
    ],
)
def test_what_the_server_does_not_have_is_refused_and_never_a_rejection(
    client: ModuleType, url: str, question: Any, config: dict[str, Any], why: str
) -> None:
    with pytest.raises(Exception, match=f"code 400.*{why}"):
        submitted(client, url, PROGRAM, question, **config)


def test_the_client_runs_code(client: ModuleType, url: str) -> None:
    mapping = client.SummaryMapping(RunTimeout="late")
    for code, said in (("print(input())", "Success"), ("raise ValueError", "Failed"), ("while True: pass", "late")):
        request = client.RunCodeRequest(code=code, language="python", stdin="1", run_timeout=1)
        assert client.summary_run_code_result(client.run_code(request, endpoint=url, max_attempts=1), mapping) == said
