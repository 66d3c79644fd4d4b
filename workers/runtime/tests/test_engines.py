"""The contract of the sampling engines, held by each of them as a process: transformers, and vLLM over a fake vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FUNCTIONS, GUARD_SECONDS, PREFIX, WORKERS, Process, read_jsonl, running, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

FAKE_VLLM = WORKERS.parent / "test/fixtures/fake-vllm"
ENGINES = {
    "transformers": ("runtime", {}),
    "vllm": ("vllm_engine", {"PYTHONPATH": os.pathsep.join(map(str, (FAKE_VLLM, WORKERS)))}),
}
N = 2


class Engine:
    """A running engine and the model, requests and output of its calls."""

    def __init__(self, name: str, process: Process, model: Path, folder: Path, requests: Callable[..., str]) -> None:
        self.name, self._process, self._model, self._folder, self._requests = name, process, model, folder, requests
        self._id = 0

    def send(
        self, output: str, model: Path | None = None, params: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        """Start a call whose requests have the given fields changed; returns the path of its answers."""
        self._id += 1
        path = self._folder / output
        requests = self._requests(**{"n": N, "seeds": list(range(N)), "maxNewTokens": 40, **changes})
        given = {"model": str(model or self._model), "requests": requests, "output": str(path), "maxRows": 16}
        self._process.send({"id": self._id, "op": "sample", "params": {**given, **(params or {})}})
        return path

    @property
    def requests(self) -> Callable[..., str]:
        """Writes requests with the given fields changed."""
        return self._requests

    def cancel(self) -> None:
        self._process.send({"id": self._id, "cancel": True})

    def answer(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return self._process.answer(self._id)

    def rows(self, output: str, **kwargs: Any) -> list[dict[str, Any]]:
        path = self.send(output, **kwargs)
        _, reply = self.answer()
        assert reply["type"] == "result", reply
        return read_jsonl(path)

    def error(self, **kwargs: Any) -> dict[str, str]:
        path = self.send("refused.jsonl", **kwargs)
        _, reply = self.answer()
        assert not path.exists()
        return reply["error"]


@pytest.fixture(scope="module", params=ENGINES)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    with running(tmp_path_factory.mktemp("engine") / "log", *ENGINES[request.param]) as process:
        assert request.param in process.receive()["versions"]
        yield request.param, process


@pytest.fixture
def engine(
    process: tuple[str, Process], micro_model: Path, tmp_path: Path, sampling_requests: Callable[..., str]
) -> Engine:
    return Engine(*process, micro_model, tmp_path, sampling_requests)


def test_rows_come_in_request_and_sample_order_and_repeat_exactly(engine: Engine, tmp_path: Path) -> None:
    engine.send("a.jsonl")
    progress, reply = engine.answer()
    rows = read_jsonl(tmp_path / "a.jsonl")
    assert [message["done"] for message in progress] == list(range(1, N * len(FUNCTIONS) + 1))
    assert reply["result"] == {"rows": len(rows), "tokens": sum(len(row["completionIds"]) for row in rows)}
    assert [(row["id"], row["index"]) for row in rows] == [
        (f"q{n}", i) for n in range(len(FUNCTIONS)) for i in range(N)
    ]
    assert rows[0].keys() == {"id", "index", "text", "finish", "promptIds", "completionIds"}
    engine.rows("b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_row_depends_on_its_seed_and_not_on_its_batch(engine: Engine) -> None:
    wide = engine.rows("wide.jsonl")
    narrow = engine.rows("narrow.jsonl", params={"maxRows": 3})
    same = [a["completionIds"] == b["completionIds"] for a, b in zip(wide, narrow, strict=True)]
    assert sum(same) / len(same) > 0.9  # another batch shape may round a probability differently
    first = engine.rows("first.jsonl", seeds=[0] * N)
    assert all(row["text"] == first[at - at % N]["text"] for at, row in enumerate(first))
    assert any(row["text"] != other["text"] for row, other in zip(wide, first, strict=True))


def test_text_ends_before_the_stop_and_ids_keep_what_was_emitted(engine: Engine, micro_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    ends = set()
    for row in engine.rows("stop.jsonl"):
        emitted = tokenizer.decode(row["completionIds"])
        assert emitted.startswith(row["text"])
        assert "```" not in row["text"]
        if row["finish"] == "stop":
            assert emitted.removeprefix(row["text"]).startswith("\n```") or emitted.endswith(tokenizer.eos_token)
        assert tokenizer.decode(row["promptIds"]).endswith(f"<|im_start|>assistant\n{PREFIX}")
        ends.add(row["finish"])
    assert "stop" in ends
    at_the_end = engine.rows("end.jsonl", stop=[])
    assert any(row["completionIds"][-1] == tokenizer.eos_token_id for row in at_the_end)
    assert all(tokenizer.eos_token not in row["text"] for row in at_the_end)
    short = engine.rows("short.jsonl", maxNewTokens=3)
    assert {(row["finish"], len(row["completionIds"])) for row in short} == {("length", 3)}


def test_greedy_rows_equal_generate(engine: Engine, micro_model: Path) -> None:
    rows = engine.rows("greedy.jsonl", temperature=0, stop=[])
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    for row in rows[:: 5 * N]:
        prompt = torch.tensor([row["promptIds"]])
        generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
        assert generated[0, len(row["promptIds"]) :].tolist() == row["completionIds"]


@pytest.mark.parametrize("temperature", [0.7, 0])
def test_log_probabilities_are_those_of_a_plain_forward_pass(
    engine: Engine, micro_model: Path, temperature: float
) -> None:
    rows = engine.rows("log-probs.jsonl", params={"logProbs": True}, temperature=temperature)
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    for row in rows[::7]:
        ids, start = torch.tensor([row["promptIds"] + row["completionIds"]]), len(row["promptIds"])
        with torch.no_grad():
            logp = (model(input_ids=ids).logits[0, start - 1 : -1] / (temperature or 1)).log_softmax(-1)
        expected = logp.gather(-1, ids[0, start:, None]).squeeze(-1)
        assert row["logProbs"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_log_probabilities_before_the_nucleus_is_cut(engine: Engine) -> None:
    if engine.name == "vllm":
        error = engine.error(params={"logProbs": True}, topP=0.9)
        assert error["type"] == "InvalidInput"
        assert "topP 0.9" in error["message"]
        assert "engine transformers" in error["message"]
    else:
        assert engine.rows("cut.jsonl", params={"logProbs": True}, topP=0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seeds": [1]}, "q0 has 1 seeds"), ({"maxNewTokens": 2000}, "context is 1024")],
)
def test_impossible_requests_are_refused(engine: Engine, changes: dict[str, Any], message: str) -> None:
    error = engine.error(**changes)
    assert error["type"] == "InvalidInput"
    assert message in error["message"]


def test_a_prompt_that_is_too_long_is_its_own_rows_reason_and_changes_no_other(engine: Engine, tmp_path: Path) -> None:
    whole = engine.rows("whole.jsonl")
    requests = read_jsonl(Path(engine.requests(n=N, seeds=list(range(N)), maxNewTokens=40)))
    long, others = requests[1], [request["id"] for request in requests if request is not requests[1]]
    long["messages"] = [{**message, "content": message["content"] + " x = 1" * 2000} for message in long["messages"]]
    rows = engine.rows("long.jsonl", params={"requests": write_jsonl(tmp_path / "long-requests.jsonl", requests)})
    assert [(row["id"], row["index"]) for row in rows] == [(row["id"], row["index"]) for row in whole]
    assert [row for row in rows if row["id"] in others] == [row for row in whole if row["id"] in others]
    for row in rows:
        if row["id"] == long["id"]:
            assert (row["finish"], row["text"], row["promptIds"], row["completionIds"]) == ("promptTooLong", "", [], [])
    only = write_jsonl(tmp_path / "only.jsonl", [long])
    assert [row["finish"] for row in engine.rows("none.jsonl", params={"requests": only})] == ["promptTooLong"] * N


def test_a_missing_model_is_named(engine: Engine, tmp_path: Path) -> None:
    error = engine.error(model=tmp_path / "nowhere")
    assert (error["type"], str(tmp_path / "nowhere") in error["message"]) == ("ModelNotFound", True)


def test_a_cancelled_call_leaves_no_output_and_the_next_one_works(engine: Engine) -> None:
    path = engine.send("cancelled.jsonl", params={"maxRows": 2})
    engine.cancel()
    _, reply = engine.answer()
    assert reply["error"]["type"] == "Cancelled"
    assert not path.exists()
    assert len(engine.rows("after.jsonl", maxNewTokens=2)) == N * len(FUNCTIONS)


def test_vllm_keeps_its_weights_between_calls_and_takes_another_model(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in micro_model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    log = tmp_path / "log"
    with running(log, *ENGINES["vllm"]) as process:
        process.receive()
        engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
        expected = engine.rows("a.jsonl", maxNewTokens=4)
        engine.rows("b.jsonl", maxNewTokens=4)
        assert engine.rows("c.jsonl", model=other, maxNewTokens=4) == expected
        loads = [line for line in log.read_text().splitlines() if line.startswith("fake vLLM loads")]
        assert loads == [f"fake vLLM loads {micro_model}", f"fake vLLM loads {other}"]
        process.close_requests()
        process.child.wait(timeout=GUARD_SECONDS)


def test_vllm_without_room_on_the_device_is_out_of_memory(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    module, environment = ENGINES["vllm"]
    with running(tmp_path / "log", module, {**environment, "FAKE_VLLM_FREE_MEMORY": "0.4"}) as process:
        process.receive()
        engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
        error = engine.error()
        assert error["type"] == "OutOfMemory"
        assert "Free memory on device" in error["message"]


def test_vllm_cuts_a_model_over_as_many_devices_as_divide_it() -> None:
    # Heads, key-value heads, inner values of a feed-forward layer, devices; then how many of these are used.
    cases = [
        ((28, 4, 18_944, 8), 4),  # Qwen2.5-Coder-7B
        ((12, 2, 8_960, 8), 4),  # 1.5B
        ((14, 2, 4_864, 8), 2),  # 0.5B
        ((40, 8, 27_648, 8), 8),  # 32B
        ((28, 4, 18_944, 1), 1),
        ((32, 32, 11_008, 6), 4),
        ((7, 1, 512, 8), 1),
    ]
    script = (
        "import json, sys; from types import SimpleNamespace; from vllm_engine.sampling import tensor_parallel_size\n"
        "print(json.dumps([tensor_parallel_size(SimpleNamespace(num_attention_heads=heads, num_key_value_heads=shared, "
        "intermediate_size=inner), devices) for heads, shared, inner, devices in json.loads(sys.argv[1])]))"
    )
    environment = {**os.environ, **ENGINES["vllm"][1]}
    command = [sys.executable, "-c", script, json.dumps([given for given, _ in cases])]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [size for _, size in cases]
