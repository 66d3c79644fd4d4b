"""Log-probabilities of tokens from hidden states, so that the logits of a whole batch never exist.

`log_probabilities.py` calls it. Logits are the largest tensors of a policy step: those of 2,048 tokens over 151,936
words are 1.2 GB in float32, and log-softmax and its gradient make several of them. Here the output head, the
temperature and the log-softmax run over a chunk of tokens at a time. The backward pass computes each chunk's logits
again and adds the chunks' gradients up in place. The results are those of the plain computation but for rounding.

Tensor names end in their shape: N tokens, C tokens of a chunk, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

CHUNK_LOGITS = 2**25
"""Logits that exist at once, 128 MiB in float32; the step holds two or three tensors of that size."""


def token_log_probabilities(
    hidden_NH: torch.Tensor, head: nn.Linear, ids_N: torch.Tensor, temperature: float, entropies: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N] of `ids_N` by softmax(head(hidden) / temperature), and entropies [N]; both float32.

    The head computes in autocast's type where autocast is on, and the softmax in float32. Entropies are in nats and
    have no gradient; without `entropies` they are 0.
    """
    device = hidden_NH.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    logp_N, entropy_N = _TokenLogProbabilities.apply(
        hidden_NH, head.weight, head.bias, ids_N, temperature, dtype, entropies
    )
    return logp_N, entropy_N


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, CHUNK_LOGITS // vocabulary)
    for start in range(0, tokens, size):
        yield slice(start, start + size)


class _TokenLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        ids_N: torch.Tensor,
        temperature: float,
        dtype: torch.dtype,
        entropies: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, ids_N)
        ctx.temperature, ctx.dtype = temperature, dtype
        head = _Head(weight_VH, bias_V, temperature, dtype)
        logp_N = torch.empty(len(ids_N), device=ids_N.device)
        entropy_N = torch.zeros_like(logp_N)
        for chunk in _chunks(*head.shape(hidden_NH)):
            all_logp_CV = head.logits(hidden_NH[chunk]).log_softmax(-1)
            logp_N[chunk] = all_logp_CV.gather(-1, ids_N[chunk, None]).squeeze(-1)
            if entropies:
                entropy_N[chunk] = -(all_logp_CV.exp() * all_logp_CV).sum(-1)
        ctx.mark_non_differentiable(entropy_N)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_N = grads[0]
        hidden_NH, weight_VH, bias_V, ids_N = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        head = _Head(weight_VH, bias_V, ctx.temperature, ctx.dtype)
        grad_hidden_NH = torch.empty_like(hidden_NH) if wants_hidden else None
        grad_weight_VH = torch.zeros_like(weight_VH) if wants_weight else None
        grad_bias_V = torch.zeros_like(bias_V) if wants_bias else None
        for chunk in _chunks(*head.shape(hidden_NH)):
            # The gradient of log softmax(x)[id] by x is 1 at the id, less the softmax.
            grad_CV = head.logits(hidden_NH[chunk]).softmax(-1).neg_()
            grad_CV[torch.arange(len(grad_CV), device=grad_CV.device), ids_N[chunk]] += 1
            grad_CV = grad_CV.mul_(grad_N[chunk, None] / ctx.temperature).to(ctx.dtype)
            if grad_hidden_NH is not None:
                grad_hidden_NH[chunk] = (grad_CV @ head.weight_VH).to(hidden_NH.dtype)
            if grad_weight_VH is not None:
                hidden_CH = hidden_NH[chunk].to(ctx.dtype)
                if ctx.dtype == grad_weight_VH.dtype:
                    grad_weight_VH.addmm_(grad_CV.T, hidden_CH)
                else:
                    grad_weight_VH += grad_CV.T @ hidden_CH
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
        return grad_hidden_NH, grad_weight_VH, grad_bias_V, None, None, None, None


class _Head:
    """Weights of an output head in the type in which it computes."""

    def __init__(
        self, weight_VH: torch.Tensor, bias_V: torch.Tensor | None, temperature: float, dtype: torch.dtype
    ) -> None:
        self.weight_VH = weight_VH.to(dtype)
        self._bias_V = None if bias_V is None else bias_V.to(dtype)
        self._temperature = temperature

    def shape(self, hidden_NH: torch.Tensor) -> tuple[int, int]:
        """Number of tokens, and words of the vocabulary."""
        return len(hidden_NH), len(self.weight_VH)

    def logits(self, hidden_CH: torch.Tensor) -> torch.Tensor:
        """Logits [C, V] of a chunk, divided by the temperature; float32."""
        logits_CV = linear(hidden_CH.to(self.weight_VH.dtype), self.weight_VH, self._bias_V).float()
        return logits_CV.div_(self._temperature)
