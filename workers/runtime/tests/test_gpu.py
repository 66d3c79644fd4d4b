"""The runtime on a real CUDA device: `npm run test:gpu`. What a CPU computes with the same files is the reference.

Comparisons with the CPU are made in float32, whose rounding alone then differs; what runs in bfloat16 by default is
held to what it must achieve.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FORMS, FUNCTIONS, Recorder, question, read_jsonl, weight_digests, write_jsonl
from safetensors.torch import load_file
from test_policy_update import update
from test_reward_model import train

from runtime.conversation import scored_ids
from runtime.methods import FILES
from runtime.models import load_reward_model, make_deterministic, warm_policy
from runtime.sampling import sample
from runtime.scoring import score, score_conversations
from serve import Cancelled, ServiceError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device; npm run test:gpu needs one"),
]

LEFT_BYTES = 128 * 2**20
"""Memory of the device that is left free where it must run out: enough for the micro model, not for a large batch."""

OnCpu = Callable[..., Any]


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[OnCpu]:
    """Calls a function in a process that sees no CUDA device."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=make_deterministic, initargs=(1,))
    with pool:
        torch.cuda.init()
        torch.cuda.device_count()  # kept from here on, whatever the environment says
        with pytest.MonkeyPatch.context() as environment:  # for the start of the process alone
            environment.setenv("CUDA_VISIBLE_DEVICES", "")
            assert pool.submit(torch.cuda.is_available).result() is False
        yield lambda *args, **kwargs: pool.submit(called, *args, **kwargs).result()


@contextmanager
def little_memory() -> Iterator[None]:
    """Fills the device but for `LEFT_BYTES` while the block runs."""
    torch.cuda.empty_cache()
    filler = torch.empty(torch.cuda.mem_get_info()[0] - LEFT_BYTES, dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del filler
        torch.cuda.empty_cache()


def sampled(model: Path, requests: str, output: Path, max_rows: int = 128) -> list[dict[str, Any]]:
    params = {"model": str(model), "requests": requests, "output": str(output), "maxRows": max_rows}
    sample(params, Recorder().call)
    return read_jsonl(output)


def score_rows(tmp_path: Path) -> str:
    rows = [
        {"id": f"{asked}/{answered}", "messages": question(asked), "response": answered}
        for asked in FUNCTIONS
        for answered in FUNCTIONS[:4]
    ]
    return write_jsonl(tmp_path / "rows.jsonl", rows)


# -- Sampling ---------------------------------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_text(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    sampled(micro_model, sampling_requests(topP=0.95), tmp_path / "a.jsonl")
    sampled(micro_model, sampling_requests(topP=0.95), tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    rows = sampled(micro_model, sampling_requests(seeds=[9] * 8), tmp_path / "one.jsonl")
    assert all(row["completionIds"] == rows[index - index % 8]["completionIds"] for index, row in enumerate(rows))
    assert len({row["text"] for row in rows}) > 4


def test_a_row_does_not_depend_on_its_batch(
    micro_model: Path,
    sampling_requests: Callable[..., str],
    tmp_path: Path,
    on_cpu: OnCpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.sampling.warm_policy", partial(warm_policy, dtype=torch.float32))
    wide = sampled(micro_model, sampling_requests(), tmp_path / "wide.jsonl")
    narrow = sampled(micro_model, sampling_requests(), tmp_path / "narrow.jsonl", max_rows=5)
    cpu = on_cpu(sampled, micro_model, sampling_requests(), tmp_path / "cpu.jsonl")
    for other in (narrow, cpu):
        same = [a["completionIds"] == b["completionIds"] for a, b in zip(wide, other, strict=True)]
        assert sum(same) / len(same) > 0.98  # another batch shape may round a probability differently


# -- Reward model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 8, "alpha": 16}, "learningRate": 3e-3}])
def test_a_reward_model_learns_and_resumes(
    micro_model: Path, pairs: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = {**changes, "epochs": 6, "bf16": True, "gradientCheckpointing": True}
    undisturbed = train(micro_model, pairs, tmp_path / "a", config=config)
    assert undisturbed["heldOut"]["accuracy"] > 0.8
    assert undisturbed["curve"][-1]["loss"] < undisturbed["curve"][0]["loss"]
    recorder = Recorder(cancel_at=("training the reward model", 5))
    with pytest.raises(Cancelled):
        train(micro_model, pairs, tmp_path / "b", recorder, config=config)
    checkpoint = recorder.checkpoints()[-1]
    assert checkpoint["step"] == 5
    resumed = train(micro_model, pairs, tmp_path / "b", resumeFrom=checkpoint["path"], config=config)
    assert resumed == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")


def test_scores_equal_those_of_the_cpu(micro_model: Path, pairs: str, tmp_path: Path, on_cpu: OnCpu) -> None:
    train(micro_model, pairs, tmp_path)
    params = {"model": str(tmp_path / "output"), "rows": score_rows(tmp_path), "forms": FORMS, "microBatch": 16}
    on_cpu(scored, {**params, "output": str(tmp_path / "cpu.jsonl")})
    cpu = torch.tensor([row["score"] for row in read_jsonl(tmp_path / "cpu.jsonl")])
    model, tokenizer = load_reward_model(params["model"], torch.float32)
    conversations = [
        scored_ids(tokenizer, row["messages"], row["response"]) for row in read_jsonl(Path(params["rows"]))
    ]
    exact = torch.tensor(score_conversations(model, conversations, 16, Recorder().call))
    torch.testing.assert_close(exact, cpu, atol=1e-4, rtol=1e-4)
    scored({**params, "output": str(tmp_path / "default.jsonl")})
    default = torch.tensor([row["score"] for row in read_jsonl(tmp_path / "default.jsonl")])
    assert (default - cpu).square().mean().sqrt() < 0.05 * cpu.std()  # bfloat16 has 8 bits


def scored(params: dict[str, Any]) -> None:
    score(params, Recorder().call)


# -- Policy update ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_an_update_equals_that_of_the_cpu(
    micro_model: Path, rollouts: str, tmp_path: Path, on_cpu: OnCpu, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"name": name, "beta": 0.05}
    default = update(micro_model, rollouts, tmp_path / "default", config=config)
    monkeypatch.setattr("runtime.log_probabilities.autocast", nullcontext)
    gpu = update(micro_model, rollouts, tmp_path / "gpu", config=config)
    cpu = on_cpu(update, micro_model, rollouts, tmp_path / "cpu", config=config)
    assert gpu["trainedIds"] == cpu["trainedIds"] == default["trainedIds"]
    for own, theirs in zip([gpu["metrics"], *gpu["curve"]], [cpu["metrics"], *cpu["curve"]], strict=True):
        assert own == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    assert all(math.isfinite(value) for value in default["metrics"].values())
    assert default["metrics"]["gradNorm"] == pytest.approx(cpu["metrics"]["gradNorm"], rel=0.15)  # bfloat16
    before, own, theirs = (weights(path) for path in (micro_model, tmp_path / "gpu/output", tmp_path / "cpu/output"))
    # Adam turns the rounding of a gradient near 0 into a step of either sign, so that weights are compared as a whole.
    assert (own - theirs).norm() < 0.05 * (theirs - before).norm()


def weights(folder: Path) -> torch.Tensor:
    """All weights of a model folder as one vector, in double precision."""
    tensors = [tensor for file in sorted(folder.glob("*.safetensors")) for _, tensor in sorted(load_file(file).items())]
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def test_trainings_repeat_bit_for_bit(micro_model: Path, rollouts: str, pairs: str, tmp_path: Path) -> None:
    # Longer than a block of keys of torch's attention, whose gradient is a sum over them.
    long = [{**row, "completionIds": row["completionIds"] * 16} for row in read_jsonl(Path(rollouts))]
    long_rollouts = write_jsonl(tmp_path / "long.jsonl", long)
    for run in ("a", "b"):
        update(micro_model, long_rollouts, tmp_path / run / "policy", config={"name": "grpo", "epochs": 2})
        train(micro_model, pairs, tmp_path / run / "reward")
    for model in ("policy", "reward"):
        assert weight_digests(tmp_path / f"a/{model}/output") == weight_digests(tmp_path / f"b/{model}/output")
        assert weight_digests(tmp_path / f"a/{model}/output") != weight_digests(micro_model)


def test_adapters_are_those_of_the_cpu_and_sample_in_bfloat16(
    micro_model: Path,
    rollouts: str,
    sampling_requests: Callable[..., str],
    tmp_path: Path,
    on_cpu: OnCpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {"lora": {"rank": 16, "alpha": 16, "base": "0" * 64}, "learningRate": 1e-3}
    for run in ("a", "b"):
        update(micro_model, rollouts, tmp_path / run, config=config)
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")
    monkeypatch.setattr("runtime.log_probabilities.autocast", nullcontext)
    update(micro_model, rollouts, tmp_path / "gpu", config=config)
    on_cpu(update, micro_model, rollouts, tmp_path / "cpu", config=config)
    own, theirs = (weights(tmp_path / run / "output") for run in ("gpu", "cpu"))
    assert (own - theirs).norm() < 0.05 * theirs.norm()  # the start is drawn on the CPU by both
    params = {"model": str(micro_model), "requests": sampling_requests(), "maxRows": 128}
    for name in ("one", "two"):
        sample({**params, "adapter": str(tmp_path / "a/output"), "output": str(tmp_path / name)}, Recorder().call)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# -- Memory -----------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_too_large_names_the_setting_to_lower(
    micro_model: Path, rollouts: str, pairs: str, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    long = [{**row, "chosen": row["chosen"] + "\n# more" * 150} for row in read_jsonl(Path(pairs))]
    long_pairs = write_jsonl(tmp_path / "long.jsonl", long)
    many = [{**row, "completionIds": row["completionIds"] * 8} for row in read_jsonl(Path(rollouts))]
    long_rollouts = write_jsonl(tmp_path / "many.jsonl", many)
    requests = sampling_requests(n=512, seeds=list(range(512)))
    rows = len(FUNCTIONS) * 512
    training = {"batchSize": len(long), "microBatch": len(long), "maxLength": 1000, "gradientCheckpointing": False}
    attempts: dict[str, Callable[[], Any]] = {
        f"maxRows {rows}; lower maxRows": lambda: sampled(micro_model, requests, tmp_path / "x.jsonl", rows),
        f"microBatch {len(long)}; lower microBatch": lambda: train(
            micro_model, long_pairs, tmp_path / "reward", heldOut=pairs, config=training
        ),
        f"microBatch {len(many)}; lower microBatch": lambda: update(
            micro_model, long_rollouts, tmp_path / "policy", config={"batchSize": len(many), "microBatch": len(many)}
        ),
    }
    for message, attempt in attempts.items():
        with little_memory(), pytest.raises(ServiceError, match=f"Out of memory on cuda with {message}") as error:
            attempt()
        assert error.value.type == "OutOfMemory"
    assert not any((tmp_path / name).exists() for name in ("x.jsonl", "reward/output", "policy/output"))
    # The process goes on, and the batch that was told to be lowered fits.
    with little_memory():
        assert len(sampled(micro_model, sampling_requests(), tmp_path / "x.jsonl", max_rows=16)) == 8 * len(FUNCTIONS)
