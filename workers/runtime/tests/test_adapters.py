"""Adapters of a policy update: what they train, write and merge, held against the whole model and against PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Recorder, read_jsonl, weight_digests, write_jsonl
from peft import PeftModel
from safetensors.torch import load_file
from test_policy_update import log_probability, preference, update
from transformers import AutoModelForCausalLM

from runtime.adapters import ADAPTERS_FILE, CONFIG_FILE, load_adapters, merge_adapters, switched_off
from runtime.models import load_policy
from runtime.sampling import sample
from serve import Cancelled, ServiceError

BASE = "b" * 64
# As large as the layers: nothing of an update is lost.
FULL = {"rank": 128, "alpha": 128, "base": BASE}
SMALL = {"rank": 4, "alpha": 8, "base": BASE}
CONFIG = {"lora": FULL, "learningRate": 1e-3}


def merged(model: Path, adapter: Path, output: Path) -> Path:
    merge_adapters({"model": str(model), "adapter": str(adapter), "output": str(output)}, Recorder().call)
    return output


@pytest.fixture(scope="module")
def few(rollouts: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rollouts of a round of two optimizer steps, with right and wrong programs."""
    rows = read_jsonl(Path(rollouts))[:64]
    assert {row["reward"] for row in rows} == {0.0, 1.0}
    return write_jsonl(tmp_path_factory.mktemp("few") / "rollouts.jsonl", rows)


@pytest.fixture(scope="module")
def first(micro_model: Path, few: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first round with adapters leaves: its folders `output` and `state`."""
    folder = tmp_path_factory.mktemp("first")
    update(micro_model, few, folder, config=CONFIG)
    return folder


def test_base_with_adapters_and_the_merged_model_have_the_same_log_probabilities(
    micro_model: Path, few: str, first: Path, tmp_path: Path
) -> None:
    rows = read_jsonl(Path(few))
    whole = merged(micro_model, first / "output", tmp_path / "merged")
    assert [file.name for file in sorted(whole.iterdir())] == [file.name for file in sorted(micro_model.iterdir())]
    carrying = load_policy(str(micro_model))[0]
    load_adapters(carrying, str(first / "output"))
    by_peft: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(micro_model), first / "output")
    plain = AutoModelForCausalLM.from_pretrained(whole)
    for row in rows[:32]:
        tokens = len(row["completionIds"])
        assert log_probability(carrying, row) == pytest.approx(log_probability(plain, row), abs=1e-5 * tokens)
        assert log_probability(by_peft, row) == pytest.approx(log_probability(plain, row), abs=1e-5 * tokens)
    assert preference(whole, rows) > preference(micro_model, rows) + 0.05


def test_adapters_that_are_switched_off_are_the_model_below_to_the_bit(
    micro_model: Path, few: str, first: Path
) -> None:
    row = read_jsonl(Path(few))[0]
    plain, model = load_policy(str(micro_model))[0], load_policy(str(micro_model))[0]
    load_adapters(model, str(first / "output"))
    trained = log_probability(model, row)
    with switched_off(model):
        assert log_probability(model, row) == log_probability(plain, row) != trained
    assert log_probability(model, row) == trained
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())


def test_the_kl_of_a_second_round_is_to_the_model_below(
    micro_model: Path, few: str, first: Path, tmp_path: Path
) -> None:
    result = second(micro_model, few, first, tmp_path)
    whole = AutoModelForCausalLM.from_pretrained(merged(micro_model, first / "output", tmp_path / "merged"))
    below = AutoModelForCausalLM.from_pretrained(micro_model)
    rows = read_jsonl(Path(few))
    log_ratio = sum(log_probability(whole, row) - log_probability(below, row) for row in rows)
    tokens = sum(len(row["completionIds"]) for row in rows)
    assert result["metrics"]["kl"] == pytest.approx(log_ratio / tokens, abs=1e-5)
    assert result["metrics"]["kl"] != 0


def second(
    model: Path, few: str, first: Path, folder: Path, recorder: Recorder | None = None, **changes: Any
) -> dict[str, Any]:
    """A second round, which goes on with the adapters and the optimizer of the first."""
    config = {**CONFIG, **changes.pop("config", {})}
    carried = {"adapter": str(first / "output"), "resumeState": str(first / "state")}
    return update(model, few, folder, recorder, config=config, **carried, **changes)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_resumed_update_of_adapters_ends_in_the_same_bytes(
    micro_model: Path, few: str, first: Path, tmp_path: Path, is_first: bool
) -> None:
    def run(folder: str, recorder: Recorder | None = None, **changes: Any) -> dict[str, Any]:
        if is_first:
            return update(micro_model, few, tmp_path / folder, recorder, config=CONFIG, **changes)
        return second(micro_model, few, first, tmp_path / folder, recorder, **changes)

    undisturbed = run("a")
    recorder = Recorder(cancel_at=("updating the policy", 1))
    with pytest.raises(Cancelled):
        run("b", recorder)
    (checkpoint,) = recorder.checkpoints()
    assert run("b", resumeFrom=checkpoint["path"]) == undisturbed
    for name in ("output", "state"):
        assert weight_digests(tmp_path / "a" / name) == weight_digests(tmp_path / "b" / name)
    assert (tmp_path / "a/output" / CONFIG_FILE).read_bytes() == (tmp_path / "b/output" / CONFIG_FILE).read_bytes()


def test_adapters_follow_from_the_seed(micro_model: Path, few: str, first: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # what came before draws nothing of them
    update(micro_model, few, tmp_path / "again", config=CONFIG)
    assert weight_digests(tmp_path / "again/output") == weight_digests(first / "output")
    update(micro_model, few, tmp_path / "other", config={**CONFIG, "seed": 6})
    assert weight_digests(tmp_path / "other/output") != weight_digests(first / "output")


def test_a_round_writes_adapters_and_their_optimizer_alone(micro_model: Path, few: str, tmp_path: Path) -> None:
    update(micro_model, few, tmp_path / "whole")
    update(micro_model, few, tmp_path / "small", config={"lora": SMALL})

    def size(folder: str) -> int:
        return sum(file.stat().st_size for file in (tmp_path / folder).glob("*.safetensors"))

    adapters = load_file(tmp_path / "small/output" / ADAPTERS_FILE)
    state = load_file(tmp_path / "small/state/optimizer.safetensors")
    assert all("lora_" in name for name in [*adapters, *state])
    assert json.loads((tmp_path / "small/output" / CONFIG_FILE).read_text())["base_model_name_or_path"] == BASE
    trained = sum(tensor.numel() for tensor in adapters.values())
    whole = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(micro_model).parameters())
    # Names are most of what is left of so small a model.
    for name in ("output", "state"):
        ratio = size(f"small/{name}") / size(f"whole/{name}")
        print(f"{name}: {size(f'small/{name}')} of {size(f'whole/{name}')} bytes; trained {trained} of {whole}")
        assert ratio < 2 * trained / whole + 0.05


def test_samples_are_those_of_base_and_adapters_and_the_warm_model_stays_plain(
    micro_model: Path, sampling_requests: Callable[..., str], first: Path, tmp_path: Path
) -> None:
    requests = sampling_requests(maxNewTokens=16)

    def sampled(name: str, model: Path, **more: Any) -> list[dict[str, Any]]:
        output = tmp_path / name
        params = {"model": str(model), "requests": requests, "output": str(output), "maxRows": 64, "logProbs": True}
        sample({**params, **more}, Recorder().call)
        return read_jsonl(output)

    before = sampled("before", micro_model)
    carrying = sampled("carrying", micro_model, adapter=str(first / "output"))
    assert sampled("after", micro_model) == before != carrying
    plain = AutoModelForCausalLM.from_pretrained(merged(micro_model, first / "output", tmp_path / "merged"))
    for row in carrying[:16]:
        assert sum(row["logProbs"]) == pytest.approx(log_probability(plain, row), abs=1e-5 * len(row["logProbs"]))


def test_chosen_layers_alone_get_adapters(micro_model: Path, few: str, tmp_path: Path) -> None:
    chosen = {**SMALL, "targetModules": ["q_proj", "v_proj"]}
    update(micro_model, few, tmp_path / "chosen", config={"lora": chosen})
    names = load_file(tmp_path / "chosen/output" / ADAPTERS_FILE)
    assert {name.split(".")[-3] for name in names} == {"q_proj", "v_proj"}
    with pytest.raises(ServiceError, match=r"algorithm\.lora\.targetModules: .*no_such_layer"):
        update(micro_model, few, tmp_path, config={"lora": {**SMALL, "targetModules": ["no_such_layer"]}})


@pytest.mark.parametrize("more", [{"upperLayers": 1}, {"sharding": "fsdp"}])
def test_adapters_exclude_other_ways_to_train_a_part(
    micro_model: Path, few: str, tmp_path: Path, more: dict[str, Any]
) -> None:
    with pytest.raises(ServiceError, match="lora excludes upperLayers and sharding"):
        update(micro_model, few, tmp_path, config={"lora": SMALL, **more})


def test_a_folder_of_adapters_is_no_model_and_no_other_models_adapters(
    micro_model: Path, first: Path, tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match="holds adapters and no whole model") as error:
        load_policy(str(first / "output"))
    assert error.value.type == "ModelNotFound"
    model = load_policy(str(micro_model))[0]
    with pytest.raises(ServiceError, match=r"There is no .*; the folder of adapters is incomplete"):
        load_adapters(model, str(tmp_path))


def test_micro_batches_and_recomputed_blocks_do_not_change_adapters(
    micro_model: Path, few: str, first: Path, tmp_path: Path
) -> None:
    plain = second(micro_model, few, first, tmp_path / "plain")
    recomputed = second(micro_model, few, first, tmp_path / "recomputed", config={"gradientCheckpointing": True})
    assert recomputed == plain
    assert weight_digests(tmp_path / "recomputed/output") == weight_digests(tmp_path / "plain/output")
    other = second(micro_model, few, first, tmp_path / "other", config={"microBatch": 5})
    assert [point["gradNorm"] for point in other["curve"]] == pytest.approx(
        [point["gradNorm"] for point in plain["curve"]], rel=1e-3
    )
