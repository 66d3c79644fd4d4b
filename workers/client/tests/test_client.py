"""The client against a real server, in the forms in which trainers and data sets hand over completions and tests."""

from __future__ import annotations

import http.server
import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "workers/client"))

from acecoder_verifier import Verifier, VerifierUnavailable, as_tests, program_of, reward  # noqa: E402

DOUBLE = "def double(n):\n    return 2 * n"
TESTS = ["assert double(2) == 4", "assert double(0) == 0"]
TOKEN = "a token of this test, and of no other"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = ["node", "--import", "tsx", "infra/commands/sandbox.ts", "--serve", "--port", "0", "--workers", "2"]
    environment = {**os.environ, "ACECODER_SANDBOX_TOKEN": TOKEN}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("listening on "), line
    yield line.split()[-1]
    server.terminate()
    assert server.wait(60) == 0


@pytest.fixture
def verifier(url: str) -> Verifier:
    return Verifier(url, TOKEN)


def fenced(program: str) -> str:
    return f"Here is a solution:\n\n```python\n{program}\n```\n\nIt doubles."


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        (fenced(DOUBLE), DOUBLE),
        (DOUBLE, DOUBLE),
        (f"```\n{DOUBLE}\n```", DOUBLE),
        (f"```python\nx = 1\n```\nor better\n```py\n{DOUBLE}\n```", DOUBLE),
        (f"```python\n{DOUBLE}", DOUBLE),
        (f"```bash\npip install x\n```\n```python\n{DOUBLE}\n```\n```text\n4\n```", DOUBLE),
        (f"<think>```python\nwrong\n```</think>\n```python\n{DOUBLE}\n```", DOUBLE),
        (f"```python\n{DOUBLE}\ns = '```'\n```", f"{DOUBLE}\ns = '```'"),
        ([{"role": "assistant", "content": fenced(DOUBLE)}], DOUBLE),
        ([{"role": "assistant", "content": [{"type": "text", "text": fenced(DOUBLE)}]}], DOUBLE),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}], "a"),
        ([], ""),
        ("", ""),
    ],
)
def test_the_program_is_taken_out_of_a_completion(completion: Any, program: str) -> None:
    assert program_of(completion) == program


@pytest.mark.parametrize("given", [[], [3], {"inputs": ["1"], "outputs": []}, {"inputs": [], "outputs": []}, None, 3])
def test_what_holds_no_tests_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"these are no tests|there are|this is no test"):
        as_tests(given)


APPS = {"inputs": [[2], [0]], "outputs": [[4], 0], "fn_name": "double"}
LIVE_CODE_BENCH = [
    {"input": "2", "output": "4", "testtype": "functional"},
    {"input": "0", "output": "0", "testtype": "functional"},
]
NUMBERS = list(range(50_000))
LARGE = [{"input": json.dumps(NUMBERS), "output": json.dumps([NUMBERS * 2, len(str(NUMBERS))])}]
SCRIPT = {"inputs": ["2\n", "0\n"], "outputs": ["4\n", "0\n"]}
SOLUTION = "class Solution:\n    def double(self, n):\n        return 2 * n"
PRINTS = "print(2 * int(input()))"


@pytest.mark.parametrize(
    ("program", "tests", "more"),
    [
        (DOUBLE, TESTS, {}),
        (DOUBLE, "\n".join(TESTS), {}),
        (DOUBLE, json.dumps(TESTS), {}),
        (DOUBLE, "def check(candidate):\n    assert candidate(2) == 4", {"entry_point": "double"}),
        (DOUBLE, APPS, {}),
        (SOLUTION, json.dumps(APPS), {}),
        (DOUBLE, LIVE_CODE_BENCH, {"fn_name": "double"}),
        (PRINTS, SCRIPT, {}),
        ("def double(n):\n    return (2 * n, len(str(n)))", LARGE, {"fn_name": "double"}),
        # Programs that find names imported, as at the project of such tests.
        (SOLUTION.replace("n)", "n: Optional[int]) -> List[int]"), json.dumps(APPS), {}),
        (SOLUTION.replace("2 *", "reduce(add, [2]) *"), LIVE_CODE_BENCH, {"fn_name": "double"}),
        (f"from __future__ import annotations\n{PRINTS}", SCRIPT, {}),
        ("h = [2 * int(sys.stdin.read())]\nheapify(h)\nprint(h[0])", {"tests": json.dumps(SCRIPT)}, {}),
        (PRINTS, json.dumps({"inputs": [["2"], ["0"]], "outputs": [["4"], ["0"]]}), {}),
        (PRINTS, [{"input": "2", "output": "4", "testtype": "stdin"}], {}),
        (PRINTS, [{"stdin": "2", "stdout": "4"}], {}),
        ("def pair(a, b):\n    return (a, b)", {"inputs": ["1\n[2]"], "outputs": ["[1, [2]]"], "fn_name": "pair"}, {}),
        ("def at(n):\n    return {n: (n,)}", {"inputs": [[1]], "outputs": [{"1": [1]}], "fn_name": "at"}, {}),
    ],
)
def test_every_form_of_tests_passes_the_right_program_and_fails_the_wrong_one(
    verifier: Verifier, program: str, tests: Any, more: dict[str, Any]
) -> None:
    wrong = program.replace("2 *", "3 *").replace("[2]) *", "[3]) *").replace("return (a, b)", "return (b, a)")
    wrong = wrong.replace("{n: (n,)}", "{n: (n, n)}")
    equal = "class A:\n    def __eq__(self, other): return True\n    __hash__ = None\nclass Solution:\n"
    equal += "    def double(self, n): return A()\ndef double(n): return A()\n"
    equal += "def pair(a, b): return [a, A()]\ndef at(n): return {n: A()}\nprint('4' if False else A())"
    assert wrong != program
    columns = {name: [value] * 3 for name, value in {"tests": tests, **more}.items()}
    right_reward, wrong_reward, equal_reward = verifier.reward(
        [fenced(program), fenced(wrong), fenced(equal)], **columns
    )
    assert right_reward == 1.0
    assert wrong_reward is not None
    assert wrong_reward < 1
    assert equal_reward == 0.0


def test_a_reward_is_the_share_of_tests_and_none_where_there_is_no_verdict(verifier: Verifier) -> None:
    half = "def double(n):\n    return 4"
    tests = [TESTS, TESTS, ["assert double("], ["x = 1"], {"no": "tests"}, [{"unknown": 1}], TESTS]
    completions = [fenced(DOUBLE), half, DOUBLE, DOUBLE, DOUBLE, DOUBLE, "I do not know."]
    assert verifier.reward(completions, tests=tests) == [1.0, 0.5, None, None, None, None, 0.0]
    strict = Verifier(verifier.url, TOKEN, binary=True)
    assert strict.reward(completions, tests=tests)[:2] == [1.0, 0.0]


def test_many_completions_come_back_in_order(verifier: Verifier) -> None:
    completions = [f"def double(n):\n    return {at % 3} * n" for at in range(450)]
    rewards = verifier.reward(completions, tests=[TESTS] * 450)
    assert rewards == [1.0 if at % 3 == 2 else 0.5 for at in range(450)]


def test_odd_characters_arrive_as_they_are(verifier: Verifier) -> None:
    odd = "\u2028\u2029\ufffd\u0085\U0001f600"
    program = f"def f():\n    return {odd!a}"
    assert verifier.reward([program, program], tests=[[f"assert f() == {odd!r}"], ["assert f() == '\ufffd'"]]) == [
        1.0,
        0.0,
    ]


def test_the_module_reads_the_environment_and_takes_what_trl_hands_over(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACECODER_SANDBOX_URL", url)
    monkeypatch.setenv("ACECODER_SANDBOX_TOKEN", TOKEN)
    given = reward(
        prompts=[[{"role": "user", "content": "double"}]],
        completions=[[{"role": "assistant", "content": fenced(DOUBLE)}]],
        completion_ids=[[1, 2]],
        tests=[TESTS],
        trainer_state=object(),
        log_extra=print,
        log_metric=print,
    )
    assert given == [1.0]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL NOT CHECKED: it is not installed here")
def test_trl_itself_calls_it(verifier: Verifier) -> None:
    from accelerate import PartialState
    from trl.trainer.grpo_trainer import GRPOTrainer

    PartialState()
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True),
        args=SimpleNamespace(report_to=[]),
        reward_funcs=[verifier.reward],
        reward_processing_classes=[None],
        reward_func_names=["reward"],
        state=SimpleNamespace(global_step=0),
        environments=None,
        _log_completion_extra=print,
        _log_metric=print,
    )
    inputs = [{"prompt": "p", "tests": TESTS}, {"prompt": "p", "tests": TESTS}, {"prompt": "p", "tests": ["assert ("]}]
    completions = [fenced(DOUBLE), "def double(n):\n    return 4", DOUBLE]
    calculate: Callable[..., Any] = GRPOTrainer._calculate_rewards.__wrapped__
    rewards = calculate(trainer, inputs, ["p"] * 3, completions, [[1]] * 3)[:, 0].tolist()
    assert rewards[:2] == [1.0, 0.5]
    assert math.isnan(rewards[2])


def test_a_column_without_tests_is_a_mistake_of_the_caller(verifier: Verifier) -> None:
    with pytest.raises(ValueError, match="no column holds tests"):
        verifier.reward([DOUBLE], prompts=["p"])
    with pytest.raises(ValueError, match="one entry for each of 2"):
        verifier.reward([DOUBLE, DOUBLE], tests=[TESTS])


def test_a_wrong_token_raises_and_is_no_reward(url: str) -> None:
    with pytest.raises(ValueError, match="401"):
        Verifier(url, "another token that is not right").reward([DOUBLE], tests=[TESTS])


def test_a_server_that_is_away_raises_after_growing_pauses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pauses: list[float] = []
    away = Verifier(f"http://127.0.0.1:{port}", attempts=4, sleep=pauses.append)
    with pytest.raises(VerifierUnavailable, match="4 attempts"):
        away.reward([DOUBLE], tests=[TESTS])
    assert pauses == [0.5, 1.0, 2.0]


class _Answers:
    """A server that gives the answers of a list, one after another, and remembers the requests."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status, headers, body = answers.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> _Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_what_was_not_judged_is_asked_again_and_is_none_in_the_end() -> None:
    late = {"id": "1", "judged": False, "passRate": None, "retry": True, "error": "ask again"}
    done = {"id": "0", "judged": True, "passRate": 1.0, "outcomes": [{"status": "pass"}], "flags": []}
    answers = [
        (503, {"Retry-After": "2"}, b"{}"),
        (200, {}, json.dumps({"verdicts": [done, late]}).encode()),
        (503, {}, b"{}"),
        (503, {}, b"{}"),
        (503, {}, b"{}"),
    ]
    pauses: list[float] = []
    with _Answers(answers) as server:
        client = Verifier(server.url, attempts=3, sleep=pauses.append)
        assert client.reward([DOUBLE, DOUBLE], tests=[TESTS, TESTS]) == [1.0, None]
    assert [len(request["rows"]) for request in server.requests] == [2, 2, 1, 1, 1]
    assert pauses == [2.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"no JSON",
        b'{"verdicts": []}',
        b'{"verdicts": [{"id": "7", "judged": true, "passRate": 1, "outcomes": [], "flags": []}]}',
    ],
)
def test_an_answer_that_is_none_gives_no_reward(answer: bytes) -> None:
    with _Answers([(200, {}, answer)] * 3) as server, pytest.raises(VerifierUnavailable):
        Verifier(server.url, attempts=2, sleep=lambda _: None).reward([DOUBLE], tests=[TESTS])


def test_a_token_goes_to_no_other_address() -> None:
    with _Answers([(200, {}, b"{}")]) as other, _Answers([(307, {"Location": other.url}, b"")]) as server:
        with pytest.raises(ValueError, match="307"):
            Verifier(server.url, TOKEN).reward([DOUBLE], tests=[TESTS])
        assert other.requests == []
