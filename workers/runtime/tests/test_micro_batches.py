from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FORMS, Recorder, weight_digests
from test_policy_update import update
from test_reward_model import CONFIG as REWARD_CONFIG

from runtime import reward_model
from runtime.checkpoints import trainable_parameters
from runtime.micro_batches import cut, into, limit
from runtime.models import decoder_blocks, load_policy, recompute_blocks
from runtime.reward_model import train_reward_model
from runtime.training import Training

ROWS, ALL = {"microBatch": 3}, 10**9
WIDTHS = [(3, 5), (3, 5), (2, 4), (9, 30), (1, 1)]


def test_rows_are_cut_by_number() -> None:
    assert cut([4, 2, 0, 1], WIDTHS.__getitem__, ROWS) == [[4, 2, 0], [1]]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (15, [[0], [1], [2], [3], [4]]),
        (16, [[0, 1], [2], [3], [4]]),
        (24, [[0, 1, 2], [3], [4]]),
        (ALL, [[0, 1, 2, 3, 4]]),
    ],
)
def test_rows_are_cut_by_tokens_with_padding(budget: int, expected: list[list[int]]) -> None:
    assert cut(range(5), WIDTHS.__getitem__, {**ROWS, "microBatchTokens": budget}) == expected


def test_the_largest_micro_batches_are_halved_until_there_are_enough() -> None:
    assert into([[0, 1, 2, 3, 4], [5, 6]], 4) == [[0, 1], [2], [3, 4], [5, 6]]
    assert into([[0], [1]], 1) == [[0], [1]]
    assert into([[0, 1]], 5) == [[0], [1]]


def test_the_setting_to_lower_is_the_one_in_use() -> None:
    assert limit(ROWS) == ("microBatch", 3)
    assert limit({**ROWS, "microBatchTokens": 4096}) == ("microBatchTokens", 4096)


Taken = list[tuple[float, dict[str, torch.Tensor]]]


def take_gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradients, which are 0 afterwards: Adam leaves the weights alone, and each step starts from the same ones."""
    taken = {}
    for name, parameter in trainable_parameters(model).items():
        taken[name] = parameter.grad.clone()
        parameter.grad.zero_()
    return taken


def assert_same(one: Taken, other: Taken, of_norm: float) -> None:
    """Losses are equal to 1e-6, and gradients to `of_norm` of their norm."""
    assert len(one) == len(other) > 0
    for (loss, grads), (other_loss, other_grads) in zip(one, other, strict=True):
        assert loss == pytest.approx(other_loss, abs=1e-6)
        assert grads.keys() == other_grads.keys()
        apart = sum(((grads[name] - other_grads[name]).double() ** 2).sum().item() for name in grads)
        whole = sum((grads[name].double() ** 2).sum().item() for name in grads)
        assert (apart / whole) ** 0.5 < of_norm


@pytest.mark.parametrize("name", ["reinforce++", "dapo"])
def test_a_policy_step_is_the_same_for_any_budget(
    micro_model: Path, rollouts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    steps: dict[Any, Taken] = {}

    def record(training: Training, max_norm: float, loss: float) -> float:
        steps[key].append((loss, take_gradients(training.model)))
        training.optimizer.step()
        return 1.0

    monkeypatch.setattr(Training, "apply_gradients", record)
    for key in ("rows", 1, 150, 700, ALL):
        steps[key] = []
        budget = {} if key == "rows" else {"microBatchTokens": key}
        result = update(micro_model, rollouts, tmp_path / str(key), config={"name": name, **budget})
        assert result["environments"][0].get("microBatchTokens") == budget.get("microBatchTokens")
    for key in (1, 150, 700, ALL):
        assert_same(steps["rows"], steps[key], 1e-6)


@pytest.mark.parametrize("weighting", [False, True])
def test_a_reward_model_step_is_the_same_for_any_budget(
    micro_model: Path, pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weighting: bool
) -> None:
    steps: dict[Any, list[dict[str, torch.Tensor]]] = {}

    def record(trainer: Any, model: Any) -> float:
        steps[key].append(take_gradients(model))
        return 1.0

    monkeypatch.setattr(reward_model._Trainer, "_clip_grad_norm", record)
    taken: dict[Any, Taken] = {}
    for key in ("rows", 1, 300, ALL):
        steps[key] = []
        budget = {} if key == "rows" else {"microBatchTokens": key, "microBatch": 5}  # 5 does not divide a step
        params = {
            "model": str(micro_model), "train": pairs, "heldOut": pairs, "forms": FORMS,
            "output": str(tmp_path / f"{key}/output"), "checkpoints": str(tmp_path / f"{key}/checkpoints"),
            "config": {**REWARD_CONFIG, "questionWeighting": weighting, **budget},
        }  # fmt: skip
        result = train_reward_model(params, Recorder().call)
        losses = [point["loss"] for point in result["curve"]]
        taken[key] = list(zip(losses, steps[key], strict=True))
    for key in (1, 300, ALL):
        # Float32 leaves no more of it: a pair's gradient is a difference of two that are nearly the same.
        assert_same(taken["rows"], taken[key], 1e-5)


def test_computing_blocks_again_gives_the_same_bits(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    results = {}
    for again in (False, True):
        config = {"epochs": 1, "gradientCheckpointing": again, "microBatchTokens": 700}
        results[again] = update(micro_model, rollouts, tmp_path / str(again), config=config)
    assert results[True] == results[False]
    for part in ("output", "state"):
        assert weight_digests(tmp_path / f"True/{part}") == weight_digests(tmp_path / f"False/{part}")


def test_blocks_are_computed_again_and_keep_their_inputs_alone(micro_model: Path) -> None:
    kept = {}
    for again in (False, True):
        model, _ = load_policy(str(micro_model))
        if again:
            recompute_blocks(model)
        seen: list[int] = []
        mlp: Any = decoder_blocks(model)[0].mlp  # the last part of a block, which is left before its end
        mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        saved: list[int] = []
        pack = partial(_note_size, saved)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = model.base_model(input_ids=torch.arange(40)[None]).last_hidden_state
        hidden.sum().backward()
        assert len(seen) == 1 + again
        kept[again] = sum(saved)
    assert kept[True] < kept[False] / 4


def _note_size(saved: list[int], tensor: torch.Tensor) -> torch.Tensor:
    saved.append(tensor.numel() * tensor.element_size())
    return tensor
