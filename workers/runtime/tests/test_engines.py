"""The contract of the sampling engines, held by each of them as a process: transformers, and vLLM.

vLLM is a fake one in `npm test`, and the real one in `npm run test:vllm`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from conftest import FUNCTIONS, GUARD_SECONDS, PREFIX, WORKERS, Process, read_jsonl, running, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm_engine import engines

from serve import ServiceError

FAKE_VLLM = WORKERS.parent / "test/fixtures/fake-vllm"
REAL_VLLM = os.environ.get("ACECODER_TEST_VLLM", "")
"""The interpreter of an environment with the real vLLM; only `npm run test:vllm` sets it."""
Started = tuple[str, dict[str, str], str]
ENGINES: dict[str, Started] = {
    "transformers": ("runtime", {}, sys.executable),
    "fake vllm": ("vllm_engine", {"PYTHONPATH": os.pathsep.join(map(str, (FAKE_VLLM, WORKERS)))}, sys.executable),
    "vllm": ("vllm_engine", {}, REAL_VLLM),
}
for of_one in ("fake vllm", "vllm"):
    module, environment, python = ENGINES[of_one]
    ENGINES[f"two engines of {of_one}"] = module, {**environment, "ACECODER_VLLM_ENGINES": "2"}, python
needs_real_vllm = pytest.mark.skipif(not REAL_VLLM, reason="the real vLLM is asked by npm run test:vllm")
VLLMS = ["fake vllm", pytest.param("vllm", marks=needs_real_vllm)]
SEVERAL = ["two engines of fake vllm", pytest.param("two engines of vllm", marks=needs_real_vllm)]
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

    def next_message(self) -> dict[str, Any]:
        return self._process.receive()

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


def copied(model: Path, to: Path) -> Path:
    to.mkdir()
    for file in model.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


Running = tuple[str, Process, Path]
"""An engine's name, process and log."""


@pytest.fixture(scope="module", params=["transformers", *VLLMS, *SEVERAL])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("engine") / "log"
    # The fake one starts as the real one does.
    with running(log, *ENGINES[request.param], is_forked=request.param == "transformers") as process:
        name = request.param.split()[-1]
        assert name in process.receive()["versions"]
        yield name, process, log
        process.close_requests()
        process.child.wait(timeout=GUARD_SECONDS)


@pytest.fixture
def engine(process: Running, micro_model: Path, tmp_path: Path, sampling_requests: Callable[..., str]) -> Engine:
    return Engine(*process[:2], micro_model, tmp_path, sampling_requests)


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


def test_a_call_that_is_cancelled_in_its_middle_leaves_nothing_in_the_engine(engine: Engine, tmp_path: Path) -> None:
    requests = read_jsonl(Path(engine.requests(n=N, seeds=list(range(N)), maxNewTokens=900, stop=[], temperature=1.5)))
    requests[0]["maxNewTokens"] = 2
    path = engine.send("middle.jsonl", params={"requests": write_jsonl(tmp_path / "long-rows.jsonl", requests)})
    assert engine.next_message()["type"] == "progress"
    engine.cancel()
    progress, reply = engine.answer()
    assert reply["error"]["type"] == "Cancelled"
    assert not path.exists()
    assert len(progress) + 1 < N * len(requests)
    engine.send("next.jsonl", maxNewTokens=2)
    progress, _ = engine.answer()
    assert [message["done"] for message in progress] == list(range(1, N * len(FUNCTIONS) + 1))


@pytest.mark.long
def test_many_seeded_rows_at_once_are_those_of_few(engine: Engine) -> None:
    n = 16
    changes = {"n": n, "seeds": list(range(n)), "maxNewTokens": 8}
    many = engine.rows("many.jsonl", params={"maxRows": 256, "logProbs": True}, **changes)
    # More than vLLM reads in a step of its own choice, which then cuts a prompt.
    assert sum(len(row["promptIds"]) for row in many) > 4096
    few = engine.rows("few.jsonl", params={"maxRows": 16}, **changes)
    same = [a["completionIds"] == b["completionIds"] for a, b in zip(many, few, strict=True)]
    assert sum(same) / len(same) > 0.9


def test_an_end_at_the_limit_of_tokens_is_an_end(engine: Engine, tmp_path: Path) -> None:
    rows = engine.rows("ended.jsonl")
    requests = []
    for asked in read_jsonl(Path(engine.requests(n=N, seeds=list(range(N))))):
        for row in rows:
            if row["id"] == asked["id"] and row["finish"] == "stop":
                length = {"maxNewTokens": len(row["completionIds"])}
                requests.append(
                    {**asked, **length, "n": 1, "seeds": [row["index"]], "id": f"{row['id']}/{row['index']}"}
                )
    assert requests
    again = engine.rows("again.jsonl", params={"requests": write_jsonl(tmp_path / "exact.jsonl", requests)})
    assert [row["finish"] for row in again] == ["stop"] * len(requests)


def test_the_first_of_several_stop_strings_ends_a_row_however_tokens_spell_it(engine: Engine) -> None:
    stops = ["return", "\n    r", "é", " n"]
    for row in engine.rows("stops.jsonl", stop=stops, temperature=1.5):
        assert not any(stop in row["text"] for stop in stops)
    assert all(row["finish"] == "length" for row in engine.rows("none.jsonl", stop=["é"], maxNewTokens=3))


def test_seeds_may_be_as_large_as_a_number_of_json(engine: Engine) -> None:
    large = {"n": 1, "seeds": [2**53 - 1], "maxNewTokens": 8}
    assert engine.rows("large.jsonl", **large) == engine.rows("large-again.jsonl", **large)


def test_the_models_context_decides_what_is_too_long_and_not_the_tokenizers(
    engine: Engine, micro_model: Path, tmp_path: Path
) -> None:
    model = copied(micro_model, tmp_path / "short-tokenizer")
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 32}))
    changes = {"n": 1, "seeds": [0], "maxNewTokens": 40}
    rows = engine.rows("tokenizer.jsonl", model=model, **changes)
    assert {row["finish"] for row in rows} <= {"stop", "length"}
    # A row that fills the context to its last token is sampled; one token more is a row's drop.
    room = 1024 - max(len(row["promptIds"]) for row in rows)
    longest = engine.rows("full.jsonl", n=1, seeds=[0], maxNewTokens=room, stop=[])
    assert "promptTooLong" not in {row["finish"] for row in longest}
    over = engine.rows("over.jsonl", n=1, seeds=[0], maxNewTokens=room + 1, stop=[])
    assert {row["finish"] for row in over} > {"promptTooLong"}


@pytest.mark.parametrize("process", [*VLLMS, *SEVERAL], indirect=True)
def test_vllm_keeps_its_weights_between_calls_and_takes_another_model(
    process: Running, engine: Engine, micro_model: Path, tmp_path: Path
) -> None:
    log = process[2]
    one, other = copied(micro_model, tmp_path / "one"), copied(micro_model, tmp_path / "other")
    before = len(log.read_text())
    expected = engine.rows("a.jsonl", model=one, maxNewTokens=4)
    engine.rows("b.jsonl", model=one, maxNewTokens=4)
    assert engine.rows("c.jsonl", model=other, maxNewTokens=4) == expected
    loads = re.findall(r"Starting to load model (\S+)\.\.\.", log.read_text()[before:])
    assert list(dict.fromkeys(loads)) == [str(one), str(other)]
    assert [loads.count(str(model)) for model in (one, other)] == [len(loads) // 2] * 2


@pytest.mark.parametrize("vllm", VLLMS)
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU vLLM takes a share of the device's memory")
def test_vllm_without_room_for_its_cache_is_out_of_memory_and_names_what_to_lower(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path, vllm: str
) -> None:
    module, environment, python = ENGINES[vllm]
    environment = {**environment, "VLLM_CPU_KVCACHE_SPACE": "9000"}
    with running(tmp_path / "log", module, environment, python, is_forked=vllm != "vllm") as process:
        process.receive()
        engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
        error = engine.error()
        assert error["type"] == "OutOfMemory"
        assert re.match(r"vLLM: Available memory on node \d", error["message"])
        assert "9000.0" in error["message"]
        assert "Lower VLLM_CPU_KVCACHE_SPACE" in error["message"]
        # The process lives, and refuses again.
        assert engine.error()["type"] == "OutOfMemory"


def test_the_engine_imports_nothing_that_its_own_environments_lack() -> None:
    def packages(folder: str, name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+)==", (WORKERS / folder / name).read_text(), re.MULTILINE))

    lacking: set[str] = set()
    for lock in ("requirements.lock", "requirements.cpu.lock"):
        of_one = packages("runtime", "requirements.lock") - packages("vllm_engine", lock)
        assert {"gguf", "trl"} <= of_one
        lacking |= of_one
    modules = [
        module
        for module, owners in packages_distributions().items()
        if all(re.sub(r"[._]", "-", owner).lower() in lacking for owner in owners)
    ]
    assert {"gguf", "trl"} <= set(modules)
    # A module that is None in there cannot be imported.
    script = "import json, sys; sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))\nimport vllm_engine.__main__"
    environment = {**os.environ, **ENGINES["fake vllm"][1]}
    subprocess.run([sys.executable, "-c", script, json.dumps(modules)], env=environment, check=True)


def test_vllm_takes_as_many_devices_as_divide_a_model_and_as_many_engines_as_the_rest_allows() -> None:
    # Heads, key-value heads, inner values of a feed-forward layer, devices, and engines asked for.
    cases: list[tuple[tuple[int, int, int, int, int | None], tuple[int, int]]] = [
        ((28, 4, 18_944, 8, None), (2, 4)),  # Qwen2.5-Coder-7B
        ((28, 4, 18_944, 8, 8), (8, 1)),
        ((28, 4, 18_944, 8, 1), (1, 4)),
        ((28, 4, 18_944, 8, 3), (3, 2)),
        ((12, 2, 8_960, 8, None), (2, 4)),  # 1.5B
        ((14, 2, 4_864, 8, None), (4, 2)),  # 0.5B
        ((40, 8, 27_648, 8, None), (1, 8)),  # 32B
        ((28, 4, 18_944, 1, None), (1, 1)),
        ((32, 32, 11_008, 6, None), (1, 4)),  # two devices stay idle
        ((7, 1, 512, 8, None), (8, 1)),
    ]
    for (heads, shared, inner, devices, asked), divided in cases:
        config = SimpleNamespace(num_attention_heads=heads, num_key_value_heads=shared, intermediate_size=inner)
        assert engines.division(config, devices, asked) == divided


def test_each_engine_has_its_share_of_the_devices_or_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(name: str, *arguments: Any) -> list[str]:
        return [environment[name] for environment in engines.environments(*arguments)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert shares("CUDA_VISIBLE_DEVICES", 2, 4, 1, True) == ["0,1,2,3", "4,5,6,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c,GPU-d,GPU-e")
    assert shares("CUDA_VISIBLE_DEVICES", 2, 2, 1, True) == ["GPU-a,GPU-b", "GPU-c,GPU-d"]
    assert shares("OMP_NUM_THREADS", 3, 1, 8, False) == ["2"] * 3
    assert shares("OMP_NUM_THREADS", 3, 1, 2, False) == ["1"] * 3
    # Engines start no engines.
    assert shares(engines.ENGINES, 2, 1, 2, False) == ["1", "1"]


@pytest.mark.parametrize(
    ("value", "devices", "message"),
    [("two", 0, "is 'two'"), ("0", 8, "is '0'"), ("-1", 8, "is '-1'"), ("9", 8, "8 devices"), ("²", 0, "'²'")],
)
def test_a_number_of_engines_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, devices: int, message: str
) -> None:
    monkeypatch.setenv(engines.ENGINES, value)
    with pytest.raises(ServiceError, match=re.escape(message)) as raised:
        engines.engines_asked(devices)
    assert raised.value.type == "InvalidInput"
    assert engines.ENGINES in str(raised.value)


@pytest.mark.parametrize("several", SEVERAL)
def test_two_engines_sample_the_rows_of_one(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path, several: str
) -> None:
    rows = []
    for name in (several.removeprefix("two engines of "), several):
        module, environment, python = ENGINES[name]
        with running(tmp_path / f"{name}.log", module, environment, python) as process:
            process.receive()
            engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
            rows.append(engine.rows(f"{name}.jsonl", params={"logProbs": True}))
            # Fewer requests than engines.
            one = write_jsonl(tmp_path / "one.jsonl", read_jsonl(Path(sampling_requests(n=N, seeds=[0, 1])))[:1])
            assert len(engine.rows("one-answer.jsonl", params={"requests": one}, maxNewTokens=40)) == N
            assert not list(tmp_path.glob(".engines-*"))
    assert [(row["id"], row["index"]) for row in rows[0]] == [(row["id"], row["index"]) for row in rows[1]]
    same = [one["completionIds"] == other["completionIds"] for one, other in zip(*rows, strict=True)]
    # Another batch shape may round a probability differently; the fake one has no batches.
    assert sum(same) / len(same) > (0.9 if several == "two engines of vllm" else 0.999)


def engines_of(process: Process) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.child.pid).children() if "vllm_engine" in child.cmdline()]


@pytest.mark.parametrize("killed", ["one engine", "the process of all"])
def test_no_engine_outlives_another(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path, killed: str
) -> None:
    module, environment, python = ENGINES["two engines of fake vllm"]
    with running(tmp_path / "log", module, environment, python) as process:
        process.receive()
        engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
        engine.rows("a.jsonl", maxNewTokens=2)
        both = engines_of(process)
        assert len(both) == 2
        engine.send("long.jsonl", maxNewTokens=900, stop=[], temperature=1.5)
        if killed == "one engine":
            both[1].kill()
            _, reply = engine.answer()
            error = {"type": "RuntimeLost", "message": "Engine 2 of 2 of vLLM was ended by SIGKILL."}
            assert reply["error"] == error
            assert process.child.wait(timeout=GUARD_SECONDS) != 0
        else:
            process.child.kill()
            process.child.wait(timeout=GUARD_SECONDS)
        _, alive = psutil.wait_procs(both, timeout=GUARD_SECONDS)
        assert not alive
        assert not (tmp_path / "long.jsonl").exists()
