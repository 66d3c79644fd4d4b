"""Packed rows: the log-probabilities and gradients of plain forward passes, each prompt computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from runtime.files import Row
from runtime.log_probabilities import log_probabilities, log_probabilities_and_entropies
from runtime.models import load_policy, save_model
from runtime.packing import ATTENTION, can_pack, pack
from runtime.tests.test_output_head import SHAPE, TEMPERATURE, VOCABULARY, of_plain

PACKING = [
    (Qwen2ForCausalLM, Qwen2Config, {}),
    (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    (LlamaForCausalLM, LlamaConfig, {"attention_bias": True}),
    (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    (GPT2LMHeadModel, GPT2Config, {}),  # its positions are learnt
]
NOT_PACKING = [
    (MistralForCausalLM, MistralConfig, {"sliding_window": 8}),
    (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, "attn_implementation": "eager"}),  # it has no other
    (Qwen2ForCausalLM, Qwen2Config, {"attn_implementation": "eager"}),
    (BambaForCausalLM, BambaConfig, {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]}),
]


def model_of(model: Any, config: Any, more: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(1)
    attention = more.get("attn_implementation", "sdpa")
    shape = {**SHAPE, **{name: value for name, value in more.items() if name != "attn_implementation"}}
    if config is GPT2Config:
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY}
    made = model._from_config(config(**shape), attn_implementation=attention).eval()
    made.get_output_embeddings().weight.data.mul_(5)
    return made


def some_rows() -> list[Row]:
    """Rows of three prompts, those of one apart; one prompt is the beginning of another, one answer is one token."""
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()

    prompts = [ids(9), ids(14), []]
    prompts[2] = prompts[0][:5]
    lengths = [(0, 21), (1, 1), (0, 6), (2, 17), (1, 30), (0, 21)]
    return [
        {"id": f"{at}", "promptIds": prompts[of], "completionIds": ids(length)}
        for at, (of, length) in enumerate(lengths)
    ]


def test_a_prompt_is_followed_by_its_completions() -> None:
    rows = [
        {"promptIds": [1, 2], "completionIds": [3]},
        {"promptIds": [7], "completionIds": [8, 9]},
        {"promptIds": [1, 2], "completionIds": [4, 5]},
    ]
    packed = pack(rows)
    assert packed.ids == [1, 2, 3, 4, 5, 7, 8, 9]
    assert packed.positions == [0, 1, 2, 2, 3, 0, 1, 2]
    assert packed.order == [0, 2, 1]
    assert packed.before == [1, 1, 3, 5, 6]
    assert packed.groups == [(slice(0, 2), [slice(2, 3), slice(3, 5)]), (slice(5, 6), [slice(6, 8)])]


@pytest.mark.parametrize(("model", "config", "more"), PACKING)
def test_log_probabilities_entropies_and_gradients_are_those_of_plain_forward_passes(
    model: Any, config: Any, more: dict[str, Any]
) -> None:
    policy, rows = model_of(model, config, more), some_rows()
    logp_N, entropy_N = of_plain(policy, rows)
    weight_N = torch.randn(len(logp_N), generator=torch.Generator().manual_seed(4))
    expected = torch.autograd.grad((logp_N * weight_N).sum(), list(policy.parameters()))
    logp_BT, entropy_BT, mask_BT = log_probabilities_and_entropies(policy, rows, TEMPERATURE)
    assert policy.config._attn_implementation == ATTENTION
    torch.testing.assert_close(logp_BT[mask_BT > 0], logp_N, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy_BT[mask_BT > 0], entropy_N, rtol=1e-5, atol=1e-5)
    made = torch.autograd.grad((logp_BT[mask_BT > 0] * weight_N).sum(), list(policy.parameters()))
    for one, other in zip(made, expected, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-6


@pytest.mark.parametrize(("model", "config", "more"), NOT_PACKING)
def test_a_model_that_does_more_than_causal_attention_gets_padded_rows(
    model: Any, config: Any, more: dict[str, Any]
) -> None:
    policy, rows = model_of(model, config, more), some_rows()
    before = policy.config._attn_implementation
    with torch.no_grad():
        logp_N, _ = of_plain(policy, rows)
        logp_BT, mask_BT = log_probabilities(policy, rows, TEMPERATURE)
    assert policy.config._attn_implementation == before
    torch.testing.assert_close(logp_BT[mask_BT > 0], logp_N, rtol=1e-4, atol=1e-4)


def test_each_prompt_is_computed_once_and_nothing_is_padded() -> None:
    policy, rows = model_of(*PACKING[0]), some_rows()
    seen: list[int] = []
    policy.get_input_embeddings().register_forward_hook(lambda *given: seen.append(given[1][0].numel()))
    log_probabilities(policy, rows, TEMPERATURE)
    prompts = {tuple(row["promptIds"]) for row in rows}
    assert seen[-1] == sum(map(len, prompts)) + sum(len(row["completionIds"]) for row in rows)


def test_a_model_that_packs_takes_padded_rows_and_is_saved_as_it_was(micro_model: Path, tmp_path: Path) -> None:
    policy, tokenizer = load_policy(str(micro_model))
    ids, attended = torch.tensor([[5, 6, 7, 8], [0, 0, 9, 10]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        logits = policy(input_ids=ids, attention_mask=attended).logits
        assert can_pack(policy)
        assert torch.equal(policy(input_ids=ids, attention_mask=attended).logits, logits)
    save_model(policy, tokenizer, str(tmp_path / "saved"))
    files = [file.name for file in micro_model.iterdir() if file.suffix in {".json", ".safetensors"}]
    assert "config.json" in files
    for file in files:
        assert (tmp_path / "saved" / file).read_bytes() == (micro_model / file).read_bytes()
