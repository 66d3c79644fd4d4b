"""The real process over its descriptors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FUNCTIONS, GUARD_SECONDS, Recorder, read_jsonl, running

from runtime.models import DEVICE
from runtime.sampling import sample


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
        assert process.child.wait(timeout=GUARD_SECONDS) == 0
    assert not (tmp_path / "model").exists()


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU computes in bfloat16 by itself")
def test_a_cpu_that_is_told_to_computes_in_bfloat16_and_says_so(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    def params(output: str) -> dict[str, object]:
        requests = sampling_requests(temperature=0, n=1, seeds=[1])
        return {
            **{"model": str(micro_model), "requests": requests, "output": str(tmp_path / output)},
            **{"maxRows": 32, "logProbs": True},
        }

    sample(params("float32"), Recorder().call)
    with running(tmp_path / "log", environment={"ACECODER_CPU_DTYPE": "bfloat16"}) as process:
        assert process.receive()["versions"]["device"] == "cpu in bfloat16"
        process.send({"id": 1, "op": "sample", "params": params("bfloat16")})
        assert process.answer(1)[1]["type"] == "result"
    exact, rounded = (read_jsonl(tmp_path / name) for name in ("float32", "bfloat16"))
    differences = [
        abs(before - after)
        for one, other in zip(exact, rounded, strict=True)
        if one["completionIds"] == other["completionIds"]
        for before, after in zip(one["logProbs"], other["logProbs"], strict=True)
    ]
    assert len(differences) > len(FUNCTIONS)
    assert 0 < max(differences) < 0.1
