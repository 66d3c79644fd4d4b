"""Supervised fine-tuning of the micro model on the right programs of its questions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FUNCTIONS, PREFIX, Recorder, question, read_jsonl, weight_digests, write_jsonl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime.fine_tuning import fine_tune, learning_rate
from serve import Cancelled, ServiceError

CONFIG = {
    "learningRate": 1e-3, "epochs": 2, "batchSize": 6, "microBatch": 4, "maxLength": 512, "upperLayers": None,
    "warmupRatio": 0.25, "schedule": "cosine", "seed": 3, "checkpointSeconds": 1e9,
}  # fmt: skip
STEPS = 6
"""Of two epochs of sixteen rows; the last step of each is smaller."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The right program of each question."""
    return write_jsonl(
        tmp_path_factory.mktemp("fine-tuning") / "rows.jsonl",
        [
            {
                "id": f"q{number}/0", "questionId": f"q{number}", "messages": question(code),
                "assistantPrefix": PREFIX, "completion": code,
            }
            for number, code in enumerate(FUNCTIONS)
        ],
    )  # fmt: skip


def tune(model: Path, rows: str, folder: Path, recorder: Recorder | None = None, **changes: Any) -> dict[str, Any]:
    params = {
        "model": str(model), "rows": rows, "output": str(folder / "output"),
        "checkpoints": str(folder / "checkpoints"), "config": {**CONFIG, **changes.pop("config", {})}, **changes,
    }  # fmt: skip
    return fine_tune(params, (recorder or Recorder()).call)


def encoded(model: Path, rows: str) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion of each row, written out: the chat template, the closed fence and the end of sequence."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [
        (
            f"<|im_start|>user\n{row['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n{PREFIX}",
            f"{row['completion']}\n```<|im_end|>",
        )
        for row in read_jsonl(Path(rows))
    ]
    return [tuple(tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair) for pair in texts]


def test_the_loss_falls(micro_model: Path, rows: str, tmp_path: Path) -> None:
    recorder = Recorder()
    result = tune(micro_model, rows, tmp_path, recorder, config={"epochs": 8})
    losses = [point["loss"] for point in result["curve"]]
    assert (result["steps"], len(losses), result["rows"], result["tooLong"]) == (24, 24, len(FUNCTIONS), 0)
    assert result["tokens"] == sum(len(completion) for _, completion in encoded(micro_model, rows))
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert recorder.messages[-1]["metrics"].keys() == {"loss", "gradNorm"}


def test_a_step_is_that_of_plain_pytorch(micro_model: Path, rows: str, tmp_path: Path) -> None:
    config = {"epochs": 1, "batchSize": len(FUNCTIONS), "warmupRatio": 0, "schedule": "constant"}
    result = tune(micro_model, rows, tmp_path, config=config)
    model = AutoModelForCausalLM.from_pretrained(micro_model, dtype=torch.float32)
    total, tokens = torch.zeros(()), 0
    for prompt, completion in encoded(micro_model, rows):
        labels = torch.tensor([[-100] * len(prompt) + completion])
        logits = model(input_ids=torch.tensor([prompt + completion])).logits
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")
        total, tokens = total + losses, tokens + len(completion)
    (total / tokens).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    (point,) = result["curve"]
    assert point["loss"] == pytest.approx((total / tokens).item(), abs=1e-6)
    # Adam's first step has the size of the learning rate in every weight: only its direction comes from the gradient.
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "output", dtype=torch.float32)
    moved = torch.cat([p.detach().flatten() for p in trained.parameters()]) - before
    certain = gradient.abs() > 1e-5
    assert certain.sum() > 0.5 * (gradient != 0).sum()
    expected = -CONFIG["learningRate"] * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(moved[certain], expected[certain], atol=1e-6, rtol=0)
    assert norm > 0


def test_micro_batches_change_nothing_but_rounding(micro_model: Path, rows: str, tmp_path: Path) -> None:
    one = tune(micro_model, rows, tmp_path / "one", config={"microBatch": 6})
    many = tune(micro_model, rows, tmp_path / "many", config={"microBatch": 1})
    assert [p["loss"] for p in one["curve"]] == pytest.approx([p["loss"] for p in many["curve"]], rel=1e-3)
    assert one["curve"][0]["loss"] == pytest.approx(many["curve"][0]["loss"], abs=1e-6)


@pytest.mark.parametrize(("upper_layers", "stop_at"), [(None, 2), (2, STEPS)])
def test_a_cancelled_training_leaves_a_checkpoint_and_ends_in_the_same_bytes(
    micro_model: Path, rows: str, tmp_path: Path, upper_layers: int | None, stop_at: int
) -> None:
    config = {"upperLayers": upper_layers}
    undisturbed = tune(micro_model, rows, tmp_path / "a", config=config)
    assert undisturbed["steps"] == STEPS
    recorder = Recorder(cancel_at=("fine-tuning the policy", stop_at))
    with pytest.raises(Cancelled):
        tune(micro_model, rows, tmp_path / "b", recorder, config=config)
    (checkpoint,) = recorder.checkpoints()
    assert (checkpoint["step"], Path(checkpoint["path"]).is_dir()) == (stop_at, True)
    assert not (tmp_path / "b/output").exists()
    resumed = tune(micro_model, rows, tmp_path / "b", resumeFrom=checkpoint["path"], config=config)
    assert resumed == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")
    kept = set(weight_digests(micro_model)) & set(weight_digests(tmp_path / "a/output"))
    assert len(kept) == (0 if upper_layers is None else 2)


def test_longer_rows_are_left_out_and_counted(micro_model: Path, rows: str, tmp_path: Path) -> None:
    lengths = [len(prompt) + len(completion) for prompt, completion in encoded(micro_model, rows)]
    limit = sorted(lengths)[9]
    short = [row for row, length in zip(read_jsonl(Path(rows)), lengths, strict=True) if length <= limit]
    some = tune(micro_model, rows, tmp_path / "some", config={"maxLength": limit})
    assert (some["rows"], some["tooLong"]) == (len(short), len(lengths) - len(short))
    alone = tune(micro_model, write_jsonl(tmp_path / "short.jsonl", short), tmp_path / "alone")
    assert alone["curve"] == some["curve"]
    assert weight_digests(tmp_path / "some/output") == weight_digests(tmp_path / "alone/output")
    with pytest.raises(ServiceError, match="None of the 16 rows has at most 3 tokens") as error:
        tune(micro_model, rows, tmp_path / "none", config={"maxLength": 3})
    assert error.value.type == "InvalidInput"


def test_divergence_names_step_and_learning_rate(micro_model: Path, rows: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"step 2 with learning rate 1e\+30") as error:
        tune(micro_model, rows, tmp_path, config={"learningRate": 1e30})
    assert error.value.type == "TrainingDiverged"


def test_the_learning_rate_rises_and_falls() -> None:
    config = {**CONFIG, "learningRate": 8.0, "warmupRatio": 0.25}
    rates = [learning_rate(index, 8, config) for index in range(8)]
    falling = [4 * (1 + math.cos(math.pi * index / 6)) for index in range(6)]
    assert rates == pytest.approx([4.0, 8.0, *falling])
    assert [learning_rate(index, 8, {**config, "schedule": "constant"}) for index in range(8)] == [4.0] + [8.0] * 7


def test_upper_layers_leave_the_rest_alone(micro_model: Path, rows: str, tmp_path: Path) -> None:
    tune(micro_model, rows, tmp_path, config={"upperLayers": 1})
    before, after = (
        {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for folder in (micro_model, tmp_path / "output")
    )
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("model.layers.3.", "model.norm.")) for name in changed)
