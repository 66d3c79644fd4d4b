from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from runtime import output_head
from runtime.files import Row
from runtime.log_probabilities import log_probabilities, log_probabilities_and_entropies
from runtime.output_head import token_log_probabilities

TOKENS, HIDDEN, VOCABULARY = 37, 24, 501
TEMPERATURE = 0.7
SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 128,
}  # fmt: skip


def inputs(bias: bool = False) -> tuple[torch.Tensor, nn.Linear, torch.Tensor, torch.Tensor]:
    """Hidden states, head, ids, and the weight of each token in a loss."""
    torch.manual_seed(0)
    hidden_NH = (2 * torch.randn(TOKENS, HIDDEN)).requires_grad_()
    head = nn.Linear(HIDDEN, VOCABULARY, bias)
    return hidden_NH, head, torch.randint(VOCABULARY, (TOKENS,)), torch.randn(TOKENS)


def plain(hidden_NH: torch.Tensor, head: nn.Linear, ids_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    all_logp_NV = (head(hidden_NH).float() / TEMPERATURE).log_softmax(-1)
    return all_logp_NV.gather(-1, ids_N[:, None]).squeeze(-1), -(all_logp_NV.exp() * all_logp_NV).sum(-1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, TOKENS, 1000])
def test_chunks_give_the_plain_log_probabilities_and_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk: int, bias: bool
) -> None:
    monkeypatch.setattr(output_head, "CHUNK_LOGITS", chunk * VOCABULARY)
    hidden_NH, head, ids_N, weight_N = inputs(bias)
    variables = [hidden_NH, *head.parameters()]
    logp_N, entropy_N = token_log_probabilities(hidden_NH, head, ids_N, TEMPERATURE, entropies=True)
    plain_logp_N, plain_entropy_N = plain(hidden_NH, head, ids_N)
    torch.testing.assert_close(logp_N, plain_logp_N, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(entropy_N, plain_entropy_N, rtol=1e-6, atol=1e-6)
    assert not entropy_N.requires_grad
    made = torch.autograd.grad((logp_N * weight_N).sum(), variables)
    expected = torch.autograd.grad((plain_logp_N * weight_N).sum(), variables)
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=2e-6)


def test_a_frozen_head_gets_no_gradient_and_passes_one_on() -> None:
    hidden_NH, head, ids_N, weight_N = inputs()
    head.requires_grad_(False)
    (token_log_probabilities(hidden_NH, head, ids_N, TEMPERATURE)[0] * weight_N).sum().backward()
    (expected,) = torch.autograd.grad((plain(hidden_NH, head, ids_N)[0] * weight_N).sum(), [hidden_NH])
    assert head.weight.grad is None
    torch.testing.assert_close(hidden_NH.grad, expected, rtol=1e-6, atol=1e-6)


def test_the_head_computes_in_the_type_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_head, "CHUNK_LOGITS", 8 * VOCABULARY)
    hidden_NH, head, ids_N, weight_N = inputs()
    variables = [hidden_NH, head.weight]
    with torch.autocast("cpu", torch.bfloat16):
        logp_N, _ = token_log_probabilities(hidden_NH, head, ids_N, TEMPERATURE)
        expected_N, _ = plain(hidden_NH, head, ids_N)
    assert logp_N.dtype == torch.float32
    torch.testing.assert_close(logp_N, expected_N, rtol=1e-6, atol=1e-6)
    made = torch.autograd.grad((logp_N * weight_N).sum(), variables)
    expected = torch.autograd.grad((expected_N * weight_N).sum(), variables)
    for one, other in zip(made, expected, strict=True):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


class Largest(TorchDispatchMode):
    """Notes the most elements of a tensor that an operation makes, those of the forward and the backward pass."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_the_logits_of_a_whole_batch_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_head, "CHUNK_LOGITS", 8 * VOCABULARY)
    model, rows = model_of(Qwen2ForCausalLM, Qwen2Config), some_rows()[:1]
    largest = {}
    for name in ("chunks", "plain"):
        with Largest() as mode:
            of = log_probabilities(model, rows, TEMPERATURE)[0] if name == "chunks" else of_plain(model, rows)[0]
            of.sum().backward()
        largest[name] = mode.elements
    tokens = sum(len(row["completionIds"]) for row in rows)
    assert largest["plain"] >= tokens * VOCABULARY
    # The largest left is the weight of the head itself.
    assert largest["chunks"] == max(8, SHAPE["hidden_size"]) * VOCABULARY < tokens * VOCABULARY


def some_rows() -> list[Row]:
    generator = torch.Generator().manual_seed(2)

    def ids(length: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()

    return [
        {"id": f"{at}", "promptIds": ids(prompt), "completionIds": ids(answer)}
        for at, (prompt, answer) in enumerate([(9, 60), (4, 1), (12, 17)])
    ]


def model_of(model: Any, config: Any, **more: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    made = model(config(**SHAPE, **more)).eval()
    made.get_output_embeddings().weight.data.mul_(20)  # so that the distributions are no uniform ones
    return made


def of_plain(model: Any, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of all tokens in a row, by one plain forward pass for each row."""
    parts = []
    for row in rows:
        ids, start = torch.tensor([row["promptIds"] + row["completionIds"]]), len(row["promptIds"])
        all_logp = (model(input_ids=ids).logits[0, start - 1 : -1] / TEMPERATURE).log_softmax(-1)
        logp = all_logp.gather(-1, ids[0, start:, None]).squeeze(-1)
        parts.append((logp, -(all_logp.exp() * all_logp).sum(-1)))
    return torch.cat([logp for logp, _ in parts]), torch.cat([entropy for _, entropy in parts])


@pytest.mark.parametrize("capped", [False, True])
def test_log_probabilities_are_those_of_plain_forward_passes(monkeypatch: pytest.MonkeyPatch, capped: bool) -> None:
    """Also of a model that caps its logits, whose log-probabilities are not those of its head."""
    monkeypatch.setattr(output_head, "CHUNK_LOGITS", 8 * VOCABULARY)
    if capped:
        model = model_of(Gemma2ForCausalLM, Gemma2Config, head_dim=8, final_logit_softcapping=2.0)
    else:
        model = model_of(Qwen2ForCausalLM, Qwen2Config)
    rows = some_rows()
    logp_BT, entropy_BT, mask_BT = log_probabilities_and_entropies(model, rows, TEMPERATURE)
    assert mask_BT.sum(-1).tolist() == [len(row["completionIds"]) for row in rows]
    assert (logp_BT * (1 - mask_BT)).abs().max() == (entropy_BT * (1 - mask_BT)).abs().max() == 0
    logp_N, entropy_N = of_plain(model, rows)
    torch.testing.assert_close(logp_BT[mask_BT > 0], logp_N, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy_BT[mask_BT > 0], entropy_N, rtol=1e-5, atol=1e-5)
